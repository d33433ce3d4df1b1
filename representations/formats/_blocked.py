"""Share what torch's BSR and BSC have in common: the second is the first of the transposed matrix."""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Tensor

from sparsebench.kernels.block_sparse import fit
from sparsebench.kernels.block_sparse.layout import blocks_from_elements
from sparsebench.representations.base import coo_matrix
from sparsebench.representations.formats import _blocks
from sparsebench.representations.formats._torch import TorchSparse, library
from sparsebench.representations.pattern import Pattern

_TRITON_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def block_of(coo: Tensor, pattern: Pattern | None) -> tuple[int, int]:
    """Return the block of a pattern of kind "block", else the square that holds the non-zeros in the fewest bytes.

    Squares are what libraries multiply; on CUDA from 16 on, the smallest that torch's Triton kernels take.

    Args:
        coo: the matrix (m, k), coalesced.
        pattern: that was asked for.
    """
    if pattern is not None and pattern.kind == "block":
        return pattern.block
    (rows, columns), shape = coo.indices(), (int(coo.shape[0]), int(coo.shape[1]))
    squares = [block for block in fit.SQUARES if block[0] >= 16 or coo.device.type != "cuda"]
    return fit.least_block(rows, columns, shape, squares, value_bytes=coo.dtype.itemsize, index_bytes=4)


class TorchBlocked(TorchSparse):
    """Hold one torch tensor of `layout` BSR or BSC, indices in int32.

    The block is that of a pattern of kind "block", else as `block_of` finds it. Shapes that it does not divide are
    filled up with zeros inside, and results are cut.

    torch multiplies BSR @ strided, by MKL on the CPU (square blocks only) and by Triton on CUDA (float16, bfloat16 and
    float32; powers of two from 16 on). Held as BSC that serves selfᵀ @ x. Every other product is a batched product of
    the same blocks; `kernel` says which of the two runs.
    """

    layout: ClassVar[torch.layout]

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        """Copy the blocks that hold a non-zero; see `Representation.build`."""
        coo = coo_matrix(tensor)
        (rows, columns), shape = coo.indices(), (int(coo.shape[0]), int(coo.shape[1]))
        block = block_of(coo, pattern)
        index, values = blocks_from_elements(rows, columns, coo.values(), shape, block)
        full = (index.grid[0] * block[0], index.grid[1] * block[1])
        if cls.layout == torch.sparse_bsr:
            return cls(tensor, cls._assemble(index.crow, index.col, values, full))
        return cls(tensor, cls._assemble(index.ccol, index.row, values[index.order], full))

    @classmethod
    def _assemble(cls, begins: Tensor, places: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
        return torch.sparse_compressed_tensor(begins, places, values, shape, layout=cls.layout, check_invariants=False)

    @property
    def _by_rows(self) -> bool:
        return self.layout == torch.sparse_bsr

    def index_arrays(self) -> tuple[Tensor, ...]:
        """Return beginnings along the compressed axis, places along the other."""
        if self._by_rows:
            return self._sparse.crow_indices(), self._sparse.col_indices()
        return self._sparse.ccol_indices(), self._sparse.row_indices()

    def _places(self) -> tuple[Tensor, Tensor]:
        """Return block row and block column of each block, in the order of the values."""
        begins, minor = self.index_arrays()
        numbers = torch.arange(len(begins) - 1, dtype=minor.dtype, device=minor.device)
        major = torch.repeat_interleave(numbers, begins.diff())
        return (major, minor) if self._by_rows else (minor, major)

    @property
    def _full_shape(self) -> tuple[int, int]:
        rows, columns = self._sparse.shape
        return rows, columns

    def matmul(self, x: Tensor) -> Tensor:
        """Return self @ x; see the class for what runs."""
        return self._product(x, transposed=False)

    def rmatmul(self, x: Tensor) -> Tensor:
        """Return selfᵀ @ x; see the class for what runs."""
        return self._product(x, transposed=True)

    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Return (a @ b) at the places of the blocks, (blocks, height, width), by batched products."""
        self.check_operands("sampled_matmul", a, b)
        rows, columns = self._full_shape
        left, right = _blocks.padded(a, rows), _blocks.padded(b.t(), columns).t()
        return _blocks.sample(self.values, *self._places(), left, right)

    def _product(self, x: Tensor, *, transposed: bool) -> Tensor:
        axis = 1 if transposed else 0
        self.check_operands("rmatmul" if transposed else "matmul", x)
        operand = _blocks.padded(x, self._full_shape[1 - axis])
        if self._torch_has(transposed=transposed):
            full = self._torch_product(self._sparse.t() if transposed else self._sparse, operand)
        else:
            rows, columns = self._places()
            outer, inner = (columns, rows) if transposed else (rows, columns)
            values = self.values.mT if transposed else self.values
            full = _blocks.multiply(values, outer, inner, operand, self._full_shape[axis] // values.shape[1])
        return full[: self.matrix_shape[axis]]

    def _torch_has(self, *, transposed: bool) -> bool:
        """Tell whether torch multiplies these blocks itself: only a BSR tensor from the left, and not every block."""
        if transposed == self._by_rows:
            return False
        height, width = self.values.shape[1:]
        if self.device.type == "cuda":
            powers = all(size >= 16 and size & (size - 1) == 0 for size in (height, width))
            return powers and self.dtype in _TRITON_DTYPES
        return height == width

    def _torch_product(self, bsr: Tensor, x: Tensor) -> Tensor:
        n = x.shape[1]
        if self.device.type != "cuda":
            return torch.mm(bsr, x)
        # torch leaves Triton for an unbounded gather unless the block's height divides n
        missing = -n % bsr.values().shape[1]
        full = torch.mm(bsr, torch.nn.functional.pad(x, (0, missing)) if missing else x)
        return full[:, :n].contiguous()

    def own_kernel(self, operation: str) -> str:
        """Return what runs: torch's product of the layout, or a batched product of the blocks."""
        cuda = self.device.type == "cuda"
        batched = f"torch bmm gather + {'index_put' if cuda else 'index_add'}"
        direct = f"torch.mm bsr ({'Triton' if cuda else library(self.device)})"
        if not (cuda or self._by_rows):
            direct = f"torch blocks transposed in each call + {direct}"
        return {
            "matmul": direct if self._torch_has(transposed=False) else batched,
            "rmatmul": direct if self._torch_has(transposed=True) else batched,
            "sampled_matmul": "torch bmm gather",
        }[operation]

    def around(self, values: Tensor) -> Tensor:
        """Return a tensor of other blocks (blocks, height, width), row by row in BSR and column by column in BSC."""
        begins, places = self.index_arrays()
        return self._assemble(begins, places, values, self._full_shape)
