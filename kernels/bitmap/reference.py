"""Compute the three products slowly and obviously, as the oracle of the other kernels; any dtype, any device."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsebench.kernels.bitmap.layout import COLUMNS, ROWS, BitmapIndex, check_product, check_sampled


def dsd(index: BitmapIndex, values: Tensor, x: Tensor, *, transposed: bool = False) -> Tensor:
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
    for e, (i, j) in enumerate(_walk(index)):
        to, source = (j, i) if transposed else (i, j)
        out[..., to, :] += values[e] * x[..., source, :]
    return out


def sdd(index: BitmapIndex, a: Tensor, b: Tensor) -> Tensor:
    """Return (a @ b) at the stored places, (m, n) @ (n, k) -> (nnz), in the order of the values.

    Args:
        index: of the stored elements.
        a: (m, n), any strides.
        b: (n, k), any strides.

    Raises:
        ValueError: if the operands do not fit.
    """
    check_sampled(index, a, b, None)
    out = a.new_zeros(index.nnz)
    for e, (i, j) in enumerate(_walk(index)):
        out[e] = torch.dot(a[i], b[:, j])
    return out


def _walk(index: BitmapIndex) -> list[tuple[int, int]]:
    """Return the places of the stored elements, read bit by bit: not by the means of `BitmapIndex.places`."""
    return [
        (ROWS * g + r, COLUMNS * c + j)
        for g, group in enumerate(index.bits.tolist())
        for c, chunk in enumerate(group)
        for r, word in enumerate(chunk)
        for j in range(COLUMNS)
        if word >> j & 1
    ]
