"""Compute the three products on the GPU with Triton: float32, float16 and bfloat16, sums in float32.

Rows are sorted into buckets by length, with one launch for each: a program takes several short rows, or one long one,
and rows of more than `segments.LONGEST` elements are split, their parts added up in a second pass in a fixed order. The
transposed product reads the order by columns, made when first asked for. Nothing is added by atomics: runs repeat bit
for bit.

The module imports where there is no GPU. Set TRITON_INTERPRET=1 before importing it to run on CPU tensors, for tests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsebench.kernels.common.triton_launch import DTYPES, check_device, grid, side
from sparsebench.kernels.common.triton_plan import OPERAND, Launch, keep, recall, signature
from sparsebench.kernels.csr import triton_kernels as kernels
from sparsebench.kernels.csr.layout import RowIndex, check_product, check_sampled
from sparsebench.kernels.csr.segments import Bucket

COLUMNS = 64
"""The widest tile of columns."""


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
    key = signature(("dsd", transposed), values, x)
    known = recall(index, key)
    if known is not None:
        return known(values, x)
    check_product(index, values, x, DTYPES, transposed=transposed)
    check_device(index.device)
    rows, n = index.shape[1 if transposed else 0], x.shape[-1]
    out = x.new_empty((*x.shape[:-2], rows, n))
    if out.numel() == 0:
        return out
    plan = _plan(index, x.detach().reshape(-1, *x.shape[-2:]), x, out, transposed=transposed)
    return keep(index, key, plan)(values, x)


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
    key = signature(("sdd",), a, b)
    known = recall(index, key)
    if known is not None:
        return known(a, b)
    check_sampled(index, a, b, DTYPES)
    check_device(index.device)
    n, s = a.shape[1], index.segments(False)
    if index.nnz == 0 or n == 0:
        return a.new_zeros(index.nnz)
    launches = []
    for bucket in (*s.whole, *s.parts):
        taken, entries = bucket.tile(_width(n))
        launches.append(Launch(
            kernels.sampled,
            grid(math.ceil(bucket.count / taken)),
            (
                s.row, s.begin, s.length, index.col, OPERAND, OPERAND, OPERAND, bucket.first, bucket.count, n,
                *a.stride(), *b.stride(),
            ),
            {"ROWS": taken, "ENTRIES": entries, "COLUMNS": _width(n)},
            device=a.device,
        ))  # fmt: skip
    return keep(index, key, _Plan(shape=(index.nnz,), launches=tuple(launches)))(a, b)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """A product of operands of one signature, worked out up to its launches.

    Attributes:
        shape: of the result.
        launches: that write to the result from the two operands, one a bucket.
        flat: what the second operand is copied to, (batch, p, q), where it cannot be seen so; else None.
        parts: shape of the parts of split rows.
        split: launches that write those.
        add_parts: what adds them up; None if no row is split.
    """

    shape: tuple[int, ...]
    launches: tuple[Launch, ...]
    flat: torch.Size | None = None
    parts: tuple[int, ...] = ()
    split: tuple[Launch, ...] = ()
    add_parts: Launch | None = None

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        out = second.new_empty(self.shape)
        if self.flat is not None:
            second = second.detach().reshape(self.flat)
        for launch in self.launches:
            launch(first, second, out)
        if self.add_parts is not None:
            parts = torch.empty(self.parts, dtype=torch.float32, device=out.device)
            for launch in self.split:
                launch(first, second, parts)
            self.add_parts(parts, out)
        return out


def _plan(index: RowIndex, x: Tensor, given: Tensor, result: Tensor, *, transposed: bool) -> _Plan:
    """Return what writes to tensors like `result` from operands like `given`, seen as x (batch, rows of x, n)."""
    out = result.view(x.shape[0], *result.shape[-2:])
    s = index.segments(transposed)
    items, n = out.shape[0], out.shape[2]
    order = index.columns if transposed else None
    others, place = (index.col, index.col) if order is None else (order.row, order.place)
    tiles = math.ceil(n / _width(n))
    shape = (items, s.part_count, n)

    def launch(bucket: Bucket, strides: tuple[int, int]) -> Launch:
        taken, entries = bucket.tile(_width(n))
        return Launch(
            kernels.product,
            grid(math.ceil(bucket.count / taken) * tiles, items),
            (
                s.target, s.begin, s.length, OPERAND, others, place, OPERAND, OPERAND, bucket.first, bucket.count, n,
                *x.stride(), *strides,
            ),
            {"ORDERED": order is not None, "ROWS": taken, "ENTRIES": entries, "COLUMNS": _width(n)},
            device=x.device,
        )  # fmt: skip

    add_parts = Launch(
        kernels.add_parts,
        grid(s.split_row.numel() * tiles, items),
        (s.split_row, s.split_part, OPERAND, OPERAND, n, shape[1] * n, out.stride(0), out.stride(1)),
        {"COLUMNS": _width(n)},
        device=x.device,
    )
    return _Plan(
        shape=tuple(result.shape),
        launches=tuple(launch(bucket, (out.stride(0), out.stride(1))) for bucket in s.whole),
        flat=None if x.data_ptr() == given.data_ptr() else x.shape,
        parts=shape,
        split=tuple(launch(bucket, (shape[1] * n, n)) for bucket in s.parts),
        add_parts=add_parts if s.parts else None,
    )


def _width(n: int) -> int:
    """Return the tile of columns: a power of two, no wider than n needs."""
    return side(n, 1, COLUMNS)
