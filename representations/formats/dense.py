"""Hold every element: the dense tensor itself, the candidate that others have to beat."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from sparsebench.kernels.plane_conv.geometry import Pair
from sparsebench.representations.base import Representation, Storage, strided_matrix
from sparsebench.representations.formats import _dense_conv
from sparsebench.representations.operands import check_values
from sparsebench.representations.pattern import Pattern


class Dense(Representation):
    """Store the whole matrix, zeros included, contiguous."""

    name = "dense"
    dense_storage = True
    traceable = True

    def __init__(self, source: Tensor, matrix: Tensor) -> None:
        super().__init__(source)
        self._matrix = matrix

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        """Copy the tensor; see `Representation.build`."""
        return cls(tensor, strided_matrix(tensor).clone(memory_format=torch.contiguous_format))

    def own_kernel(self, operation: str) -> str:
        """Return torch's dense product or convolution."""
        return "torch.conv2d" if operation.startswith("conv2d") else "torch.mm"

    def _read(self) -> Tensor:
        """Return the matrix that products read."""
        return self._matrix

    def to_dense(self) -> Tensor:
        """Return a copy."""
        return self._matrix.reshape(self.shape).clone()

    def matmul(self, x: Tensor) -> Tensor:
        """Return self @ x by torch's dense product."""
        self.check_operands("matmul", x)
        return self._read() @ x

    def rmatmul(self, x: Tensor) -> Tensor:
        """Return selfᵀ @ x by torch's dense product."""
        self.check_operands("rmatmul", x)
        return self._read().t() @ x

    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Return a @ b: every position is stored."""
        self.check_operands("sampled_matmul", a, b)
        return a @ b

    def conv2d(self, x: Tensor, *, stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1)) -> Tensor:
        """Return the convolution of x (n, in, h, w) by torch's dense convolution."""
        return _dense_conv.conv2d(self, self._read(), x, stride, padding, dilation)

    def conv2d_input(
        self, g: Tensor, size: Pair, *, stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1)
    ) -> Tensor:
        """Return the gradient of conv2d with respect to x by torch."""
        return _dense_conv.conv2d_input(self, self._read(), g, size, stride, padding, dilation)

    def conv2d_values(
        self, g: Tensor, x: Tensor, *, stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1)
    ) -> Tensor:
        """Return the gradient of conv2d with respect to the values (m, k) by torch."""
        return _dense_conv.conv2d_values(self, g, x, stride, padding, dilation)

    @property
    def values(self) -> Tensor:
        """Return the matrix itself, (m, k)."""
        return self._matrix

    def with_values(self, values: Tensor) -> Self:
        """Return a dense matrix of other values, sharing them."""
        check_values(values, self._matrix)
        return type(self)(values.reshape(self.shape), values)

    def storage(self) -> Storage:
        """Return m·k values and no index."""
        return Storage(value_bytes=self._matrix.numel() * self._matrix.element_size(), index_bytes=0)
