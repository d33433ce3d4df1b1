"""Measure how much memory a call allocates at its peak."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

Result = TypeVar("Result")


def peak_allocation(call: Callable[[], Result], device: str | torch.device = "cpu") -> tuple[Result, int]:
    """Run a call once and return its result with the peak of bytes that it allocated, the result's own included.

    On the CPU memray follows every allocator of the process, native code included; on CUDA torch's allocator is asked.
    The call runs slower than usual: never time it.

    Args:
        call: takes no arguments.
        device: where its tensors live.

    Returns:
        the call's result; the highest total in bytes that was allocated during the call and not yet freed.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = call()
        torch.cuda.synchronize()
        return result, torch.cuda.max_memory_allocated() - before
    import memray  # imported late: it hooks the allocator functions, and CUDA machines need not have it

    with tempfile.TemporaryDirectory(prefix="sparsebench-memray-") as folder:
        record = Path(folder) / "allocations.bin"
        with memray.Tracker(destination=memray.FileDestination(record, overwrite=True), native_traces=False):
            result = call()
        with memray.FileReader(record) as reader:
            peak = int(reader.metadata.peak_memory)
    return result, peak
