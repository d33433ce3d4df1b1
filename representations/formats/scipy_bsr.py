"""Hold the blocks that have a non-zero in scipy's block sparse rows."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from sparsebench.kernels.block_sparse.layout import blocks_from_elements
from sparsebench.representations.base import coo_matrix
from sparsebench.representations.formats import _blocks
from sparsebench.representations.formats._blocked import block_of
from sparsebench.representations.formats._own import refuse_unsupported
from sparsebench.representations.formats._scipy import ScipyArray
from sparsebench.representations.pattern import Pattern


class ScipyBsr(ScipyArray):
    """Store `scipy.sparse.bsr_array`: blocks, their block columns, and where each block row begins (int32).

    The block is that of a pattern of kind "block", else found as in torch-bsr. Shapes that it does not divide
    are filled up with zeros inside, and results are cut. scipy copies the blocks to transpose them, in each call.
    """

    name = "scipy-bsr"
    routines: ClassVar = {
        "matmul": "scipy bsr_matvecs, one thread",
        "rmatmul": "scipy blocks transposed in each call + bsr_matvecs, one thread",
        "sampled_matmul": "torch bmm gather",
    }

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        """Copy the blocks that hold a non-zero; see `Representation.build`.

        Raises:
            ValueError: if the tensor is neither 2-D nor 4-D, or `unsupported` has a reason.
        """
        refuse_unsupported(cls, tensor, pattern)
        coo = coo_matrix(tensor)
        rows, columns = coo.indices().numpy()
        array = scipy.sparse.coo_array((coo.values().numpy(), (rows, columns)), tuple(coo.shape))
        return cls(tensor, cls.arrange(array, block_of(coo, pattern)))

    @classmethod
    def arrange(cls, array: Any, block: tuple[int, int] = (16, 16)) -> Any:
        """Gather the elements into blocks (height, width), the shape filled up to whole ones."""
        rows, columns = (torch.from_numpy(numbers).long() for numbers in array.coords)
        index, values = blocks_from_elements(rows, columns, torch.from_numpy(array.data), array.shape, block)
        full = (index.grid[0] * block[0], index.grid[1] * block[1])
        return scipy.sparse.bsr_array(
            (values.numpy(), index.col.numpy(), index.crow.numpy()), shape=full, blocksize=block
        )

    def index_arrays(self) -> tuple[np.ndarray, ...]:
        """Return block columns (blocks,) and where block rows begin (block rows + 1,)."""
        return self._array.indices, self._array.indptr

    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Return block row, expanded anew in each call, and block column of each stored block."""
        rows = np.arange(len(self._array.indptr) - 1, dtype=self._array.indices.dtype)
        return np.repeat(rows, np.diff(self._array.indptr)), self._array.indices

    def to_dense(self) -> Tensor:
        """Return a new strided tensor."""
        rows, columns = self.matrix_shape
        return torch.from_numpy(self._array.toarray())[:rows, :columns].contiguous().reshape(self.shape)

    def matmul(self, x: Tensor) -> Tensor:
        """Return self @ x by scipy, on one thread."""
        return self._product(x, transposed=False)

    def rmatmul(self, x: Tensor) -> Tensor:
        """Return selfᵀ @ x by scipy, on one thread; scipy transposes a copy of the blocks first."""
        return self._product(x, transposed=True)

    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Return (a @ b) at the places of the blocks, (blocks, height, width), by torch's batched products."""
        self.check_operands("sampled_matmul", a, b)
        height, width = self._array.shape
        left = _blocks.padded(a.detach(), height)
        right = _blocks.padded(b.detach().t(), width).t()
        rows, columns = (torch.from_numpy(numbers) for numbers in self.places())
        return _blocks.sample(self.values, rows, columns, left, right)

    def _product(self, x: Tensor, *, transposed: bool) -> Tensor:
        axis = 1 if transposed else 0
        self.check_operands("rmatmul" if transposed else "matmul", x)
        operand = _blocks.padded(x.detach(), self._array.shape[1 - axis]).numpy()
        full = (self._array.T if transposed else self._array) @ operand
        return torch.from_numpy(full)[: self.matrix_shape[axis]]
