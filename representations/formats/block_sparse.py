"""Hold the blocks that have a non-zero, multiplied by our own kernels: numba and LLVM on the CPU, Triton on the GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

from torch import Tensor

from sparsebench.kernels.block_sparse import fit
from sparsebench.kernels.block_sparse.layout import BlockIndex, blocks_from_elements, dense_from_blocks
from sparsebench.representations.base import Storage, coo_matrix
from sparsebench.representations.formats import _conv
from sparsebench.representations.formats._own import LIBRARIES, Sliding, refuse_unsupported, stand_in
from sparsebench.representations.operands import check_values
from sparsebench.representations.pattern import Pattern

BLOCKS = (*fit.OBLONG, *fit.ROWS, *fit.COLUMNS)
"""The blocks of a matrix to choose from where the pattern names none."""


def blocks_of(tensor: Tensor, blocks: Sequence[tuple[int, int]]) -> tuple[BlockIndex, Tensor]:
    """Return the blocks of a tensor of any layout that hold a value other than 0 (NaN is one), as new arrays.

    Args:
        tensor: 2-D or 4-D.
        blocks: (height, width) to choose from; the one that takes the fewest bytes is taken.
    """
    coo = coo_matrix(tensor)
    (rows, columns), shape = coo.indices(), (int(coo.shape[0]), int(coo.shape[1]))
    block = blocks[0]
    if len(blocks) > 1:
        block = fit.least_block(rows, columns, shape, blocks, value_bytes=coo.dtype.itemsize)
    return blocks_from_elements(rows, columns, coo.values(), shape, block)


def blocks_for(shape: tuple[int, ...], pattern: Pattern | None) -> Sequence[tuple[int, int]]:
    """Return the block of a pattern, else BLOCKS; of a weight (out, in, kh, kw) planes of one input map.

    Whole planes can be convolved without unfolding, and where an input map is absent for all outputs nothing is
    filled; of how many outputs, 32 at the most, is left to choose.
    """
    if pattern is not None and pattern.kind == "block":
        return (pattern.block,)
    if len(shape) != 4:
        return BLOCKS
    plane = max(1, shape[2] * shape[3])
    return [(height, plane) for height in (1, 4, 8, 16, 32) if height * plane > 1]


class BlockSparse(Sliding):
    """Store blocks (height, width), each whole if any of its elements is not 0, else not at all.

    The block is that of a `block` pattern, else the one of `blocks_for` that holds the non-zeros in the fewest bytes.
    Values are (blocks, height, width), blocks at the edge filled up with zeros. A transpose shares values and index and
    only remembers that it is one.
    """

    name = "block-sparse"
    folder = "block_sparse"
    _index: BlockIndex
    micro: ClassVar[str | None] = None
    """The only micro-kernel to choose from on the CPU: "generated", "blas" or "mkl"; None for the fastest here."""

    def __init__(self, source: Tensor, index: BlockIndex, values: Tensor, *, transposed: bool = False) -> None:
        """Take an index and values, not copied; `transposed` tells that they hold the transpose of this matrix."""
        super().__init__(source, index, values)
        self._transposed = transposed
        self._columns: dict[str, int] = {}
        """n of the last call by operation, as the kernel depends on it; shared with `with_values`."""

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        """Copy the non-zero blocks; see `Representation.build`.

        Raises:
            ValueError: if the tensor is neither 2-D nor 4-D, or `unsupported` has a reason.
        """
        refuse_unsupported(cls, tensor, pattern)
        return cls(tensor, *blocks_of(tensor, blocks_for(tuple(tensor.shape), pattern)))

    def own_kernel(self, operation: str) -> str:
        """Return what ran in the last call: micro-kernel and tile on the CPU ("numba" before any), "triton" on CUDA."""
        if operation in _conv.CONVOLUTIONS:
            return _conv.kernel_name(self.device.type)
        n = self._columns.get(operation)
        if self.device.type != "cpu" or n is None:
            return LIBRARIES[self.device.type]
        which = self._backend.which
        if operation == "sampled_matmul":  # b as the transpose of a contiguous tensor, as it is in training
            choice = which("sdd", self._index, self.dtype, n, transposed=True, choice=self.micro)
        else:
            flipped = self._transposed != (operation == "rmatmul")
            choice = which("dsd", self._index, self.dtype, n, transposed=flipped, choice=self.micro)
        name: str = choice.name
        return name

    def to_dense(self) -> Tensor:
        """Return a new strided tensor."""
        dense = dense_from_blocks(self._index, self._values)
        return (dense.t().contiguous() if self._transposed else dense).reshape(self.shape)

    def matmul(self, x: Tensor) -> Tensor:
        """Return self @ x, (m, k) @ (k, n) -> (m, n).

        Raises:
            ValueError: if shape, dtype or device of x do not fit.
        """
        return self._multiply("matmul", x, transposed=self._transposed)

    def rmatmul(self, x: Tensor) -> Tensor:
        """Return selfᵀ @ x, (k, m) @ (m, n) -> (k, n), from the same values; errors as in `matmul`."""
        return self._multiply("rmatmul", x, transposed=not self._transposed)

    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Return (a @ b) at the stored blocks, (m, n) @ (n, k), shaped as `values`, 0 in the padding.

        Raises:
            ValueError: if shape, dtype or device of a or b do not fit.
        """
        self.check_operands("sampled_matmul", a, b)
        self._columns["sampled_matmul"] = a.shape[-1]
        product: Tensor = self._backend.sdd(self._index, a, b, transposed=self._transposed, **self._options)
        return product

    @property
    def index(self) -> BlockIndex:
        """Return where the stored blocks stand; of a transpose, in the matrix that it came from."""
        return self._index

    def with_values(self, values: Tensor) -> Self:
        """Return a matrix of other values with the same index; they are copied only if they are not contiguous.

        Raises:
            ValueError: if shape or device are not those of `values`.
        """
        check_values(values, self._values)
        source = stand_in(values, self.shape)
        twin = type(self)(source, self._index, values.contiguous(), transposed=self._transposed)
        twin._columns = self._columns
        return twin

    def transpose(self) -> BlockSparse:
        """Return selfᵀ as a matrix (k, m) that shares values and index."""
        source = stand_in(self._values, self.matrix_shape[::-1])
        return type(self)(source, self._index, self._values, transposed=not self._transposed)

    def storage(self) -> Storage:
        """Return the bytes of the values, and of the index in both orders; on CUDA also of the kernels' work tables."""
        tables = self._backend.table_bytes(self._index) if self.device.type == "cuda" else 0
        return Storage(value_bytes=self._values.nbytes, index_bytes=self._index.nbytes + tables)

    def _multiply(self, operation: str, x: Tensor, *, transposed: bool) -> Tensor:
        self._columns[operation] = x.shape[-1]
        product: Tensor = self._backend.dsd(self._index, self._values, x, transposed=transposed, **self._options)
        return product

    @property
    def slides(self) -> bool:
        """Tell whether blocks are made of whole planes, for the kernels that LLVM generates."""
        return self.micro in (None, "generated") and _conv.holds_planes(self._index, self.shape)

    @property
    def _options(self) -> dict[str, Any]:
        return {"choice": self.micro} if self.device.type == "cpu" and self.micro else {}
