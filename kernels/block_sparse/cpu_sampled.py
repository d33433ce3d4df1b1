"""Compute (a @ b) at the stored blocks from panels: a part of the summed axis at a time, whose operands fit the caches.

A thread owns the blocks of some block rows and some block columns. For each part of the summed axis it copies its rows
of a side by side, turns the columns of b that a block column takes so that they lie side by side too, and multiplies
for every stored block of that column, adding to what the parts before have left.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numba import prange
from torch import Tensor

from sparsebench.kernels.block_sparse.layout import BlockIndex
from sparsebench.kernels.common import jit, panels
from sparsebench.kernels.common.jit import njit
from sparsebench.kernels.common.sharing import share
from sparsebench.kernels.microkernels import host, tiles
from sparsebench.kernels.microkernels.call import call
from sparsebench.kernels.microkernels.emit import SIZES

DTYPES: tuple[str, ...] = ("float32", "float64")
"""Sums are kept in the result between the parts: halves would be rounded in between."""
_SHORTEST = 64
"""Elements of a part of the summed axis, at least."""


class Sampling(NamedTuple):
    """Say what is multiplied, and how it is shared out; strides in bytes."""

    down: int
    """Shares of the block rows."""
    across: int
    """Shares of the block columns."""
    height: int
    width: int
    m: int
    k: int
    n: int
    part: int
    """Elements of a part of the summed axis."""
    size: int
    a: int
    a_row: int
    b: int
    b_row: int
    """Between the rows of b, as far as its columns are side by side; else between those of its transpose."""
    c: int
    copy_a: int
    copy_a_last: int
    bring_b: int
    """Copies rows of b, or turns those of its transpose."""
    turns: int
    """1 if it turns."""
    left: int
    """Bytes of a thread's panel of a."""
    panel: int
    """Bytes of both panels of a thread."""
    panels: int


@njit(parallel=True)
def _run(s: Any, crow: Any, ccol: Any, row: Any, order: Any, copies: Any, first: Any, more: Any, columns: Any) -> None:
    for task in prange(s.down * s.across):
        _share(np.int64(task), s, crow, ccol, row, order, copies, first, more, columns)


@njit()
def _share(
    task: int, s: Any, crow: Any, ccol: Any, row: Any, order: Any, copies: Any, first: Any, more: Any, columns: Any
) -> None:
    top, bottom = share(crow, s.down, task // s.across, 1), share(crow, s.down, task // s.across + 1, 1)
    begin, end = share(ccol, s.across, task % s.across, 1), share(ccol, s.across, task % s.across + 1, 1)
    left, right = s.panels + task * s.panel, s.panels + task * s.panel + s.left
    high = min(s.m, bottom * s.height) - top * s.height
    line, stride = s.part * s.size, s.width * s.size
    for start in range(0, s.n, s.part):
        depth = min(s.part, s.n - start)
        copy = s.copy_a if depth == s.part else s.copy_a_last
        call(copy, (s.a + top * s.height * s.a_row + start * s.size, s.a_row, left, line, high))
        table = first if start == 0 else more
        for column in range(begin, end):
            across = min(s.width, s.k - column * s.width)
            ready = False
            for entry in range(ccol[column], ccol[column + 1]):
                i = np.int64(row[entry])
                if i < top or i >= bottom:
                    continue
                if not ready:
                    if s.turns:
                        source = s.b + column * s.width * s.b_row + start * s.size
                        call(s.bring_b, (source, s.b_row, right, stride, across, depth))
                    else:
                        source = s.b + start * s.b_row + column * s.width * s.size
                        call(copies[1 if across < s.width else 0], (source, s.b_row, right, stride, depth))
                    ready = True
                rows = min(s.height, s.m - i * s.height)
                to = s.c + np.int64(order[entry]) * s.height * stride
                at = left + (i - top) * s.height * line
                _block(table, columns, rows, across, at, line, right, stride, to, depth, s.size)


@njit()
def _block(
    table: Any, columns: Any, rows: int, across: int, a: int, a_row: int, b: int, stride: int, c: int, depth: int,
    size: int,
) -> None:  # fmt: skip
    """Compute one block by the tiles of a table: table[R - i, j] has i rows and columns[j] columns."""
    largest = table.shape[0]
    strips = (rows + largest - 1) // largest
    zero = np.zeros(1, np.int32)
    j, wide = 0, 0
    while j < across:
        while columns[wide] > across - j:
            wide += 1
        i = 0
        for strip in range(strips):
            count = rows // strips + (1 if strip < rows % strips else 0)
            call(
                table[largest - count, wide],
                (
                    a + i * a_row, b + j * size, c + i * stride + j * size, zero.ctypes.data, zero.ctypes.data, 0, 1,
                    0, 0, 0, 0, depth, depth, a_row, size, stride, size, stride, size,
                ),
            )  # fmt: skip
            i += count
        j += columns[wide]


def run(index: BlockIndex, a: Tensor, b: Tensor, rows: int, vectors: int) -> Tensor:
    """Return (a @ b) at the stored blocks, 0 in the padding.

    Args:
        index: of the stored blocks of a matrix (m, k).
        a: (m, n), one of DTYPES, its last stride 1.
        b: (n, k), one of its strides 1.
        rows: of a generated tile, at most.
        vectors: of a generated tile side by side, at most.
    """
    (m, k), (height, width), n = index.shape, index.block, a.shape[1]
    size, dtype = a.element_size(), str(a.dtype).removeprefix("torch.")
    out = (torch.zeros if m % height or k % width else torch.empty)((index.blocks, height, width), dtype=a.dtype)
    down, across = _grid(jit.threads(), index.grid)
    crow = index.crow.numpy()
    tallest = max(int(share(crow, down, i + 1, 1) - share(crow, down, i, 1)) for i in range(down)) * height
    part = _part(n, tallest, size)
    turns = b.stride(1) != 1
    left = tallest * part * size
    panel = left + part * width * size
    made = torch.empty(down * across * panel, dtype=torch.uint8)
    last, edge = n % part or part, k % width or width
    sampling = Sampling(
        down=down, across=across, height=height, width=width, m=m, k=k, n=n, part=part, size=size,
        a=a.data_ptr(), a_row=a.stride(0) * size, b=b.data_ptr(), b_row=b.stride(1 if turns else 0) * size,
        c=out.data_ptr(), copy_a=panels.copier(part * size), copy_a_last=panels.copier(last * size),
        bring_b=panels.turner(dtype) if turns else 0, turns=int(turns), left=left, panel=panel, panels=made.data_ptr(),
    )  # fmt: skip
    copies = np.array([0, 0] if turns else [panels.copier(width * size), panels.copier(edge * size)], np.int64)
    heights, widths = (height, m % height), (width, k % width)
    first, _, columns = _tiles(rows, vectors, dtype, heights, widths, part * size, width * size, False)
    more, _, _ = _tiles(rows, vectors, dtype, heights, widths, part * size, width * size, True)
    arrays = (array.numpy() for array in (index.ccol, index.row, index.order))
    _run(sampling, crow, *arrays, copies, first, more, columns)
    return out


@cache
def _tiles(
    rows: int,
    vectors: int,
    dtype: str,
    heights: tuple[int, int],
    widths: tuple[int, int],
    a_row: int,
    stride: int,
    adds: bool,
) -> tiles.Table:
    """Return the kernels that make up blocks of these sizes, whole ones and those at the edge."""
    wide = tiles.lanes(dtype)
    across = (*(count * wide for count in range(vectors, 1, -1)), *tiles.halves(wide))
    down = tuple(range(rows, 0, -1))
    needed = frozenset((r, c) for r in tiles.even(rows, heights) for c in tiles.used(across, widths))
    strides = (("a_row", a_row), ("a_inner", SIZES[dtype]), ("b_inner", stride))
    return tiles.table("outer", dtype, down, across, needed, False, strides, adds=adds)


def _grid(threads: int, grid: tuple[int, int]) -> tuple[int, int]:
    """Return into how many shares block rows and block columns are cut: about a square of shares, one a thread."""
    across = max(1, min(grid[1], math.isqrt(threads)))
    while threads % across:
        across -= 1
    return max(1, min(grid[0], threads // across)), across


def _part(n: int, rows: int, size: int) -> int:
    """Return the elements of a part: as many as half of the second-level cache holds of the rows of a share."""
    fitting = host.cache_bytes(2) // 2 // max(1, rows * size)
    parts = max(1, -(-n // max(_SHORTEST, fitting)))
    return max(1, min(n, -(-n // parts + 15) // 16 * 16 if parts > 1 else n))
