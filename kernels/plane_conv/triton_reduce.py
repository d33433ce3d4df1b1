"""Write the Triton kernels that sum over samples and pixels: the gradients of weights.

y at (p, q) met x at (p · stride − padding + tap · dilation), so a weight's gradient is the sum of g times x there. A
program owns a tile of weights and adds in one fixed order; where there are few tiles, the samples and pixels are shared
out to several programs, whose float32 sums are then added up in their order: no atomics, and runs repeat bit for bit.
"""

# ruff: noqa: N803 - Triton writes its compile-time constants in capitals
from __future__ import annotations

import triton
import triton.language as tl

from sparsebench.kernels.common.triton_kernels import load_tile, store_tile
from sparsebench.kernels.plane_conv.triton_gather import pixel_places

COUNTS = [
    "rows", "columns", "out_maps", "source_maps", "samples", "steps", "entries", "h", "w", "u", "v",
    "scale_h", "scale_w", "offset_h", "offset_w", "tap_h", "tap_w",
]  # fmt: skip
"""Arguments that are compiled for as they come: none of them makes a load wider."""

# triton ships its decorators without types, and a kernel's arguments have none that Python knows: hence the ignores


@triton.jit(do_not_specialize=COUNTS)  # type: ignore[untyped-decorator]
def reduce(  # type: ignore[no-untyped-def]
    g,  # (samples, maps of out, u, v)
    x,  # (samples, maps, h, w)
    out,  # (splits, …), float32 if there are several
    block_rows,  # BLOCKS: block row of each block; else map of g of each row
    block_columns,  # BLOCKS: block column of each block; else map of x of each column
    rows,  # of a block, or of all
    columns,
    out_maps,  # of g; read only if BLOCKS, as blocks may reach over the edge
    source_maps,  # of x
    samples,
    steps,  # of a split
    h, w, u, v,
    scale_h, scale_w, offset_h, offset_w, tap_h, tap_w,
    stride_gn, stride_gm, stride_gh, stride_gw,
    stride_xn, stride_xm, stride_xh, stride_xw,
    stride_os, stride_ob, stride_or, stride_om,  # split, block, row, map; taps lie side by side
    BLOCKS: tl.constexpr,
    ACROSS: tl.constexpr,  # kw
    TAPS: tl.constexpr,  # kh · kw
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
):  # fmt: skip
    """Compute (ROWS maps of g, COLUMNS maps of x) of one tap, by matrix instructions over INNER pixels at a time."""
    pieces = tl.cdiv(rows, ROWS)
    tiles = tl.cdiv(columns, COLUMNS)
    task = tl.program_id(0)
    share = tl.program_id(1)
    a = task % TAPS  # taps fastest: neighbouring ones read the same planes
    r = (task // TAPS % pieces) * ROWS + tl.arange(0, ROWS)
    c = (task // TAPS // pieces % tiles) * COLUMNS + tl.arange(0, COLUMNS)
    block = (task // TAPS // pieces // tiles).to(tl.int64)
    row_in = r < rows
    column_in = c < columns
    if BLOCKS:
        g_map = tl.load(block_rows + block).to(tl.int64) * rows + r
        x_map = tl.load(block_columns + block).to(tl.int64) * columns + c
        read_row = row_in & (g_map < out_maps)
        read_column = column_in & (x_map < source_maps)
    else:
        g_map = tl.load(block_rows + r, mask=row_in, other=0).to(tl.int64)
        x_map = tl.load(block_columns + c, mask=column_in, other=0).to(tl.int64)
        read_row = row_in
        read_column = column_in
    chunks = tl.cdiv(u * v, INNER)
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    first = share * steps
    for step in range(first, tl.minimum(first + steps, samples * chunks)):
        sample = (step // chunks).to(tl.int64)
        pixel = step % chunks * INNER + tl.arange(0, INNER)
        pixel_in = pixel < u * v
        spot = (pixel // v).to(tl.int64) * stride_gh + (pixel % v).to(tl.int64) * stride_gw
        places, inside = pixel_places(
            pixel, a, v, h, w, scale_h, scale_w, offset_h, offset_w, tap_h, tap_w, stride_xh, stride_xw, ACROSS
        )
        left = load_tile(g + sample * stride_gn + g_map * stride_gm, spot, read_row, pixel_in)
        right = load_tile(places, x + sample * stride_xn + x_map * stride_xm, pixel_in & inside, read_column)
        total = tl.dot(left, right, total, input_precision="ieee")
    if BLOCKS:  # a masked row times a NaN column is NaN: padding is set to 0, not computed as 0
        total = tl.where(read_row[:, None] & read_column[None, :], total, 0.0)
    to = out + share.to(tl.int64) * stride_os + block * stride_ob + a
    store_tile(to + r.to(tl.int64) * stride_or, c.to(tl.int64) * stride_om, total, row_in, column_in)


@triton.jit(do_not_specialize=COUNTS)  # type: ignore[untyped-decorator]
def reduce_elements(  # type: ignore[no-untyped-def]
    g,  # (samples, maps of out, u, v)
    x,  # (samples, maps, h, w)
    out,  # (splits, entries), float32 if there are several
    row,  # map of g of each element, or pair
    col,  # map · kh · kw + tap of each element, or map of each pair
    entries,  # elements, or pairs · kh · kw
    samples,
    steps,  # of a split
    h, w, u, v,
    scale_h, scale_w, offset_h, offset_w, tap_h, tap_w,
    stride_gn, stride_gm, stride_gh, stride_gw,
    stride_xn, stride_xm, stride_xh, stride_xw,
    stride_os,
    PAIRS: tl.constexpr,
    ACROSS: tl.constexpr,  # kw
    TAPS: tl.constexpr,  # kh · kw
    ENTRIES: tl.constexpr,
    PIXELS: tl.constexpr,
):  # fmt: skip
    """Compute ENTRIES elements, each of any two maps and any tap, by multiply-add over PIXELS at a time."""
    share = tl.program_id(1)
    e = tl.program_id(0).to(tl.int64) * ENTRIES + tl.arange(0, ENTRIES)
    e_in = e < entries
    at = e // TAPS if PAIRS else e
    column = tl.load(col + at, mask=e_in, other=0)
    g_map = tl.load(row + at, mask=e_in, other=0).to(tl.int64)
    x_map = (column if PAIRS else column // TAPS).to(tl.int64)
    a = (e % TAPS).to(tl.int32) if PAIRS else column % TAPS
    chunks = tl.cdiv(u * v, PIXELS)
    total = tl.zeros((ENTRIES, PIXELS), dtype=tl.float32)
    first = share * steps
    for step in range(first, tl.minimum(first + steps, samples * chunks)):
        sample = (step // chunks).to(tl.int64)
        pixel = step % chunks * PIXELS + tl.arange(0, PIXELS)
        pixel_in = pixel < u * v
        spot = (pixel // v).to(tl.int64) * stride_gh + (pixel % v).to(tl.int64) * stride_gw
        places, inside = pixel_places(
            pixel[None, :], a[:, None], v, h, w, scale_h, scale_w, offset_h, offset_w, tap_h, tap_w,
            stride_xh, stride_xw, ACROSS,
        )  # fmt: skip
        known = e_in[:, None] & pixel_in[None, :]
        left = tl.load(g + sample * stride_gn + g_map[:, None] * stride_gm + spot[None, :], mask=known, other=0.0)
        right = tl.load(x + sample * stride_xn + x_map[:, None] * stride_xm + places, mask=known & inside, other=0.0)
        total += left.to(tl.float32) * right.to(tl.float32)
    tl.store(out + share.to(tl.int64) * stride_os + e, tl.sum(total, axis=1).to(out.dtype.element_ty), mask=e_in)


@triton.jit(do_not_specialize=COUNTS)  # type: ignore[untyped-decorator]
def reduce_planes(  # type: ignore[no-untyped-def]
    g,  # (samples, out_maps, u, v)
    x,  # (stored planes, h, w)
    out,  # (out_maps, maps, kh · kw)
    starts,  # (maps + 1): map i is stored by the entries starts[i] .. starts[i + 1]
    samples,  # of each entry
    place,  # which stored plane each entry is
    out_maps,
    h, w, u, v,
    scale_h, scale_w, offset_h, offset_w, tap_h, tap_w,
    stride_gn, stride_gm, stride_gh, stride_gw,
    stride_xp, stride_xh, stride_xw,
    stride_or, stride_om,
    ACROSS: tl.constexpr,  # kw
    TAPS: tl.constexpr,  # kh · kw
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,  # a power of two of at least TAPS
    INNER: tl.constexpr,
):  # fmt: skip
    """Compute all taps of (ROWS maps of g, one map of x), by matrix instructions over INNER pixels of one sample."""
    pieces = tl.cdiv(out_maps, ROWS)
    task = tl.program_id(0)
    r = (task % pieces) * ROWS + tl.arange(0, ROWS)
    x_map = (task // pieces).to(tl.int64)
    row_in = r < out_maps
    a = tl.arange(0, COLUMNS)
    begin = tl.load(starts + x_map).to(tl.int64)
    entries = (tl.load(starts + x_map + 1) - begin).to(tl.int32)
    chunks = tl.cdiv(u * v, INNER)
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for step in range(0, entries * chunks):
        entry = begin + step // chunks
        sample = tl.load(samples + entry).to(tl.int64)
        plane = tl.load(place + entry).to(tl.int64)
        pixel = step % chunks * INNER + tl.arange(0, INNER)
        pixel_in = pixel < u * v
        spot = (pixel // v).to(tl.int64) * stride_gh + (pixel % v).to(tl.int64) * stride_gw
        places, inside = pixel_places(
            pixel[:, None], a[None, :], v, h, w, scale_h, scale_w, offset_h, offset_w, tap_h, tap_w,
            stride_xh, stride_xw, ACROSS,
        )  # fmt: skip
        left = load_tile(g + sample * stride_gn + r.to(tl.int64) * stride_gm, spot, row_in, pixel_in)
        right = tl.load(
            x + plane * stride_xp + places, mask=inside & pixel_in[:, None] & (a < TAPS)[None, :], other=0.0
        )
        total = tl.dot(left, right, total, input_precision="ieee")
    store_tile(out + r.to(tl.int64) * stride_or + x_map * stride_om, a, total, row_in, a < TAPS)
