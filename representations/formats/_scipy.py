"""Share what the scipy formats have in common: products by scipy, values shared with torch."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import Any, Self

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from sparsebench.representations.base import Representation, Spec, Storage, coo_matrix
from sparsebench.representations.formats._torch import check_operand, check_sampled, check_values, gathered_dots
from sparsebench.representations.formats._torch import index_dtype as narrow
from sparsebench.representations.pattern import Pattern

DTYPES: tuple[torch.dtype, ...] = (torch.float32, torch.float64)
"""What scipy.sparse can multiply: it has no float16, and NumPy has no bfloat16."""


class ScipyArray(Representation):
    """Hold one scipy sparse array of the matrix (m, k); a subclass says which kind, and where its indices are."""

    def __init__(self, source: Tensor, array: Any) -> None:
        super().__init__(source)
        self._array = array

    @classmethod
    @abstractmethod
    def arrange(cls, array: Any) -> Any:
        """Turn a sorted `scipy.sparse.coo_array` without duplicates into the array that is held."""

    @abstractmethod
    def index_arrays(self) -> tuple[np.ndarray, ...]:
        """Return every index array that is held."""

    @abstractmethod
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Return row and column of each stored value, in the order of the values."""

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        """Copy the non-zeros; see `Representation.build`.

        Raises:
            ValueError: if the tensor is not on the CPU, or its dtype is neither float32 nor float64.
        """
        if tensor.device.type != "cpu" or tensor.dtype not in DTYPES:
            raise ValueError(
                f"expected a CPU tensor of float32 or float64 for {cls.name}, got {tensor.dtype} on {tensor.device}"
            )
        coo = coo_matrix(tensor)
        rows, columns = coo.indices().to(narrow(*coo.shape, coo.values().numel())).numpy()
        # each index gets an array of its own: a row of a shared one would keep both alive and uncounted
        return cls(
            tensor,
            cls.arrange(
                scipy.sparse.coo_array((coo.values().numpy().copy(), (rows.copy(), columns.copy())), tuple(coo.shape))
            ),
        )

    @classmethod
    def unsupported(cls, spec: Spec) -> str | None:
        """Refuse other devices than the CPU, and dtypes that scipy does not have."""
        if spec.device != "cpu":
            return "scipy computes on the CPU only"
        if spec.dtype not in DTYPES:
            return f"scipy has no sparse arrays of {str(spec.dtype).removeprefix('torch.')}"
        return None

    def to_dense(self) -> Tensor:
        """Return a new strided tensor."""
        return torch.from_numpy(self._array.toarray()).reshape(self.shape)

    def matmul(self, x: Tensor) -> Tensor:
        """Return self @ x by scipy, on one thread."""
        check_operand(x, self.matrix_shape[1])
        return torch.from_numpy(self._array @ x.detach().numpy())

    def rmatmul(self, x: Tensor) -> Tensor:
        """Return selfᵀ @ x by scipy's product of the transposed array, which shares the same memory."""
        check_operand(x, self.matrix_shape[0])
        return torch.from_numpy(self._array.T @ x.detach().numpy())

    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Return (a @ b) at the stored places, (stored,); scipy has no such product, so rows are gathered in torch."""
        check_sampled(a, b, self.matrix_shape)
        rows, columns = self.places()
        return gathered_dots(torch.from_numpy(rows), torch.from_numpy(columns), a.detach(), b.detach())

    @property
    def values(self) -> Tensor:
        """Return the stored values, (stored,), in scipy's own memory."""
        return torch.from_numpy(self._array.data)

    def with_values(self, values: Tensor) -> Self:
        """Return the same places around other values (stored,), sharing both."""
        check_values(values, self.values)
        twin = copy.copy(self)
        twin._array = copy.copy(self._array)  # shallow: a constructor would check, and perhaps copy, the indices
        twin._array.data = values.detach().numpy()
        twin.dtype = values.dtype
        return twin

    def storage(self) -> Storage:
        """Return the bytes of scipy's arrays."""
        return Storage(
            value_bytes=self._array.data.nbytes, index_bytes=sum(index.nbytes for index in self.index_arrays())
        )
