"""Write the Triton kernels of the CSR products: sums in float32, offsets in 64 bits, no atomics.

A segment is a piece of one row of S (or of Sᵀ): its row, where it begins among the elements, and how many it has. A
program takes ROWS segments of similar length at once, ENTRIES elements of each at a time, and one tile of columns.
Every thread keeps sums of its own over all steps; threads add theirs up once, behind the last one, in one order.
"""

# ruff: noqa: N803 - Triton writes its compile-time constants in capitals
from __future__ import annotations

import triton
import triton.language as tl

from sparsebench.kernels.common.triton_kernels import load_tile

# triton ships its decorators without types, and a kernel's arguments have none that Python knows: hence the ignores


@triton.jit  # type: ignore[untyped-decorator]
def product(  # type: ignore[no-untyped-def]
    target,  # (segments): row of out
    begin,  # (segments): first element
    length,  # (segments)
    values,  # (nnz), row-major
    others,  # (nnz): which row of x
    place,  # (nnz): which value; read only if ORDERED
    x,  # (batch, rows of x, n)
    out,  # (batch, rows of out, n)
    first,  # segment of this launch
    segments,  # of this launch, from there
    n,
    stride_xb,
    stride_xr,
    stride_xc,
    stride_ob,
    stride_or,
    ORDERED: tl.constexpr,
    ROWS: tl.constexpr,
    ENTRIES: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute (ROWS segments, COLUMNS) of out, one segment a row of out."""
    tiles = tl.cdiv(n, COLUMNS)
    program = tl.program_id(0)
    item = tl.program_id(1).to(tl.int64)
    s = (program // tiles).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    s_in = s < segments
    column = (program % tiles).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    column_in = column < n
    start = tl.load(begin + first + s, mask=s_in, other=0).to(tl.int64)
    count = tl.load(length + first + s, mask=s_in, other=0)
    base = x + item * stride_xb + column[None, None, :] * stride_xc
    sums = tl.zeros((ROWS, ENTRIES, COLUMNS), dtype=tl.float32)
    for done in range(0, tl.max(count), ENTRIES):
        e = done + tl.arange(0, ENTRIES)
        inside = e[None, :] < count[:, None]  # (ROWS, ENTRIES)
        at = start[:, None] + e[None, :]
        j = tl.load(others + at, mask=inside, other=0).to(tl.int64)
        v = tl.load(values + (tl.load(place + at, mask=inside, other=0).to(tl.int64) if ORDERED else at),
                    mask=inside, other=0.0).to(tl.float32)  # fmt: skip
        right = tl.load(
            base + j[:, :, None] * stride_xr, mask=inside[:, :, None] & column_in[None, None, :], other=0.0
        ).to(tl.float32)
        sums += v[:, :, None] * right
    total = tl.sum(sums, axis=1)
    row = tl.load(target + first + s, mask=s_in, other=0).to(tl.int64)
    tl.store(
        out + item * stride_ob + row[:, None] * stride_or + column[None, :],
        total.to(out.dtype.element_ty),
        mask=s_in[:, None] & column_in[None, :],
    )


@triton.jit  # type: ignore[untyped-decorator]
def add_parts(  # type: ignore[no-untyped-def]
    row,  # (split rows): row of out
    part,  # (split rows + 1): parts part[i] .. part[i + 1] belong to it
    parts,  # (batch, parts, n), float32
    out,  # (batch, rows, n)
    n,
    stride_pb,
    stride_ob,
    stride_or,
    COLUMNS: tl.constexpr,
):
    """Add up the parts of one long row in their order, in one tile of columns."""
    tiles = tl.cdiv(n, COLUMNS)
    program = tl.program_id(0)
    item = tl.program_id(1).to(tl.int64)
    number = program // tiles
    column = (program % tiles).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    column_in = column < n
    total = tl.zeros((COLUMNS,), dtype=tl.float32)
    for p in range(tl.load(part + number), tl.load(part + number + 1)):
        total += tl.load(parts + item * stride_pb + tl.cast(p, tl.int64) * n + column, mask=column_in, other=0.0)
    i = tl.load(row + number).to(tl.int64)
    tl.store(out + item * stride_ob + i * stride_or + column, total.to(out.dtype.element_ty), mask=column_in)


@triton.jit  # type: ignore[untyped-decorator]
def sampled(  # type: ignore[no-untyped-def]
    target,  # (segments): row of a
    begin,  # (segments): first element
    length,  # (segments)
    col,  # (nnz)
    a,  # (m, n)
    b,  # (n, k)
    out,  # (nnz)
    first,  # segment of this launch
    segments,  # of this launch, from there
    n,
    stride_ar,
    stride_ac,
    stride_br,
    stride_bc,
    ROWS: tl.constexpr,
    ENTRIES: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute the elements of ROWS segments; COLUMNS of n at a time."""
    s = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    s_in = s < segments
    start = tl.load(begin + first + s, mask=s_in, other=0).to(tl.int64)
    count = tl.load(length + first + s, mask=s_in, other=0)
    i = tl.load(target + first + s, mask=s_in, other=0).to(tl.int64)
    for done in range(0, tl.max(count), ENTRIES):
        e = done + tl.arange(0, ENTRIES)
        inside = e[None, :] < count[:, None]
        at = start[:, None] + e[None, :]
        j = tl.load(col + at, mask=inside, other=0).to(tl.int64)
        sums = tl.zeros((ROWS, ENTRIES, COLUMNS), dtype=tl.float32)
        for low in range(0, n, COLUMNS):
            depth = low + tl.arange(0, COLUMNS).to(tl.int64)
            depth_in = depth < n
            left = load_tile(a + i * stride_ar, depth * stride_ac, s_in, depth_in).to(tl.float32)
            right = tl.load(
                b + j[:, :, None] * stride_bc + depth[None, None, :] * stride_br,
                mask=inside[:, :, None] & depth_in[None, None, :], other=0.0,
            ).to(tl.float32)  # fmt: skip
            sums += left[:, None, :] * right
        total = tl.sum(sums, axis=2)
        tl.store(out + at, total.to(out.dtype.element_ty), mask=inside)
