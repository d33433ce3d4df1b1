"""Hold the non-zeros in scipy's coordinate format."""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsebench.representations.formats._scipy import ScipyArray

_KERNELS = {
    "matmul": "scipy coo_matmat_dense, one thread",
    "rmatmul": "scipy coo_matmat_dense of the transposed view, one thread",
    "sampled_matmul": "torch gathered row dots, chunked",
    "conv2d": "torch unfold + scipy coo_matmat_dense, one thread",
}


class ScipyCoo(ScipyArray):
    """Store `scipy.sparse.coo_array`: values, row numbers, column numbers (int32 where they fit), sorted by row."""

    name = "scipy-coo"

    @classmethod
    def arrange(cls, array: Any) -> Any:
        """Keep it as it is."""
        return array

    def index_arrays(self) -> tuple[np.ndarray, ...]:
        """Return row and column numbers, (stored,) each."""
        return tuple(self._array.coords)

    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and columns as they are held."""
        rows, columns = self._array.coords
        return rows, columns

    def kernel(self, operation: str) -> str:
        """Return which of scipy's routines runs, or what stands in for one that scipy lacks."""
        return _KERNELS.get(operation) or super().kernel(operation)
