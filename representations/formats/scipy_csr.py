"""Hold the non-zeros in scipy's compressed sparse rows."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from sparsebench.representations.formats._scipy import ScipyArray


class ScipyCsr(ScipyArray):
    """Store `scipy.sparse.csr_array`: values, column numbers, and where each row begins (int32 where they fit)."""

    name = "scipy-csr"
    routines: ClassVar = {
        "matmul": "scipy csr_matvecs, one thread",
        "rmatmul": "scipy csc_matvecs of the transposed view, one thread",
        "sampled_matmul": "torch gathered row dots, chunked",
    }

    @classmethod
    def arrange(cls, array: Any) -> Any:
        """Compress the row numbers."""
        return array.tocsr()

    def index_arrays(self) -> tuple[np.ndarray, ...]:
        """Return column numbers (stored,) and row beginnings (m + 1,)."""
        return self._array.indices, self._array.indptr

    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Return rows, expanded anew in each call, and columns."""
        rows = np.arange(self.matrix_shape[0], dtype=self._array.indices.dtype)
        return np.repeat(rows, np.diff(self._array.indptr)), self._array.indices
