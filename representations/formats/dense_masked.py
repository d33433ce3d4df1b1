"""Hold every element and a mask beside it: what most papers on sparsity time."""

from __future__ import annotations

import copy
from typing import Self

from torch import Tensor

from sparsebench.kernels.plane_conv.geometry import Pair
from sparsebench.representations.base import Storage
from sparsebench.representations.formats.dense import Dense
from sparsebench.representations.operands import check_values


class DenseMasked(Dense):
    """Store the whole matrix and a bool mask of its non-zeros; the mask is applied again in every product.

    So does masked training: an optimiser may write anything at a masked place, and the next product ignores it.
    """

    name = "dense-masked"

    def __init__(self, source: Tensor, matrix: Tensor) -> None:
        """Take a matrix, not copied, and note where it is not zero."""
        super().__init__(source, matrix)
        self._mask = matrix != 0

    def own_kernel(self, operation: str) -> str:
        """Return what runs; the mask is part of every product."""
        what = "convolution" if operation.startswith("conv2d") else "product"
        return f"torch dense {what}, mask applied in each call"

    def _read(self) -> Tensor:
        return self._matrix * self._mask

    def to_dense(self) -> Tensor:
        """Return the masked matrix in its first shape."""
        return self._read().reshape(self.shape)

    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Return (a @ b) ⊙ mask, (m, k): computed everywhere, kept where something is stored."""
        return super().sampled_matmul(a, b).mul_(self._mask)

    def conv2d_values(
        self, g: Tensor, x: Tensor, *, stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1)
    ) -> Tensor:
        """Return the gradient of conv2d with respect to the values (m, k) by torch, masked."""
        return super().conv2d_values(g, x, stride=stride, padding=padding, dilation=dilation).mul_(self._mask)

    def with_values(self, values: Tensor) -> Self:
        """Return other values (m, k) under the same mask, both shared."""
        check_values(values, self._matrix)
        twin = copy.copy(self)
        twin._matrix, twin.dtype = values, values.dtype
        return twin

    def storage(self) -> Storage:
        """Return m·k values and m·k bytes of mask."""
        return Storage(value_bytes=self._matrix.nbytes, index_bytes=self._mask.nbytes)
