"""Hold every element and a mask beside it: what most papers on sparsity time."""

from __future__ import annotations

import copy
from typing import Self

import torch
from torch import Tensor

from sparsebench.kernels.plane_conv.geometry import Pair
from sparsebench.representations.base import Representation, Storage, strided_matrix
from sparsebench.representations.formats import _dense_conv
from sparsebench.representations.formats._torch import check_values, nbytes
from sparsebench.representations.pattern import Pattern


class DenseMasked(Representation):
    """Store the whole matrix and a bool mask of its non-zeros; the mask is applied again in every product.

    So does masked training: an optimiser may write anything at a masked place, and the next product ignores it.
    """

    name = "dense-masked"
    dense_storage = True

    def __init__(self, source: Tensor, matrix: Tensor, mask: Tensor) -> None:
        super().__init__(source)
        self._matrix = matrix
        self._mask = mask

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        """Copy the tensor and note where it is not zero; see `Representation.build`."""
        matrix = strided_matrix(tensor).clone(memory_format=torch.contiguous_format)
        return cls(tensor, matrix, matrix != 0)

    def to_dense(self) -> Tensor:
        """Return the masked matrix in its first shape."""
        return (self._matrix * self._mask).reshape(self.shape)

    def matmul(self, x: Tensor) -> Tensor:
        """Return (values ⊙ mask) @ x by torch's dense product."""
        self.check_operands("matmul", x)
        return (self._matrix * self._mask) @ x

    def rmatmul(self, x: Tensor) -> Tensor:
        """Return (values ⊙ mask)ᵀ @ x by torch's dense product."""
        self.check_operands("rmatmul", x)
        return (self._matrix * self._mask).t() @ x

    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Return (a @ b) ⊙ mask, (m, k): computed everywhere, kept where something is stored."""
        self.check_operands("sampled_matmul", a, b)
        return (a @ b).mul_(self._mask)

    def own_kernel(self, operation: str) -> str:
        """Return what runs; the mask is part of every product."""
        what = "convolution" if operation.startswith("conv2d") else "product"
        return f"torch dense {what}, mask applied in each call"

    def conv2d(self, x: Tensor, *, stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1)) -> Tensor:
        """Return the convolution of x (n, in, h, w) by torch's dense convolution, masked."""
        return _dense_conv.conv2d(self, self._matrix * self._mask, x, stride, padding, dilation)

    def conv2d_input(
        self, g: Tensor, size: Pair, *, stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1)
    ) -> Tensor:
        """Return the gradient of conv2d with respect to x by torch, masked."""
        return _dense_conv.conv2d_input(self, self._matrix * self._mask, g, size, stride, padding, dilation)

    def conv2d_values(
        self, g: Tensor, x: Tensor, *, stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1)
    ) -> Tensor:
        """Return the gradient of conv2d with respect to the values (m, k) by torch, masked."""
        return _dense_conv.conv2d_values(self, g, x, stride, padding, dilation).mul_(self._mask)

    @property
    def values(self) -> Tensor:
        """Return the matrix (m, k), masked places included."""
        return self._matrix

    def with_values(self, values: Tensor) -> Self:
        """Return other values (m, k) under the same mask, both shared."""
        check_values(values, self._matrix)
        twin = copy.copy(self)
        twin._matrix, twin.dtype = values, values.dtype
        return twin

    def storage(self) -> Storage:
        """Return m·k values and m·k bytes of mask."""
        return Storage(value_bytes=nbytes(self._matrix), index_bytes=nbytes(self._mask))
