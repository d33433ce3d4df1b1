"""Hold a bit a place and the packed non-zeros, multiplied by our own kernels: what scattered zeros cost least in."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from sparsebench.kernels.bitmap.dense import expand, gather, pack
from sparsebench.kernels.bitmap.layout import BitmapIndex, value_order
from sparsebench.kernels.common.pages import settled
from sparsebench.kernels.plane_conv.geometry import Pair
from sparsebench.representations.base import Spec, Storage, coo_matrix, strided_matrix
from sparsebench.representations.formats import _conv, _dense_conv
from sparsebench.representations.formats._own import Indexed, refuse_unsupported
from sparsebench.representations.pattern import Pattern

MOST_PLACES = 2**33
"""Places of a matrix that may be stored: their bits take a gibibyte, however few of them are set."""


class Bitmap(Indexed):
    """Store the non-zeros side by side, and a bit for every place: half of dense at 50 %, a third at 70 % in float32.

    A few columns of x are multiplied straight from the packed values. More go by panels: some rows at a time are made
    dense in a workspace that torch's own product reads. A convolution makes the whole weight dense in a workspace.
    """

    name = folder = "bitmap"
    _index: BitmapIndex

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        """Copy the non-zeros; see `Representation.build`.

        Raises:
            ValueError: if the tensor is neither 2-D nor 4-D, or `unsupported` has a reason.
        """
        refuse_unsupported(cls, tensor, pattern)
        if tensor.layout == torch.strided:
            return cls(tensor, *pack(strided_matrix(tensor)))
        coo = coo_matrix(tensor)
        rows, columns = coo.indices()
        shape = (int(coo.shape[0]), int(coo.shape[1]))
        values = settled(coo.values()[value_order(rows, columns, shape)])
        return cls(tensor, BitmapIndex.from_elements(rows, columns, shape), values)

    @classmethod
    def unsupported(cls, spec: Spec) -> str | None:
        """Refuse devices and dtypes that the kernels do not have, and matrices of which the bits alone fill memory."""
        places = 1
        for size in spec.shape:
            places *= size
        if places > MOST_PLACES:
            return f"a bit for each of {places:.3g} places takes {places / 2**33:.1f} GiB; store so few elements as csr"
        return super().unsupported(spec)

    def own_kernel(self, operation: str) -> str:
        """Return what the kernels of this device call themselves, or torch's convolution of the expanded weight."""
        if operation in _conv.CONVOLUTIONS:
            return f"bitmap made dense in each call + torch.{operation}"
        name: str = self._backend.name(self.dtype)
        return name

    def storage(self) -> Storage:
        """Return the bytes of the values and of the index; on CUDA also of the kernels' table, once they were used."""
        table = self._backend.table_bytes(self._index) if self.device.type == "cuda" else 0
        return Storage(value_bytes=self._values.nbytes, index_bytes=self._index.nbytes + table)

    def to_dense(self) -> Tensor:
        """Return a new strided tensor."""
        return expand(self._index, self._values).reshape(self.shape)

    def conv2d(self, x: Tensor, *, stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1)) -> Tensor:
        """Return the convolution of x (n, in, h, w) -> (n, out, h', w') with the weight made dense in a workspace.

        Raises:
            ValueError: if self is no 4-D weight, or x does not fit.
        """
        return _dense_conv.conv2d(self, self.to_dense(), x, stride, padding, dilation)

    def conv2d_input(
        self, g: Tensor, size: Pair, *, stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1)
    ) -> Tensor:
        """Return the gradient of conv2d with respect to x (n, in, h, w), by torch; errors as in `conv2d`."""
        return _dense_conv.conv2d_input(self, self.to_dense(), g, size, stride, padding, dilation)

    def conv2d_values(
        self, g: Tensor, x: Tensor, *, stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1)
    ) -> Tensor:
        """Return the gradient of conv2d with respect to the values, cut out of torch's; errors as in `conv2d`."""
        return gather(self._index, _dense_conv.conv2d_values(self, g, x, stride, padding, dilation))
