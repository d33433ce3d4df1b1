"""Share what the scipy formats have in common: products by scipy, values shared with torch."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from sparsebench.representations.base import Representation, Spec, Storage, coo_matrix
from sparsebench.representations.formats._own import refuse_unsupported
from sparsebench.representations.formats._torch import gathered_dots
from sparsebench.representations.formats._torch import index_dtype as narrow
from sparsebench.representations.operands import check_values
from sparsebench.representations.pattern import Pattern

DTYPES: tuple[torch.dtype, ...] = (torch.float32, torch.float64)
"""What scipy.sparse can multiply: it has no float16, and NumPy has no bfloat16."""


class ScipyArray(Representation):
    """Hold one scipy sparse array of the matrix (m, k); a subclass says which kind, and where its indices are."""

    routines: ClassVar[dict[str, str]]
    """What runs each product, for the column `kernel`."""

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
            ValueError: if the tensor is neither 2-D nor 4-D, or `unsupported` has a reason.
        """
        refuse_unsupported(cls, tensor, pattern)
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

    def own_kernel(self, operation: str) -> str:
        """Return which of scipy's routines runs, or what stands in for one that scipy lacks."""
        return self.routines[operation]

    def to_dense(self) -> Tensor:
        """Return a new strided tensor."""
        return torch.from_numpy(self._array.toarray()).reshape(self.shape)

    def matmul(self, x: Tensor) -> Tensor:
        """Return self @ x by scipy, on one thread."""
        self.check_operands("matmul", x)
        return torch.from_numpy(self._array @ x.detach().numpy())

    def rmatmul(self, x: Tensor) -> Tensor:
        """Return selfᵀ @ x by scipy's product of the transposed array, which shares the same memory."""
        self.check_operands("rmatmul", x)
        return torch.from_numpy(self._array.T @ x.detach().numpy())

    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Return (a @ b) at the stored places, (stored,); scipy has no such product, so rows are gathered in torch."""
        self.check_operands("sampled_matmul", a, b)
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
