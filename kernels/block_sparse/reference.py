"""Compute the three products slowly and obviously, as the oracle of the other kernels; any dtype, any device."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from sparsebench.kernels.block_sparse.layout import BlockIndex
from sparsebench.kernels.block_sparse.operands import check_product, check_sampled


def dsd(index: BlockIndex, values: Tensor, x: Tensor, *, transposed: bool = False) -> Tensor:
    """Return S @ x, (m, k) @ (..., k, n) -> (..., m, n), or Sᵀ @ x, (k, m) @ (..., m, n) -> (..., k, n).

    Args:
        index: of the stored blocks of S (m, k).
        values: (blocks, height, width), contiguous.
        x: any strides; leading dimensions are a batch.
        transposed: multiply by Sᵀ.

    Raises:
        ValueError: if the operands do not fit.
    """
    check_product(index, values, x, axis=-2, transposed=transposed)
    out = x.new_zeros((*x.shape[:-2], index.shape[1 if transposed else 0], x.shape[-1]))
    for p, rows, columns in _places(index):
        block = _inside(values[p], rows, columns)
        if transposed:
            out[..., columns, :] += block.t() @ x[..., rows, :]
        else:
            out[..., rows, :] += block @ x[..., columns, :]
    return out


def dds(index: BlockIndex, values: Tensor, x: Tensor, *, transposed: bool = False) -> Tensor:
    """Return x @ S, (..., n, m) @ (m, k) -> (..., n, k), or x @ Sᵀ, (..., n, k) @ (k, m) -> (..., n, m).

    Arguments and errors as in `dsd`.
    """
    check_product(index, values, x, axis=-1, transposed=not transposed)
    return dsd(index, values, x.mT, transposed=not transposed).mT.contiguous()


def sdd(index: BlockIndex, a: Tensor, b: Tensor, *, transposed: bool = False) -> Tensor:
    """Return (a @ b) at the stored blocks, (..., m, n) @ (..., n, k) -> (blocks, height, width), 0 in the padding.

    Args:
        index: of the stored blocks of a matrix (m, k).
        a: (..., m, n), any strides.
        b: (..., n, k), any strides; the products of a batch are added up.
        transposed: a is (..., k, n) and b is (..., n, m): the places are those of the transposed matrix, and the blocks
            of (a @ b)ᵀ are returned.

    Raises:
        ValueError: if the operands do not fit.
    """
    check_sampled(index, a, b, transposed=transposed)
    if transposed:
        return sdd(index, b.mT, a.mT)
    out = a.new_zeros((index.blocks, *index.block))
    for p, rows, columns in _places(index):
        product = a[..., rows, :] @ b[..., :, columns]
        _inside(out[p], rows, columns)[:] = product.reshape(-1, *product.shape[-2:]).sum(0)
    return out


def _places(index: BlockIndex) -> Iterator[tuple[int, slice, slice]]:
    """Yield every stored block's number, and the matrix rows and columns that it covers."""
    (m, k), (height, width) = index.shape, index.block
    block_rows: list[int] = index.block_rows().tolist()
    block_columns: list[int] = index.col.tolist()
    for p, (i, j) in enumerate(zip(block_rows, block_columns, strict=True)):
        yield p, slice(i * height, min(m, (i + 1) * height)), slice(j * width, min(k, (j + 1) * width))


def _inside(block: Tensor, rows: slice, columns: slice) -> Tensor:
    """Return the part of a block that is no padding."""
    return block[: rows.stop - rows.start, : columns.stop - columns.start]
