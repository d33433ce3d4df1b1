"""Share the CPU products out among numba's threads, and sort entries by units; operands are addresses and strides.

The code is compiled once and cached on disk. It holds no address: generated functions are called by theirs, which come
as arguments. One thread computes without `prange`, for which numba would wake up all of its threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from sparsebench.kernels.common.jit import njit
from sparsebench.kernels.microkernels.call import call

_ROW_COST = 4
"""What beginning a row costs, in entries: shares are balanced by entries + _ROW_COST · rows."""


@njit()
def _share(begin: Any, shares: int, number: int) -> Any:
    """Return the first row of a share, int64: shares hold about as many entries, whatever the rows' lengths."""
    rows = begin.size
    if number >= shares or rows == 0:
        return np.int64(rows)
    goal = (begin[rows - 1] + _ROW_COST * rows) * number // shares
    low, high = np.int64(0), np.int64(rows)
    while low < high:  # the first row that begins at the goal or after it
        middle = (low + high) // 2
        if begin[middle] + _ROW_COST * middle < goal:
            low = middle + 1
        else:
            high = middle
    return low


@njit()
def _gather(
    first: int, last: int, first_tile: int, last_tile: int, whole: int, final: int, tiles: int, tile_bytes: int,
    ahead: int, tail: int, values: int, others: int, begin: int, end: int, total: int, x: int, x_row: int, out: int,
    out_row: int,
) -> None:  # fmt: skip
    for tile in range(first_tile, last_tile):
        at = tile * tile_bytes
        function = final if tile == tiles - 1 else whole
        call(function, (values, others, begin, end, x + at, x_row, out + at, out_row, ahead, total, first, last, tail))


@njit(parallel=True)
def gather(
    whole: int, final: int, threads: int, tiles: int, tile_bytes: int, ahead: int, tail: int, values: int, others: int,
    begin: Any, end: Any, total: int, x: int, x_row: int, out: int, out_row: int,
) -> None:  # fmt: skip
    """Compute out[i] = Σ values[e] · x[others[e]], e of begin[i] .. end[i]; a thread takes a share of the rows.

    All threads go through the tiles in the same order, so that what one of them fetched serves the others too. With
    fewer rows than threads the tiles are shared out instead.
    """
    rows = begin.size
    begins, ends = begin.ctypes.data, end.ctypes.data
    if threads == 1:
        _gather(0, rows, 0, tiles, whole, final, tiles, tile_bytes, ahead, tail, values, others, begins, ends, total,
                x, x_row, out, out_row)  # fmt: skip
        return
    by_rows = rows >= 2 * threads
    for number in prange(threads):
        thread = np.int64(number)
        if by_rows:
            first, last = _share(begin, threads, thread), _share(begin, threads, thread + 1)
            low, high = np.int64(0), np.int64(tiles)
        else:
            first, last = np.int64(0), np.int64(rows)
            low, high = tiles * thread // threads, tiles * (thread + 1) // threads
        _gather(first, last, low, high, whole, final, tiles, tile_bytes, ahead, tail, values, others, begins, ends,
                total, x, x_row, out, out_row)  # fmt: skip


@njit()
def _dots(
    first: int, last: int, start: int, whole: int, final: int, tiles: int, tile_bytes: int, ahead: int, tail: int,
    a: int, a_row: int, others: int, begin: int, end: int, total: int, x: int, x_row: int, out: int,
) -> None:  # fmt: skip
    for tile in range(tiles):
        at = tile * tile_bytes
        function = start if tile == 0 else final if tile == tiles - 1 else whole
        call(function, (a + at, a_row, others, begin, end, x + at, x_row, out, ahead, total, first, last, tail))


@njit(parallel=True)
def dots(
    start: int, whole: int, final: int, threads: int, tiles: int, tile_bytes: int, ahead: int, tail: int, a: int,
    a_row: int, others: int, begin: Any, end: Any, total: int, x: int, x_row: int, out: int,
) -> None:  # fmt: skip
    """Compute out[e] = a[i] · x[others[e]], e of begin[i] .. end[i]; a thread takes a share of the rows."""
    begins, ends = begin.ctypes.data, end.ctypes.data
    if threads == 1:
        _dots(0, begin.size, start, whole, final, tiles, tile_bytes, ahead, tail, a, a_row, others, begins, ends, total,
              x, x_row, out)  # fmt: skip
        return
    for number in prange(threads):
        thread = np.int64(number)
        first, last = _share(begin, threads, thread), _share(begin, threads, thread + 1)
        _dots(first, last, start, whole, final, tiles, tile_bytes, ahead, tail, a, a_row, others, begins, ends, total,
              x, x_row, out)  # fmt: skip


@njit()
def by_units(places: Any, values: Any, units: int, begin: Any, row: Any, sorted_values: Any) -> None:
    """Sort entries by units, rows ascending in a unit (a counting sort); pads are left out.

    Args:
        places: (n, k).
        values: (n, k), of any type: they are only moved.
        units: N.
        begin: int64 (N + 1), zeros; becomes where each unit's entries begin.
        row: int32 (n·k), becomes their rows.
        sorted_values: (n·k), becomes their values.
    """
    n, k = places.shape
    for i in range(n):
        for s in range(k):
            if places[i, s] < units:
                begin[places[i, s] + 1] += 1
    for u in range(units):
        begin[u + 1] += begin[u]
    for i in range(n):
        for s in range(k):
            u = places[i, s]
            if u < units:
                at = begin[u]
                row[at], sorted_values[at] = i, values[i, s]
                begin[u] = at + 1
    for u in range(units, 0, -1):  # each has moved to where the next one begins
        begin[u] = begin[u - 1]
    begin[0] = 0


@njit()
def in_order(places: Any, units: int) -> Any:
    """Tell whether places (n, k) ascend strictly in each row within 0 .. units - 1, with pads of `units` at the end."""
    n, k = places.shape
    wrong = 0
    for i in range(n):
        before = np.int64(-1)
        for s in range(k):
            place = np.int64(places[i, s])
            wrong += (place > units) | ((place <= before) & ((place != units) | (place < 0)))
            before = place
    return wrong == 0
