"""Hold whole planes: each is stored dense, or not at all."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from sparsebench.kernels.block_sparse.layout import BlockIndex
from sparsebench.representations.base import Representation, Spec, Storage, check_dimensions
from sparsebench.representations.formats.block_sparse import (
    BlockSparse,
    block_unsupported,
    blocks_of,
    refuse_unsupported,
    stand_in,
)
from sparsebench.representations.pattern import Pattern

DEFAULT_WIDTH = 16
"""Width of a plane of a matrix that comes without a plane or channel pattern: 16 float32 are one cache line of 64 bytes
and one AVX-512 register, the least that is read at once anyway."""


class Planes(Representation):
    """Store planes: a plane is kept whole if any of its elements is not 0, exactly, without tolerance.

    Of a weight (out, in, kh, kw) a plane is one kernel kh × kw. Of a matrix it is a segment 1 × width of a row, with
    the width of a `plane` or `channel` pattern, else DEFAULT_WIDTH.

    There are two regimes, and the data decide between them:

    - shared: the stored planes are all pairs of some rows and some plane columns, as after a channel was pruned, or of
      a few active maps that a whole batch shares. Values are (rows, plane columns, width) beside two short lists; a
      product gathers rows of x, multiplies once by dense BLAS and scatters.
    - pairs: any other set. Values are (planes, 1, width) with a block index, multiplied by the block kernels.
    """

    name = "planes"

    def __init__(self, source: Tensor, store: _Shared | BlockSparse, *, transposed: bool = False) -> None:
        """Take a store, not copied; `transposed` tells that it holds the transpose of this matrix."""
        super().__init__(source)
        self._store = store
        self._transposed = transposed

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        """Copy the planes that are not all 0; see `Representation.build`.

        Raises:
            ValueError: if the tensor is neither 2-D nor 4-D, or `unsupported` has a reason.
        """
        check_dimensions(tensor)
        refuse_unsupported(cls, tensor, pattern)
        index, values = blocks_of(tensor, (1, plane_width(tuple(tensor.shape), pattern)))
        rows = torch.nonzero(index.crow.diff()).flatten()
        planes = torch.nonzero(index.ccol.diff()).flatten()
        if rows.numel() * planes.numel() != index.blocks:
            return cls(tensor, BlockSparse(stand_in(values, index.shape), index, values))
        return cls(tensor, _Shared.from_blocks(index, values, rows, planes))

    @classmethod
    def unsupported(cls, spec: Spec) -> str | None:
        """Refuse what the block kernels refuse: before the data are seen, nobody knows which regime it will be."""
        return block_unsupported(spec)

    @property
    def regime(self) -> str:
        """Return "shared" or "pairs"."""
        return "pairs" if isinstance(self._store, BlockSparse) else "shared"

    def kernel(self, operation: str) -> str:
        """Return "gather-gemm" for shared planes, else what the block kernels are called."""
        return self._store.kernel(operation)

    def to_dense(self) -> Tensor:
        """Return a new strided tensor."""
        dense = self._store.to_dense()
        return (dense.t().contiguous() if self._transposed else dense).reshape(self.shape)

    def matmul(self, x: Tensor) -> Tensor:
        """Return self @ x, (m, k) @ (k, n) -> (m, n).

        Raises:
            ValueError: if shape, dtype or device of x do not fit.
        """
        return self._store.rmatmul(x) if self._transposed else self._store.matmul(x)

    def rmatmul(self, x: Tensor) -> Tensor:
        """Return selfᵀ @ x, (k, m) @ (m, n) -> (k, n), from the same values; errors as in `matmul`."""
        return self._store.matmul(x) if self._transposed else self._store.rmatmul(x)

    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Return (a @ b) at the stored planes, (m, n) @ (n, k), shaped as `values`, 0 in the padding.

        Raises:
            ValueError: if shape, dtype or device of a or b do not fit.
        """
        return self._store.sampled_matmul(b.t(), a.t()) if self._transposed else self._store.sampled_matmul(a, b)

    @property
    def values(self) -> Tensor:
        """Return the stored planes: (rows, plane columns, width) if shared, else (planes, 1, width)."""
        return self._store.values

    def with_values(self, values: Tensor) -> Self:
        """Return a matrix of other values in the same planes; they are copied only if they are not contiguous.

        Raises:
            ValueError: if shape or device are not those of `values`.
        """
        return type(self)(stand_in(values, self.shape), self._store.with_values(values), transposed=self._transposed)

    def transpose(self) -> Planes:
        """Return selfᵀ as a matrix (k, m) that shares values and index."""
        source = stand_in(self.values, self.matrix_shape[::-1])
        return type(self)(source, self._store, transposed=not self._transposed)

    def storage(self) -> Storage:
        """Return the bytes of the values, and of the index."""
        return self._store.storage()


def plane_width(shape: tuple[int, ...], pattern: Pattern | None) -> int:
    """Return how many elements a plane of a matrix or weight has."""
    if len(shape) == 4:
        return max(1, shape[2] * shape[3])
    return pattern.block[1] if pattern is not None and pattern.kind in ("plane", "channel") else DEFAULT_WIDTH


@dataclass(frozen=True, kw_only=True, eq=False)
class _Shared:
    """All pairs of some rows and some plane columns of a matrix.

    Attributes:
        shape: (m, k) of the matrix.
        rows: int32, ascending: the rows that hold anything.
        planes: int32, ascending: the plane columns that hold anything.
        values: (rows, planes, width), contiguous.
        padding: how many columns of the last plane column lie over the edge of the matrix.
    """

    shape: tuple[int, int]
    rows: Tensor
    planes: Tensor
    values: Tensor
    padding: int

    @classmethod
    def from_blocks(cls, index: BlockIndex, values: Tensor, rows: Tensor, planes: Tensor) -> _Shared:
        """Take planes that are known to be all pairs of `rows` and `planes`; row-major order is theirs already."""
        width = index.block[1]
        reach = (int(planes[-1]) + 1) * width if planes.numel() else 0
        return cls(
            shape=index.shape,
            rows=rows.to(torch.int32),
            planes=planes.to(torch.int32),
            values=values.view(rows.numel(), planes.numel(), width),
            padding=max(0, reach - index.shape[1]),
        )

    def kernel(self, operation: str) -> str:
        return "unfold+gather-gemm" if operation == "conv2d" else "gather-gemm"

    def to_dense(self) -> Tensor:
        columns = self._columns()
        dense = self.values.detach().new_zeros(self.shape)
        dense[self.rows.long()[:, None], columns] = self._compact(columns)
        return dense

    def matmul(self, x: Tensor) -> Tensor:
        self._check("x", x, (self.shape[1], None))
        columns = self._columns()
        product = self._compact(columns) @ _pick(x, 0, columns)
        return _spread(product, self.rows.long(), self.shape[0])

    def rmatmul(self, x: Tensor) -> Tensor:
        self._check("x", x, (self.shape[0], None))
        columns = self._columns()
        product = self._compact(columns).t() @ _pick(x, 0, self.rows)
        return _spread(product, columns, self.shape[1])

    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        self._check("a", a, (self.shape[0], None))
        self._check("b", b, (a.shape[1], self.shape[1]))
        columns = self._columns()
        product = _pick(a, 0, self.rows) @ _pick(b, 1, columns)
        count, planes, width = self.values.shape
        return torch.nn.functional.pad(product, (0, self.padding)).view(count, planes, width)

    def with_values(self, values: Tensor) -> _Shared:
        if values.shape != self.values.shape or values.device != self.values.device:
            raise ValueError(
                f"expected values {tuple(self.values.shape)} on {self.values.device}, "
                f"got {tuple(values.shape)} on {values.device}; start from .values"
            )
        return dataclasses.replace(self, values=values.contiguous())

    def storage(self) -> Storage:
        return Storage(
            value_bytes=self.values.numel() * self.values.element_size(),
            index_bytes=sum(array.numel() * array.element_size() for array in (self.rows, self.planes)),
        )

    def _columns(self) -> Tensor:
        """Return the matrix columns of the stored planes, int64, ascending; padding, which comes last, is left out."""
        within = torch.arange(self.values.shape[2], device=self.values.device)
        columns = (self.planes.long()[:, None] * self.values.shape[2] + within).flatten()
        return columns[: columns.numel() - self.padding]

    def _compact(self, columns: Tensor) -> Tensor:
        """Return the stored values as a matrix (rows, columns) without padding, a view."""
        count, planes, width = self.values.shape
        return self.values.detach().view(count, planes * width)[:, : columns.numel()]

    def _check(self, name: str, tensor: Tensor, sizes: tuple[int, int | None]) -> None:
        fits = tensor.dim() == 2 and all(s in (None, got) for s, got in zip(sizes, tensor.shape, strict=True))
        if not fits or tensor.layout != torch.strided:
            want = ", ".join("n" if size is None else str(size) for size in sizes)
            raise ValueError(f"expected strided {name} ({want}), got {tensor.layout} {tuple(tensor.shape)}; reshape it")
        if tensor.dtype != self.values.dtype or tensor.device != self.values.device:
            raise ValueError(
                f"expected {name} in {self.values.dtype} on {self.values.device}, got {tensor.dtype} on "
                f"{tensor.device}; convert it"
            )


def _pick(tensor: Tensor, dim: int, places: Tensor) -> Tensor:
    """Return the rows or columns at ascending places; the tensor itself where that is all of them."""
    detached = tensor.detach()
    return detached if places.numel() == tensor.shape[dim] else detached.index_select(dim, places)


def _spread(product: Tensor, places: Tensor, size: int) -> Tensor:
    """Return a new matrix of `size` rows with those of `product` at ascending places and 0 elsewhere."""
    if places.numel() == size:
        return product
    return product.new_zeros((size, product.shape[1])).index_copy_(0, places, product)
