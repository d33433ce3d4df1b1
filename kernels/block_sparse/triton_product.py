"""Multiply in Triton: one kernel for S @ x and x @ S, S or Sᵀ, and one that adds up what long rows were split into.

Both products are written once, as out = T @ x, where T is S or Sᵀ as it is read: x @ S is (Sᵀ @ xᵀ)ᵀ, and that takes
other strides only. HEIGHT and WIDTH are of a block of T; "inner" is T's second side and x's first.

A program of the fixed grid walks over tasks (column tile of x, segment of a block row, piece of that row's height).
All segments of a column tile are next to each other, so that the part of x that they share stays in the second-level
cache, and the longest come first.
"""

# ruff: noqa: N803 - Triton writes its compile-time constants in capitals
from __future__ import annotations

import triton
import triton.language as tl

from sparsebench.kernels.common.triton_kernels import load_tile

COUNTS = ["tasks", "segment_count", "batch", "rows", "inner", "x_step"]
"""Arguments that are compiled for as they come. Triton would compile anew where one is 1 or a multiple of 16, which an
index and a batch decide by chance, and no load or store is the better for knowing."""

# triton ships its decorators without types, and a kernel's arguments have none that Python knows: hence the ignores


@triton.jit(do_not_specialize=COUNTS)  # type: ignore[untyped-decorator]
def multiply(  # type: ignore[no-untyped-def]
    values,  # (blocks, height, width), or the descriptor of the same as (blocks · height, width)
    x,  # (batch, inner, n), or a descriptor of (batch · x_step, n), or of (batch · x_step, inner) if x runs by columns
    out,  # (batch, rows, n)
    partial,  # (slots, batch, HEIGHT, n), float32, read only if SPLIT; contiguous in the direction that out is
    segments,  # (segments, 4): block row, first entry, behind the last entry, slot of `partial` or -1
    others,  # (blocks): which block row of x
    order,  # (blocks): which stored block; read only if ORDERED
    tasks,
    segment_count,
    batch,
    rows,
    inner,
    n,
    x_step,
    stride_xb,
    stride_xr,
    stride_xc,
    stride_ob,
    stride_or,
    stride_oc,
    stride_pr,
    stride_pc,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    VALUE_ROW: tl.constexpr,
    VALUE_COLUMN: tl.constexpr,
    ORDERED: tl.constexpr,
    RAGGED: tl.constexpr,
    RAGGED_ROWS: tl.constexpr,
    SPLIT: tl.constexpr,
    BY_COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    MERGE: tl.constexpr,
    SWAP: tl.constexpr,
    DESCRIPTORS: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Compute tiles of out: (ROWS of one block row, COLUMNS), each as one sum over the stored blocks of a segment."""
    pieces: tl.constexpr = (HEIGHT + ROWS - 1) // ROWS
    # with several blocks a step each is read whole, with one it may take several steps
    parts: tl.constexpr = (WIDTH + INNER - 1) // INNER if MERGE == 1 else 1
    tiles = tl.cdiv(n, COLUMNS)
    for task in range(tl.program_id(0), tasks, tl.num_programs(0)):
        group = task // (segment_count * pieces)
        segment = segments + (task % (segment_count * pieces) // pieces).to(tl.int64) * 4
        which = group // tiles  # of the batch
        block_row = tl.load(segment).to(tl.int64)
        begin = tl.load(segment + 1)
        end = tl.load(segment + 2)
        top = (task % pieces) * ROWS
        left = (group % tiles).to(tl.int64) * COLUMNS
        total = tl.zeros((COLUMNS, ROWS) if SWAP else (ROWS, COLUMNS), dtype=tl.float32)
        for step in tl.range(0, tl.cdiv(end - begin, MERGE) * parts, num_stages=STAGES):
            if DESCRIPTORS:
                entry = begin + step // parts
                inside = (step % parts) * INNER
                place = tl.load(order + entry) if ORDERED else entry
                at = tl.load(others + entry) * WIDTH + inside
                # a block that is read the other way round is stored as (WIDTH, HEIGHT)
                if VALUE_COLUMN == 1:
                    block = values.load([place * HEIGHT + top, inside])
                else:
                    block = values.load([place * WIDTH + inside, top])
                if BY_COLUMNS:
                    tile = x.load([(which * x_step + left).to(tl.int32), at])
                else:
                    tile = x.load([which * x_step + at, left.to(tl.int32)])
                if (VALUE_COLUMN == 1) == SWAP:
                    block = tl.trans(block)
                if SWAP != BY_COLUMNS:
                    tile = tl.trans(tile)
            else:
                r = top + tl.arange(0, ROWS)  # in the block; what is read below the matrix's edge is not stored
                column = left + tl.arange(0, COLUMNS)
                row_in = r < HEIGHT
                column_in = column < n
                depth = tl.arange(0, INNER)
                if MERGE == 1:
                    entry = begin + step // parts + tl.zeros((INNER,), dtype=tl.int32)
                    c = (step % parts) * INNER + depth  # in the block
                    c_in = c < WIDTH
                else:
                    entry = begin + step * MERGE + depth // WIDTH
                    c = depth % WIDTH
                    c_in = (depth // WIDTH < MERGE) & (entry < end)
                place = tl.load(order + entry, mask=c_in, other=0).to(tl.int64) if ORDERED else entry.to(tl.int64)
                at = tl.load(others + entry, mask=c_in, other=0).to(tl.int64) * WIDTH + c
                if RAGGED:  # what of a block lies over the matrix's edge is never read
                    c_in = c_in & (at < inner)
                block_from = values + place * (HEIGHT * WIDTH) + c.to(tl.int64) * VALUE_COLUMN
                tile_from = x + which.to(tl.int64) * stride_xb + at * stride_xr
                # loaded as the sum wants them: sm_80 copies no tile asynchronously that is transposed afterwards
                if SWAP:
                    block = load_tile(block_from, r * VALUE_ROW, c_in, row_in)
                    tile = load_tile(column * stride_xc, tile_from, column_in, c_in)
                else:
                    block = load_tile(r * VALUE_ROW, block_from, row_in, c_in)
                    tile = load_tile(tile_from, column * stride_xc, c_in, column_in)
            if SWAP:
                total = tl.dot(tile, block, total, input_precision="ieee")
            else:
                total = tl.dot(block, tile, total, input_precision="ieee")
        # where the tile goes, in the order of the sum's own axes; worked out behind the loop, which needs the registers
        r = top + tl.arange(0, ROWS)
        column = left + tl.arange(0, COLUMNS)
        row_in = r < HEIGHT
        if RAGGED_ROWS:
            row_in = row_in & (block_row * HEIGHT + r < rows)
        column_in = column < n
        if SWAP:
            down, across = r.to(tl.int64)[None, :], column[:, None]
            stored = row_in[None, :] & column_in[:, None]
        else:
            down, across = r.to(tl.int64)[:, None], column[None, :]
            stored = row_in[:, None] & column_in[None, :]
        here = out + which.to(tl.int64) * stride_ob + block_row * HEIGHT * stride_or
        if SPLIT:  # compiled only where it is needed: the second way to store costs half as many registers again
            slot = tl.load(segment + 3).to(tl.int64)
            if slot >= 0:
                held = partial + (slot * batch + which) * n * HEIGHT
                tl.store(held + down * stride_pr + across * stride_pc, total, mask=stored)
            else:
                tl.store(here + down * stride_or + across * stride_oc, total.to(out.dtype.element_ty), mask=stored)
        else:
            tl.store(here + down * stride_or + across * stride_oc, total.to(out.dtype.element_ty), mask=stored)


@triton.jit(do_not_specialize=["batch", "rows"])  # type: ignore[untyped-decorator]
def add_up(  # type: ignore[no-untyped-def]
    partial,  # (slots, batch, HEIGHT, n), float32
    split,  # (split rows, 3): block row, first slot, behind the last slot
    out,  # (batch, rows, n)
    batch,
    rows,
    n,
    stride_ob,
    stride_or,
    stride_oc,
    stride_pr,
    stride_pc,
    HEIGHT: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Add up the partial results of the split rows, in the order of their segments; one program a tile of out."""
    pieces: tl.constexpr = (HEIGHT + ROWS - 1) // ROWS
    tiles = tl.cdiv(n, COLUMNS)
    task = tl.program_id(0)
    entry = split + (task // (tiles * batch * pieces)).to(tl.int64) * 3
    which = (task // tiles // pieces % batch).to(tl.int64)
    block_row = tl.load(entry).to(tl.int64)
    first, last = tl.load(entry + 1), tl.load(entry + 2)
    r = (task // tiles % pieces) * ROWS + tl.arange(0, ROWS)  # in the block
    column = (task % tiles).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    mask = ((r < HEIGHT) & (block_row * HEIGHT + r < rows))[:, None] & (column < n)[None, :]
    down, across = r.to(tl.int64)[:, None], column[None, :]
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for slot in range(first, last):
        held = partial + ((slot - first + first.to(tl.int64)) * batch + which) * n * HEIGHT
        total += tl.load(held + down * stride_pr + across * stride_pc, mask=mask, other=0.0)
    here = out + which * stride_ob + block_row * HEIGHT * stride_or
    tl.store(here + down * stride_or + across * stride_oc, total.to(out.dtype.element_ty), mask=mask)
