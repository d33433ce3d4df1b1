"""Compute the three products slowly and obviously, as the oracle of the other kernels; any dtype, any device."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from sparsebench.kernels.block_sparse.layout import BlockIndex, check_operands


def dsd(index: BlockIndex, values: Tensor, x: Tensor) -> Tensor:
    """Return self @ x, (m, k) @ (k, n) -> (m, n).

    Args:
        index: of the stored blocks.
        values: (blocks, height, width), contiguous.
        x: (k, n), any strides.

    Raises:
        ValueError: if the operands do not fit.
    """
    check_operands(index, [("values", values, (index.blocks, *index.block)), ("x", x, (index.shape[1], None))])
    out = x.new_zeros((index.shape[0], x.shape[1]))
    for p, rows, columns in _places(index):
        out[rows] += _inside(values[p], rows, columns) @ x[columns]
    return out


def dsd_transposed(index: BlockIndex, values: Tensor, x: Tensor) -> Tensor:
    """Return selfᵀ @ x, (k, m) @ (m, n) -> (k, n); arguments as in `dsd`, x (m, n)."""
    check_operands(index, [("values", values, (index.blocks, *index.block)), ("x", x, (index.shape[0], None))])
    out = x.new_zeros((index.shape[1], x.shape[1]))
    for p, rows, columns in _places(index):
        out[columns] += _inside(values[p], rows, columns).t() @ x[rows]
    return out


def sdd(index: BlockIndex, a: Tensor, b: Tensor) -> Tensor:
    """Return (a @ b) at the stored blocks, (m, n) @ (n, k) -> (blocks, height, width), 0 in the padding.

    Args:
        index: of the stored blocks.
        a: (m, n), any strides.
        b: (n, k), any strides.

    Raises:
        ValueError: if the operands do not fit.
    """
    check_operands(index, [("a", a, (index.shape[0], None)), ("b", b, (None, index.shape[1]))])
    out = a.new_zeros((index.blocks, *index.block))
    for p, rows, columns in _places(index):
        _inside(out[p], rows, columns)[:] = a[rows] @ b[:, columns]
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
