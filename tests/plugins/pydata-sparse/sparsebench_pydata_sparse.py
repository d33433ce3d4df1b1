"""Hold the non-zeros in pydata/sparse's compressed array."""

from __future__ import annotations

from typing import Any, Self

import scipy.sparse
import torch
from torch import Tensor

from sparsebench.representations.base import Representation, Spec, Storage, coo_matrix
from sparsebench.representations.pattern import Pattern


class PydataGcxs(Representation):
    """Store `sparse.GCXS` with the rows compressed: values, column numbers, and where each row begins."""

    name = "pydata-gcxs"
    requires = ("sparse",)

    def __init__(self, source: Tensor, array: Any) -> None:
        """Remember the array that is held."""
        super().__init__(source)
        self._array = array

    @classmethod
    def unsupported(cls, spec: Spec) -> str | None:
        """Refuse what numba does not compile for: other devices than the CPU, and dtypes that NumPy lacks or halves."""
        if spec.device != "cpu" or spec.dtype not in (torch.float32, torch.float64):
            return f"pydata/sparse multiplies float32 and float64 on the CPU, not {spec.dtype} on {spec.device}"
        return None

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        """Copy the non-zeros; see `Representation.build`."""
        import sparse  # imported late, as are the libraries of all formats: a class can be listed without them

        coo = coo_matrix(tensor)
        csr = scipy.sparse.coo_array((coo.values().numpy(), coo.indices().numpy()), tuple(coo.shape)).tocsr()
        arrays = csr.data.copy(), csr.indices.copy(), csr.indptr.copy()
        return cls(tensor, sparse.GCXS(arrays, shape=tuple(coo.shape), compressed_axes=(0,)))

    def to_dense(self) -> Tensor:
        """Return a new strided tensor."""
        return torch.from_numpy(self._array.todense()).reshape(self.shape)

    def matmul(self, x: Tensor) -> Tensor:
        """Return self @ x by a loop that numba compiles, on one thread."""
        self.check_operands("matmul", x)
        return torch.from_numpy(self._array @ x.detach().numpy())

    def own_kernel(self, operation: str) -> str:
        """Return which loop runs."""
        return "pydata/sparse csr_ndarray, one thread"

    def storage(self) -> Storage:
        """Return the bytes of the three arrays."""
        held = self._array
        return Storage(value_bytes=held.data.nbytes, index_bytes=held.indices.nbytes + held.indptr.nbytes)
