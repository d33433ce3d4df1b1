"""Hold the non-zeros in scipy's compressed sparse rows, and multiply them by Intel MKL through sparse-dot-mkl."""

from __future__ import annotations

import importlib.metadata
import os
from functools import cache
from types import ModuleType
from typing import Any, Self

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from sparsebench.representations.base import Representation, Spec, Storage, coo_matrix
from sparsebench.representations.pattern import Pattern

WHERE = "MKL_RT"
"""The environment variable that tells sparse-dot-mkl where MKL is."""


@cache
def _library() -> ModuleType:
    """Import sparse-dot-mkl; it does not look into the folder where the package mkl puts its library."""
    given = os.environ.get(WHERE)
    if given is None:
        for file in importlib.metadata.files("mkl") or ():
            if file.name.startswith("libmkl_rt.so"):
                os.environ[WHERE] = str(file.locate().resolve())
    try:
        import sparse_dot_mkl
    finally:
        if given is None:
            os.environ.pop(WHERE, None)
    return sparse_dot_mkl


class MklCsr(Representation):
    """Store `scipy.sparse.csr_matrix` with 32-bit indices; MKL reads its arrays in place, with a handle a call."""

    name = "mkl-csr"
    requires = ("sparse_dot_mkl",)

    def __init__(self, source: Tensor, array: Any) -> None:
        """Remember the array that is held."""
        super().__init__(source)
        self._array = array

    @classmethod
    def unsupported(cls, spec: Spec) -> str | None:
        """Refuse what MKL has no sparse product for."""
        if spec.device != "cpu" or spec.dtype not in (torch.float32, torch.float64):
            return f"MKL multiplies sparse float32 and float64 on the CPU, not {spec.dtype} on {spec.device}"
        try:
            _library()
        except ImportError as error:
            return f"sparse-dot-mkl finds no MKL ({error}); install mkl beside it"
        return None

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        """Copy the non-zeros; see `Representation.build`."""
        coo = coo_matrix(tensor)
        rows, columns = coo.indices().to(torch.int32).numpy()
        return cls(tensor, scipy.sparse.coo_matrix((coo.values().numpy(), (rows, columns)), tuple(coo.shape)).tocsr())

    def to_dense(self) -> Tensor:
        """Return a new strided tensor."""
        return torch.from_numpy(self._array.toarray()).reshape(self.shape)

    def matmul(self, x: Tensor) -> Tensor:
        """Return self @ x by mkl_sparse_s_mm, on as many threads as torch has."""
        self.check_operands("matmul", x)
        return self._product(self._array, x)

    def rmatmul(self, x: Tensor) -> Tensor:
        """Return selfᵀ @ x by the same routine, which reads the array by columns."""
        self.check_operands("rmatmul", x)
        return self._product(self._array.T, x)

    def _product(self, array: Any, x: Tensor) -> Tensor:
        dense = np.ascontiguousarray(x.detach().numpy())
        if not self._array.nnz or not dense.size:  # sparse-dot-mkl's answer to these is float64, or an error
            return torch.zeros(array.shape[0], dense.shape[1], dtype=self.dtype)
        library = _library()
        library.mkl_set_num_threads_local(torch.get_num_threads())
        return torch.from_numpy(library.dot_product_mkl(array, dense))

    def own_kernel(self, operation: str) -> str:
        """Return which routine runs."""
        return "MKL sparse mm"

    def storage(self) -> Storage:
        """Return the bytes of the three arrays."""
        held = self._array
        return Storage(value_bytes=held.data.nbytes, index_bytes=held.indices.nbytes + held.indptr.nbytes)
