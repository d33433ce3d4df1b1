"""Note what all cells of a process share, and tell what a cell has changed of it.

Random numbers are left out on purpose: whoever draws from the global generators, or seeds them, changes nothing for the
others, as every problem draws from generators of its own.
"""

from __future__ import annotations

import gc
import locale
import os
import resource
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping

import numba
import numpy as np
import psutil
import torch

FLOOD = 16 << 20
"""Bytes that one cell may print."""
_LOOK_S = 0.1
"""How long a thread that is left is watched: the system counts in hundredths of a second."""

_LIMITS = ("RLIMIT_AS", "RLIMIT_CORE", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_STACK")
_NOTES = ("PYTEST_CURRENT_TEST", "TORCHINDUCTOR_", "TRITON_")
"""Beginnings of variables in which pytest and compilers keep notes for themselves."""
_SIGNALS = tuple(sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}))


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "none"


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_NOTES)}


def _open_file(number: int) -> tuple[int, int] | None:
    try:
        facts = os.fstat(number)
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


def _streams() -> tuple[object, ...]:
    return tuple((id(stream), getattr(stream, "closed", True)) for stream in (sys.stdin, sys.stdout, sys.stderr))


def _affinity() -> object:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


STATE: dict[str, Callable[[], object]] = {
    "torch's default dtype": torch.get_default_dtype,
    "torch's default device": lambda: str(torch.get_default_device()),
    "torch's threads": torch.get_num_threads,
    "torch's gradient mode": lambda: (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    "torch's autocast": lambda: (torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")),
    "torch's anomaly mode": torch.is_anomaly_enabled,
    "torch's deterministic algorithms": lambda: (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
    ),
    "the precision of torch's products": lambda: (
        torch.get_float32_matmul_precision(),
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
    ),
    "numba's threads": numba.get_num_threads,
    "NumPy's handling of errors": np.geterr,
    "signal handlers": lambda: {number: signal.getsignal(number) for number in _SIGNALS},
    "the current folder": _folder,
    "the environment": _environment,
    "the standard streams": _streams,
    "the files behind the standard streams": lambda: tuple(map(_open_file, (0, 1, 2))),
    # libraries add filters that ignore when they are first imported; one that raises would hit the neighbours
    "the warnings filters": lambda: [one for one in warnings.filters if one[0] == "error"],
    "the locale": lambda: locale.setlocale(locale.LC_ALL),
    "the garbage collector": lambda: (gc.isenabled(), gc.get_threshold()),
    "tracing": lambda: (sys.gettrace(), sys.getprofile()),
    "the recursion limit": sys.getrecursionlimit,
    "processors and priority": lambda: (_affinity(), os.getpriority(os.PRIO_PROCESS, 0)),
    "limits of the process": lambda: [resource.getrlimit(getattr(resource, name)) for name in _LIMITS],
}
"""What is noted, by what it is called in a row."""


def noted() -> dict[str, object]:
    """Return the state of this process that all cells share; printed bytes among it."""
    return {name: read() for name, read in STATE.items()} | {"printed": _printed(), "threads": set(_threads())}


def changed(before: Mapping[str, object]) -> list[str]:
    """Return what is no longer as `noted` found it, one name each with the old and the new value where they are short.

    Args:
        before: from `noted`.
    """
    found = []
    for name, read in STATE.items():
        was, now = before[name], read()
        if was != now:
            found.append(f"{name}{_difference(was, now)}")
    printed, threads = before["printed"], before["threads"]
    if isinstance(printed, int) and (more := _printed() - printed) > FLOOD:
        found.append(f"what is printed ({more >> 20} MiB)")
    if isinstance(threads, set) and (
        busy := _busy({one: name for one, name in _threads().items() if one not in threads})
    ):
        found.append(f"threads that work on ({', '.join(busy)})")
    return found


def _threads() -> dict[int, str]:
    """Return the names of this process's threads that Python knows, by the system's numbers."""
    return {one.native_id: one.name for one in threading.enumerate() if one.native_id is not None}


def _busy(threads: Mapping[int, str]) -> list[str]:
    """Return the names of the threads that take processor time; a pool that waits for work disturbs nobody."""
    if not threads:
        return []
    first = _processor_s()
    time.sleep(_LOOK_S)
    second = _processor_s()
    return [name for one, name in threads.items() if second.get(one, 0.0) - first.get(one, 0.0) > _LOOK_S / 4]


def _processor_s() -> dict[int, float]:
    return {int(one.id): one.user_time + one.system_time for one in psutil.Process().threads()}


def _difference(was: object, now: object) -> str:
    """Return " (was → now)" where both fit a line, or the names that differ of two dictionaries."""
    if isinstance(was, dict) and isinstance(now, dict):
        names = [_name(name) for name in was.keys() | now.keys() if was.get(name) != now.get(name)]
        return f" ({', '.join(sorted(names)[:3])}{', …' if len(names) > 3 else ''})"
    text = f" ({was} → {now})"
    return text if len(text) <= 80 and "\n" not in text and " object at " not in text else ""


def _name(name: object) -> str:
    return name.name if isinstance(name, signal.Signals) else str(name)


def _printed() -> int:
    """Return the bytes in the files that this process prints into, where they are files."""
    sizes: dict[tuple[int, int], int] = {}
    for number in (1, 2):
        try:
            facts = os.fstat(number)
        except OSError:
            continue
        sizes[facts.st_dev, facts.st_ino] = facts.st_size
    return sum(sizes.values())
