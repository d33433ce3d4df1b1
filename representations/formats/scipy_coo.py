"""Hold the non-zeros in scipy's coordinate format."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from sparsebench.representations.formats._scipy import ScipyArray


class ScipyCoo(ScipyArray):
    """Store `scipy.sparse.coo_array`: values, row numbers, column numbers (int32 where they fit), sorted by row."""

    name = "scipy-coo"
    routines: ClassVar = {
        "matmul": "scipy coo_matmat_dense, one thread",
        "rmatmul": "scipy coo_matmat_dense of the transposed view, one thread",
        "sampled_matmul": "torch gathered row dots, chunked",
    }

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
