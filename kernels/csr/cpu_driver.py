"""Share the CPU products out among numba's threads; operands are addresses and strides in bytes, whatever their dtype.

The code is compiled once and cached on disk. It holds no address: generated functions are called by theirs, which come
as arguments. Functions come in pairs, for whole tiles and for the last one; a pack pair of 0 means that x is read where
it stands. One thread computes without `prange`, for which numba would wake up all of its threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from sparsebench.kernels.common.jit import njit
from sparsebench.kernels.common.sharing import share
from sparsebench.kernels.microkernels.call import call

ROW_COST = 4
"""What beginning a row costs, in elements: shares are balanced by elements + ROW_COST · rows."""


@njit()
def pack_rows(
    pack: int, gathers: bool, x: int, x_row: int, x_column: int, panel: int, panel_row: int, first: int, last: int,
    tail: int,
) -> None:  # fmt: skip
    """Copy rows first .. last of a tile of x into a panel."""
    if gathers:
        call(pack, (x, x_row, x_column, panel, panel_row, first, last, tail))
    else:
        call(pack, (x, x_row, panel, panel_row, first, last, tail))


@njit()
def _forward(
    thread: int,
    whole: int, final: int, pack: int, pack_final: int, gathers: bool, threads: int, items: int, tiles: int,
    shares: int, tail: int, values: int, col: int, crow: int, starts: Any, x: int, x_row: int, x_column: int,
    x_item: int, x_tile: int, inner: int, panels: int, panel_row: int, out: int, out_row: int, out_item: int,
    out_tile: int,
) -> None:  # fmt: skip
    panel = panels + thread * inner * panel_row
    packed = -1
    tasks = items * tiles * shares
    for task in range(tasks * thread // threads, tasks * (thread + 1) // threads):
        number, part = task // shares, task % shares
        item, tile = number // tiles, number % tiles
        source, target = x + item * x_item + tile * x_tile, out + item * out_item + tile * out_tile
        at_end = tile == tiles - 1
        row = x_row
        if pack != 0:
            if packed != number:
                packer = pack_final if at_end else pack
                pack_rows(packer, gathers, source, x_row, x_column, panel, panel_row, 0, inner, tail)
                packed = number
            source, row = panel, panel_row
        first, last = share(starts, shares, part, ROW_COST), share(starts, shares, part + 1, ROW_COST)
        call(final if at_end else whole, (values, col, crow, source, row, target, out_row, first, last, tail))


@njit(parallel=True)
def forward(
    whole: int, final: int, pack: int, pack_final: int, gathers: bool, threads: int, items: int, tiles: int,
    shares: int, tail: int, values: int, col: int, crow: int, starts: Any, x: int, x_row: int, x_column: int,
    x_item: int, x_tile: int, inner: int, panels: int, panel_row: int, out: int, out_row: int, out_item: int,
    out_tile: int,
) -> None:  # fmt: skip
    """Compute self @ x in tasks (item, tile, share of the rows); a thread takes neighbours, and packs for itself."""
    if threads == 1:
        _forward(
            0,
            whole, final, pack, pack_final, gathers, threads, items, tiles, shares, tail, values, col, crow, starts,
            x, x_row, x_column, x_item, x_tile, inner, panels, panel_row, out, out_row, out_item, out_tile,
        )  # fmt: skip
        return
    for thread in prange(threads):
        _forward(
            np.int64(thread),
            whole, final, pack, pack_final, gathers, threads, items, tiles, shares, tail, values, col, crow, starts,
            x, x_row, x_column, x_item, x_tile, inner, panels, panel_row, out, out_row, out_item, out_tile,
        )  # fmt: skip


@njit()
def _transposed(
    thread: int,
    whole: int, final: int, clear: int, finish: int, finish_final: int, threads: int, items: int, tiles: int, tail: int,
    values: int, col: int, crow: int, rows: int, x: int, x_row: int, x_item: int, x_tile: int, inner: int,
    panels: int, panel_row: int, out: int, out_row: int, out_item: int, out_tile: int,
) -> None:  # fmt: skip
    panel = panels + thread * inner * panel_row
    for task in range(thread, items * tiles, threads):
        item, tile = task // tiles, task % tiles
        source, target = x + item * x_item + tile * x_tile, out + item * out_item + tile * out_tile
        at_end = tile == tiles - 1
        call(clear, (panel, panel_row, 0, inner, tail))
        call(final if at_end else whole, (values, col, crow, source, x_row, panel, panel_row, 0, rows, tail))
        call(finish_final if at_end else finish, (panel, 0, 1, panel_row, target, out_row, 0, inner, tail))


@njit(parallel=True)
def transposed_by_tiles(
    whole: int, final: int, clear: int, finish: int, finish_final: int, threads: int, items: int, tiles: int, tail: int,
    values: int, col: int, crow: int, rows: int, x: int, x_row: int, x_item: int, x_tile: int, inner: int,
    panels: int, panel_row: int, out: int, out_row: int, out_item: int, out_tile: int,
) -> None:  # fmt: skip
    """Compute selfᵀ @ x; a thread takes every so manieth tile, and adds up in a panel (inner, tile) of its own."""
    if threads == 1:
        _transposed(
            0,
            whole, final, clear, finish, finish_final, threads, items, tiles, tail, values, col, crow, rows,
            x, x_row, x_item, x_tile, inner, panels, panel_row, out, out_row, out_item, out_tile,
        )  # fmt: skip
        return
    for thread in prange(threads):
        _transposed(
            np.int64(thread),
            whole, final, clear, finish, finish_final, threads, items, tiles, tail, values, col, crow, rows,
            x, x_row, x_item, x_tile, inner, panels, panel_row, out, out_row, out_item, out_tile,
        )  # fmt: skip


@njit(parallel=True)
def transposed_by_rows(
    whole: int, final: int, clear: int, finish: int, finish_final: int, threads: int, items: int, tiles: int, tail: int,
    values: int, col: int, crow: int, starts: Any, x: int, x_row: int, x_item: int, x_tile: int, inner: int,
    panels: int, panel_row: int, out: int, out_row: int, out_item: int, out_tile: int,
) -> None:  # fmt: skip
    """Compute selfᵀ @ x; each share of the rows has a panel of its own, and these are added up in their order."""
    for task in range(items * tiles):
        item, tile = task // tiles, task % tiles
        source, target = x + item * x_item + tile * x_tile, out + item * out_item + tile * out_tile
        at_end = tile == tiles - 1
        size = inner * panel_row
        function, last_step = final if at_end else whole, finish_final if at_end else finish
        for thread in prange(threads):
            panel = panels + np.int64(thread) * size
            first, last = share(starts, threads, thread, ROW_COST), share(starts, threads, thread + 1, ROW_COST)
            call(clear, (panel, panel_row, 0, inner, tail))
            call(function, (values, col, crow, source, x_row, panel, panel_row, first, last, tail))
        for thread in prange(threads):
            first, last = inner * thread // threads, inner * (thread + 1) // threads
            call(last_step, (panels, size, threads, panel_row, target, out_row, first, last, tail))


@njit()
def _sampled(
    thread: int,
    first_tile: int, whole: int, final: int, pack: int, pack_final: int, gathers: bool, threads: int, tiles: int,
    tail: int, a: int, a_row: int, col: int, crow: int, starts: Any, x: int, x_row: int, x_column: int, tile_bytes: int,
    x_tile: int, inner: int, panels: int, panel_row: int, out: int,
) -> None:  # fmt: skip
    panel = panels + thread * inner * panel_row
    first, last = share(starts, threads, thread, ROW_COST), share(starts, threads, thread + 1, ROW_COST)
    for tile in range(tiles):
        source, left = x + tile * x_tile, a + tile * tile_bytes
        at_end = tile == tiles - 1
        row = x_row
        if pack != 0:
            pack_rows(
                pack_final if at_end else pack, gathers, source, x_row, x_column, panel, panel_row, 0, inner, tail
            )
            source, row = panel, panel_row
        function = first_tile if tile == 0 else final if at_end else whole
        call(function, (left, a_row, col, crow, source, row, out, first, last, tail))


@njit(parallel=True)
def sampled(
    first_tile: int, whole: int, final: int, pack: int, pack_final: int, gathers: bool, threads: int, tiles: int,
    tail: int, a: int, a_row: int, col: int, crow: int, starts: Any, x: int, x_row: int, x_column: int, tile_bytes: int,
    x_tile: int, inner: int, panels: int, panel_row: int, out: int,
) -> None:  # fmt: skip
    """Compute (a @ xᵀ) at the stored places; a thread takes a share of the rows, and packs each tile for itself."""
    if threads == 1:
        _sampled(
            0,
            first_tile, whole, final, pack, pack_final, gathers, threads, tiles, tail, a, a_row, col, crow, starts,
            x, x_row, x_column, tile_bytes, x_tile, inner, panels, panel_row, out,
        )  # fmt: skip
        return
    for thread in prange(threads):
        _sampled(
            np.int64(thread),
            first_tile, whole, final, pack, pack_final, gathers, threads, tiles, tail, a, a_row, col, crow, starts,
            x, x_row, x_column, tile_bytes, x_tile, inner, panels, panel_row, out,
        )  # fmt: skip
