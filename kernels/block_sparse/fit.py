"""Find the block that holds some non-zeros in the fewest bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_SIZES = tuple(1 << power for power in range(2, 8))
SQUARES: tuple[tuple[int, int], ...] = tuple((size, size) for size in _SIZES)
"""4 × 4 to 128 × 128."""
OBLONG: tuple[tuple[int, int], ...] = tuple((height, width) for height in _SIZES for width in _SIZES)
"""What both sides of 4 to 128 make up, squares included."""
ROWS: tuple[tuple[int, int], ...] = tuple((1, size) for size in _SIZES)
"""Segments of a row, of 4 to 128."""
COLUMNS: tuple[tuple[int, int], ...] = tuple((size, 1) for size in _SIZES)
"""Segments of a column, of 4 to 128."""

NEAR = 1.05
"""How many times the fewest bytes a block may take if it is larger, since a larger one is multiplied faster: where no
block divides a shape, smaller ones save a little at its edges."""

_SPARSE = 32
"""Places of a grid for each element that is given, beyond which its places are sorted instead of marked."""


def least_block(
    rows: Tensor,
    columns: Tensor,
    shape: tuple[int, int],
    blocks: Sequence[tuple[int, int]],
    *,
    value_bytes: int,
    index_bytes: int = 12,
) -> tuple[int, int]:
    """Return which of `blocks` stores a matrix in the fewest bytes; of those within NEAR of them the largest.

    A block (h, w) costs h · w values and its share of the index, and each block row and block column 4 bytes, as in
    `BlockIndex`. Where nothing is stored that leaves the block with the fewest rows and columns.

    Args:
        rows: int64 (elements) of what is not 0.
        columns: int64 (elements).
        shape: (m, k) of the matrix.
        blocks: (height, width) of the candidates, at least one.
        value_bytes: of a value.
        index_bytes: of a stored block's entries in the index.

    Raises:
        ValueError: if there is no candidate.
    """
    if not blocks:
        raise ValueError("expected a block to choose from, got none; name one")

    costs = {}
    for (height, width), count in stored_blocks(rows, columns, shape, blocks).items():
        lines = math.ceil(shape[0] / height) + math.ceil(shape[1] / width) + 2
        costs[height, width] = count * (height * width * value_bytes + index_bytes) + 4 * lines
    most = NEAR * min(costs.values())
    return max((block for block in costs if costs[block] <= most), key=lambda block: (math.prod(block), -costs[block]))


def stored_blocks(
    rows: Tensor, columns: Tensor, shape: tuple[int, int], blocks: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], int]:
    """Return how many blocks of each size hold an element; arguments as in `least_block`.

    A block that is made of smaller candidates is counted from these, so that the elements are passed over only once
    for each candidate that no other one divides.
    """
    places: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
    for block in sorted(set(blocks), key=math.prod):
        height, width = block
        finer = (known for known in places if height % known[0] == 0 and width % known[1] == 0)
        base = min(finer, key=lambda known: places[known][0].numel(), default=(1, 1))
        down, across = places.get(base, (rows, columns))
        grid = math.ceil(shape[0] / height), math.ceil(shape[1] / width)
        places[block] = _occupied(down // (height // base[0]), across // (width // base[1]), grid)
    return {block: found[0].numel() for block, found in places.items()}


def _occupied(rows: Tensor, columns: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the different places among the given ones of a grid, sorted; nothing far larger than these is made."""
    across = max(grid[1], 1)
    numbers = rows * across + columns
    if grid[0] * grid[1] <= _SPARSE * numbers.numel():  # marking takes a pass, sorting several
        marks = torch.zeros(grid[0] * grid[1], dtype=torch.bool, device=rows.device)
        marks[numbers] = True
        numbers = marks.nonzero().flatten()
    else:
        numbers = torch.unique(numbers)
    return numbers // across, numbers % across
