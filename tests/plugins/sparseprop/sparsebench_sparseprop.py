"""Hold the non-zeros in compressed sparse rows, and multiply them by SparseProp's kernel.

Nikdan, Pegolotti, Iofinova, Kurtic, Alistarh: SparseProp, arXiv 2302.04852. The package is compiled where it is
installed, for AVX2.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from sparsebench.representations.base import Representation, Spec, Storage, coo_matrix
from sparsebench.representations.pattern import Pattern


class SparsepropCsr(Representation):
    """Store values, int32 column numbers and row offsets, as SparseProp's linear layer does."""

    name = "sparseprop-csr"
    requires = ("sparseprop",)

    def __init__(self, source: Tensor, values: np.ndarray, columns: np.ndarray, offsets: np.ndarray) -> None:
        """Remember the arrays that are held."""
        super().__init__(source)
        self._values, self._columns, self._offsets = values, columns, offsets

    @classmethod
    def unsupported(cls, spec: Spec) -> str | None:
        """Refuse all but float32 on the CPU, and what its 32-bit offsets do not reach."""
        if spec.device != "cpu" or spec.dtype != torch.float32:
            return f"SparseProp multiplies float32 on the CPU, not {spec.dtype} on {spec.device}"
        return None

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        """Copy the non-zeros; see `Representation.build`."""
        coo = coo_matrix(tensor)
        csr = scipy.sparse.coo_array((coo.values().numpy(), coo.indices().numpy()), tuple(coo.shape)).tocsr()
        return cls(tensor, csr.data, csr.indices.astype(np.int32), csr.indptr.astype(np.int32))

    def to_dense(self) -> Tensor:
        """Return a new strided tensor."""
        held = (self._values, self._columns, self._offsets)
        return torch.from_numpy(scipy.sparse.csr_array(held, self.matrix_shape).toarray()).reshape(self.shape)

    def matmul(self, x: Tensor) -> Tensor:
        """Return self @ x by sparse_linear_vectorized_forward, which adds to a result of zeros, rows in parallel.

        Raises:
            ValueError: if an operand has 2³¹ elements or more; the kernel counts in 32 bits.
        """
        from sparseprop.modules.functions import sppb

        self.check_operands("matmul", x)
        dense = x.detach().contiguous()
        found = torch.zeros(self.matrix_shape[0], dense.shape[1])
        if max(dense.numel(), found.numel()) >= 2**31:
            raise ValueError(f"expected fewer than 2³¹ elements, got {dense.numel()} and {found.numel()}; split them")
        if dense.numel():
            sppb.sparse_linear_vectorized_forward(
                dense.numpy(), self._offsets, self._columns, self._values, found.numpy()
            )
        return found

    def own_kernel(self, operation: str) -> str:
        """Return which routine runs."""
        return "SparseProp sparse_linear_vectorized_forward, AVX2"

    def storage(self) -> Storage:
        """Return the bytes of the three arrays."""
        return Storage(value_bytes=self._values.nbytes, index_bytes=self._columns.nbytes + self._offsets.nbytes)
