"""Store all pairs of some rows and some plane columns of a matrix: two short lists beside one dense tensor."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from sparsebench.kernels.block_sparse.layout import BlockIndex
from sparsebench.kernels.plane_conv.geometry import Geometry, Pair
from sparsebench.kernels.plane_conv.layout import SharedMaps
from sparsebench.representations.base import Storage
from sparsebench.representations.formats import _conv
from sparsebench.representations.operands import check_values


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedPlanes:
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
    def from_blocks(cls, index: BlockIndex, values: Tensor, rows: Tensor, planes: Tensor) -> SharedPlanes:
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

    def to_dense(self) -> Tensor:
        columns = self._columns()
        dense = self.values.detach().new_zeros(self.shape)
        dense[self.rows.long()[:, None], columns] = self._compact(columns)
        return dense

    def matmul(self, x: Tensor) -> Tensor:
        columns = self._columns()
        product = self._compact(columns) @ _pick(x, 0, columns)
        return _spread(product, self.rows.long(), self.shape[0])

    def rmatmul(self, x: Tensor) -> Tensor:
        columns = self._columns()
        product = self._compact(columns).t() @ _pick(x, 0, self.rows)
        return _spread(product, columns, self.shape[1])

    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        columns = self._columns()
        product = _pick(a, 0, self.rows) @ _pick(b, 1, columns)
        count, planes, width = self.values.shape
        return torch.nn.functional.pad(product, (0, self.padding)).view(count, planes, width)

    def with_values(self, values: Tensor) -> SharedPlanes:
        check_values(values, self.values)
        twin = dataclasses.replace(self, values=values.contiguous())
        if "maps" in self.__dict__:  # checked once, not once a training step
            twin.__dict__["maps"] = self.maps
        return twin

    @cached_property
    def maps(self) -> SharedMaps:
        """Return the two lists as the maps of a weight; it shares them."""
        return SharedMaps(
            shape=(self.shape[0], self.shape[1] // self.values.shape[2]), rows=self.rows, maps=self.planes
        )

    def conv2d(self, geometry: Geometry, x: Tensor) -> Tensor:
        """Return the convolution of x (n, in, h, w) -> (n, out, h', w'); planes are kernels."""
        return _conv.conv2d(geometry, self.maps, self._kernels(geometry), x)

    def conv2d_input(self, geometry: Geometry, g: Tensor, size: Pair) -> Tensor:
        """Return the gradient of x, (n, in, h, w), `size` being (h, w)."""
        return _conv.conv2d_input(geometry, self.maps, self._kernels(geometry), g, size)

    def conv2d_values(self, geometry: Geometry, g: Tensor, x: Tensor) -> Tensor:
        """Return the gradient of the values."""
        return _conv.conv2d_values(geometry, self.maps, self.values, g, x).reshape(self.values.shape)

    def _kernels(self, geometry: Geometry) -> Tensor:
        return self.values.view(*self.values.shape[:2], *geometry.kernel)

    def storage(self) -> Storage:
        return Storage(
            value_bytes=self.values.numel() * self.values.element_size(),
            index_bytes=self.maps.nbytes if "maps" in self.__dict__ else self.rows.nbytes + self.planes.nbytes,
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


def _pick(tensor: Tensor, dim: int, places: Tensor) -> Tensor:
    """Return the rows or columns at ascending places; the tensor itself where that is all of them."""
    detached = tensor.detach()
    return detached if places.numel() == tensor.shape[dim] else detached.index_select(dim, places)


def _spread(product: Tensor, places: Tensor, size: int) -> Tensor:
    """Return a new matrix of `size` rows with those of `product` at ascending places and 0 elsewhere."""
    if places.numel() == size:
        return product
    return product.new_zeros((size, product.shape[1])).index_copy_(0, places, product)
