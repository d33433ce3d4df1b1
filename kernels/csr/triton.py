"""Compute the three products on the GPU with Triton: float32, float16 and bfloat16, sums in float32.

Rows are sorted into buckets by length, with one launch for each: a program takes several short rows, or one long one,
and rows of more than `segments.LONGEST` elements are split, their parts added up in a second pass in a fixed order. The
transposed product reads the order by columns, made when first asked for. Nothing is added by atomics: runs repeat bit
for bit.

The module imports where there is no GPU. Set TRITON_INTERPRET=1 before importing it to run on CPU tensors, for tests.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sparsebench.kernels.common.triton_launch import DTYPES, check_device, grid, side
from sparsebench.kernels.csr import triton_kernels as kernels
from sparsebench.kernels.csr.layout import RowIndex, check_product, check_sampled
from sparsebench.kernels.csr.segments import Bucket, Segments

COLUMNS = 64
"""The widest tile of columns: with 32 elements of rows and 128 threads, 16 products a thread and step."""


def name(dtype: torch.dtype = torch.float32) -> str:
    """Return what runs for a dtype, as tables call it."""
    return "triton" if dtype == torch.float32 else f"triton, {str(dtype).removeprefix('torch.')}, sums in float32"


def dsd(index: RowIndex, values: Tensor, x: Tensor, *, transposed: bool = False) -> Tensor:
    """Return self @ x, (m, k) @ (..., k, n) -> (..., m, n), or selfᵀ @ x, (k, m) @ (..., m, n) -> (..., k, n).

    Args:
        index: of the stored elements, on the GPU. It keeps the segments of its rows and, once `transposed` was asked
            for, the order by columns; both are counted in its `nbytes`.
        values: (nnz), contiguous, one of DTYPES.
        x: any strides and any number of leading dimensions; copied only if these cannot be merged into one.
        transposed: whether selfᵀ is meant.

    Returns:
        a new contiguous tensor in the dtype of x.

    Raises:
        ValueError: if the operands do not fit, or lie on the CPU and the interpreter is off.
    """
    check_product(index, values, x, DTYPES, transposed=transposed)
    check_device(index.device)
    rows, n = index.shape[1 if transposed else 0], x.shape[-1]
    out = torch.empty((*x.shape[:-2], rows, n), dtype=x.dtype, device=x.device)
    if out.numel():
        flat = x.detach().reshape(-1, *x.shape[-2:])
        with torch.cuda.device_of(x):
            _multiply(index, values.detach(), flat, out.view(-1, rows, n), index.segments(transposed), transposed)
    return out


def sdd(index: RowIndex, a: Tensor, b: Tensor) -> Tensor:
    """Return (a @ b) at the stored places, (m, n) @ (n, k) -> (nnz).

    Args:
        index: of the stored elements, on the GPU.
        a: (m, n), any strides, one of DTYPES.
        b: (n, k), any strides; reads are side by side if its first stride is 1, as in x.t().

    Returns:
        a new tensor in the dtype of a.

    Raises:
        ValueError: if the operands do not fit, or lie on the CPU and the interpreter is off.
    """
    check_sampled(index, a, b, DTYPES)
    check_device(index.device)
    n = a.shape[1]
    if index.nnz == 0 or n == 0:
        return torch.zeros(index.nnz, dtype=a.dtype, device=a.device)
    out = torch.empty(index.nnz, dtype=a.dtype, device=a.device)
    s = index.segments(False)
    with torch.cuda.device_of(a):
        for bucket in (*s.whole, *s.parts):
            kernels.sampled[grid(math.ceil(bucket.count / bucket.rows))](
                s.row, s.begin, s.length, index.col, a.detach(), b.detach(), out, bucket.first, bucket.count, n,
                *a.stride(), *b.stride(), ROWS=bucket.rows, ENTRIES=bucket.entries, COLUMNS=_width(n),
            )  # fmt: skip
    return out


def _multiply(index: RowIndex, values: Tensor, x: Tensor, out: Tensor, s: Segments, transposed: bool) -> None:
    items, n = out.shape[0], out.shape[2]
    order = index.columns if transposed else None
    others, place = (index.col, index.col) if order is None else (order.row, order.place)
    tiles = math.ceil(n / _width(n))

    def launch(bucket: Bucket, to: Tensor) -> None:
        kernels.product[grid(math.ceil(bucket.count / bucket.rows) * tiles, items)](
            s.target, s.begin, s.length, values, others, place, x, to, bucket.first, bucket.count, n,
            *x.stride(), to.stride(0), to.stride(1), ORDERED=order is not None, ROWS=bucket.rows,
            ENTRIES=bucket.entries, COLUMNS=_width(n),
        )  # fmt: skip

    for bucket in s.whole:
        launch(bucket, out)
    if s.parts:
        parts = torch.empty((items, s.part_count, n), dtype=torch.float32, device=x.device)
        for bucket in s.parts:
            launch(bucket, parts)
        kernels.add_parts[grid(s.split_row.numel() * tiles, items)](
            s.split_row, s.split_part, parts, out, n, parts.stride(0), out.stride(0), out.stride(1), COLUMNS=_width(n)
        )


def _width(n: int) -> int:
    """Return the tile of columns: a power of two, no wider than n needs."""
    return side(n, 1, COLUMNS)
