"""Describe the machine and set how many threads everything may use."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numba
import psutil
import threadpoolctl
import torch

LIBRARIES: tuple[str, ...] = (
    "sparsebench", "torch", "triton", "numpy", "scipy", "numba", "mkl", "pytest-benchmark", "memray", "pandas",
)  # fmt: skip


def default_threads() -> int:
    """Return the number of physical cores that this process may use, as many as numba was started for at most."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed, most_threads()))


def most_threads() -> int:
    """Return how many threads numba was started for, the most that it can be given (NUMBA_NUM_THREADS)."""
    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]  # set at run time
    return most


def chosen_threads(given: int | None) -> int:
    """Return the number of threads that a user gave, or the default.

    Raises:
        ValueError: if there are not so many.
    """
    if given is not None and not 1 <= given <= most_threads():
        raise ValueError(f"expected 1 to {most_threads()} threads, got {given}; leave --threads out for all cores")
    return default_threads() if given is None else given


def set_threads(threads: int) -> None:
    """Give torch, numba and every loaded BLAS and OpenMP the same number of threads.

    Raises:
        ValueError: if there are not so many.
    """
    chosen_threads(threads)
    torch.set_num_threads(threads)
    numba.set_num_threads(threads)
    threadpoolctl.threadpool_limits(limits=threads)


def exact_float32() -> None:
    """Keep torch from rounding float32 operands to TF32, which cuDNN does by default: a reference is to be float32."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def describe(device: str, threads: int) -> dict[str, Any]:
    """Return the facts that a number depends on: processor, memory, threads, libraries, commit, GPU and driver."""
    memory = psutil.virtual_memory()
    return {
        "cpu": cpu_name(),
        "cores": psutil.cpu_count(logical=False),
        "logical_cores": psutil.cpu_count(logical=True),
        "threads": threads,
        "memory_bytes": memory.total,
        "load_average": list(os.getloadavg()),
        "os": platform.platform(),
        "python": platform.python_version(),
        "libraries": _versions(),
        "blas": [
            {key: pool.get(key) for key in ("internal_api", "version", "threading_layer", "architecture")}
            for pool in threadpoolctl.threadpool_info()
        ],
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "torch_has_mkl": torch.backends.mkl.is_available(),
        "commit": _commit(),
        "gpu": _gpu() if device == "cuda" else None,
        "described_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def device_problem(device: str) -> str | None:
    """Return why a device cannot be used, in one line, or None."""
    if device not in ("cpu", "cuda"):
        return f"expected a device of cpu, cuda, got {device!r}"
    if device == "cuda" and not torch.cuda.is_available():
        return "expected a CUDA device for --device cuda, found none that torch can use; choose --device cpu"
    return None


def cpu_name() -> str:
    """Return what the processor calls itself."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for library in LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[library] = importlib.metadata.version(library)
    return found


def _commit() -> str | None:
    """Return the commit of the working tree that this file stands in, "+" behind it where that has changes."""
    here = Path(__file__).resolve().parent
    with suppress(OSError, subprocess.SubprocessError):
        head, dirty = (
            subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, timeout=10, check=True).stdout
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
        return head.strip() + ("+" if dirty.strip() else "")
    return None


def _gpu() -> dict[str, Any]:
    """Return name, memory, driver, clocks idle and loaded of the first GPU, as far as the driver's library answers."""
    properties = torch.cuda.get_device_properties(0)
    facts: dict[str, Any] = {
        "name": properties.name,
        "memory_bytes": properties.total_memory,
        "capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
        "allow_tf32": torch.backends.cuda.matmul.allow_tf32,
        "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
        "multiprocessors": properties.multi_processor_count,
        "l2_bytes": properties.L2_cache_size,
    }
    try:
        import pynvml  # imported late: it is of use only where there is a GPU, and a run there does without it
    except ImportError:
        return facts | {"driver": "unknown (nvidia-ml-py is not installed)"}
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        facts["driver"] = pynvml.nvmlSystemGetDriverVersion()
        facts["sm_clock_idle_mhz"] = pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)
        facts["sm_clock_most_mhz"] = pynvml.nvmlDeviceGetMaxClockInfo(handle, pynvml.NVML_CLOCK_SM)
        busy = torch.ones(4096, 4096, dtype=torch.bfloat16, device="cuda")
        for _ in range(400):  # a tenth of a second: only under load does a clock say what a timing ran at
            busy @ busy
        time.sleep(0.03)
        facts["sm_clock_loaded_mhz"] = pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)
        # bits as in nvml.h, nvmlClocksThrottleReason*: 0 is none
        facts["throttle_reasons"] = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
        torch.cuda.synchronize()
        facts["power_limit_w"] = pynvml.nvmlDeviceGetPowerManagementLimit(handle) / 1000
    except pynvml.NVMLError as error:
        facts["driver"] = f"unknown ({error})"
    return facts
