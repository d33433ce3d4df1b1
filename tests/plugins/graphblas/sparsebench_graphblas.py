"""Hold the non-zeros in a SuiteSparse:GraphBLAS matrix."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from sparsebench.representations.base import Representation, Spec, Storage, coo_matrix
from sparsebench.representations.pattern import Pattern


class GraphblasCsr(Representation):
    """Store `graphblas.Matrix` by rows. A dense operand is copied into a full matrix in each call, as it has to be."""

    name = "graphblas-csr"
    requires = ("graphblas", "suitesparse_graphblas")

    def __init__(self, source: Tensor, matrix: Any, arrays: tuple[np.ndarray, ...]) -> None:
        """Remember the matrix, and the arrays (values, columns, offsets) whose memory it has taken over."""
        super().__init__(source)
        self._matrix, self._arrays = matrix, arrays

    @classmethod
    def unsupported(cls, spec: Spec) -> str | None:
        """Refuse what GraphBLAS has no numbers for."""
        if spec.device != "cpu" or spec.dtype not in (torch.float32, torch.float64):
            return f"GraphBLAS multiplies float32 and float64 on the CPU, not {spec.dtype} on {spec.device}"
        return None

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        """Copy the non-zeros; see `Representation.build`."""
        import graphblas

        coo = coo_matrix(tensor)
        csr = scipy.sparse.coo_array((coo.values().numpy(), coo.indices().numpy()), tuple(coo.shape)).tocsr()
        values, columns, offsets = csr.data.copy(), csr.indices.astype(np.uint64), csr.indptr.astype(np.uint64)
        # GraphBLAS takes the three over without a copy: they are what it holds, and can be seen
        matrix = graphblas.Matrix.ss.import_csr(
            nrows=coo.shape[0], ncols=coo.shape[1], indptr=offsets, values=values, col_indices=columns,
            sorted_cols=True, take_ownership=True,
        )  # fmt: skip
        matrix.ss.config["format"] = "by_row"
        matrix.ss.config["sparsity_control"] = {"sparse"}
        return cls(tensor, matrix, (values, columns, offsets))

    def to_dense(self) -> Tensor:
        """Return a new strided tensor."""
        return torch.from_numpy(self._matrix.to_dense(fill_value=0, dtype=self._matrix.dtype)).reshape(self.shape)

    def matmul(self, x: Tensor) -> Tensor:
        """Return self @ x by GrB_mxm over the semiring plus-times."""
        self.check_operands("matmul", x)
        return self._product(self._matrix, x)

    def rmatmul(self, x: Tensor) -> Tensor:
        """Return selfᵀ @ x by GrB_mxm with the first operand transposed."""
        self.check_operands("rmatmul", x)
        return self._product(self._matrix.T, x)

    def _product(self, matrix: Any, x: Tensor) -> Tensor:
        import graphblas

        if not x.numel():
            return torch.zeros(matrix.shape[0], x.shape[1], dtype=self.dtype)
        if graphblas.ss.config["nthreads"] != torch.get_num_threads():
            graphblas.ss.config["nthreads"] = torch.get_num_threads()
        dense = graphblas.Matrix.from_dense(x.detach().contiguous().numpy())
        found = matrix.mxm(dense, graphblas.semiring.plus_times).new()
        return torch.from_numpy(found.to_dense(fill_value=0, dtype=found.dtype))

    def own_kernel(self, operation: str) -> str:
        """Return which routine runs."""
        return "GraphBLAS mxm plus_times"

    def storage(self) -> Storage:
        """Return the bytes of the three arrays; GraphBLAS counts in 64 bits."""
        values, columns, offsets = self._arrays
        return Storage(value_bytes=values.nbytes, index_bytes=columns.nbytes + offsets.nbytes)
