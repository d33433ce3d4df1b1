"""Measure what a machine can do at the most, and tell what is faster than that: it was not done.

Three limits, each generous, since a machine that is fast must not be accused: nothing takes less than its operations ÷
the peak of a dense product, its bytes ÷ the bandwidth of the smallest cache that holds them, or, on a GPU, half of what
an empty queue takes. What is faster than a third of its limit is held against a second look at the machine, as
something may have run during the first, and is impossible only if that agrees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from sparsebench.kernels.common import rates
from sparsebench.suites import text
from sparsebench.suites.measure.ceilings import ceilings

MARGIN = 3.0
"""How much faster than its limit something may seem: clocks rise, and a convolution by Winograd saves half."""
_FOOTPRINTS = (1 << 14, 1 << 18, 1 << 22, 1 << 26)
"""Bytes a thread: inside the first cache, the second, the third, and beyond."""
GPU_SIDE = 2048
"""Of the products that a GPU's peak is told from: within MARGIN of the largest, and quick."""


@dataclass(frozen=True, kw_only=True)
class Roof:
    """What a machine can do at the most.

    Attributes:
        device: "cpu" or "cuda".
        threads: that it was measured with.
        flops: operations a second of a dense product, of the dtype that is the quickest: float32 can be put together
            from parts of a narrower type. On the CPU one thread's times the number of threads, as is the next.
        bandwidths: (bytes, bytes a second) of a copy, both directions counted, by what it goes over, the least first.
        idle_s: seconds of nothing at all, on the clock that times cells.
    """

    device: str
    threads: int
    flops: float
    bandwidths: tuple[tuple[int, float], ...]
    idle_s: float = 0.0

    def __post_init__(self) -> None:
        if not (self.flops > 0 and self.bandwidths and all(rate > 0 for _, rate in self.bandwidths)):
            raise ValueError(f"expected rates above 0, got {self}")

    def noted(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return asdict(self)

    def bandwidth(self, moved: float) -> float:
        """Return the most bytes a second for so many different bytes: no cache that is smaller holds them."""
        fitting = [rate for size, rate in self.bandwidths if size >= self._below(moved)]
        return max(fitting)

    def _below(self, moved: float) -> int:
        return max((size for size, _ in self.bandwidths if size <= moved), default=0)

    def higher(self, other: Roof) -> Roof:
        """Return the higher of two looks at a machine, limit by limit."""
        rates = dict(other.bandwidths)
        return Roof(
            device=self.device,
            threads=self.threads,
            flops=max(self.flops, other.flops),
            bandwidths=tuple((size, max(rate, rates.get(size, 0.0))) for size, rate in self.bandwidths),
            idle_s=min(self.idle_s, other.idle_s),
        )

    def impossible(self, time_s: float, operations: float, moved: float) -> str | None:
        """Return why a time is too short to be true, in one line, or None.

        Args:
            time_s: of one call.
            operations: that any way of doing it needs.
            moved: different bytes that any way of doing it reads or writes.
        """
        where = text.count(self.threads, "thread") if self.device == "cpu" else "this GPU"
        if time_s * 2 < self.idle_s:
            told = f"impossible: {text.seconds(time_s)} is less than half of what nothing at all takes on {where}"
            return _plain(told)
        limits = {
            operations / self.flops: f"{operations:.3g} operations at {self.flops * 1e-9:.3g} Gflop/s",
            moved / self.bandwidth(moved): f"{text.size(moved)} at {self.bandwidth(moved) * 1e-9:.3g} GB/s",
        }
        longest = max(limits)
        if time_s * MARGIN >= longest:
            return None
        return _plain(
            f"impossible: {text.seconds(time_s)} for what takes {where} at least {text.seconds(longest)} "
            f"({limits[longest]}, the most that it was measured to do)"
        )


def _plain(line: str) -> str:
    return line.replace(text.SPACE, " ")


def measure(device: str, threads: int) -> Roof:
    """Measure a machine's limits, in less than a second once compiled.

    Args:
        device: "cpu" or "cuda".
        threads: that torch has been given.
    """
    if device == "cuda":
        return _of_gpu(threads)
    given = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        flops = max(rates.product_flops(dtype) for dtype in (torch.float32, torch.bfloat16))
    finally:
        torch.set_num_threads(given)
    # Threads share clock, caches and memory: one thread's rate times their number is more than they reach together,
    # and one thread is measured well even while something else runs.
    copied = tuple((size * threads, threads * rates.copy_rate(size)) for size in _FOOTPRINTS)
    return Roof(device=device, threads=threads, flops=threads * flops, bandwidths=copied)


def known(facts: Mapping[str, Any] | None, device: str, threads: int) -> Roof | None:
    """Return what a run noted among the machine's facts, or None if that is nothing of use here."""
    try:
        noted = dict((facts or {})["roof"])
        noted["bandwidths"] = tuple((int(size), float(rate)) for size, rate in noted["bandwidths"])
        roof = Roof(**noted)
    except (KeyError, TypeError, ValueError):
        return None
    return roof if (roof.device, roof.threads) == (device, threads) else None


def _of_gpu(threads: int) -> Roof:
    found = ceilings((GPU_SIDE,), 256, (torch.bfloat16, torch.float32))
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    return Roof(
        device="cuda",
        threads=threads,
        flops=max(rate for name, rate in found.items() if name.endswith("_tflops")) * 1e12,
        # what is written may still be in the cache when the clock stops: memory limits what is far larger
        bandwidths=((0, found["cached_copy_tb_per_s"] * 1e12), (4 * max(cache, 1), found["copy_tb_per_s"] * 1e12)),
        idle_s=found["empty_s"],
    )
