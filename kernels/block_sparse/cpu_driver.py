"""Share the tiles of a product out to threads: numba loops that call micro-kernels by address.

All operands are int64 addresses and strides in bytes, so that each loop is compiled once for all dtypes, and numba's
cache on disk serves every process. Each tile of a result has one owner, which adds up in a fixed order: the same bits
in every run, whatever the number of threads.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import prange

from sparsebench.kernels.common.jit import njit
from sparsebench.kernels.common.panels import LINE
from sparsebench.kernels.common.sharing import share
from sparsebench.kernels.microkernels.call import call

GENERATED, GEMM = 0, 1
"""Kinds of micro-kernel: kernels/microkernels/generated.py, or one GEMM per block."""


class Work(NamedTuple):
    """Say what is multiplied: C (rows, columns) = Σ_e A_e B_e for every owner and every tile of the other axis.

    An owner is a block row or block column of the sparse matrix, and one axis of C is cut into owners; the other axis
    is cut into tiles. Strides are in bytes; their names are those of `microkernels.generated.ARGUMENTS`.
    """

    kind: int
    owns_rows: int
    """1 if owners stand along the rows of C, 0 if along its columns."""
    own: int
    own_total: int
    tile: int
    tile_total: int
    batch: int
    size: int
    """Bytes of an element."""
    a: int
    b: int
    c: int
    ordered: int
    """1 if `order` says which stored block an entry is, 0 if entry e is block e."""
    a_place: int
    a_other: int
    b_place: int
    b_other: int
    inner: int
    limit: int
    a_row: int
    a_inner: int
    b_inner: int
    b_column: int
    c_row: int
    c_column: int
    a_batch: int
    b_batch: int
    c_batch: int


class Near(NamedTuple):
    """Say how work is shared out, and how operands are brought near: functions of kernels/common/panels.py, or 0."""

    threads: int
    shares: int
    """Into how many the owners of a tile are cut."""
    copy: int
    """Copies a tile of x into a panel; 0 if it is read where it stands."""
    copy_last: int
    """The same for the last tile, which may be narrower."""
    x_row: int
    """Bytes between rows of x; those of a panel are work.b_inner."""
    panels: int
    panel: int
    """Bytes of one thread's panel."""
    ask_write: int
    """Asks for the part of the result that comes next."""
    ask_read: int
    """Asks for the blocks of the owner that comes next."""


ALONE = Near(
    threads=1, shares=1, copy=0, copy_last=0, x_row=0, panels=0, panel=0, ask_write=0, ask_read=0
)  # fmt: skip
"""Nothing is brought near."""


@njit(parallel=True)
def reduce_blocks(
    work: Any, near: Any, starts: Any, others: Any, order: Any, table: Any, rows: Any, columns: Any
) -> None:
    """Compute S @ x, Sᵀ @ x, x @ S or x @ Sᵀ in tasks (sample of the batch, tile, share of the owners).

    A thread takes neighbouring tasks, so that it stays on one tile of x, which then stays in its cache.

    Args:
        work: a Work.
        near: a Near.
        starts: int32 (owners + 1): owner i has the entries starts[i] .. starts[i + 1].
        others: int32 (entries): block row or block column of each entry along the axis that is summed over.
        order: int32 (entries): which stored block an entry is; read if work.ordered.
        table: addresses; see `_tile`.
        rows: sizes of tiles along the rows, descending.
        columns: sizes of tiles along the columns, descending.
    """
    if near.threads == 1:
        _reduce(0, work, near, starts, others, order, table, rows, columns)
        return
    for thread in prange(near.threads):
        _reduce(np.int64(thread), work, near, starts, others, order, table, rows, columns)


@njit()
def _reduce(
    thread: int, work: Any, near: Any, starts: Any, others: Any, order: Any, table: Any, rows: Any, columns: Any
) -> None:
    tiles, packed = (work.tile_total + work.tile - 1) // work.tile, -1
    tasks = work.batch * tiles * near.shares
    panel = near.panels + thread * near.panel
    for task in range(tasks * thread // near.threads, tasks * (thread + 1) // near.threads):
        number, part = task // near.shares, task % near.shares
        sample, low = number // tiles, number % tiles * work.tile
        high = min(work.tile_total, low + work.tile)
        a, b, c = work.a + sample * work.a_batch, work.b + sample * work.b_batch, work.c + sample * work.c_batch
        if work.owns_rows:
            b += low * work.b_column
            c += low * work.c_column
            if near.copy:
                if packed != number:
                    copy = near.copy if high - low == work.tile else near.copy_last
                    call(copy, (b, near.x_row, panel, work.b_inner, work.limit))
                    packed = number
                b = panel
        else:
            a += low * work.a_row
            c += low * work.c_row
        begin, end = share(starts, near.shares, part, 1), share(starts, near.shares, part + 1, 1)
        for owner in range(begin, end):
            at = owner * work.own
            extent = min(work.own_total, at + work.own) - at
            first, last = np.int64(starts[owner]), np.int64(starts[owner + 1])
            until = np.int64(starts[min(owner + 2, end)]) if near.ask_read else last
            if work.owns_rows:
                height, width, to = extent, high - low, c + at * work.c_row
            else:
                height, width, to = high - low, extent, c + at * work.c_column
            _tile(work, near, others, order, table, rows, columns, height, width, a, b, to, first, last, until)


@njit(parallel=True)
def sample_blocks(
    work: Any,
    near: Any,
    row: Any,
    order: Any,
    col: Any,
    batches: Any,
    height: int,
    width: int,
    table: Any,
    rows: Any,
    columns: Any,
) -> None:
    """Compute (a @ b) at the stored blocks, entry by entry of the order by columns, whose rows are at hand there.

    Args:
        work: a Work; its entries are the batch, and c is the first block.
        near: a Near; its threads and panels are not used.
        row: int32 (blocks), by block column.
        order: int32 (blocks), by block column.
        col: int32 (blocks), by block row.
        batches: int32 (batch): 0, 1, 2 …
        height: of a block.
        width: of a block.
        table: addresses; see `_tile`.
        rows: sizes of tiles along the rows, descending.
        columns: sizes of tiles along the columns, descending.
    """
    for entry in prange(order.size):
        p = np.int64(order[entry])
        top, left = np.int64(row[entry]) * height, np.int64(col[p]) * width
        bottom, right = min(work.own_total, top + height), min(work.tile_total, left + width)
        a, b, c = work.a + top * work.a_row, work.b + left * work.b_column, work.c + p * work.c_batch
        _tile(work, near, batches, batches, table, rows, columns, bottom - top, right - left, a, b, c, 0, work.batch, 0)


@njit()
def _tile(
    work: Any,
    near: Any,
    others: Any,
    order: Any,
    table: Any,
    rows: Any,
    columns: Any,
    height: int,
    width: int,
    a: int,
    b: int,
    c: int,
    first: int,
    last: int,
    until: int,
) -> None:
    """Compute C (height, width) by the micro-kernels of a table.

    In a table of generated kernels, table[i, j] computes rows[i] rows and columns[j] columns; rows are R, R - 1 … 1,
    and C is cut into strips of about equal height. In a table of GEMMs, table[0] is as `_gemms` takes it. Meanwhile the
    blocks of the entries last .. until are asked for.
    """
    if work.kind == GEMM:
        _gemms(work, others, order, table[0], height, width, a, b, c, first, last)
        return
    strips = (height + rows[0] - 1) // rows[0]
    lines = (until - last) * work.a_place // LINE
    parts, part = strips * ((width + columns[0] - 1) // columns[0]), 0
    j, across = 0, 0
    while j < width:
        while columns[across] > width - j:
            across += 1
        i = 0
        for strip in range(strips):
            count = height // strips + (1 if strip < height % strips else 0)
            to = c + i * work.c_row + j * work.c_column
            if near.ask_write:
                call(near.ask_write, (to, work.c_row, count, columns[across] * work.c_column))
            if lines > 0 and part < parts:
                _ask(work, near, order, a, last, lines * part // parts, lines * (part + 1) // parts)
                part += 1
            call(
                table[rows[0] - count, across],
                (
                    a + i * work.a_row,
                    b + j * work.b_column,
                    to,
                    others.ctypes.data,
                    order.ctypes.data,
                    first,
                    last,
                    work.a_place,
                    work.a_other,
                    work.b_place,
                    work.b_other,
                    work.inner,
                    work.limit,
                    work.a_row,
                    work.a_inner,
                    work.b_inner,
                    work.b_column,
                    work.c_row,
                    work.c_column,
                ),
            )
            i += count
        j += columns[across]


@njit()
def _ask(work: Any, near: Any, order: Any, a: int, first: int, line: int, end: int) -> None:
    """Ask for lines line .. end of the blocks of the entries from `first` on."""
    each = work.a_place // LINE
    while line < end:
        entry = first + line // each
        place = np.int64(order[entry]) if work.ordered else entry
        count = min(end - line, each - line % each)
        call(near.ask_read, (a + place * work.a_place + line % each * LINE, 0, 1, count * LINE))
        line += count


@njit()
def _gemms(
    work: Any,
    others: Any,
    order: Any,
    entry: Any,
    height: int,
    width: int,
    a: int,
    b: int,
    c: int,
    first: int,
    last: int,
) -> None:
    """Compute C (height, width) by one GEMM per entry; C is set by the first one and added to by the others.

    entry: addresses of BLAS's gemm, of the numbers 1 and 0, of the letters N and T, then (handle, function) of MKL's
    kernels for a whole tile that set and that add to C, or zeros. BLAS is column-major: it computes Cᵀ = Bᵀ Aᵀ.
    """
    gemm, one, zero, letter_n, letter_t = entry[0], entry[1], entry[2], entry[3], entry[4]
    sizes = np.empty(6, np.int32)
    at = sizes.ctypes.data
    sizes[0], sizes[1] = width, height
    sizes[3] = (work.b_inner if work.b_column == work.size else work.b_column) // work.size
    if work.b_column == work.size and sizes[3] < width:
        sizes[3] = width  # of one row any distance is right, but BLAS refuses one that is less than the row
    sizes[4] = (work.a_row if work.a_inner == work.size else work.a_inner) // work.size
    sizes[5] = work.c_row // work.size
    right = letter_n if work.b_column == work.size else letter_t
    left = letter_n if work.a_inner == work.size else letter_t
    whole = entry[5] != 0 and height == entry[9] and width == entry[10]
    beta = zero
    if first == last:
        sizes[2] = 0  # C = 0
        call(gemm, (right, left, at, at + 4, at + 8, one, b, at + 12, a, at + 16, beta, c, at + 20))
    for e in range(first, last):
        other = np.int64(others[e])
        place = np.int64(order[e]) if work.ordered else np.int64(e)
        depth = min(work.inner, work.limit - other * work.inner)
        left_at = a + place * work.a_place + other * work.a_other
        right_at = b + place * work.b_place + other * work.b_other
        if whole and depth == work.inner:
            if e == first:
                call(entry[6], (entry[5], left_at, right_at, c))
            else:
                call(entry[8], (entry[7], left_at, right_at, c))
        else:
            sizes[2] = depth
            call(
                gemm,
                (right, left, at, at + 4, at + 8, one, right_at, at + 12, left_at, at + 16, beta, c, at + 20),
            )
        beta = one
