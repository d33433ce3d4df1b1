"""List the elements of an index by blocks of columns: the rows of x that a block needs fit the first-level cache.

Elements are taken by groups of rows, in a group by blocks of columns, in a block by rows, in a row by columns. A
product then walks from front to back through values in this order, and its results stay in a panel of sums meanwhile.
Rows come by how many elements they have in the block: where one ends is then foreseen by the processor, which saves as
much time as seven elements take.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sparsebench.kernels.common.jit import njit
from sparsebench.kernels.common.sharing import share

WIDEST = (1 << 16) - 1
"""Columns of a block at most: their numbers are held in 16 bits, and so is how many a row has."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ColumnBlocks:
    """Where the elements stand, by groups of rows and blocks of columns.

    Attributes:
        width: columns of a block.
        blocks: how many there are.
        bounds: int64 (groups + 1): the first row of each group.
        starts: int64 (groups, blocks): how many elements come before those of a block.
        rows: int32 (m · blocks): rows, counted from the group's first one, by ascending count; block after block, and
            the m · blocks entries of a group before those of the next.
        counts: uint16 (m · blocks): how many elements of the block each of these rows has.
        col: uint16 (nnz): columns, counted from the block's first one.
    """

    width: int
    blocks: int
    bounds: Any
    starts: Any
    rows: Any
    counts: Any
    col: Any

    @property
    def groups(self) -> int:
        """Return how many groups of rows there are."""
        return int(self.starts.shape[0])

    @cached_property
    def longest(self) -> int:
        """Return the rows of the longest group."""
        return int(np.diff(self.bounds).max())

    @property
    def nbytes(self) -> int:
        """Return the bytes of the arrays."""
        return int(sum(array.nbytes for array in (self.bounds, self.starts, self.rows, self.counts, self.col)))


def column_blocks(crow: Any, col: Any, columns: int, width: int, groups: int, cost: int) -> ColumnBlocks:
    """Return the order of a matrix by blocks of `width` columns.

    Args:
        crow: int32 or int64 (m + 1), ascending from 0.
        col: int32 (nnz), ascending in a row.
        columns: of the matrix, at least 1.
        width: of a block, from 1 to WIDEST.
        groups: of rows; they have about as many elements each.
        cost: what beginning a row takes, in elements, where groups are balanced.

    Raises:
        ValueError: if `width` or `groups` is out of range.
    """
    if not 1 <= width <= WIDEST or groups < 1:
        raise ValueError(f"expected blocks of 1 .. {WIDEST} columns and 1 group or more, got {width} and {groups}")
    height, blocks = crow.size - 1, -(-columns // width)
    bounds = np.array([share(crow, groups, number, cost) for number in range(groups + 1)], np.int64)
    rows, counts = np.empty(height * blocks, np.int32), np.empty(height * blocks, np.uint16)
    starts = np.zeros((groups, blocks), np.int64)
    near = np.empty(col.size, np.uint16)
    _fill(crow, col, width, blocks, bounds, starts, rows, counts, near)
    return ColumnBlocks(width=width, blocks=blocks, bounds=bounds, starts=starts, rows=rows, counts=counts, col=near)


@njit()
def _fill(
    crow: Any, col: Any, width: int, blocks: int, bounds: Any, starts: Any, rows: Any, counts: Any, near: Any
) -> None:
    """Walk through each group block by block: count, sort rows by their counts, and put columns down."""
    begins = np.empty(width + 2, np.int64)
    place = np.int64(0)
    for group in range(bounds.size - 1):
        first, last = bounds[group], bounds[group + 1]
        height = last - first
        cursor, length = np.empty(height, np.int64), np.empty(height, np.int64)
        for row in range(height):
            cursor[row] = crow[first + row]
        for block in range(blocks):
            begins[:] = 0
            for row in range(height):
                e, end, above = cursor[row], np.int64(crow[first + row + 1]), (block + 1) * width
                while e < end and col[e] < above:
                    e += 1
                length[row] = e - cursor[row]
                begins[length[row] + 1] += 1
            for count in range(width + 1):
                begins[count + 1] += begins[count]
            base = first * blocks + block * height
            for row in range(height):
                at = base + begins[length[row]]
                begins[length[row]] += 1
                rows[at], counts[at] = row, length[row]
            starts[group, block] = place
            for at in range(base, base + height):
                row = rows[at]
                for e in range(cursor[row], cursor[row] + length[row]):
                    near[place] = col[e] - block * width
                    place += 1
                cursor[row] += length[row]
