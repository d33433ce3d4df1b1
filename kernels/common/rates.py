"""Measure how fast this processor multiplies, reads, writes and copies, by the least time of several calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numba import prange

from sparsebench.kernels.common.jit import njit
from sparsebench.kernels.microkernels import generated, host, tiles
from sparsebench.kernels.microkernels.call import call
from sparsebench.kernels.microkernels.emit import SIZES

_TRIES = 8
_SIDES = (256, 512, 1024)
_LONG_S = 0.002
"""Of a product that takes as long the call itself is no part; larger ones need not be tried."""
_PASS_BYTES = 1 << 24
"""That are moved before the clock is read: a millisecond or so."""
_DEPTH, _ENTRIES = 32, 64
"""Of the generated kernel whose peak is told: operands of a few KiB, read again and again."""


def least_s(action: Callable[[], object], tries: int = _TRIES) -> float:
    """Return the least seconds of a few calls, after one that is not counted."""
    action()
    taken = []
    for _ in range(tries):
        begin = time.perf_counter()
        action()
        taken.append(time.perf_counter() - begin)
    return min(taken)


def product_flops(dtype: torch.dtype) -> float:
    """Return the operations a second of torch's dense product, on the threads that torch has."""
    best = 0.0
    for side in _SIDES:
        left, right = (torch.ones(side, side, dtype=dtype) for _ in range(2))
        taken = least_s(partial(torch.mm, left, right))
        best = max(best, 2 * side**3 / taken)
        if taken > _LONG_S:
            break
    return best


def copy_rate(size: int) -> float:
    """Return the bytes a second that one thread reads and writes within so many bytes, both directions counted."""
    source, to = np.ones(size // 8, dtype=np.float32), np.zeros(size // 8, dtype=np.float32)
    passes = max(1, (1 << 26) // size)
    return passes * size / least_s(partial(_copy_often, source, to, passes))


def read_rate(size: int, threads: int) -> float:
    """Return the bytes a second that so many threads together read, each within `size` bytes of its own."""
    memory, sums = np.ones((threads, size // 8), np.int64), np.zeros(threads * 8, np.int64)
    passes = max(1, _PASS_BYTES // size)
    return threads * passes * size / least_s(partial(_read_often, memory, sums, passes), tries=8)


def write_rate(size: int, threads: int) -> float:
    """Return the bytes a second that so many threads together write, each within `size` bytes of its own."""
    memory = np.ones((threads, size // 8), np.int64)
    passes = max(1, _PASS_BYTES // size)
    return threads * passes * size / least_s(partial(_write_often, memory, passes), tries=8)


def generated_flops(threads: int, dtype: str = "float32") -> float:
    """Return the operations a second of a generated kernel whose operands are in the first cache.

    Args:
        threads: that run it at the same time.
        dtype: one of `tiles.dtypes`.
    """
    lanes = tiles.lanes(dtype)
    rows, vectors = (8, 3) if host.vector_bytes() == 64 else (4, 3)
    columns, size = vectors * lanes, SIZES[dtype]
    strides = (("a_row", _DEPTH * size), ("a_inner", size), ("b_inner", columns * size))
    table, _, _ = tiles.table("outer", dtype, (rows,), (columns,), frozenset({(rows, columns)}), False, strides)
    kind = torch.float32 if size == 4 else torch.float64 if size == 8 else getattr(torch, dtype)
    a, b = (torch.ones(threads, count, _DEPTH, dtype=kind) for count in (rows, columns))
    c = torch.zeros(threads, rows, columns, dtype=kind)
    others = np.zeros(_ENTRIES, np.int32)
    given = {
        "a": a.data_ptr(), "b": b.data_ptr(), "c": c.data_ptr(), "others": others.ctypes.data,
        "order": others.ctypes.data, "last": _ENTRIES, "inner": _DEPTH, "limit": _DEPTH,
        "b_column": size, "c_row": columns * size, "c_column": size, **dict(strides),
    }  # fmt: skip
    arguments = tuple(given.get(name, 0) for name in generated.ARGUMENTS)
    apart = tuple(part.stride(0) * size for part in (a, b, c))
    calls = 50
    run = partial(_multiply_often, int(table[0, 0]), arguments, apart, threads, calls)
    return 2.0 * rows * columns * _DEPTH * _ENTRIES * calls * threads / least_s(run)


@njit()
def _copy_often(source: Any, to: Any, passes: int) -> None:
    """Copy again and again, each time something else, so that no compiler leaves a pass out."""
    for number in range(passes):
        shift = np.float32(number)
        for place in range(source.size):
            to[place] = source[place] + shift


@njit(parallel=True)
def _read_often(memory: Any, sums: Any, passes: int) -> None:
    """Add up again and again; integers, as their sums may be taken in any order, and so by vectors."""
    for thread in prange(memory.shape[0]):
        row = memory[thread]
        total = 0
        for number in range(passes):
            part = 0
            for place in range(row.size):
                part += row[place] ^ number
            total += part
        sums[thread * 8] = total


@njit(parallel=True)
def _write_often(memory: Any, passes: int) -> None:
    for thread in prange(memory.shape[0]):
        row = memory[thread]
        for number in range(passes):
            for place in range(row.size):
                row[place] = number


@njit(parallel=True)
def _multiply_often(address: int, arguments: Any, apart: Any, threads: int, calls: int) -> None:
    a, b, c = arguments[0], arguments[1], arguments[2]
    for thread in prange(threads):
        for _ in range(calls):
            call(address, (a + thread * apart[0], b + thread * apart[1], c + thread * apart[2]) + arguments[3:])  # noqa: RUF005  # numba unpacks no tuple
