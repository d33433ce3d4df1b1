"""Share the forward product by blocks of columns out among numba's threads; operands are addresses and strides.

As in cpu_driver.py, what is compiled holds no address: generated functions come as arguments.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from sparsebench.kernels.common.jit import njit
from sparsebench.kernels.csr.cpu_driver import pack_rows
from sparsebench.kernels.microkernels.call import call


@njit(parallel=True)
def by_blocks(
    loops: Any, order: int, gathers: bool, threads: int, items: int, tiles: int, tail: int, values: int, moved: int,
    size: int, crow: Any, bounds: Any, starts: Any, rows: int, counts: int, col: int, width: int, x: int, x_row: int,
    x_column: int, x_item: int, x_tile: int, inner: int, panels: int, panel_row: int, final_row: int, sums: int,
    sums_row: int, sums_size: int, out: int, out_row: int, out_item: int, out_tile: int,
) -> None:  # fmt: skip
    """Compute self @ x in tasks (item, group of rows, tile); values are brought in their order first.

    Args (where names do not tell):
        loops: int64 (2, 5): for whole tiles and for the last one, the addresses of pack, and of the block that is the
            first, in the middle, the last, and the only one.
        moved: room for the values in their order.
        sums_size: bytes of a thread's panel of sums, for the longest group.
    """
    groups, blocks = starts.shape
    height = crow.size - 1
    cursors = np.empty(height, np.int64)
    for number in prange(threads):
        thread = np.int64(number)
        for group in range(groups * thread // threads, groups * (thread + 1) // threads):
            first, last = bounds[group], bounds[group + 1]
            for row in range(first, last):
                cursors[row] = crow[row]
            for block in range(blocks):
                at = first * blocks + block * (last - first)
                call(order, (values, cursors.ctypes.data + 8 * first, rows + 4 * at, counts + 2 * at,
                             moved + starts[group, block] * size, 0, last - first))  # fmt: skip
    tasks = items * tiles * groups
    for number in prange(threads):
        thread = np.int64(number)
        panel, own = panels + thread * width * panel_row, sums + thread * sums_size
        for task in range(tasks * thread // threads, tasks * (thread + 1) // threads):
            # a group stays in the second-level cache from tile to tile
            item, group, tile = task // (tiles * groups), task // tiles % groups, task % tiles
            end = np.int64(tile == tiles - 1)
            row = final_row if end else panel_row
            first, last = bounds[group], bounds[group + 1]
            height = last - first
            source = x + item * x_item + tile * x_tile
            target = out + item * out_item + tile * out_tile + first * out_row
            for block in range(blocks):
                low = block * width
                high = min(inner, low + width)
                pack_rows(loops[end, 0], gathers, source, x_row, x_column, panel - low * row, row, low, high, tail)
                which = 4 if blocks == 1 else 1 if block == 0 else 3 if block == blocks - 1 else 2
                at = first * blocks + block * height
                call(loops[end, which], (moved, col, rows + 4 * at, counts + 2 * at, starts[group, block], panel, own,
                                         sums_row, target, out_row, 0, height, tail))  # fmt: skip
