"""Compute the three products on the CPU: values are put into their lanes in registers, or into a panel for torch.

float32 and float64 are computed as they are; float16 and bfloat16 are held in 16 bits and computed in float32. For a
few columns of x no element is written anywhere: vectors are expanded in registers and multiplied at once. For more
columns a panel, a few rows of the matrix, is expanded into a workspace and handed to torch's own product.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparsebench.kernels.bitmap.cpu_launch import Choice, choose, expanded, forward, gathered, quick, sampled
from sparsebench.kernels.bitmap.cpu_launch import transposed as transposed_product
from sparsebench.kernels.bitmap.layout import BitmapIndex, check_product, check_sampled
from sparsebench.kernels.common.tailed import computed
from sparsebench.kernels.microkernels import host

DTYPES: tuple[torch.dtype, ...] = (
    torch.float32,
    torch.float64,
    *((torch.float16,) if host.has_half() else ()),
    torch.bfloat16,
)
"""What can be computed in here; float16 only where the processor converts it."""


def name(dtype: torch.dtype = torch.float32) -> str:
    """Return what runs for a dtype, as tables call it."""
    own = str(dtype).removeprefix("torch.")
    sums = computed(own)
    return f"{choose(dtype).name}, numba" + ("" if sums == own else f", {own} in {sums}")


def dsd(
    index: BitmapIndex, values: Tensor, x: Tensor, *, transposed: bool = False, choice: Choice | None = None
) -> Tensor:
    """Return self @ x, (m, k) @ (..., k, n) -> (..., m, n), or selfᵀ @ x, (k, m) @ (..., m, n) -> (..., k, n).

    Args:
        index: of the stored elements, on the CPU.
        values: (nnz), contiguous, one of DTYPES.
        x: any strides and any number of leading dimensions, which count as more columns.
        transposed: whether selfᵀ is meant. It works from the same arrays.
        choice: how; None for what is usually the fastest here.

    Returns:
        a new contiguous tensor in the dtype of x.

    Raises:
        ValueError: if the operands do not fit.
    """
    if choice is None and not transposed:
        found = quick(index, values, x)
        if found is not None:
            return found
    check_product(index, values, x, DTYPES, transposed=transposed)
    rows = index.shape[1 if transposed else 0]
    # whatever is looked at takes tenths of a microsecond, and a small product takes a few of them in all
    if values.requires_grad or x.requires_grad:
        values, x = values.detach(), x.detach()
    product, choice = transposed_product if transposed else forward, choice or choose(values.dtype)
    if index.nnz == 0 or x.numel() == 0:
        return x.new_zeros((*x.shape[:-2], rows, x.shape[-1]))
    if x.dim() == 2:
        return product(index, values, x, choice)
    batch, (inner, n) = x.shape[:-2], x.shape[-2:]
    out = product(index, values, x.reshape(-1, inner, n).transpose(0, 1).reshape(inner, -1), choice)
    return out.reshape(rows, -1, n).transpose(0, 1).reshape(*batch, rows, n).contiguous()


def sdd(index: BitmapIndex, a: Tensor, b: Tensor, *, choice: Choice | None = None) -> Tensor:
    """Return (a @ b) at the stored places, (m, n) @ (n, k) -> (nnz), in the order of the values.

    Args:
        index: of the stored elements, on the CPU.
        a: (m, n), one of DTYPES, any strides.
        b: (n, k), any strides.
        choice: how; None for what is usually the fastest here.

    Returns:
        a new tensor in the dtype of a.

    Raises:
        ValueError: if the operands do not fit.
    """
    check_sampled(index, a, b, DTYPES)
    if index.nnz == 0 or a.shape[1] == 0:
        return a.new_zeros(index.nnz)
    return sampled(index, a.detach(), b.detach(), choice or choose(a.dtype))


def dense(index: BitmapIndex, values: Tensor) -> Tensor:
    """Return the matrix (m, k) as a new contiguous tensor."""
    return expanded(index, values.detach(), choose(values.dtype))


def gather(index: BitmapIndex, matrix: Tensor) -> Tensor:
    """Return what a matrix (m, k) has at the stored places, a new tensor (nnz) in the order of the values."""
    if index.nnz == 0:
        return matrix.new_empty(0)
    return gathered(index, matrix.detach(), choose(matrix.dtype))
