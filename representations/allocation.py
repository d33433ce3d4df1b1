"""Measure how much memory calls allocate at their peak."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

_MARK_BYTES = 1_234_577
"""Size of the allocation that parts one call from the next in memray's record; nobody asks for it by chance."""


def peak_allocations(
    calls: Sequence[Callable[[], Any]], device: str | torch.device = "cpu"
) -> tuple[list[Any], list[int]]:
    """Run calls once each, one after the other, and return their results and each one's peak of allocated bytes.

    On the CPU memray follows every allocator of the process, native code included; on CUDA torch's allocator is asked.
    Starting memray costs about a sixth of a second, however many calls there are. Calls run slower than usual: never
    time them here.

    Args:
        calls: take no arguments.
        device: where their tensors live.

    Returns:
        the calls' results; for each call, the highest total in bytes that it had allocated and not yet freed.
    """
    if torch.device(device).type == "cuda":
        return _on_cuda(calls)
    import memray  # imported late: it hooks the allocator functions, and CUDA machines need not have it

    results: list[Any] = []
    with tempfile.TemporaryDirectory(prefix="sparsebench-memray-") as folder:
        record = Path(folder) / "allocations.bin"
        with memray.Tracker(destination=memray.FileDestination(record, overwrite=True), native_traces=False):
            for call in calls:
                np.empty(_MARK_BYTES, dtype=np.uint8)
                results.append(call())
        with memray.FileReader(record) as reader:
            freeing = {memray.AllocatorType.FREE.value, memray.AllocatorType.MUNMAP.value}
            peaks = peaks_between_marks(
                (entry.address, entry.size, entry.allocator in freeing) for entry in reader.get_allocation_records()
            )
    if len(peaks) != len(calls):
        raise RuntimeError(f"expected {len(calls)} marks in memray's record, got {len(peaks)}; please report this")
    return results, peaks


def peaks_between_marks(entries: Iterable[tuple[int, int, bool]]) -> list[int]:
    """Replay allocations and return, for each stretch after a mark, the peak above what was live when it began.

    Args:
        entries: (address, bytes, whether it is freed) in order.
    """
    live: dict[int, int] = {}
    total = base = 0
    peaks: list[int] = []
    for address, size, freeing in entries:
        if freeing:
            total -= live.pop(address, 0)
        elif size == _MARK_BYTES:
            base = total
            peaks.append(0)
        else:
            total += size - live.get(address, 0)
            live[address] = size
            if peaks:
                peaks[-1] = max(peaks[-1], total - base)
    return peaks


def _on_cuda(calls: Sequence[Callable[[], Any]]) -> tuple[list[Any], list[int]]:
    results: list[Any] = []
    peaks: list[int] = []
    for call in calls:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        results.append(call())
        torch.cuda.synchronize()
        peaks.append(torch.cuda.max_memory_allocated() - before)
    return results, peaks
