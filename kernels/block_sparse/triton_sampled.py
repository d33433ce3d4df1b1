"""Compute a @ b at stored blocks in Triton.

A task is a segment of up to MERGE stored blocks that follow each other in one block row. They share the rows of a, and
their columns of b are gathered side by side into one tile, so that blocks of 8 to 32 columns fill a matrix instruction
with places that are all wanted. Values of a block row lie in the order of its blocks, so the tile is stored as it is.
"""

# ruff: noqa: N803 - Triton writes its compile-time constants in capitals
from __future__ import annotations

import triton
import triton.language as tl

from sparsebench.kernels.common.triton_kernels import load_tile

COUNTS = ["tasks", "segment_count", "blocks", "all_steps", "steps", "m", "k", "a_step", "b_step"]
"""Arguments that are compiled for as they come, as those of the product are."""


@triton.jit(do_not_specialize=COUNTS)  # type: ignore[untyped-decorator]
def sample(  # type: ignore[no-untyped-def]
    a,  # (batch, m, n), or a descriptor of (batch · a_step, n), or of (batch · a_step, m) if a runs by columns
    b,  # (batch, n, k), or a descriptor of (batch · b_step, k), or of (batch · b_step, n) if b runs by columns
    out,  # (shares, blocks, HEIGHT, WIDTH), contiguous
    segments,  # (segments, 4): block row, first block, behind the last block, unused; none is empty
    col,  # (blocks)
    tasks,
    segment_count,
    blocks,
    all_steps,
    steps,
    m,
    k,
    n,
    a_step,
    b_step,
    stride_ab,
    stride_ar,
    stride_ac,
    stride_bb,
    stride_br,
    stride_bc,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    RAGGED: tl.constexpr,
    A_BY_COLUMNS: tl.constexpr,
    B_BY_COLUMNS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
    MERGE: tl.constexpr,
    SWAP: tl.constexpr,
    DESCRIPTORS: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Compute tiles (ROWS, COLUMNS) of up to MERGE blocks, each as one sum over a share of batch and n."""
    down: tl.constexpr = (HEIGHT + ROWS - 1) // ROWS
    across: tl.constexpr = (WIDTH + COLUMNS - 1) // COLUMNS if MERGE == 1 else 1
    depths = tl.cdiv(n, INNER)
    for task in range(tl.program_id(0), tasks, tl.num_programs(0)):
        share = task // (segment_count * down * across)
        segment = segments + (task % (segment_count * down * across) // (down * across)).to(tl.int64) * 4
        block_row = tl.load(segment)
        begin = tl.load(segment + 1)
        end = tl.load(segment + 2)
        top = (task // across % down) * ROWS
        left = (task % across) * COLUMNS
        r = top + tl.arange(0, ROWS)  # in the block
        i = block_row.to(tl.int64) * HEIGHT + r  # in the matrix
        row_in = r < HEIGHT
        if MERGE == 1:
            entry = begin + tl.zeros((COLUMNS,), dtype=tl.int32)
            c = left + tl.arange(0, COLUMNS)  # in the block
            c_in = c < WIDTH
        else:
            entry = begin + tl.arange(0, COLUMNS) // WIDTH
            c = tl.arange(0, COLUMNS) % WIDTH
            c_in = (tl.arange(0, COLUMNS) // WIDTH < MERGE) & (entry < end)
        j = tl.load(col + entry, mask=c_in, other=0).to(tl.int64) * WIDTH + c
        column_in = c_in
        if RAGGED:  # blocks reach over an edge of the matrix
            row_in = row_in & (i < m)
            column_in = column_in & (j < k)
        total = tl.zeros((COLUMNS, ROWS) if SWAP else (ROWS, COLUMNS), dtype=tl.float32)
        first = share * steps  # of batch · depths, which are all steps
        last = tl.minimum(all_steps, first + steps)
        for step in tl.range(first, last, num_stages=STAGES):
            which = step // depths
            shallow = (step % depths) * INNER
            if DESCRIPTORS:
                place = tl.load(col + begin) * WIDTH + left
                if A_BY_COLUMNS:
                    rows = a.load([which * a_step + shallow, block_row * HEIGHT + top])
                else:
                    rows = a.load([which * a_step + block_row * HEIGHT + top, shallow])
                if B_BY_COLUMNS:
                    columns = b.load([which * b_step + place, shallow])
                else:
                    columns = b.load([which * b_step + shallow, place])
                if SWAP != A_BY_COLUMNS:
                    rows = tl.trans(rows)
                if SWAP != B_BY_COLUMNS:
                    columns = tl.trans(columns)
            else:
                depth = shallow.to(tl.int64) + tl.arange(0, INNER)
                depth_in = depth < n
                row_from = a + which.to(tl.int64) * stride_ab + i * stride_ar
                column_from = b + which.to(tl.int64) * stride_bb + j * stride_bc
                if SWAP:
                    rows = load_tile(depth * stride_ac, row_from, depth_in, row_in)
                    columns = load_tile(column_from, depth * stride_br, column_in, depth_in)
                else:
                    rows = load_tile(row_from, depth * stride_ac, row_in, depth_in)
                    columns = load_tile(depth * stride_br, column_from, depth_in, column_in)
            if SWAP:
                total = tl.dot(columns, rows, total, input_precision="ieee")
            else:
                total = tl.dot(rows, columns, total, input_precision="ieee")
        # a masked row times a NaN column is NaN: padding is set to 0, not computed as 0
        spot = (share.to(tl.int64) * blocks + entry) * (HEIGHT * WIDTH) + c
        if SWAP:
            if RAGGED:
                total = tl.where(row_in[None, :] & column_in[:, None], total, 0.0)
            here = out + spot[:, None] + (r * WIDTH)[None, :]
            tl.store(here, total.to(out.dtype.element_ty), mask=(r < HEIGHT)[None, :] & c_in[:, None])
        else:
            if RAGGED:
                total = tl.where(row_in[:, None] & column_in[None, :], total, 0.0)
            here = out + spot[None, :] + (r * WIDTH)[:, None]
            tl.store(here, total.to(out.dtype.element_ty), mask=(r < HEIGHT)[:, None] & c_in[None, :])
