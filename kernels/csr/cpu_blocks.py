"""Compute the forward product by blocks of columns, so that what is read again and again lies in the first-level cache.

Without blocks each element fetches a row of a tile of x from the second-level cache, which then decides how long the
product takes. With them these rows come from the first; what is paid is the order: values are brought into it once a
call, and a row's sums are read and written once a block.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from sparsebench.kernels.common import tiling as common
from sparsebench.kernels.common.tailed import computed
from sparsebench.kernels.csr import cpu_block_driver, cpu_block_loops, cpu_generated
from sparsebench.kernels.csr.column_blocks import WIDEST
from sparsebench.kernels.csr.cpu_driver import ROW_COST
from sparsebench.kernels.csr.layout import RowIndex
from sparsebench.kernels.microkernels import host
from sparsebench.kernels.microkernels.emit import SIZES

_PANEL = 5 / 6
"""Share of the first-level cache that a panel of x takes: values, columns and sums pass through the rest."""
_SUMS = 1 / 4
"""Share of the second-level cache that a panel of sums takes."""


_ELEMENTS = 5 / 8
"""Share of it that a group's elements take."""


def width(dtype: torch.dtype, n: int, vectors: int) -> int:
    """Return the columns of a block for tiles of so many vectors, a multiple of 8."""
    name = str(dtype).removeprefix("torch.")
    row = vectors * common.lanes_for(name, n) * SIZES[name]
    return min(WIDEST, max(8, int(host.cache_bytes(1) * _PANEL) // row // 8 * 8))


def dsd(index: RowIndex, values: Tensor, x: Tensor, out: Tensor, threads: int, vectors: int) -> None:
    """Write self @ x, (m, k) @ (items, k, n) or (k, n), to `out`; the operands were checked, and none is empty.

    Args:
        index: of the stored elements; its order by blocks is made with the first such call, and held.
        values: (nnz), contiguous.
        x: any strides.
        out: (…, m, n), contiguous.
        threads: how many run.
        vectors: of a tile.
    """
    m, k = index.shape
    n, items = x.shape[-1], x.shape[0] if x.dim() == 3 else 1
    x_row, x_column = x.stride()[-2:]
    gathers = x_column != 1 and n > 1
    loops, order, lanes, tiles, tail, final = _loops(x.dtype, n, vectors, gathers)
    size, sum_size = x.element_size(), computed_bytes(x.dtype)
    columns = vectors * lanes
    wide = width(x.dtype, n, vectors)
    # so many groups that their sums fit, and that the last task does not keep one thread busy while the others wait
    second = host.cache_bytes(2)
    groups = max(
        1, -(-m * columns * sum_size // int(second * _SUMS)), -(-index.nnz * (size + 2) // int(second * _ELEMENTS))
    )
    while groups < m and -(-items * tiles * groups // threads) * threads > 1.1 * items * tiles * groups:
        groups += 1
    cut = index.column_blocks(wide, groups, ROW_COST)
    longest = cut.longest
    panel_row, final_row = columns * size, final * lanes * size
    panel, sums = threads * wide * panel_row, threads * longest * columns * sum_size
    room = torch.empty(index.nnz * size + panel + sums + 128, dtype=torch.uint8)
    panels = -(-room.data_ptr() // 64) * 64
    cpu_block_driver.by_blocks(
        loops, order, gathers, threads, items, tiles, tail, values.data_ptr(), panels + panel + sums, size,
        index.crow.numpy(), cut.bounds, cut.starts, cut.rows.ctypes.data, cut.counts.ctypes.data,
        cut.col.ctypes.data, wide, x.data_ptr(), x_row * size, x_column * size, x.stride(0) * size if items > 1 else 0,
        x_column * panel_row, k, panels, panel_row, final_row, panels + panel, columns * sum_size,
        longest * columns * sum_size, out.data_ptr(), n * size, m * n * size, panel_row,
    )  # fmt: skip


def computed_bytes(dtype: torch.dtype) -> int:
    """Return the bytes of a sum."""
    return SIZES[computed(str(dtype).removeprefix("torch."))]


@lru_cache(maxsize=256)
def _loops(dtype: torch.dtype, n: int, vectors: int, gathers: bool) -> tuple[np.ndarray, int, int, int, int, int]:
    """Return the loops, "order", lanes, tiles, lanes of the last vector, and vectors of the last tile."""
    name = str(dtype).removeprefix("torch.")
    lanes = common.lanes_for(name, n)
    cut = common.ends(n, lanes, vectors)
    table = np.zeros((2, 5), np.int64)
    for end, count in enumerate((vectors, cut["final_vectors"])):
        if end == 0 and cut["tiles"] == 1:
            continue
        tailed = end == 1 and cut["tail"] < lanes
        pack = cpu_generated.Loop(
            kind="gather" if gathers else "pack", dtype=name, lanes=lanes, vectors=count, tailed=tailed
        )
        table[end, 0] = cpu_generated.address(pack)
        for place, (adds, ends) in enumerate(((False, False), (True, False), (True, True), (False, True)), 1):
            loop = cpu_block_loops.Loop(
                kind="block", dtype=name, lanes=lanes, vectors=count, tailed=tailed and ends, adds=adds, ends=ends
            )
            table[end, place] = cpu_block_loops.address(loop)
    full = host.vector_bytes() // max(4, SIZES[name])
    order = cpu_block_loops.Loop(kind="order", dtype=name, lanes=full, vectors=1)
    return table, cpu_block_loops.address(order), lanes, cut["tiles"], cut["tail"], cut["final_vectors"]
