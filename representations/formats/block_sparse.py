"""Hold the blocks that have a non-zero, multiplied by our own kernels: numba on the CPU, Triton on the GPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from sparsebench.kernels.block_sparse.layout import BlockIndex, blocks_from_elements, dense_from_blocks
from sparsebench.representations.base import Representation, Spec, Storage, coo_matrix
from sparsebench.representations.pattern import Pattern

DEFAULT_BLOCK = (32, 32)
"""The block where the pattern names none: it fills the tiles that tensor cores multiply, and its index is 0.3 % of its
values. A non-zero that stands alone in it costs 4 KiB in float32: name a smaller block for scattered ones."""

Product = Callable[[BlockIndex, Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class BlockKernels:
    """The three products of one kernel family, and the name that results give it.

    Attributes:
        name: "numba" or "triton".
        dtypes: what it computes in.
        dsd: (index, values, x) -> self @ x.
        dsd_transposed: (index, values, x) -> selfᵀ @ x.
        sdd: (index, a, b) -> (a @ b) at the stored blocks.
    """

    name: str
    dtypes: tuple[torch.dtype, ...]
    dsd: Product
    dsd_transposed: Product
    sdd: Product


def block_kernels(device: str) -> BlockKernels:
    """Return the kernels for a type of device; whoever computes and whoever says what computed both ask here.

    Raises:
        ValueError: if there are none for it.
    """
    # imported late: neither needs to be installed where the other one is used, and both take a while to import
    if device == "cpu":
        from sparsebench.kernels.block_sparse import cpu

        return BlockKernels(
            name="numba", dtypes=cpu.DTYPES, dsd=cpu.dsd, dsd_transposed=cpu.dsd_transposed, sdd=cpu.sdd
        )
    if device == "cuda":
        from sparsebench.kernels.block_sparse import triton

        return BlockKernels(
            name="triton", dtypes=triton.DTYPES, dsd=triton.dsd, dsd_transposed=triton.dsd_transposed, sdd=triton.sdd
        )
    raise ValueError(f"expected a device of cpu, cuda, got {device!r}; move the tensor")


def block_unsupported(spec: Spec) -> str | None:
    """Return why the block kernels cannot do `spec`, in one line, or None if they can."""
    library = {"cpu": "numba", "cuda": "triton"}.get(spec.device)
    if library is None:
        return f"block kernels run on cpu and cuda, not on {spec.device}"
    if importlib.util.find_spec(library) is None:
        return f"block kernels on {spec.device} need {library}, which is not installed"
    kernels = block_kernels(spec.device)
    if spec.dtype not in kernels.dtypes:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in kernels.dtypes)
        return f"the {kernels.name} kernels compute in {known}, not in {str(spec.dtype).removeprefix('torch.')}"
    return None


def refuse_unsupported(cls: type[Representation], tensor: Tensor, pattern: Pattern | None) -> None:
    """Raise ValueError with the reason if `cls` cannot build from `tensor`."""
    spec = Spec(
        operation="build", shape=tuple(tensor.shape), dtype=tensor.dtype, device=tensor.device.type, pattern=pattern
    )
    reason = cls.unsupported(spec)
    if reason is not None:
        raise ValueError(f"expected a tensor that {cls.name} supports, got {tensor.dtype} on {tensor.device}: {reason}")


def blocks_of(tensor: Tensor, block: tuple[int, int]) -> tuple[BlockIndex, Tensor]:
    """Return the blocks of a tensor of any layout that hold a value other than 0 (NaN is one), as new arrays."""
    coo = coo_matrix(tensor)
    rows, columns = coo.indices()
    return blocks_from_elements(rows, columns, coo.values(), (int(coo.shape[0]), int(coo.shape[1])), block)


def stand_in(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a tensor of `shape` on the device and in the dtype of `values` that takes one element of memory."""
    return values.detach().new_empty(()).expand(shape)


class BlockSparse(Representation):
    """Store blocks (height, width), each whole if any of its elements is not 0, else not at all.

    The block is that of a `block` pattern, else DEFAULT_BLOCK. Values are (blocks, height, width), blocks at the edge
    filled up with zeros. A transpose shares values and index and only remembers that it is one.
    """

    name = "block-sparse"

    def __init__(self, source: Tensor, index: BlockIndex, values: Tensor, *, transposed: bool = False) -> None:
        """Take an index and values, not copied; `transposed` tells that they hold the transpose of this matrix."""
        super().__init__(source)
        self._index = index
        self._values = values
        self._transposed = transposed

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        """Copy the non-zero blocks; see `Representation.build`.

        Raises:
            ValueError: if the tensor is neither 2-D nor 4-D, or `unsupported` has a reason.
        """
        refuse_unsupported(cls, tensor, pattern)
        block = pattern.block if pattern is not None and pattern.kind == "block" else DEFAULT_BLOCK
        return cls(tensor, *blocks_of(tensor, block))

    @classmethod
    def unsupported(cls, spec: Spec) -> str | None:
        """Refuse devices and dtypes that the kernels do not have."""
        return block_unsupported(spec)

    def kernel(self, operation: str) -> str:
        """Return "numba" or "triton", and for conv2d what stands before it."""
        name = block_kernels(self.device.type).name
        return f"unfold+{name}" if operation == "conv2d" else name

    def to_dense(self) -> Tensor:
        """Return a new strided tensor."""
        dense = dense_from_blocks(self._index, self._values)
        return (dense.t().contiguous() if self._transposed else dense).reshape(self.shape)

    def matmul(self, x: Tensor) -> Tensor:
        """Return self @ x, (m, k) @ (k, n) -> (m, n).

        Raises:
            ValueError: if shape, dtype or device of x do not fit.
        """
        return self._multiply(x, transposed=self._transposed)

    def rmatmul(self, x: Tensor) -> Tensor:
        """Return selfᵀ @ x, (k, m) @ (m, n) -> (k, n), from the same values; errors as in `matmul`."""
        return self._multiply(x, transposed=not self._transposed)

    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Return (a @ b) at the stored blocks, (m, n) @ (n, k), shaped as `values`, 0 in the padding.

        Raises:
            ValueError: if shape, dtype or device of a or b do not fit.
        """
        sdd = block_kernels(self.device.type).sdd
        return sdd(self._index, b.t(), a.t()) if self._transposed else sdd(self._index, a, b)

    @property
    def values(self) -> Tensor:
        """Return the stored blocks (blocks, height, width); of a transpose, those of the matrix that it came from."""
        return self._values

    def with_values(self, values: Tensor) -> Self:
        """Return a matrix of other values with the same index; they are copied only if they are not contiguous.

        Raises:
            ValueError: if shape or device are not those of `values`.
        """
        if values.shape != self._values.shape or values.device != self._values.device:
            raise ValueError(
                f"expected values {tuple(self._values.shape)} on {self.device}, got {tuple(values.shape)} "
                f"on {values.device}; start from .values"
            )
        source = stand_in(values, self.shape)
        return type(self)(source, self._index, values.contiguous(), transposed=self._transposed)

    def transpose(self) -> BlockSparse:
        """Return selfᵀ as a matrix (k, m) that shares values and index."""
        source = stand_in(self._values, self.matrix_shape[::-1])
        return type(self)(source, self._index, self._values, transposed=not self._transposed)

    def storage(self) -> Storage:
        """Return the bytes of the values, and of the index in both orders."""
        return Storage(value_bytes=self._values.numel() * self._values.element_size(), index_bytes=self._index.nbytes)

    def _multiply(self, x: Tensor, *, transposed: bool) -> Tensor:
        kernels = block_kernels(self.device.type)
        product = kernels.dsd_transposed if transposed else kernels.dsd
        return product(self._index, self._values, x)
