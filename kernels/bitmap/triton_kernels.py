"""Multiply in Triton by a matrix of bits and packed values, decoded into tiles that matrix instructions take.

Sums are in float32, offsets in 64 bits, nothing is added by atomics. S is read in tiles of 4 · GROUPS rows and a chunk
of 64 columns, zeros where nothing is stored. A zero times an infinity would be NaN where no product is wanted: where x
was found not to be finite, a tile of the result is computed once more, place by place, from the stored ones alone.
"""

# ruff: noqa: N803 - Triton writes its compile-time constants in capitals
from __future__ import annotations

import triton
import triton.language as tl

from sparsebench.kernels.bitmap.triton_decode import count, load_word, tile_of
from sparsebench.kernels.common.triton_kernels import load_tile, store_tile

COUNTS = ["groups", "chunks", "m", "steps", "parts"]
"""Arguments that are compiled for as they come: none of them makes a load wider."""

# triton ships its decorators without types, and a kernel's arguments have none that Python knows: hence the ignores


@triton.jit(do_not_specialize=COUNTS)  # type: ignore[untyped-decorator]
def product(  # type: ignore[no-untyped-def]
    values,  # (nnz)
    bits,  # (groups, chunks, 4)
    starts,  # (groups + 1): first value of each group
    table,  # (groups, chunks): values of the group before each chunk
    x,  # (batch, k, n), or (batch, m, n) if TRANSPOSED
    out,  # (parts, batch, m, n), or (parts, batch, k, n) if TRANSPOSED; float32 if there are several parts
    groups,
    chunks,
    m,
    k,
    n,
    steps,  # of a part of the sum
    stride_xb,
    stride_xr,
    stride_xc,
    stride_op,
    stride_ob,
    stride_or,
    TRANSPOSED: tl.constexpr,
    GROUPS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute (4 · GROUPS, COLUMNS) of S @ x over a part of the chunks, or (64, COLUMNS) of Sᵀ @ x over groups."""
    high: tl.constexpr = GROUPS * 4
    owns: tl.constexpr = 64 if TRANSPOSED else high
    deep: tl.constexpr = high if TRANSPOSED else 64
    tiles = tl.cdiv(n, COLUMNS)
    owned = tl.program_id(0) // tiles
    item = tl.program_id(1).to(tl.int64)
    part = tl.program_id(2)
    column = (tl.program_id(0) % tiles).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    column_in = column < n
    from_x = x + item * stride_xb
    inner = m if TRANSPOSED else k
    last = tl.cdiv(groups, GROUPS) if TRANSPOSED else chunks
    total = tl.zeros((owns, COLUMNS), dtype=tl.float32)
    odd = tl.zeros((deep, COLUMNS), dtype=tl.int32)
    for step in range(part * steps, tl.minimum((part + 1) * steps, last)):
        block = step if TRANSPOSED else owned
        chunk = owned if TRANSPOSED else step
        group = tl.cast(block, tl.int64) * GROUPS + tl.arange(0, GROUPS)
        tile = tile_of(values, bits, starts, table, group, group < groups, chunk, chunks, GROUPS)
        row = tl.cast(step, tl.int64) * deep + tl.arange(0, deep)
        right = load_tile(from_x + row * stride_xr, column * stride_xc, row < inner, column_in)
        odd = odd | (right - right != 0).to(tl.int32)  # an infinity less itself is NaN
        total = tl.dot(tl.trans(tile) if TRANSPOSED else tile, right, total, input_precision="ieee")
    if tl.max(tl.max(odd, axis=1), axis=0) != 0:
        total = tl.zeros((owns, COLUMNS), dtype=tl.float32)
        place = tl.arange(0, 64)
        for step in range(part * steps, tl.minimum((part + 1) * steps, last)):
            block = step if TRANSPOSED else owned
            chunk = owned if TRANSPOSED else step
            group = tl.cast(block, tl.int64) * GROUPS + tl.arange(0, GROUPS)
            tile = tile_of(values, bits, starts, table, group, group < groups, chunk, chunks, GROUPS).to(tl.float32)
            line = tl.cast(block, tl.int64) * high + tl.arange(0, high)
            words = bits + ((line // 4) * chunks + chunk) * 4 + line % 4
            word = load_word(words, line // 4 < groups)
            stored = ((word[:, None] >> place.to(tl.uint64)[None, :]) & 1).to(tl.int32)
            for i in range(0, deep):
                row = tl.cast(step, tl.int64) * deep + i
                met = tl.load(from_x + row * stride_xr + column * stride_xc, mask=column_in & (row < inner), other=0.0)
                if TRANSPOSED:
                    here = (tl.arange(0, high) == i)[:, None]
                    value = tl.sum(tl.where(here, tile, 0.0), axis=0)
                    one = tl.sum(tl.where(here, stored, 0), axis=0)
                else:
                    here = (place == i)[None, :]
                    value = tl.sum(tl.where(here, tile, 0.0), axis=1)
                    one = tl.sum(tl.where(here, stored, 0), axis=1)
                total += tl.where((one != 0)[:, None], value[:, None] * met.to(tl.float32)[None, :], 0.0)
    line = owned.to(tl.int64) * owns + tl.arange(0, owns)
    to = out + part.to(tl.int64) * stride_op + item * stride_ob
    store_tile(to + line * stride_or, column, total, line < (k if TRANSPOSED else m), column_in)


@triton.jit(do_not_specialize=COUNTS)  # type: ignore[untyped-decorator]
def sampled(  # type: ignore[no-untyped-def]
    bits,  # (groups, chunks, 4)
    starts,  # (groups + 1)
    table,  # (groups, chunks)
    a,  # (m, n)
    b,  # (n, k)
    out,  # (nnz)
    groups,
    chunks,
    m,
    k,
    n,
    stride_ar,
    stride_ac,
    stride_br,
    stride_bc,
    GROUPS: tl.constexpr,
    INNER: tl.constexpr,
):
    """Compute a @ b for 4 · GROUPS rows and one chunk of columns, and keep what is stored there."""
    high: tl.constexpr = GROUPS * 4
    chunk = tl.program_id(0) % chunks
    line = (tl.program_id(0) // chunks).to(tl.int64) * high + tl.arange(0, high)
    column = chunk.to(tl.int64) * 64 + tl.arange(0, 64)
    line_in = line < m
    column_in = column < k
    total = tl.zeros((high, 64), dtype=tl.float32)
    for low in range(0, n, INNER):
        depth = low + tl.arange(0, INNER).to(tl.int64)
        depth_in = depth < n
        left = load_tile(a + line * stride_ar, depth * stride_ac, line_in, depth_in)
        right = load_tile(b + depth * stride_br, column * stride_bc, depth_in, column_in)
        total = tl.dot(left, right, total, input_precision="ieee")
    group = line // 4
    group_in = group < groups
    block = group * chunks + chunk
    first = tl.load(starts + group, mask=group_in, other=0) + tl.load(table + block, mask=group_in, other=0)
    for r in tl.static_range(3):  # the rows of the group above
        above = load_word(bits + block * 4 + r, group_in & (line % 4 > r))
        first += count(above)
    word = load_word(bits + block * 4 + line % 4, group_in)
    place = tl.arange(0, 64).to(tl.uint64)[None, :]
    one = tl.full((), 1, dtype=tl.uint64)
    at = first[:, None] + count(word[:, None] & ((one << place) - one))
    stored = ((word[:, None] >> place) & 1) != 0
    tl.store(out + at, total.to(out.dtype.element_ty), mask=stored)


@triton.jit(do_not_specialize=COUNTS)  # type: ignore[untyped-decorator]
def add_parts(parts_of, out, parts, size, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Add up parts_of (parts, size), float32, in their order, to out (size)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for part in range(parts):
        total += tl.load(parts_of + tl.cast(part, tl.int64) * size + at, mask=inside, other=0.0)
    tl.store(out + at, total.to(out.dtype.element_ty), mask=inside)
