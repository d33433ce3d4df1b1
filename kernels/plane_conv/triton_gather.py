"""Write the Triton kernels that sum over maps and taps: the convolution, and the gradient of its dense operand.

No copy of x is made: a program adds up tiles read straight from the planes, one tap at a time, so that the border is a
mask of its pixels only. Sums are in float32, offsets in 64 bits. Geometry comes as in `triton_steps.Step`; `source` are
the planes read, `out` the part of the planes written.
"""

# ruff: noqa: N803 - Triton writes its compile-time constants in capitals
from __future__ import annotations

import triton
import triton.language as tl

from sparsebench.kernels.common.triton_kernels import load_tile, store_tile

STEP = [
    "first_i", "first_j", "every_i", "every_j", "scale_h", "scale_w", "offset_h", "offset_w", "tap_h", "tap_w",
]  # fmt: skip
"""The numbers of a step, in the order of `Step.numbers`."""

COUNTS = [*STEP, "rows", "groups", "count", "source_maps", "h", "w", "u", "v"]
"""Arguments that are compiled for as they come: none of them makes a load wider."""

# triton ships its decorators without types, and a kernel's arguments have none that Python knows: hence the ignores


@triton.jit  # type: ignore[untyped-decorator]
def pixel_places(  # type: ignore[no-untyped-def]
    pixel, a, v, h, w, scale_h, scale_w, offset_h, offset_w, tap_h, tap_w, stride_h, stride_w, ACROSS: tl.constexpr
):  # fmt: skip
    """Return where in a source plane pixels read for the step's tap `a`, and whether that is inside of it."""
    y = pixel // v * scale_h + offset_h + a // ACROSS * tap_h
    x = pixel % v * scale_w + offset_w + a % ACROSS * tap_w
    inside = (y >= 0) & (y < h) & (x >= 0) & (x < w)
    return y.to(tl.int64) * stride_h + x.to(tl.int64) * stride_w, inside


@triton.jit(do_not_specialize=COUNTS)  # type: ignore[untyped-decorator]
def gather(  # type: ignore[no-untyped-def]
    weight,  # (kh · kw, …): taps first, so that what a step reads lies side by side
    source,  # (samples, maps, h, w), or (stored planes, h, w) if KIND is "planes"
    out,  # (samples, maps, u, v), or (stored planes, u, v) if KIND is "planes_input"
    starts,  # "blocks": (groups + 1); "planes", "planes_input": (samples + 1)
    maps,  # "shared": source map of each term; "blocks": other side of each block; else map of each stored plane
    order,  # "shared": map of out of each row; "blocks" if ORDERED: which block is stored there
    rows,  # "shared", "planes": maps of the result; "blocks": of the whole result; "planes_input": maps at most
    groups,  # "blocks": block rows; else 1
    count,  # "shared", "planes_input": terms of the sum over maps
    source_maps,  # "blocks": how many maps the source has
    h, w, u, v,
    first_i, first_j, every_i, every_j, scale_h, scale_w, offset_h, offset_w, tap_h, tap_w,
    stride_wt, stride_wb, stride_wr, stride_wm,  # tap, block, map of out, map of source
    stride_sn, stride_sm, stride_sh, stride_sw,
    stride_on, stride_om, stride_oh, stride_ow,
    KIND: tl.constexpr,
    ORDERED: tl.constexpr,
    HEIGHT: tl.constexpr,  # "blocks": maps of out in a block
    WIDTH: tl.constexpr,  # "blocks": maps of the source in a block
    DOWN: tl.constexpr,  # taps of the step
    ACROSS: tl.constexpr,
    KERNEL: tl.constexpr,  # kw
    ROWS: tl.constexpr,
    PIXELS: tl.constexpr,
    INNER: tl.constexpr,
):  # fmt: skip
    """Compute (ROWS maps, PIXELS) of one sample of out, by matrix instructions over INNER maps of one tap at a time."""
    height = HEIGHT if KIND == "blocks" else rows
    pieces = tl.cdiv(height, ROWS)
    tiles = tl.cdiv(u * v, PIXELS)
    task = tl.program_id(0)
    group = task // pieces % groups
    sample = (task // pieces // groups // tiles).to(tl.int64)
    pixel = (task // pieces // groups % tiles) * PIXELS + tl.arange(0, PIXELS)
    r = (task % pieces) * ROWS + tl.arange(0, ROWS)
    begin = 0
    terms = count
    row_in = r < height
    row_map = r.to(tl.int64)
    weight_row = row_map * stride_wr
    source_from = source + sample * stride_sn
    out_to = out + sample * stride_on
    if KIND == "shared":
        row_map = tl.load(order + r, mask=row_in, other=0).to(tl.int64)
    if KIND == "blocks":
        begin = tl.load(starts + group)
        terms = (tl.load(starts + group + 1) - begin) * WIDTH
        row_map = group.to(tl.int64) * HEIGHT + r
        row_in = row_in & (row_map < rows)
    if KIND == "planes":
        begin = tl.load(starts + sample)
        terms = tl.load(starts + sample + 1) - begin
        source_from = source
    if KIND == "planes_input":
        begin = tl.load(starts + sample)
        stored = tl.load(starts + sample + 1) - begin
        row_in = r < stored
        terms = tl.where(task % pieces * ROWS < stored, count, 0)  # most programs of a sparse sample have no row at all
        row_map = tl.cast(begin, tl.int64) + r
        weight_row = tl.load(maps + row_map, mask=row_in, other=0).to(tl.int64) * stride_wr
        out_to = out
    pixel_in = pixel < u * v
    total = tl.zeros((ROWS, PIXELS), dtype=tl.float32)
    for step in range(0, tl.cdiv(terms, INNER) * (DOWN * ACROSS)):
        a = step % (DOWN * ACROSS)  # taps fastest: neighbouring ones read the same lines of the planes
        k = step // (DOWN * ACROSS) * INNER + tl.arange(0, INNER)
        k_in = k < terms
        if KIND == "blocks":
            entry = begin + k // WIDTH
            place = tl.load(order + entry, mask=k_in, other=0).to(tl.int64) if ORDERED else entry.to(tl.int64)
            source_map = tl.load(maps + entry, mask=k_in, other=0).to(tl.int64) * WIDTH + k % WIDTH
            k_in = k_in & (source_map < source_maps)  # a block may reach over the edge
            weight_map = place * stride_wb + (k % WIDTH).to(tl.int64) * stride_wm
        elif KIND == "planes":
            source_map = tl.cast(begin, tl.int64) + k
            weight_map = tl.load(maps + source_map, mask=k_in, other=0).to(tl.int64) * stride_wm
        elif KIND == "shared":
            source_map = tl.load(maps + k, mask=k_in, other=0).to(tl.int64)
            weight_map = k.to(tl.int64) * stride_wm
        else:
            source_map = k.to(tl.int64)
            weight_map = source_map * stride_wm
        tap = (first_i + a // ACROSS * every_i) * KERNEL + first_j + a % ACROSS * every_j
        left = load_tile(weight + tap.to(tl.int64) * stride_wt + weight_row, weight_map, row_in, k_in)
        places, inside = pixel_places(
            pixel, a, v, h, w, scale_h, scale_w, offset_h, offset_w, tap_h, tap_w, stride_sh, stride_sw, ACROSS
        )
        right = load_tile(source_from + source_map * stride_sm, places, k_in, pixel_in & inside)
        total = tl.dot(left, right, total, input_precision="ieee")
    spot = (pixel // v).to(tl.int64) * stride_oh + (pixel % v).to(tl.int64) * stride_ow
    store_tile(out_to + row_map * stride_om, spot, total, row_in, pixel_in)
