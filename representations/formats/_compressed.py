"""Share what torch's CSR and CSC have in common: the second is the first of the transposed matrix."""

from __future__ import annotations

import copy
from typing import ClassVar, Self

import torch
from torch import Tensor

from sparsebench.representations.base import Representation, Spec, Storage, coo_matrix
from sparsebench.representations.formats._torch import (
    check_sampled,
    check_values,
    gathered_dots,
    index_dtype,
    library,
    nbytes,
    refusal,
)
from sparsebench.representations.pattern import Pattern

_SAMPLED_DTYPES = (torch.float32, torch.float64)
"""What `torch.sparse.sampled_addmm` takes (torch 2.13, CPU and CUDA)."""


class TorchCompressed(Representation):
    """Hold one torch tensor of `layout` CSR or CSC, indices in int32 where they fit.

    For a product with the other orientation torch sorts the indices anew in each call; `kernel` says so.
    """

    layout: ClassVar[torch.layout]

    def __init__(self, source: Tensor, sparse: Tensor) -> None:
        super().__init__(source)
        self._sparse = sparse

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        """Copy the non-zeros; see `Representation.build`."""
        coo = coo_matrix(tensor)
        shape = tuple(coo.shape)
        if cls.layout == torch.sparse_csr:
            compressed = coo.to_sparse_csr()
            begins, places = compressed.crow_indices(), compressed.col_indices()
        else:
            compressed = coo.to_sparse_csc()
            begins, places = compressed.ccol_indices(), compressed.row_indices()
        values = compressed.values()
        dtype = index_dtype(*shape, values.numel())
        return cls(tensor, cls._assemble(begins.to(dtype, copy=True), places.to(dtype, copy=True), values, shape))

    @classmethod
    def _assemble(cls, begins: Tensor, places: Tensor, values: Tensor, shape: tuple[int, ...]) -> Tensor:
        return torch.sparse_compressed_tensor(begins, places, values, shape, layout=cls.layout, check_invariants=False)

    @classmethod
    def unsupported(cls, spec: Spec) -> str | None:
        """Refuse what torch has no kernel for on that device and in that dtype."""
        return refusal(cls, spec.operation, spec.dtype, spec.device)

    @property
    def _by_rows(self) -> bool:
        return self.layout == torch.sparse_csr

    def _csr(self) -> Tensor:
        """Return the held arrays as a CSR tensor: of self, or of selfᵀ if they are held as CSC."""
        return self._sparse if self._by_rows else self._sparse.t()

    def to_dense(self) -> Tensor:
        """Return a new strided tensor."""
        return self._sparse.to_dense().reshape(self.shape)

    def matmul(self, x: Tensor) -> Tensor:
        """Return self @ x by `torch.mm`."""
        return torch.mm(self._sparse, x)

    def rmatmul(self, x: Tensor) -> Tensor:
        """Return selfᵀ @ x by `torch.mm` of the transposed view: CSR turns into CSC and CSC into CSR."""
        return torch.mm(self._sparse.t(), x)

    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Return (a @ b) at the stored places, (stored,), by `torch.sparse.sampled_addmm`; halves are gathered."""
        check_sampled(a, b, self.matrix_shape)
        left, right = (a, b) if self._by_rows else (b.t(), a.t())
        csr = self._csr()
        if a.dtype not in _SAMPLED_DTYPES:
            begins, columns = csr.crow_indices(), csr.col_indices()
            rows = torch.repeat_interleave(torch.arange(csr.shape[0], device=begins.device), begins.diff())
            return gathered_dots(rows, columns, left, right)
        # sampled_addmm multiplies the values by beta=0, which leaves NaN where one is stored: hand it zeros
        places = torch.sparse_compressed_tensor(
            csr.crow_indices(),
            csr.col_indices(),
            torch.zeros_like(csr.values(), dtype=a.dtype),
            tuple(csr.shape),
            layout=torch.sparse_csr,
            check_invariants=False,
        )
        product: Tensor = torch.sparse.sampled_addmm(places, left, right, beta=0.0)
        return product.values()

    def kernel(self, operation: str) -> str:
        """Return what runs, the sorting that torch does on the way included."""
        direct = f"torch.mm csr ({library(self.device)})"
        sorting = f"torch csc sorted to csr in each call + {direct}"
        matmul, rmatmul = (direct, sorting) if self._by_rows else (sorting, direct)
        sampled = "torch.sparse.sampled_addmm csr"
        return {
            "matmul": matmul,
            "rmatmul": rmatmul,
            "sampled_matmul": sampled if self.dtype in _SAMPLED_DTYPES else "torch gathered row dots, chunked",
            "conv2d": f"torch unfold + {matmul}",
        }.get(operation) or super().kernel(operation)

    @property
    def values(self) -> Tensor:
        """Return the stored values, (stored,), row by row in CSR and column by column in CSC."""
        return self._sparse.values()

    def with_values(self, values: Tensor) -> Self:
        """Return the same places around other values (stored,), sharing both."""
        check_values(values, self.values)
        twin = copy.copy(self)
        csr = self._csr()
        twin._sparse = self._assemble(csr.crow_indices(), csr.col_indices(), values, self.matrix_shape)
        twin.dtype = values.dtype
        return twin

    def storage(self) -> Storage:
        """Return values, and the indices of one axis beside the beginnings along the other."""
        csr = self._csr()
        return Storage(
            value_bytes=nbytes(csr.values()), index_bytes=nbytes(csr.crow_indices()) + nbytes(csr.col_indices())
        )
