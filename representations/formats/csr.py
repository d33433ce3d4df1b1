"""Hold the non-zeros row by row, multiplied by our own kernels: generated loops on the CPU, Triton on the GPU."""

from __future__ import annotations

from typing import Self

from torch import Tensor

from sparsebench.kernels.csr.layout import RowIndex, dense_from_elements
from sparsebench.representations.base import coo_matrix
from sparsebench.representations.formats import _conv
from sparsebench.representations.formats._own import Sliding, refuse_unsupported
from sparsebench.representations.pattern import Pattern


class Csr(Sliding):
    """Store the non-zeros in compressed sparse rows: values, int32 column numbers, and where each row begins.

    On the CPU the transposed product works from the same arrays. On the GPU it needs the order by columns too, and so
    does conv2d_input everywhere; it is made with the first such call, held from then on and counted in `storage`.
    """

    name = folder = "csr"
    _index: RowIndex

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        """Copy the non-zeros; see `Representation.build`.

        Raises:
            ValueError: if the tensor is neither 2-D nor 4-D, or `unsupported` has a reason.
        """
        refuse_unsupported(cls, tensor, pattern)
        coo = coo_matrix(tensor)
        rows, columns = coo.indices()
        index = RowIndex.from_elements(rows, columns, (int(coo.shape[0]), int(coo.shape[1])))
        return cls(tensor, index, coo.values().contiguous())

    def own_kernel(self, operation: str) -> str:
        """Return what the kernels of this device call themselves."""
        if operation in _conv.CONVOLUTIONS:
            return _conv.kernel_name(self.device.type)
        name: str = self._backend.name(self.dtype)
        return name

    def to_dense(self) -> Tensor:
        """Return a new strided tensor."""
        return dense_from_elements(self._index, self._values).reshape(self.shape)
