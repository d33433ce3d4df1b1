"""Define where the stored blocks stand, in both orders."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_LARGEST = 2**31 - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockIndex:
    """Where the stored blocks of a matrix (m, k) stand.

    The matrix is cut into aligned blocks (height, width); the last block row and block column may reach over the edge.
    Stored blocks are numbered row-major, and their values are one contiguous tensor (blocks, height, width) in that
    order. What of a block lies over the edge is padding: no result depends on it, and kernels write only 0 there.

    All five arrays are int32, 1-D and contiguous on one device. `crow` and `col` list the blocks by rows; `ccol`,
    `row` and `order` list the same blocks by columns, so that the transposed product moves no values.

    An index cannot be made wrong: everything is checked when it is made, so that the kernels, which check no bounds,
    need not look at it again. Do not change the arrays afterwards.

    Attributes:
        shape: (m, k) of the matrix.
        block: (height, width) of a block.
        crow: (block rows + 1): block row i holds the blocks crow[i] .. crow[i + 1].
        col: (blocks): their block columns, ascending in a row.
        ccol: (block columns + 1): block column j holds the entries ccol[j] .. ccol[j + 1] of the next two.
        row: (blocks): block rows, by block column, ascending in a column.
        order: (blocks): which stored block that entry is.

    Raises:
        ValueError: if an array is of another dtype, shape or device, a number is out of range, blocks are unsorted or
            duplicate, or the two orders do not list the same blocks.
    """

    shape: tuple[int, int]
    block: tuple[int, int]
    crow: Tensor
    col: Tensor
    ccol: Tensor
    row: Tensor
    order: Tensor

    def __post_init__(self) -> None:
        _check_index(self)

    @classmethod
    def from_rows(cls, crow: Tensor, col: Tensor, shape: tuple[int, int], block: tuple[int, int]) -> BlockIndex:
        """Make an index from the row-major order alone; the order by columns is worked out here.

        Args:
            crow: int32 (block rows + 1).
            col: int32 (blocks).
            shape: (m, k) of the matrix.
            block: (height, width).

        Raises:
            ValueError: as the class says.
        """
        down, across = _grid(shape, block)
        _check_order("crow", crow, "col", col, down, across)
        column, order = torch.sort(col, stable=True)  # stable: rows stay ascending within a column
        return cls(
            shape=shape,
            block=block,
            crow=crow,
            col=col,
            ccol=_starts(column, across),
            row=_expand(crow)[order].to(torch.int32),
            order=order.to(torch.int32),
        )

    @property
    def arrays(self) -> tuple[Tensor, ...]:
        """Return the five arrays."""
        return self.crow, self.col, self.ccol, self.row, self.order

    @property
    def blocks(self) -> int:
        """Return how many blocks are stored."""
        return int(self.col.numel())

    @property
    def grid(self) -> tuple[int, int]:
        """Return how many blocks the matrix has down and across."""
        return _grid(self.shape, self.block)

    @property
    def device(self) -> torch.device:
        """Return where the arrays live."""
        return self.crow.device

    @property
    def nbytes(self) -> int:
        """Return the bytes of the five arrays."""
        return sum(array.numel() * array.element_size() for array in self.arrays)

    def block_rows(self) -> Tensor:
        """Return the block row of every stored block, int64 (blocks), in the order of the values."""
        return _expand(self.crow)


def blocks_from_elements(
    rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int], block: tuple[int, int]
) -> tuple[BlockIndex, Tensor]:
    """Store the blocks that hold at least one of the given elements; nothing of size m·k is made.

    Args:
        rows: int64 (elements).
        columns: int64 (elements); no pair (row, column) twice.
        values: (elements).
        shape: (m, k) of the matrix.
        block: (height, width).

    Returns:
        the index, and new values (blocks, height, width) with 0 wherever no element was given.
    """
    height, width = block
    down, across = _grid(shape, block)
    numbers, which = torch.unique(rows // height * across + columns // width, return_inverse=True)
    stored = values.new_zeros((numbers.numel(), height, width))
    stored.view(-1)[(which * height + rows % height) * width + columns % width] = values
    col = (numbers % max(across, 1)).to(torch.int32)
    return BlockIndex.from_rows(_starts(numbers // max(across, 1), down), col, shape, block), stored


def dense_from_blocks(index: BlockIndex, values: Tensor) -> Tensor:
    """Return the matrix (m, k) as a new contiguous tensor; padding is dropped."""
    (m, k), (height, width), (down, across) = index.shape, index.block, index.grid
    padded = values.new_zeros((down, height, across, width))
    padded[index.block_rows(), :, index.col.long(), :] = values.detach()
    return padded.view(down * height, across * width)[:m, :k].contiguous()


def _grid(shape: tuple[int, int], block: tuple[int, int]) -> tuple[int, int]:
    if len(shape) != 2 or min(shape) < 0 or len(block) != 2 or min(block) < 1:
        raise ValueError(f"expected a shape (m, k) and a block of at least (1, 1), got {shape} and {block}")
    down, across = math.ceil(shape[0] / block[0]), math.ceil(shape[1] / block[1])
    if max(down, across) >= _LARGEST:
        raise ValueError(
            f"expected fewer than 2^31 - 1 block rows and columns, got {down} and {across}; use larger blocks"
        )
    return down, across


def _starts(numbers: Tensor, groups: int) -> Tensor:
    """Return where each group begins in sorted group numbers: int32 (groups + 1)."""
    if numbers.numel() > _LARGEST:
        raise ValueError(f"expected at most 2^31 - 1 stored blocks, got {numbers.numel()}; use larger blocks")
    bounds = torch.arange(groups + 1, device=numbers.device, dtype=numbers.dtype)
    return torch.searchsorted(numbers, bounds, out_int32=True)


def _expand(starts: Tensor) -> Tensor:
    """Return the group number of every entry, int64: the inverse of `_starts`."""
    groups = torch.arange(starts.numel() - 1, device=starts.device)
    return torch.repeat_interleave(groups, starts.diff())


def _check_order(starts_name: str, starts: Tensor, name: str, numbers: Tensor, groups: int, limit: int) -> None:
    """Raise ValueError unless `numbers` are below `limit` and ascend strictly in each of `groups` groups."""
    for label, array in ((starts_name, starts), (name, numbers)):
        if array.dtype != torch.int32 or array.dim() != 1 or not array.is_contiguous():
            raise ValueError(
                f"expected {label} as a contiguous 1-D int32 array, got {array.dim()}-D {array.dtype} "
                f"with strides {array.stride()}; convert it first"
            )
    if starts.device != numbers.device:
        raise ValueError(f"expected {name} on {starts.device} as {starts_name} is, got {numbers.device}; move one")
    if starts.numel() != groups + 1:
        raise ValueError(f"expected {groups + 1} entries in {starts_name}, got {starts.numel()}; check shape and block")
    if int(starts[0]) != 0 or int(starts[-1]) != numbers.numel() or bool((starts.diff() < 0).any()):
        raise ValueError(f"expected {starts_name} to ascend from 0 to {numbers.numel()}, got otherwise; rebuild it")
    if numbers.numel() == 0:
        return
    low, high = int(numbers.min()), int(numbers.max())
    if low < 0 or high >= limit:
        raise ValueError(f"expected numbers of 0 .. {limit - 1} in {name}, got {low} .. {high}; check shape and block")
    if bool(((_expand(starts) * limit + numbers).diff() <= 0).any()):
        raise ValueError(f"expected {name} sorted in each group, none twice, got otherwise; sort and merge the blocks")


def _check_index(index: BlockIndex) -> None:
    """Raise ValueError unless both orders are right and list the same blocks."""
    down, across = index.grid
    _check_order("crow", index.crow, "col", index.col, down, across)
    _check_order("ccol", index.ccol, "row", index.row, across, down)
    order = index.order
    if order.dtype != torch.int32 or order.shape != index.col.shape or not order.is_contiguous():
        raise ValueError(
            f"expected order as int32 ({index.blocks}), got {order.dtype} {tuple(order.shape)}; rebuild it"
        )
    if len({array.device for array in index.arrays}) != 1:
        raise ValueError(
            f"expected all arrays on {index.device}, got {[str(a.device) for a in index.arrays]}; move them"
        )
    if order.shape != index.row.shape or (
        order.numel() and not 0 <= int(order.min()) <= int(order.max()) < index.blocks
    ):
        raise ValueError("expected row and order to number every stored block, got otherwise; use BlockIndex.from_rows")
    place = order.long()
    # equal places in both lists, and places by columns that ascend strictly (checked above), leave only a permutation
    same = torch.equal(index.col[place].long(), _expand(index.ccol)) and torch.equal(
        index.block_rows()[place], index.row.long()
    )
    if not same:
        raise ValueError("expected ccol, row and order to list the blocks of crow and col, got others; use from_rows")
