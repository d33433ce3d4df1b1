"""Write the Triton kernels of single planes and single elements: no operand is shared, so pixels are what is parallel.

One program computes a tile of pixels of one map of the result, by multiply-add, from ENTRIES stored planes or elements
at a time. Sums are in float32, offsets in 64 bits; geometry as in `triton_gather`.
"""

# ruff: noqa: N803 - Triton writes its compile-time constants in capitals
from __future__ import annotations

import triton
import triton.language as tl

from sparsebench.kernels.common.triton_kernels import load_tile
from sparsebench.kernels.plane_conv.triton_gather import STEP, pixel_places

COUNTS = [*STEP, "rows", "h", "w", "u", "v"]
"""Arguments that are compiled for as they come: none of them makes a load wider."""


@triton.jit(do_not_specialize=COUNTS)  # type: ignore[untyped-decorator]
def gather_pairs(  # type: ignore[no-untyped-def]
    values,  # (pairs, kh · kw), or (nnz) if ELEMENTS
    source,  # (samples, maps, h, w)
    out,  # (samples, rows, u, v)
    starts,  # (rows + 1), or (rows · kh · kw + 1) if ELEMENTS
    others,  # map of the source of each entry
    place,  # which value that is; read only if ORDERED
    rows,
    h, w, u, v,
    first_i, first_j, every_i, every_j, scale_h, scale_w, offset_h, offset_w, tap_h, tap_w,
    stride_sn, stride_sm, stride_sh, stride_sw,
    stride_on, stride_om, stride_oh, stride_ow,
    ELEMENTS: tl.constexpr,
    ORDERED: tl.constexpr,
    DOWN: tl.constexpr,
    ACROSS: tl.constexpr,
    KERNEL: tl.constexpr,  # kw
    TAPS: tl.constexpr,  # kh · kw
    ENTRIES: tl.constexpr,
    PIXELS: tl.constexpr,
):  # fmt: skip
    """Compute PIXELS of one map of out from planes, or from elements that are listed by map and tap."""
    tiles = tl.cdiv(u * v, PIXELS)
    task = tl.program_id(0)
    row = (task % rows).to(tl.int64)  # rows fastest: they read the same pixels
    pixel = (task // rows % tiles) * PIXELS + tl.arange(0, PIXELS)
    sample = (task // rows // tiles).to(tl.int64)
    pixel_in = pixel < u * v
    source_from = source + sample * stride_sn
    sums = tl.zeros((ENTRIES, PIXELS), dtype=tl.float32)
    for a in range(0, DOWN * ACROSS):
        tap = (first_i + a // ACROSS * every_i) * KERNEL + first_j + a % ACROSS * every_j
        places, inside = pixel_places(
            pixel, a, v, h, w, scale_h, scale_w, offset_h, offset_w, tap_h, tap_w, stride_sh, stride_sw, ACROSS
        )
        inside = inside & pixel_in
        group = row * TAPS + tap if ELEMENTS else row
        begin = tl.load(starts + group).to(tl.int64)
        entries = (tl.load(starts + group + 1) - begin).to(tl.int32)
        for done in range(0, entries, ENTRIES):
            e = done + tl.arange(0, ENTRIES)
            e_in = e < entries
            at = begin + e
            other = tl.load(others + at, mask=e_in, other=0).to(tl.int64)
            which = tl.load(place + at, mask=e_in, other=0).to(tl.int64) if ORDERED else at
            value = tl.load(values + (which if ELEMENTS else which * TAPS + tap), mask=e_in, other=0.0).to(tl.float32)
            read = load_tile(source_from + other * stride_sm, places, e_in, inside).to(tl.float32)
            sums += value[:, None] * read
    total = tl.sum(sums, axis=0)  # once, in one order
    spot = (pixel // v).to(tl.int64) * stride_oh + (pixel % v).to(tl.int64) * stride_ow
    tl.store(out + sample * stride_on + row * stride_om + spot, total.to(out.dtype.element_ty), mask=pixel_in)


@triton.jit(do_not_specialize=COUNTS)  # type: ignore[untyped-decorator]
def gather_elements(  # type: ignore[no-untyped-def]
    values,  # (nnz)
    source,  # (samples, maps, h, w)
    out,  # (samples, rows, u, v)
    starts,  # (rows + 1)
    col,  # (nnz): map · kh · kw + tap
    rows,
    h, w, u, v,
    scale_h, scale_w, offset_h, offset_w, tap_h, tap_w,
    stride_sn, stride_sm, stride_sh, stride_sw,
    stride_on, stride_om, stride_oh, stride_ow,
    ACROSS: tl.constexpr,  # kw
    TAPS: tl.constexpr,  # kh · kw
    ENTRIES: tl.constexpr,
    PIXELS: tl.constexpr,
):  # fmt: skip
    """Compute PIXELS of one map of out from the elements of its row, each at a tap of its own."""
    tiles = tl.cdiv(u * v, PIXELS)
    task = tl.program_id(0)
    row = (task % rows).to(tl.int64)
    pixel = (task // rows % tiles) * PIXELS + tl.arange(0, PIXELS)
    sample = (task // rows // tiles).to(tl.int64)
    pixel_in = pixel < u * v
    begin = tl.load(starts + row).to(tl.int64)
    entries = (tl.load(starts + row + 1) - begin).to(tl.int32)
    sums = tl.zeros((ENTRIES, PIXELS), dtype=tl.float32)
    for done in range(0, entries, ENTRIES):
        e = done + tl.arange(0, ENTRIES)
        e_in = e < entries
        column = tl.load(col + begin + e, mask=e_in, other=0)
        value = tl.load(values + begin + e, mask=e_in, other=0.0).to(tl.float32)
        places, inside = pixel_places(
            pixel[None, :], (column % TAPS)[:, None], v, h, w, scale_h, scale_w, offset_h, offset_w, tap_h, tap_w,
            stride_sh, stride_sw, ACROSS,
        )  # fmt: skip
        read = tl.load(
            source + sample * stride_sn + (column // TAPS).to(tl.int64)[:, None] * stride_sm + places,
            mask=inside & e_in[:, None] & pixel_in[None, :], other=0.0,
        ).to(tl.float32)  # fmt: skip
        sums += value[:, None] * read
    total = tl.sum(sums, axis=0)  # once, in one order
    spot = (pixel // v).to(tl.int64) * stride_oh + (pixel % v).to(tl.int64) * stride_ow
    tl.store(out + sample * stride_on + row * stride_om + spot, total.to(out.dtype.element_ty), mask=pixel_in)
