"""Define where the stored elements stand, and check everything that a kernel is handed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from sparsebench.kernels.csr.column_blocks import ColumnBlocks, column_blocks
from sparsebench.kernels.csr.segments import Segments, cut

_LARGEST = 2**31 - 1
_ORDERS = 3
"""Orders by blocks of columns that an index holds: two ways are tried in turn, and x may come in two widths."""

Operand = tuple[str, Tensor, tuple[int | None, ...]]
"""A tensor's name, itself, and the sizes that it must end with; None stands for n, which all operands share."""


class Places(Protocol):
    """What the checks of operands need to know of an index, whichever layout it is of."""

    @property
    def shape(self) -> tuple[int, int]:
        """(m, k) of the matrix."""

    @property
    def nnz(self) -> int:
        """How many elements are stored."""

    @property
    def device(self) -> torch.device:
        """Where its arrays live."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ColumnOrder:
    """List the elements of a RowIndex by columns.

    Attributes:
        ccol: (k + 1), in the dtype of `crow`: column j holds the entries ccol[j] .. ccol[j + 1] of the next two.
        row: int32 (nnz): rows, ascending in a column.
        place: in the dtype of `crow` (nnz): where the values of the row-major order hold that entry.
    """

    ccol: Tensor
    row: Tensor
    place: Tensor

    @property
    def nbytes(self) -> int:
        """Return the bytes of the three arrays."""
        return _nbytes(self.ccol, self.row, self.place)


@dataclass(frozen=True, kw_only=True, eq=False)
class RowIndex:
    """Where the stored elements of a matrix (m, k) stand, row by row: CSR without its values.

    Stored elements are numbered row-major, and their values are one contiguous tensor (nnz) in that order. Both arrays
    are 1-D and contiguous on one device. An index cannot be made wrong: everything is checked when it is made, so that
    the kernels, which check no bounds, need not look at it again. Do not change the arrays afterwards.

    Attributes:
        shape: (m, k) of the matrix.
        crow: int32 or int64 (m + 1): row i holds the elements crow[i] .. crow[i + 1].
        col: int32 (nnz): their columns, ascending in a row, none twice.

    Raises:
        ValueError: if an array is of another dtype, shape or device, a number is out of range, or elements are
            unsorted or duplicate.
    """

    shape: tuple[int, int]
    crow: Tensor
    col: Tensor

    def __post_init__(self) -> None:
        _check_shape(self.shape)
        _check_order(self.crow, self.col, self.shape)

    @classmethod
    def from_elements(cls, rows: Tensor, columns: Tensor, shape: tuple[int, int]) -> RowIndex:
        """Make an index from the places of the elements; `crow` is int32 where it fits.

        Args:
            rows: integer (nnz), sorted.
            columns: integer (nnz), ascending in a row.
            shape: (m, k) of the matrix.

        Raises:
            ValueError: as the class says.
        """
        _check_shape(shape)
        wide = rows.numel() > _LARGEST
        bounds = torch.arange(shape[0] + 1, device=rows.device, dtype=rows.dtype)
        return cls(
            shape=shape,
            crow=torch.searchsorted(rows.contiguous(), bounds, out_int32=not wide),
            col=columns.to(torch.int32, copy=True).contiguous(),
        )

    @cached_property
    def nnz(self) -> int:
        """Return how many elements are stored."""
        return int(self.col.numel())

    @property
    def device(self) -> torch.device:
        """Return where the arrays live."""
        return self.crow.device

    @property
    def nbytes(self) -> int:
        """Return the bytes of all that is held: `crow`, `col`, and what was made since, as `columns` and `segments`."""
        made = [self.__dict__.get(name) for name in ("columns", "_row_segments", "_column_segments")]
        held = [m for m in made if isinstance(m, (ColumnOrder, Segments))]
        held += self.__dict__.get("_blocks", {}).values()
        plans = [part for kept in self.__dict__.get("plans", {}).values() if isinstance(kept, tuple) for part in kept]
        planned = sum(int(getattr(part, "nbytes", 0)) for part in plans)
        return _nbytes(self.crow, self.col) + sum(order.nbytes for order in held) + planned

    def rows(self) -> Tensor:
        """Return the row of every stored element, a new int64 tensor (nnz)."""
        numbers = torch.arange(self.shape[0], device=self.device)
        return torch.repeat_interleave(numbers, self.crow.diff(), output_size=self.nnz)

    @cached_property
    def columns(self) -> ColumnOrder:
        """Return the order by columns; made when first asked for, held from then on and counted in `nbytes`."""
        column, place = torch.sort(self.col, stable=True)  # stable: rows stay ascending within a column
        bounds = torch.arange(self.shape[1] + 1, device=self.device, dtype=torch.int32)
        return ColumnOrder(
            ccol=torch.searchsorted(column, bounds, out_int32=self.crow.dtype == torch.int32),
            row=self.rows()[place].to(torch.int32),
            place=place.to(self.crow.dtype),
        )

    def column_blocks(self, width: int, groups: int, cost: int) -> ColumnBlocks:
        """Return the order by blocks of columns; the last few that were asked for are held as `columns` is."""
        held: dict[tuple[int, int], ColumnBlocks] = self.__dict__.setdefault("_blocks", {})
        found = held.get((width, groups))
        if found is None:
            while len(held) >= _ORDERS:
                held.pop(next(iter(held)))
            found = column_blocks(self.crow.numpy(), self.col.numpy(), self.shape[1], width, groups, cost)
            held[width, groups] = found
        return found

    def forget_column_blocks(self) -> None:
        """Let go of the orders by blocks of columns that are held."""
        self.__dict__.pop("_blocks", None)

    @cached_property
    def plans(self) -> dict[Any, Any]:
        """Return what kernels keep for operands that they met; arrays of the CPU's are counted in `nbytes`."""
        return {}

    def segments(self, transposed: bool) -> Segments:
        """Return the rows of S, or of Sᵀ, cut for the GPU; held as `columns` is."""
        return self._column_segments if transposed else self._row_segments

    @cached_property
    def _row_segments(self) -> Segments:
        return cut(self.crow)

    @cached_property
    def _column_segments(self) -> Segments:
        return cut(self.columns.ccol)


def check_operands(
    index: Places, operands: Sequence[Operand], dtypes: Collection[torch.dtype] | None = None, *, batched: bool = True
) -> None:
    """Raise ValueError unless the operands of a product fit the index and each other.

    Args:
        index: of the stored elements; it was checked when it was made.
        operands: what the product reads; one named "values" must be contiguous and without leading dimensions.
        dtypes: what the kernel can compute in; None for any.
        batched: whether an operand of two sizes may have leading dimensions.
    """
    first_name, first, _ = operands[0]
    n: int | None = None
    device = index.device
    for name, tensor, sizes in operands:
        ends = len(sizes)
        right = tensor.dim() == ends or (batched and ends == 2 and tensor.dim() > ends)
        if tensor.layout != torch.strided or not right:
            raise ValueError(
                f"expected {name} strided and {ends}-D{' or more' if batched and ends == 2 else ''}, "
                f"got {tensor.dim()}-D {tensor.layout}; convert it first"
            )
        for size, got in zip(sizes, tensor.shape[-ends:], strict=True):
            n = got if size is None and n is None else n
            if got != (n if size is None else size):
                want = ", ".join(("n" if n is None else str(n)) if s is None else str(s) for s in sizes)
                raise ValueError(
                    f"expected {name} of shape ({want}), got {tuple(tensor.shape)}; "
                    f"the matrix is {index.shape} with {index.nnz} stored elements"
                )
        if tensor.dtype != first.dtype:
            raise ValueError(f"expected {name} in {first.dtype} as {first_name} is, got {tensor.dtype}; convert one")
        if tensor.device != device:
            raise ValueError(f"expected {name} on {index.device} as the index is, got {tensor.device}; move one")
        if name == "values" and not tensor.is_contiguous():
            raise ValueError(f"expected contiguous values, got strides {tensor.stride()}; call .contiguous()")
    if dtypes is not None and first.dtype not in dtypes:
        known = ", ".join(str(dtype) for dtype in dtypes)
        raise ValueError(
            f"expected {first_name} in one of {known}, got {first.dtype}; convert it or use another kernel"
        )


def check_product(
    index: Places, values: Tensor, x: Tensor, dtypes: Collection[torch.dtype] | None, *, transposed: bool
) -> None:
    """Raise ValueError unless self @ x, or selfᵀ @ x, can be computed; `dtypes` as in `check_operands`."""
    rows = index.shape[0 if transposed else 1]
    dtype = values.dtype
    # the usual case in one condition: a product of a vector takes a few microseconds in all
    if (
        values.shape == (index.nnz,)
        and x.dim() >= 2
        and x.shape[-2] == rows
        and x.dtype == dtype
        and (dtypes is None or dtype in dtypes)
        and values.layout == x.layout == torch.strided
        and values.is_contiguous()
        and values.device == x.device == index.device
    ):
        return
    check_operands(index, [("values", values, (index.nnz,)), ("x", x, (rows, None))], dtypes)


def check_sampled(index: Places, a: Tensor, b: Tensor, dtypes: Collection[torch.dtype] | None) -> None:
    """Raise ValueError unless (a @ b) can be computed at the stored places; `dtypes` as in `check_operands`."""
    m, k = index.shape
    check_operands(index, [("a", a, (m, None)), ("b", b, (None, k))], dtypes, batched=False)


def dense_from_elements(index: RowIndex, values: Tensor) -> Tensor:
    """Return the matrix (m, k) as a new contiguous tensor."""
    dense = values.new_zeros(index.shape)
    dense[index.rows(), index.col.long()] = values.detach()
    return dense


def _nbytes(*arrays: Tensor) -> int:
    return sum(array.numel() * array.element_size() for array in arrays)


def _check_shape(shape: tuple[int, int]) -> None:
    if len(shape) != 2 or min(shape) < 0 or max(shape) > _LARGEST:
        raise ValueError(f"expected a shape (m, k) of sizes from 0 to 2^31 - 1, got {shape}; split the matrix")


def _check_order(crow: Tensor, col: Tensor, shape: tuple[int, int]) -> None:
    """Raise ValueError unless `col` holds numbers below k that ascend strictly in each of m rows."""
    rows, columns = shape
    for name, array, dtypes in (("crow", crow, (torch.int32, torch.int64)), ("col", col, (torch.int32,))):
        if array.dtype not in dtypes or array.dim() != 1 or not array.is_contiguous():
            known = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
            raise ValueError(
                f"expected {name} as a contiguous 1-D {known} array, got {array.dim()}-D {array.dtype} "
                f"with strides {array.stride()}; convert it first"
            )
    if crow.device != col.device:
        raise ValueError(f"expected col on {crow.device} as crow is, got {col.device}; move one")
    if crow.numel() != rows + 1:
        raise ValueError(f"expected {rows + 1} entries in crow, got {crow.numel()}; check the shape")
    # compared, not subtracted: a difference of two numbers of any size may wrap around
    ascends = bool((crow[1:] >= crow[:-1]).all())
    if int(crow[0]) != 0 or int(crow[-1]) != col.numel() or not ascends:
        raise ValueError(f"expected crow to ascend from 0 to {col.numel()}, got otherwise; rebuild it")
    if col.numel() == 0:
        return
    low, high = int(col.min()), int(col.max())
    if low < 0 or high >= columns:
        raise ValueError(f"expected numbers of 0 .. {columns - 1} in col, got {low} .. {high}; check the shape")
    wrong = col[1:] <= col[:-1]
    begins = crow[1:-1].long()
    # where a row begins, the last one's column may be any
    wrong[begins[(begins > 0) & (begins < col.numel())] - 1] = False
    if bool(wrong.any()):
        raise ValueError("expected col sorted in each row, none twice, got otherwise; sort and merge the elements")
