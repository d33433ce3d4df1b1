"""Hold the non-zeros in torch's coordinate layout."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from sparsebench.representations.base import coo_matrix
from sparsebench.representations.formats._torch import TorchSparse, gathered_dots, library
from sparsebench.representations.pattern import Pattern


class TorchCoo(TorchSparse):
    """Store `torch.sparse_coo`: values and int64 pairs of row and column, coalesced.

    torch turns int32 indices of this layout into int64, so each value costs 16 bytes of index whatever the shape.
    """

    name = "torch-coo"

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        """Copy the non-zeros, sorted and without duplicates; see `Representation.build`."""
        return cls(tensor, coo_matrix(tensor))

    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Return (a @ b) at the stored places, (stored,), gathered: torch has no such product for this layout."""
        self.check_operands("sampled_matmul", a, b)
        rows, columns = self._sparse.indices()
        return gathered_dots(rows, columns, a, b)

    def own_kernel(self, operation: str) -> str:
        """Return what runs; on the CPU torch has a loop of its own for this layout."""
        product = f"torch.mm coo ({library(self.device) if self.device.type == 'cuda' else 'torch'})"
        return {
            "matmul": product,
            "rmatmul": f"{product}, indices swapped in each call",
            "sampled_matmul": "torch gathered row dots, chunked",
        }[operation]

    def around(self, values: Tensor) -> Tensor:
        """Return a coalesced tensor of other values (stored,), by row and then column."""
        return torch.sparse_coo_tensor(
            self._sparse.indices(), values, tuple(self._sparse.shape), is_coalesced=True, check_invariants=False
        )

    def index_arrays(self) -> tuple[Tensor, ...]:
        """Return rows and columns, (2, stored), int64."""
        return (self._sparse.indices(),)
