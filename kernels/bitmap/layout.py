"""Define where the stored elements stand, a bit a place, and check everything that a kernel is handed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sparsebench.kernels.csr.layout import check_operands as check_operands
from sparsebench.kernels.csr.layout import check_product as check_product
from sparsebench.kernels.csr.layout import check_sampled as check_sampled

ROWS = 4
"""Rows of a group: a kernel reads x once for all of them."""
COLUMNS = 64
"""Columns of a chunk: the bits of a word."""

_LARGEST = 2**31 - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class BitmapIndex:
    """Where the stored elements of a matrix (m, k) stand: a bit for every place.

    The matrix is cut into groups of ROWS rows and chunks of COLUMNS columns. Stored elements are numbered by group,
    then chunk, then row of the group, then column, and their values are one contiguous tensor (nnz) in that order, so
    that a kernel that walks over a group reads bits and values from front to back. An index cannot be made wrong:
    everything is checked when it is made, so that the kernels, which check no bounds, need not look at it again. Do
    not change the arrays afterwards.

    Attributes:
        shape: (m, k) of the matrix.
        bits: int64 (groups, chunks, ROWS), contiguous: bit j of word [g, c, r] tells whether the element in row
            ROWS·g + r and column COLUMNS·c + j is stored. Bits outside of the matrix are 0.
        starts: int64 (groups + 1): group g has the elements starts[g] .. starts[g + 1].

    Raises:
        ValueError: if an array is of another dtype, shape or device, a bit lies outside of the matrix, or `starts`
            does not count the bits.
    """

    shape: tuple[int, int]
    bits: Tensor
    starts: Tensor

    def __post_init__(self) -> None:
        _check_shape(self.shape)
        _check_arrays(self.bits, self.starts, self.shape)
        _check_edges(self.bits, self.shape)
        _check_starts(self.bits, self.starts)

    @classmethod
    def from_bits(cls, bits: Tensor, shape: tuple[int, int]) -> BitmapIndex:
        """Make an index of bits alone, counting them.

        Args:
            bits: as the class says.
            shape: (m, k) of the matrix.

        Raises:
            ValueError: as the class says.
        """
        _check_shape(shape)
        _check_bits(bits, shape)
        return cls(shape=shape, bits=bits, starts=_starts(bits))

    @classmethod
    def from_elements(cls, rows: Tensor, columns: Tensor, shape: tuple[int, int]) -> BitmapIndex:
        """Make an index from the places of the elements, in any order; `value_order` tells where their values go.

        Args:
            rows: integer (nnz).
            columns: integer (nnz).
            shape: (m, k) of the matrix.

        Raises:
            ValueError: if a place lies outside of the matrix or is there twice; else as the class says.
        """
        _check_shape(shape)
        for name, numbers, size in (("rows", rows, shape[0]), ("columns", columns, shape[1])):
            if numbers.numel() and (int(numbers.min()) < 0 or int(numbers.max()) >= size):
                low, high = int(numbers.min()), int(numbers.max())
                raise ValueError(f"expected {name} of 0 .. {size - 1}, got {low} .. {high}; check the shape")
        groups, chunks = cut(shape)
        bits = torch.zeros(groups * chunks * ROWS, dtype=torch.int64, device=rows.device)
        number = _numbers(rows, columns, shape)
        bits.index_add_(0, number // COLUMNS, torch.ones_like(number) << number % COLUMNS)
        if int(count_bits(bits).sum()) != rows.numel():
            raise ValueError("expected every place once, got some twice; merge the elements")
        return cls.from_bits(bits.view(groups, chunks, ROWS), shape)

    @cached_property
    def nnz(self) -> int:
        """Return how many elements are stored."""
        return int(self.starts[-1])

    @property
    def device(self) -> torch.device:
        """Return where the arrays live."""
        return self.bits.device

    @property
    def nbytes(self) -> int:
        """Return the bytes of the arrays: an eighth of a byte a place, and 8 bytes a group."""
        return int(self.bits.nbytes + self.starts.nbytes)

    def places(self) -> tuple[Tensor, Tensor]:
        """Return the row and the column of every stored element, new int64 tensors (nnz) in the order of the values."""
        chunks = self.bits.shape[1]
        octets = self.bits.view(-1, 1).view(torch.uint8)  # 8 a word, the lowest bits first: a byte a place in all
        single = octets.unsqueeze(-1) >> torch.arange(8, dtype=torch.uint8, device=self.device) & 1
        number = single.view(-1).nonzero().view(-1)
        word, bit = number // COLUMNS, number % COLUMNS
        block = word // ROWS
        return block // max(1, chunks) * ROWS + word % ROWS, block % max(1, chunks) * COLUMNS + bit


def cut(shape: tuple[int, int]) -> tuple[int, int]:
    """Return how many groups of rows and chunks of columns a matrix (m, k) has."""
    return -(-shape[0] // ROWS), -(-shape[1] // COLUMNS)


def value_order(rows: Tensor, columns: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return which element's value comes first, second …: int64 (nnz), for elements at (rows, columns) in any order."""
    return torch.argsort(_numbers(rows, columns, shape))


def count_bits(words: Tensor) -> Tensor:
    """Return how many bits of each int64 word are set, in its shape; by halves, as Hacker's Delight 5-1 does."""
    # shifts carry the sign along, and the masks take it off again
    pairs = words - (words >> 1 & 0x5555555555555555)
    fours = (pairs & 0x3333333333333333) + (pairs >> 2 & 0x3333333333333333)
    bytes_ = fours + (fours >> 4) & 0x0F0F0F0F0F0F0F0F
    return bytes_ * 0x0101010101010101 >> 56


def dense_from_bits(index: BitmapIndex, values: Tensor) -> Tensor:
    """Return the matrix (m, k) as a new contiguous tensor."""
    dense = values.new_zeros(index.shape)
    dense[index.places()] = values.detach()
    return dense


def _numbers(rows: Tensor, columns: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return the number of each place, int64, places counted in the order of the values."""
    rows, columns = rows.long(), columns.long()
    block = rows // ROWS * cut(shape)[1] + columns // COLUMNS
    return (block * ROWS + rows % ROWS) * COLUMNS + columns % COLUMNS


def _starts(bits: Tensor) -> Tensor:

    starts = torch.zeros(bits.shape[0] + 1, dtype=torch.int64, device=bits.device)
    torch.cumsum(count_bits(bits).sum((1, 2)), 0, out=starts[1:])
    return starts


def _check_shape(shape: tuple[int, int]) -> None:
    if len(shape) != 2 or min(shape) < 0 or max(shape) > _LARGEST:
        raise ValueError(f"expected a shape (m, k) of sizes from 0 to 2^31 - 1, got {shape}; split the matrix")


def _check_bits(bits: Tensor, shape: tuple[int, int]) -> None:
    if bits.dtype != torch.int64 or bits.layout != torch.strided or not bits.is_contiguous():
        raise ValueError(
            f"expected bits as a contiguous int64 tensor, got {bits.dtype}, {bits.layout}; convert it first"
        )
    if bits.shape != (*cut(shape), ROWS):
        raise ValueError(
            f"expected bits of shape {(*cut(shape), ROWS)}, a word for {COLUMNS} columns of a row, "
            f"got {tuple(bits.shape)}; check the shape {shape}"
        )


def _check_arrays(bits: Tensor, starts: Tensor, shape: tuple[int, int]) -> None:
    _check_bits(bits, shape)
    if starts.dtype != torch.int64 or starts.dim() != 1 or not starts.is_contiguous():
        raise ValueError(
            f"expected starts as a contiguous 1-D int64 tensor, got {starts.dim()}-D {starts.dtype}; convert it first"
        )
    if starts.device != bits.device:
        raise ValueError(f"expected starts on {bits.device} as bits is, got {starts.device}; move one")
    if starts.numel() != bits.shape[0] + 1:
        raise ValueError(f"expected {bits.shape[0] + 1} entries in starts, got {starts.numel()}; check the shape")


def _check_edges(bits: Tensor, shape: tuple[int, int]) -> None:
    """Raise ValueError if a bit stands for a place outside of the matrix."""
    m, k = shape
    if bits.numel() == 0:
        return
    below = bits[-1, :, m - ROWS * (bits.shape[0] - 1) :]
    right = bits[:, -1] & (-1 << k % COLUMNS if k % COLUMNS else 0)
    for where, wrong in ((f"{m} rows", below), (f"{k} columns", right)):
        found = int(count_bits(wrong).sum())
        if found:
            raise ValueError(f"expected no bit set beyond {where}, got {found}; clear them")


def _check_starts(bits: Tensor, starts: Tensor) -> None:
    want = _starts(bits)
    wrong = (starts != want).nonzero()
    if wrong.numel():
        at = int(wrong[0])
        raise ValueError(
            f"expected starts[{at}] = {int(want[at])}, as many bits as are set before that group, "
            f"got {int(starts[at])}; count them again"
        )
