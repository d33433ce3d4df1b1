"""Multiply small blocks in Triton over the union of the block columns of several block rows, so that x is read once.

What limits small blocks is x on its way from the second-level cache: every block row reads its own share of it, and of
blocks of 16 eight block rows read most of the same. Here a program computes all of these at a time, (128, COLUMNS) of
out, with zeros where a block row does not store a block of the union: more arithmetic for fewer bytes. A zero times an
infinity would be NaN where no product is wanted: where x was found not to be finite, the program sums once more, a
block row at a time, over what that row stores.
"""

# ruff: noqa: N803 - Triton writes its compile-time constants in capitals
from __future__ import annotations

import triton
import triton.language as tl

from sparsebench.kernels.common.triton_kernels import load_tile, store_tile

COUNTS = ["segment_count", "rows", "inner"]
"""Arguments that are compiled for as they come, as those of the product are."""

# triton ships its decorators without types, and a kernel's arguments have none that Python knows: hence the ignores


@triton.jit  # type: ignore[untyped-decorator]
def _step(  # type: ignore[no-untyped-def]
    values,
    others,
    blocks,
    first,
    last,
    inner,
    value_row,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    VALUE_COLUMN: tl.constexpr,
    TOGETHER: tl.constexpr,
    INNER: tl.constexpr,
):
    """Return which entries a step takes in, the rows of x that they meet, which of these there are, and their values.

    The values are (TOGETHER · HEIGHT, INNER), 0 where a block row stores nothing.
    """
    depth = tl.arange(0, INNER)
    entry = (first + depth // WIDTH).to(tl.int64)
    c = depth % WIDTH
    c_in = entry < last
    at = tl.load(others + entry, mask=c_in, other=0).to(tl.int64) * WIDTH + c
    c_in = c_in & (at < inner)  # what of a block lies over the matrix's edge is never read
    r = tl.arange(0, TOGETHER * HEIGHT)
    place = tl.load(blocks + entry[None, :] * TOGETHER + (r // HEIGHT)[:, None], mask=c_in[None, :], other=-1)
    here = values + place.to(tl.int64) * (HEIGHT * WIDTH) + (r % HEIGHT * value_row)[:, None]
    held = tl.load(here + (c * VALUE_COLUMN)[None, :], mask=place >= 0, other=0.0)
    return entry, at, c_in, held


@triton.jit(do_not_specialize=COUNTS)  # type: ignore[untyped-decorator]
def unite(  # type: ignore[no-untyped-def]
    values,  # (blocks, height, width)
    x,  # (batch, inner, n)
    out,  # (batch, rows, n)
    starts,  # (segments + 1): entries of each TOGETHER block rows
    others,  # (entries): which block row of x
    blocks,  # (entries, TOGETHER): which stored block each block row has there, or -1
    segment_count,
    rows,
    inner,
    n,
    stride_xb,
    stride_xr,
    stride_xc,
    stride_ob,
    stride_or,
    stride_oc,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    VALUE_ROW: tl.constexpr,
    VALUE_COLUMN: tl.constexpr,
    TOGETHER: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Compute (TOGETHER · HEIGHT, COLUMNS) of out as one sum over the union of the block columns."""
    high: tl.constexpr = TOGETHER * HEIGHT
    merge: tl.constexpr = INNER // WIDTH
    tiles = tl.cdiv(n, COLUMNS)
    segment = tl.program_id(0) % segment_count
    group = tl.program_id(0) // segment_count
    column = (group % tiles).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    column_in = column < n
    which = (group // tiles).to(tl.int64)
    from_x = x + which * stride_xb
    begin = tl.load(starts + segment)
    end = tl.load(starts + segment + 1)
    total = tl.zeros((high, COLUMNS), dtype=tl.float32)
    odd = tl.zeros((INNER, COLUMNS), dtype=tl.int1)
    for step in tl.range(0, tl.cdiv(end - begin, merge), num_stages=STAGES):
        _, at, c_in, held = _step(
            values, others, blocks, begin + step * merge, end, inner, VALUE_ROW, HEIGHT, WIDTH, VALUE_COLUMN, TOGETHER,
            INNER,
        )  # fmt: skip
        tile = load_tile(from_x + at * stride_xr, column * stride_xc, c_in, column_in)
        odd = odd | (tile - tile != 0)  # an infinity less itself is NaN
        total = tl.dot(held, tile, total, input_precision="ieee")
    own = tl.arange(0, high) // HEIGHT
    if tl.max(tl.max(odd.to(tl.int32), axis=1), axis=0) != 0:
        total = tl.zeros((high, COLUMNS), dtype=tl.float32)
        for step in range(0, tl.cdiv(end - begin, merge)):
            entry, at, c_in, held = _step(
                values, others, blocks, begin + step * merge, end, inner, VALUE_ROW, HEIGHT, WIDTH, VALUE_COLUMN,
                TOGETHER, INNER,
            )  # fmt: skip
            for one in range(0, TOGETHER):
                stored = tl.load(blocks + entry * TOGETHER + one, mask=c_in, other=-1) >= 0
                tile = load_tile(from_x + at * stride_xr, column * stride_xc, stored, column_in)
                mine = (own == one)[:, None]
                total += tl.where(mine, tl.dot(tl.where(mine, held, 0.0).to(held.dtype), tile), 0.0)
    line = tl.cast(segment, tl.int64) * high + tl.arange(0, high)
    store_tile(out + which * stride_ob + line * stride_or, column * stride_oc, total, line < rows, column_in)
