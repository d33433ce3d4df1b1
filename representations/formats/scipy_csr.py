"""Hold the non-zeros in scipy's compressed sparse rows."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from sparsebench.representations.base import Representation, Spec, Storage, coo_matrix
from sparsebench.representations.pattern import Pattern


class ScipyCsr(Representation):
    """Store `scipy.sparse.csr_array`: values, column numbers, and where each row begins."""

    name = "scipy-csr"

    def __init__(self, source: Tensor, array: Any) -> None:
        super().__init__(source)
        self._array = array

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        """Copy the non-zeros; see `Representation.build`."""
        return cls(tensor, scipy_coo(tensor).tocsr())

    @classmethod
    def unsupported(cls, spec: Spec) -> str | None:
        """Refuse what scipy cannot hold."""
        return scipy_unsupported(spec)

    def to_dense(self) -> Tensor:
        """Return a new strided tensor."""
        return torch.from_numpy(self._array.toarray()).reshape(self.shape)

    def matmul(self, x: Tensor) -> Tensor:
        """Return self @ x by scipy's `csr_matvecs`, one thread."""
        return torch.from_numpy(self._array @ x.numpy())

    def transpose(self) -> Representation:
        """Return selfᵀ as a matrix, sorted by rows anew."""
        return type(self)(torch.empty(self._array.shape[::-1], dtype=self.dtype, device="meta"), self._array.T.tocsr())
