"""See batches of matrices as tensor descriptors want them: one matrix, of lines whose elements lie side by side."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sparsebench.kernels.block_sparse.layout import BlockIndex
from sparsebench.kernels.common.triton_plan import Box


@dataclass(frozen=True, kw_only=True)
class Plane:
    """A batch of matrices (batch, p, q) seen as one matrix, as tensor descriptors want it.

    Attributes:
        shape: (lines, elements of a line).
        stride: elements between lines.
        step: lines from one matrix of the batch to the next.
        by_columns: whether a line runs along p, not along q.
    """

    shape: tuple[int, int]
    stride: int
    step: int
    by_columns: bool


def plane(x: Tensor) -> Plane | None:
    """Return (batch, p, q) as one matrix of lines, or None if its strides or its address do not allow a descriptor.

    The base and the stride of lines are to be multiples of 16 bytes, elements of a line next to each other (CUDA driver
    API, cuTensorMapEncodeTiled). Coordinates are counted in 32 bits.
    """
    batch, p, q = x.shape
    by_columns = x.stride(2) != 1
    lines, run, stride = (q, p, x.stride(2)) if by_columns else (p, q, x.stride(1))
    if min(x.shape) < 1 or x.stride(1 if by_columns else 2) != 1 or stride < run:
        return None
    step = x.stride(0) // stride if batch > 1 else lines
    if batch > 1 and (x.stride(0) % stride or step < lines):
        return None
    total = (batch - 1) * step + lines
    if x.data_ptr() % 16 or stride * x.element_size() % 16 or max(total, run) >= 2**31 - 2**12 or stride >= 2**31:
        return None
    return Plane(shape=(total, run), stride=stride, step=step, by_columns=by_columns)


def value_plane(values: Tensor) -> Plane | None:
    """Return values (blocks, height, width) as the matrix (blocks · height, width), or None as in `plane`."""
    seen = plane(values.detach().view(1, -1, values.shape[2]))
    return None if seen is None or seen.by_columns else seen


def product_described(index: BlockIndex, values: Tensor, x: Tensor, *, transposed: bool) -> bool:
    """Return whether values and x (batch, inner, n) may be read with descriptors.

    Blocks that reach over the edge along the inner dimension may not: their padding must not be read.
    """
    inner = index.shape[0 if transposed else 1]
    return inner % index.block[0 if transposed else 1] == 0 and None not in (plane(x), value_plane(values))


def sampled_described(index: BlockIndex, a: Tensor, b: Tensor) -> bool:
    """Return whether a (batch, m, n) and b (batch, n, k) may be read with descriptors, in steps of up to 64.

    In a batch of which n is the lines, what follows the last line of one matrix is the next one and not zeros, so steps
    must then divide n. Blocks start at multiples of 16 bytes.
    """
    first, second = plane(a), plane(b)
    if first is None or second is None or any(size * a.element_size() % 16 for size in index.block):
        return False
    lines = first.by_columns or not second.by_columns
    return a.shape[0] == 1 or not lines or a.shape[2] % 64 == 0


def describe(tensor: Tensor, seen: Plane | None, tile: tuple[int, int], *, turned: bool = False) -> Box:
    """Return how tensors like `tensor` are described, for tiles (rows, columns) of what `seen` describes."""
    if seen is None:
        raise ValueError(
            f"expected strides and an address that a descriptor can take, got {tensor.stride()}; use pointers"
        )
    return Box(seen.shape, (seen.stride, 1), tile[::-1] if turned or seen.by_columns else tile)
