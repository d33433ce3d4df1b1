"""Write the Triton kernels of sparse codes: sums in float32, offsets in 64 bits, no atomics.

Every thread keeps sums of its own over all steps; threads add theirs up once, behind the last one, in one order.
"""

# ruff: noqa: N803 - Triton writes its compile-time constants in capitals
from __future__ import annotations

import triton
import triton.language as tl

from sparsebench.kernels.common.triton_kernels import load_tile

# triton ships its decorators without types, and a kernel's arguments have none that Python knows: hence the ignores

_LEAST = tl.constexpr(-(2**31))


@triton.jit  # type: ignore[untyped-decorator]
def _keys(row, first, size, stride_xc, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return BLOCK entries of a row as integers in the same order: NaN above all, −0 as 0; outside, what none has."""
    at = first + tl.arange(0, BLOCK)
    inside = at < size
    x = tl.load(row + at.to(tl.int64) * stride_xc, mask=inside, other=0.0).to(tl.float32)
    x = tl.where(x == 0.0, 0.0, x)
    bits = x.to(tl.int32, bitcast=True)
    key = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    key = tl.where(x != x, 0x7FFFFFFF, key)
    return tl.where(inside, key, _LEAST)


@triton.jit  # type: ignore[untyped-decorator]
def select(  # type: ignore[no-untyped-def]
    x,  # (n, N)
    values,  # (n, k)
    places,  # (n, k)
    size,  # N
    k,
    stride_xr,
    stride_xc,
    BLOCK: tl.constexpr,
    RESIDENT: tl.constexpr,
):
    """Select the k largest of one row: find the k-th largest key two bits at a time, then write in order of place.

    A row of at most BLOCK entries stays in registers (RESIDENT), a longer one is read again for every two bits, from
    the second-level cache.
    """
    i = tl.program_id(0).to(tl.int64)
    row = x + i * stride_xr
    once = _keys(row, 0, size, stride_xc, BLOCK) if RESIDENT else tl.zeros((BLOCK,), dtype=tl.int32)
    # the largest t such that at least k keys are ≥ t; xor with a bit that is not set yet adds it, the sign included
    t = tl.full((), _LEAST, dtype=tl.int32)
    for step in range(16):
        low = 30 - 2 * step
        one = t ^ (tl.full((), 1, dtype=tl.int32) << low)
        two = t ^ (tl.full((), 2, dtype=tl.int32) << low)
        three = t ^ (tl.full((), 3, dtype=tl.int32) << low)
        if RESIDENT:
            first = tl.sum((once >= one).to(tl.int32), axis=0)
            second = tl.sum((once >= two).to(tl.int32), axis=0)
            third = tl.sum((once >= three).to(tl.int32), axis=0)
        else:
            firsts = tl.zeros((BLOCK,), dtype=tl.int32)
            seconds = tl.zeros((BLOCK,), dtype=tl.int32)
            thirds = tl.zeros((BLOCK,), dtype=tl.int32)
            for start in range(0, size, BLOCK):
                key = _keys(row, start, size, stride_xc, BLOCK)
                firsts += (key >= one).to(tl.int32)
                seconds += (key >= two).to(tl.int32)
                thirds += (key >= three).to(tl.int32)
            first = tl.sum(firsts, axis=0)
            second = tl.sum(seconds, axis=0)
            third = tl.sum(thirds, axis=0)
        t = tl.where(third >= k, three, tl.where(second >= k, two, tl.where(first >= k, one, t)))
    if RESIDENT:
        enough = tl.sum((once > t).to(tl.int32), axis=0)
    else:
        counts = tl.zeros((BLOCK,), dtype=tl.int32)
        for start in range(0, size, BLOCK):
            counts += (_keys(row, start, size, stride_xc, BLOCK) > t).to(tl.int32)
        enough = tl.sum(counts, axis=0)
    quota = k - enough  # of the entries that equal the k-th, the first so many win
    written = tl.full((), 0, dtype=tl.int32)
    level_seen = tl.full((), 0, dtype=tl.int32)
    for start in range(0, size, BLOCK):
        key = _keys(row, start, size, stride_xc, BLOCK)
        at = start + tl.arange(0, BLOCK)
        level = (key == t).to(tl.int32)
        rank = level_seen + tl.cumsum(level, axis=0) - level
        take = ((key > t) | ((level == 1) & (rank < quota))).to(tl.int32)
        slot = written + tl.cumsum(take, axis=0) - take
        value = tl.load(row + at.to(tl.int64) * stride_xc, mask=take == 1, other=0.0)
        tl.store(values + i * k + slot, value, mask=take == 1)
        tl.store(places + i * k + slot, at, mask=take == 1)
        written += tl.sum(take, axis=0)
        level_seen += tl.sum(level, axis=0)


@triton.jit  # type: ignore[untyped-decorator]
def decode(  # type: ignore[no-untyped-def]
    values,  # (n, k)
    places,  # (n, k)
    x,  # (N, d)
    out,  # (n, d)
    k,
    units,  # N
    d,
    stride_xr,
    stride_xc,
    ENTRIES: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute COLUMNS of one row of out; ENTRIES slots at a time."""
    tiles = tl.cdiv(d, COLUMNS)
    program = tl.program_id(0).to(tl.int64)
    i = program // tiles
    column = (program % tiles) * COLUMNS + tl.arange(0, COLUMNS)
    column_in = column < d
    sums = tl.zeros((ENTRIES, COLUMNS), dtype=tl.float32)
    for start in range(0, k, ENTRIES):
        s = start + tl.arange(0, ENTRIES)
        j = tl.load(places + i * k + s, mask=s < k, other=units).to(tl.int64)
        inside = j < units
        v = tl.load(values + i * k + s, mask=inside, other=0.0).to(tl.float32)
        right = load_tile(x + j * stride_xr, column * stride_xc, inside, column_in).to(tl.float32)
        sums += v[:, None] * right
    total = tl.sum(sums, axis=0)
    tl.store(out + i * d + column, total.to(out.dtype.element_ty), mask=column_in)


@triton.jit  # type: ignore[untyped-decorator]
def collect(  # type: ignore[no-untyped-def]
    begin,  # (rows of out): first entry
    end,  # (rows of out): past the last entry
    row,  # (entries): which row of x
    slot,  # (entries): which value
    values,  # (n, k)
    x,  # (n, d)
    out,  # (rows of out, d)
    d,
    stride_xr,
    stride_xc,
    ENTRIES: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute COLUMNS of one row of out from entries in the order by units; ENTRIES at a time."""
    tiles = tl.cdiv(d, COLUMNS)
    program = tl.program_id(0).to(tl.int64)
    u = program // tiles
    column = (program % tiles) * COLUMNS + tl.arange(0, COLUMNS)
    column_in = column < d
    sums = tl.zeros((ENTRIES, COLUMNS), dtype=tl.float32)
    first, last = tl.load(begin + u), tl.load(end + u)
    for start in range(first, last, ENTRIES):
        e = start + tl.arange(0, ENTRIES)
        inside = e < last
        i = tl.load(row + e, mask=inside, other=0).to(tl.int64)
        v = tl.load(values + tl.load(slot + e, mask=inside, other=0), mask=inside, other=0.0).to(tl.float32)
        right = load_tile(x + i * stride_xr, column * stride_xc, inside, column_in).to(tl.float32)
        sums += v[:, None] * right
    total = tl.sum(sums, axis=0)
    tl.store(out + u * d + column, total.to(out.dtype.element_ty), mask=column_in)


@triton.jit  # type: ignore[untyped-decorator]
def dots(  # type: ignore[no-untyped-def]
    places,  # (n, k)
    a,  # (n, d)
    x,  # (N, d)
    out,  # (n, k)
    k,
    units,  # N
    d,
    stride_ar,
    stride_ac,
    stride_xr,
    stride_xc,
    ENTRIES: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute ENTRIES slots of one row; COLUMNS of d at a time."""
    groups = tl.cdiv(k, ENTRIES)
    program = tl.program_id(0).to(tl.int64)
    i = program // groups
    s = (program % groups) * ENTRIES + tl.arange(0, ENTRIES)
    j = tl.load(places + i * k + s, mask=s < k, other=units).to(tl.int64)
    inside = j < units
    sums = tl.zeros((ENTRIES, COLUMNS), dtype=tl.float32)
    for low in range(0, d, COLUMNS):
        column = low + tl.arange(0, COLUMNS).to(tl.int64)
        column_in = column < d
        left = tl.load(a + i * stride_ar + column * stride_ac, mask=column_in, other=0.0).to(tl.float32)
        right = load_tile(x + j * stride_xr, column * stride_xc, inside, column_in).to(tl.float32)
        sums += left[None, :] * right
    total = tl.sum(sums, axis=1)
    tl.store(out + i * k + s, total.to(out.dtype.element_ty), mask=s < k)
