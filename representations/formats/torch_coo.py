"""Hold the non-zeros in torch's coordinate layout."""

from __future__ import annotations

import copy
from typing import Self

import torch
from torch import Tensor

from sparsebench.representations.base import Representation, Spec, Storage, coo_matrix
from sparsebench.representations.formats._torch import (
    check_sampled,
    check_values,
    gathered_dots,
    library,
    nbytes,
    refusal,
)
from sparsebench.representations.pattern import Pattern


class TorchCoo(Representation):
    """Store `torch.sparse_coo`: values and int64 pairs of row and column, coalesced.

    torch turns int32 indices of this layout into int64, so each value costs 16 bytes of index whatever the shape.
    """

    name = "torch-coo"

    def __init__(self, source: Tensor, sparse: Tensor) -> None:
        super().__init__(source)
        self._sparse = sparse

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        """Copy the non-zeros, sorted and without duplicates; see `Representation.build`."""
        return cls(tensor, coo_matrix(tensor))

    @classmethod
    def unsupported(cls, spec: Spec) -> str | None:
        """Refuse what torch has no kernel for on that device and in that dtype."""
        return refusal(cls, spec.operation, spec.dtype, spec.device)

    def to_dense(self) -> Tensor:
        """Return a new strided tensor."""
        return self._sparse.to_dense().reshape(self.shape)

    def matmul(self, x: Tensor) -> Tensor:
        """Return self @ x by torch's product of this layout."""
        return torch.mm(self._sparse, x)

    def rmatmul(self, x: Tensor) -> Tensor:
        """Return selfᵀ @ x by the same product; torch copies the indices, swapped, in each call."""
        return torch.mm(self._sparse.t(), x)

    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Return (a @ b) at the stored places, (stored,), gathered: torch has no such product for this layout."""
        check_sampled(a, b, self.matrix_shape)
        rows, columns = self._sparse.indices()
        return gathered_dots(rows, columns, a, b)

    def kernel(self, operation: str) -> str:
        """Return what runs; on the CPU torch has a loop of its own for this layout."""
        product = f"torch.mm coo ({library(self.device) if self.device.type == 'cuda' else 'torch'})"
        return {
            "matmul": product,
            "rmatmul": f"{product}, indices swapped in each call",
            "sampled_matmul": "torch gathered row dots, chunked",
            "conv2d": f"torch unfold + {product}",
        }.get(operation) or super().kernel(operation)

    @property
    def values(self) -> Tensor:
        """Return the stored values, (stored,), by row and then column."""
        return self._sparse.values()

    def with_values(self, values: Tensor) -> Self:
        """Return the same places around other values (stored,), sharing both."""
        check_values(values, self.values)
        twin = copy.copy(self)
        twin._sparse = torch.sparse_coo_tensor(
            self._sparse.indices(), values, tuple(self._sparse.shape), is_coalesced=True, check_invariants=False
        )
        twin.dtype = values.dtype
        return twin

    def storage(self) -> Storage:
        """Return values and 2 × int64 a value."""
        return Storage(value_bytes=nbytes(self._sparse.values()), index_bytes=nbytes(self._sparse.indices()))
