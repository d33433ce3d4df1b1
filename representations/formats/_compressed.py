"""Share what torch's CSR and CSC have in common: the second is the first of the transposed matrix."""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Tensor

from sparsebench.representations.base import coo_matrix
from sparsebench.representations.formats._torch import TorchSparse, gathered_dots, index_dtype, library
from sparsebench.representations.pattern import Pattern

_SAMPLED_DTYPES = (torch.float32, torch.float64)
"""What `torch.sparse.sampled_addmm` takes (torch 2.13, CPU and CUDA)."""


class TorchCompressed(TorchSparse):
    """Hold one torch tensor of `layout` CSR or CSC, indices in int32 where they fit.

    The transposed view turns CSR into CSC and CSC into CSR. For a product with CSC torch sorts the indices anew in each
    call; `kernel` says so.
    """

    layout: ClassVar[torch.layout]

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

    @property
    def _by_rows(self) -> bool:
        return self.layout == torch.sparse_csr

    def _csr(self) -> Tensor:
        """Return the held arrays as a CSR tensor: of self, or of selfᵀ if they are held as CSC."""
        return self._sparse if self._by_rows else self._sparse.t()

    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Return (a @ b) at the stored places, (stored,), by `torch.sparse.sampled_addmm`; halves are gathered."""
        self.check_operands("sampled_matmul", a, b)
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

    def own_kernel(self, operation: str) -> str:
        """Return what runs, the sorting that torch does on the way included."""
        direct = f"torch.mm csr ({library(self.device)})"
        sorting = f"torch csc sorted to csr in each call + {direct}"
        matmul, rmatmul = (direct, sorting) if self._by_rows else (sorting, direct)
        sampled = "torch.sparse.sampled_addmm csr"
        return {
            "matmul": matmul,
            "rmatmul": rmatmul,
            "sampled_matmul": sampled if self.dtype in _SAMPLED_DTYPES else "torch gathered row dots, chunked",
        }[operation]

    def around(self, values: Tensor) -> Tensor:
        """Return a tensor of other values (stored,), row by row in CSR and column by column in CSC."""
        begins, places = self.index_arrays()
        return self._assemble(begins, places, values, self.matrix_shape)

    def index_arrays(self) -> tuple[Tensor, ...]:
        """Return beginnings along the compressed axis and places along the other."""
        csr = self._csr()
        return csr.crow_indices(), csr.col_indices()
