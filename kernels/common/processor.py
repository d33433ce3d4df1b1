"""Know this processor: caches, vectors, peak and bandwidths, measured at first use and kept in the user's cache."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import llvmlite
import numba
import torch

from sparsebench.kernels.common import choices, jit, rates
from sparsebench.kernels.common.caches import Cache, caches
from sparsebench.kernels.microkernels import host

_FACTS = "facts of the processor"
_VERSION = 1
"""Of what is measured; facts that were kept by another one are measured again."""
_MOST = 1 << 26
"""Bytes a thread beyond which memory is not asked for: to fill more takes longer than all the rest."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """How fast the threads together read and write what a cache, or memory, holds.

    Attributes:
        name: "L1", "L2", "L3" or "memory".
        span: bytes that each thread went over.
        read: bytes a second.
        written: bytes a second.
    """

    name: str
    span: int
    read: float
    written: float


@dataclass(frozen=True, kw_only=True)
class Processor:
    """What is known of the processor.

    Attributes:
        name: LLVM's, as "znver4".
        vector_bytes: of the widest vector that it computes with.
        threads: that the rates below are for.
        caches: of levels 1, 2 and 3.
        thread_flops: float32 operations a second of a generated kernel on one thread, its operands in the first cache.
        flops: the same on all threads together.
        dense_flops: of torch's dense product in float32, on all threads.
        levels: bandwidths of all threads together, the nearest level first.
    """

    name: str
    vector_bytes: int
    threads: int
    caches: tuple[Cache, ...]
    thread_flops: float
    flops: float
    dense_flops: float
    levels: tuple[Level, ...]

    def __post_init__(self) -> None:
        rates = (self.thread_flops, self.flops, self.dense_flops, *(level.read for level in self.levels))
        if not (self.caches and self.levels and min(rates) > 0):
            raise ValueError(f"expected caches, and rates above 0, got {self}; delete {choices.folder()}")

    def higher(self, other: Processor) -> Processor:
        """Return the higher of two looks at this processor, rate by rate."""
        seen = {level.name: level for level in other.levels}
        return replace(
            self,
            thread_flops=max(self.thread_flops, other.thread_flops),
            flops=max(self.flops, other.flops),
            dense_flops=max(self.dense_flops, other.dense_flops),
            levels=tuple(
                replace(
                    level,
                    read=max(level.read, seen.get(level.name, level).read),
                    written=max(level.written, seen.get(level.name, level).written),
                )
                for level in self.levels
            ),
        )

    def level(self, span: float) -> Level:
        """Return the nearest level that holds so many bytes a thread."""
        return next((level for level in self.levels if span <= self.holds(level.name)), self.levels[-1])

    def holds(self, name: str) -> float:
        """Return the bytes that a level holds for each thread: a cache that is shared, its part."""
        found = next((part for part in self.caches if f"L{part.level}" == name), None)
        return found.size / min(found.sharers, self.threads) if found else float("inf")

    def least_s(self, flops: float, read: float, written: float, *, near: float = 0.0) -> float:
        """Return the least seconds that so much work takes here: the roofline of Williams, Waterman and Patterson.

        https://doi.org/10.1145/1498765.1498785, with one roof a level: what is read from far away once does not
        overlap in the sum, but neither is faster than the slowest of its parts.

        Args:
            flops: operations.
            read: different bytes that are read, from the level that holds them.
            written: different bytes that are written, to the level that holds them.
            near: bytes that are read again from the second cache while they are multiplied.
        """
        source = self.level((read + written) / self.threads)
        second = self.levels[min(1, len(self.levels) - 1)]
        peak = max(self.flops, self.dense_flops)
        return max(flops / peak, read / source.read + written / source.written, near / second.read)


def known() -> Processor | None:
    """Return what was measured before, for as many threads as numba has now, or None; nothing is measured."""
    noted = choices.recall(machine(), _FACTS)
    return _read(noted) if noted is not None else None


@cache
def _measured(threads: int) -> Processor:
    found = measure(threads)
    choices.remember(machine(), _FACTS, {**asdict(found), "version": _VERSION})
    return found


def facts() -> Processor:
    """Return what is known of this processor, measured (in less than a second) if it never was."""
    return known() or _measured(jit.threads())


def look_again() -> Processor:
    """Measure this processor anew, and keep the higher of each rate: what runs beside it only ever takes away."""
    found, before = measure(jit.threads()), known()
    if before is not None:
        found = before.higher(found)
    choices.remember(machine(), _FACTS, {**asdict(found), "version": _VERSION})
    return found


def machine() -> str:
    """Return what facts and choices depend on: processor, caches, threads, and what compiles the kernels."""
    sizes = "-".join(str(part.size >> 10) for part in caches())
    libraries = f"numba {numba.__version__} llvmlite {llvmlite.__version__} torch {torch.__version__}"
    return f"{host.processor()} {host.vector_bytes()} {sizes} of {os.cpu_count()} {jit.threads()} threads {libraries}"


def measure(threads: int) -> Processor:
    """Measure this processor now, and keep nothing.

    Args:
        threads: that numba may use; torch is measured with as many as it has.
    """
    parts = caches()
    spans = [(f"L{part.level}", min(part.size // min(part.sharers, threads) // 2, _MOST // 4)) for part in parts]
    beyond = ("memory", min(2 * parts[-1].size, _MOST))
    levels = tuple(
        Level(name=name, span=span, read=rates.read_rate(span, threads), written=rates.write_rate(span, threads))
        for name, span in (*spans, beyond)
    )
    return Processor(
        name=host.processor(),
        vector_bytes=host.vector_bytes(),
        threads=threads,
        caches=parts,
        thread_flops=rates.generated_flops(1),
        flops=rates.generated_flops(threads),
        dense_flops=rates.product_flops(torch.float32),
        levels=levels,
    )


def _read(noted: Mapping[str, Any]) -> Processor | None:
    """Return kept facts, or None if they are damaged or of another version."""
    try:
        fields = dict(noted)
        if fields.pop("version") != _VERSION:
            return None
        fields["caches"] = tuple(Cache(**part) for part in fields["caches"])
        fields["levels"] = tuple(Level(**part) for part in fields["levels"])
        return Processor(**fields)
    except (KeyError, TypeError, ValueError):
        return None
