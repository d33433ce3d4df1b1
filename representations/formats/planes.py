"""Hold whole planes: each is stored dense, or not at all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from sparsebench.kernels.block_sparse import fit
from sparsebench.kernels.block_sparse.layout import BlockIndex
from sparsebench.kernels.common.devices import backend
from sparsebench.kernels.csr.layout import RowIndex
from sparsebench.kernels.plane_conv.geometry import Geometry, Pair
from sparsebench.kernels.plane_conv.layout import SharedMaps
from sparsebench.representations._derived_conv import weight_shape
from sparsebench.representations.base import Representation, Spec, Storage
from sparsebench.representations.formats import _conv
from sparsebench.representations.formats._own import refuse_unsupported, stand_in
from sparsebench.representations.formats._shared_planes import SharedPlanes
from sparsebench.representations.formats.block_sparse import BlockSparse, blocks_of
from sparsebench.representations.operands import check_operand
from sparsebench.representations.pattern import Pattern
from sparsebench.representations.plane_tensor import PlaneTensor


class Planes(Representation):
    """Store planes of a matrix, a weight, or activations (n, c, h, w).

    A plane is kept whole if any of its elements is not 0, exactly, without tolerance.

    Of a weight (out, in, kh, kw) a plane is one kernel kh × kw. Of a matrix it is a segment 1 × width of a row, with
    the width of a `plane` or `channel` pattern, else that of 4 to 128 that holds the non-zeros in the fewest bytes.

    There are two regimes, and the data decide between them:

    - shared: the stored planes are all pairs of some rows and some plane columns, as after a channel was pruned, or of
      a few active maps that a whole batch shares. Values are (rows, plane columns, width) beside two short lists; a
      product gathers rows of x, multiplies once by dense BLAS and scatters; a convolution reads these maps only.
    - pairs: any other set. Values are (planes, 1, width) with a block index, multiplied by the block kernels; a
      convolution slides each pair's kernel over its own map.

    Stored activations are convolved by `conv2d_with`, of which each sample may have maps of its own. `to_planes` and
    `from_planes` exchange them with a PlaneTensor, which also adds, multiplies and thresholds planes.
    """

    name = "planes"

    def __init__(self, source: Tensor, store: SharedPlanes | BlockSparse, *, transposed: bool = False) -> None:
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
        refuse_unsupported(cls, tensor, pattern)
        return cls._of(tensor, *blocks_of(tensor, planes_for(tuple(tensor.shape), pattern)))

    @classmethod
    def _of(cls, source: Tensor, index: BlockIndex, values: Tensor) -> Self:
        """Take the stored planes, not copied, and find out which regime they are."""
        rows = torch.nonzero(index.crow.diff()).flatten()
        planes = torch.nonzero(index.ccol.diff()).flatten()
        if rows.numel() * planes.numel() != index.blocks:
            return cls(source, BlockSparse(stand_in(values, index.shape), index, values))
        return cls(source, SharedPlanes.from_blocks(index, values, rows, planes))

    @classmethod
    def from_planes(cls, planes: PlaneTensor) -> Self:
        """Store a copy of a plane-sparse tensor (d0, d1, h, w), plane by plane; nothing dense is made."""
        rows, columns, height, width = planes.shape
        values = planes.values.detach().reshape(planes.planes, 1, height * width).clone()
        shape, block = (rows, columns * height * width), (1, max(1, height * width))
        return cls._of(
            stand_in(values, planes.shape), BlockIndex.from_rows(planes.crow, planes.col, shape, block), values
        )

    def to_planes(self) -> PlaneTensor:
        """Return a plane-sparse tensor (d0, d1, h, w) that shares the values.

        Raises:
            ValueError: if this is no 4-D tensor.
        """
        shape = weight_shape(self, "to_planes")
        index = self._grid
        return PlaneTensor(shape=shape, crow=index.crow, col=index.col, values=self.values.reshape(-1, *shape[2:]))

    @property
    def maps(self) -> SharedMaps | None:
        """Return the output and input maps that are stored if all their pairs are, else None."""
        return self._store.maps if isinstance(self._store, SharedPlanes) else None

    @cached_property
    def _grid(self) -> RowIndex:
        """Return which planes of the grid (d0, d1) are stored; arrays of pairs are shared."""
        rows, columns = self.shape[:2]
        if isinstance(self._store, BlockSparse):
            index = self._store.index
            return RowIndex(shape=(rows, columns), crow=index.crow, col=index.col)
        maps = self._store.maps
        lines = torch.repeat_interleave(maps.rows.long(), maps.maps.numel())
        return RowIndex.from_elements(lines, maps.maps.repeat(maps.rows.numel()), (rows, columns))

    @classmethod
    def unsupported(cls, spec: Spec) -> str | None:
        """Refuse what the block kernels refuse: before the data are seen, nobody knows which regime it will be."""
        return BlockSparse.unsupported(spec)

    @property
    def regime(self) -> str:
        """Return "shared" or "pairs"."""
        return "pairs" if isinstance(self._store, BlockSparse) else "shared"

    def own_kernel(self, operation: str) -> str:
        """Return "gather-gemm" for shared planes, else what the block kernels are called; or what convolves."""
        if operation == "conv2d_with" or (operation in _conv.CONVOLUTIONS and len(self.shape) == 4):
            return _conv.kernel_name(self.device.type, self.maps, operation)
        return "gather-gemm" if isinstance(self._store, SharedPlanes) else self._store.kernel(operation)

    def to_dense(self) -> Tensor:
        """Return a new strided tensor."""
        dense = self._store.to_dense()
        return (dense.t().contiguous() if self._transposed else dense).reshape(self.shape)

    def matmul(self, x: Tensor) -> Tensor:
        """Return self @ x, (m, k) @ (k, n) -> (m, n).

        Raises:
            ValueError: if shape, dtype or device of x do not fit.
        """
        self.check_operands("matmul", x)
        return self._store.rmatmul(x) if self._transposed else self._store.matmul(x)

    def rmatmul(self, x: Tensor) -> Tensor:
        """Return selfᵀ @ x, (k, m) @ (m, n) -> (k, n), from the same values; errors as in `matmul`."""
        self.check_operands("rmatmul", x)
        return self._store.matmul(x) if self._transposed else self._store.rmatmul(x)

    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Return (a @ b) at the stored planes, (m, n) @ (n, k), shaped as `values`, 0 in the padding.

        Raises:
            ValueError: if shape, dtype or device of a or b do not fit.
        """
        self.check_operands("sampled_matmul", a, b)
        return self._store.sampled_matmul(b.t(), a.t()) if self._transposed else self._store.sampled_matmul(a, b)

    def conv2d(self, x: Tensor, *, stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1)) -> Tensor:
        """Return the convolution of x (n, in, h, w) -> (n, out, h', w'), reading only the maps that count.

        Raises:
            ValueError: if self is no 4-D weight, or x does not fit.
        """
        geometry = _conv.geometry_of(self, "conv2d", stride, padding, dilation)
        if isinstance(self._store, SharedPlanes):
            return self._store.conv2d(geometry, x)
        return _conv.conv2d(geometry, self._store.index, self._store.values, x)

    def conv2d_input(
        self, g: Tensor, size: Pair, *, stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1)
    ) -> Tensor:
        """Return the gradient of conv2d with respect to x (n, in, h, w); errors as in `conv2d`."""
        geometry = _conv.geometry_of(self, "conv2d_input", stride, padding, dilation)
        if isinstance(self._store, SharedPlanes):
            return self._store.conv2d_input(geometry, g, size)
        return _conv.conv2d_input(geometry, self._store.index, self._store.values, g, size)

    def conv2d_values(
        self, g: Tensor, x: Tensor, *, stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1)
    ) -> Tensor:
        """Return the gradient of conv2d with respect to the stored planes, shaped so; errors as in `conv2d`."""
        geometry = _conv.geometry_of(self, "conv2d_values", stride, padding, dilation)
        if isinstance(self._store, SharedPlanes):
            return self._store.conv2d_values(geometry, g, x)
        return _conv.conv2d_values(geometry, self._store.index, self._store.values, g, x)

    def conv2d_with(
        self, weight: Tensor, *, stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1)
    ) -> Tensor:
        """Return the convolution of self, activations (n, c, h, w), with a dense weight (out, c, kh, kw).

        Only stored planes are read, each sample's own.

        Raises:
            ValueError: if self is no 4-D tensor, or the weight does not fit.
        """
        *_, height, width = weight_shape(self, "conv2d_with")
        check_operand(self, "weight", weight, (None, self.shape[1], None, None))
        kernel = (weight.shape[2], weight.shape[3])
        geometry = Geometry(kernel=kernel, stride=stride, padding=padding, dilation=dilation)
        result: Tensor = backend("plane_conv", self.device.type).planes(
            geometry, self._grid, self.values.detach().reshape(-1, height, width), weight
        )
        return result

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
        """Return the bytes of the values, and of the index; of shared maps also of what convolutions made and hold."""
        stored = self._store.storage()
        if isinstance(self._store, SharedPlanes) and "_grid" in self.__dict__:
            return dataclasses.replace(stored, index_bytes=stored.index_bytes + self._grid.nbytes)
        return stored


def planes_for(shape: tuple[int, ...], pattern: Pattern | None) -> Sequence[tuple[int, int]]:
    """Return (1, elements) of what a plane of a matrix or weight may be, to choose from where nothing says."""
    if len(shape) == 4:
        return ((1, max(1, shape[2] * shape[3])),)
    return (pattern.block,) if pattern is not None and pattern.kind in Pattern.MAPS else fit.ROWS
