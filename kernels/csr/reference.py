"""Compute the three products slowly and obviously, as the oracle of the other kernels; any dtype, any device."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsebench.kernels.csr.layout import RowIndex, check_product, check_sampled


def dsd(index: RowIndex, values: Tensor, x: Tensor, *, transposed: bool = False) -> Tensor:
    """Return self @ x, (m, k) @ (..., k, n) -> (..., m, n), or selfᵀ @ x, (k, m) @ (..., m, n) -> (..., k, n).

    Args:
        index: of the stored elements.
        values: (nnz), contiguous.
        x: of any strides and any number of leading dimensions.
        transposed: whether selfᵀ is meant.

    Raises:
        ValueError: if the operands do not fit.
    """
    check_product(index, values, x, None, transposed=transposed)
    out = x.new_zeros((*x.shape[:-2], index.shape[1 if transposed else 0], x.shape[-1]))
    rows: list[int] = index.rows().tolist()
    columns: list[int] = index.col.tolist()
    for e, (i, j) in enumerate(zip(rows, columns, strict=True)):
        to, source = (j, i) if transposed else (i, j)
        out[..., to, :] += values[e] * x[..., source, :]
    return out


def sdd(index: RowIndex, a: Tensor, b: Tensor) -> Tensor:
    """Return (a @ b) at the stored places, (m, n) @ (n, k) -> (nnz).

    Args:
        index: of the stored elements.
        a: (m, n), any strides.
        b: (n, k), any strides.

    Raises:
        ValueError: if the operands do not fit.
    """
    check_sampled(index, a, b, None)
    out = a.new_zeros(index.nnz)
    for e, (i, j) in enumerate(zip(index.rows().tolist(), index.col.tolist(), strict=True)):
        out[e] = torch.dot(a[i], b[:, j])
    return out
