"""List what a CPU convolution adds up: for every output map, which stored numbers meet which planes.

One plan serves all ways of storing: an entry is one tap of one input map; its weights stand at `row_value` +
`entry_value` in the values, its places at `entry_read` in the buffer. Output maps with the same entries are computed in
groups.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsebench.kernels.block_sparse.layout import BlockIndex
from sparsebench.kernels.common.jit import njit
from sparsebench.kernels.csr.layout import RowIndex
from sparsebench.kernels.plane_conv.cpu_buffer import Sweep
from sparsebench.kernels.plane_conv.cpu_groups import Numbers, Plan, bounds_of, one_list, runs, single_rows
from sparsebench.kernels.plane_conv.layout import SharedMaps


def shared(
    maps: SharedMaps, taps: int, sweep: Sweep, plane: int, sizes: tuple[int, ...], *, ranks: bool = False
) -> Plan:
    """Plan the output of all pairs of some maps; the buffer holds the stored input maps only.

    Args:
        maps: the stored maps.
        taps: of the kernel.
        sweep: the taps that take part.
        plane: elements of a plane in the buffer.
        sizes: of groups, descending.
        ranks: rows are numbered among the stored ones, else among all.
    """
    rows, columns = maps.rows.numel(), maps.maps.numel()
    lines = np.arange(columns)[:, None]
    return one_list(
        (lines * taps + sweep.taps).ravel(),
        (lines * plane + sweep.reads).ravel(),
        np.arange(rows) * (columns * taps),
        np.arange(rows) if ranks else maps.rows.numpy().astype(np.int64),
        sizes,
    )


def shared_input(maps: SharedMaps, taps: int, sweep: Sweep, plane: int, sizes: tuple[int, ...]) -> Plan:
    """Plan the gradient of x for all pairs of some maps; the buffer holds the stored output maps only."""
    rows, columns = maps.rows.numel(), maps.maps.numel()
    lines = np.arange(rows)[:, None]
    return one_list(
        (lines * (columns * taps) + sweep.taps).ravel(),
        (lines * plane + sweep.reads).ravel(),
        np.arange(columns) * taps,
        maps.maps.numpy().astype(np.int64),
        sizes,
    )


def met(index: BlockIndex, taps: int, *, below: bool) -> tuple[Numbers, Numbers]:
    """Return which input maps stored blocks of whole planes meet, or which output maps with `below`, ascending.

    Beside them, for every map of the matrix, its place among them.
    """
    numbers, size, total = index.col, index.block[1] // taps, index.shape[1] // taps
    if below:
        numbers, size, total = index.row, index.block[0], index.shape[0]
    stored = np.zeros(-(-total // size), bool)
    stored[numbers.numpy()] = True
    maps = np.repeat(stored, size)[:total]
    return np.flatnonzero(maps), np.cumsum(maps) - 1


def blocks(index: BlockIndex, taps: int, sweep: Sweep, plane: int, sizes: tuple[int, ...], place: Numbers) -> Plan:
    """Plan the output of blocks of whole planes; `place` says where the buffer holds each input map."""
    (out, columns), (height, width) = index.shape, index.block
    wide, inputs = width // taps, columns // taps
    inner = (np.arange(wide)[:, None] * taps + sweep.taps).ravel()
    value = np.arange(index.blocks)[:, None] * (height * width) + inner
    maps = index.col.numpy().astype(np.int64)[:, None] * wide + np.repeat(np.arange(wide), sweep.taps.size)
    read = place.take(maps, mode="clip") * plane + np.tile(sweep.reads, wide)
    starts = index.crow.numpy().astype(np.int64)
    kept = maps < inputs
    rows = np.arange(out)
    _, row, count, owner = runs(out, height, sizes)
    bounds = bounds_of(kept, starts)
    return Plan(
        entry_value=value[kept],
        entry_read=read[kept],
        first=bounds[owner],
        last=bounds[owner + 1],
        row=row,
        count=count,
        row_value=rows % height * width,
        row_plane=rows,
    )


def blocks_input(
    index: BlockIndex, taps: int, sweep: Sweep, plane: int, sizes: tuple[int, ...], place: Numbers
) -> Plan:
    """Plan the gradient of x for blocks of whole planes; `place` says where the buffer holds each output map."""
    (out, columns), (height, width) = index.shape, index.block
    wide, inputs = width // taps, columns // taps
    line = np.repeat(np.arange(height), sweep.taps.size)
    value = (
        index.order.numpy().astype(np.int64)[:, None] * (height * width) + line * width + np.tile(sweep.taps, height)
    )
    above = index.row.numpy().astype(np.int64)[:, None] * height + line
    read = place.take(above, mode="clip") * plane + np.tile(sweep.reads, height)
    kept = above < out
    bounds = bounds_of(kept, index.ccol.numpy().astype(np.int64))
    _, row, count, owner = runs(inputs, wide, sizes)
    rows = np.arange(inputs)
    return Plan(
        entry_value=value[kept],
        entry_read=read[kept],
        first=bounds[owner],
        last=bounds[owner + 1],
        row=row,
        count=count,
        row_value=rows % wide * taps,
        row_plane=rows,
    )


def pairs(index: BlockIndex, taps: int, plane: int, read: int, place: Numbers) -> Plan:
    """Plan the output of single planes, whole kernels for entries; `place` as in `blocks`."""
    value = np.arange(index.blocks) * taps
    return single_rows(value, place[index.col.numpy()] * plane + read, index.crow.numpy().astype(np.int64))


def pairs_input(index: BlockIndex, taps: int, plane: int, read: int, place: Numbers) -> Plan:
    """Plan the gradient of x for single planes; `read` is where the first of the reversed taps reads."""
    value = index.order.numpy().astype(np.int64) * taps
    return single_rows(value, place[index.row.numpy()] * plane + read, index.ccol.numpy().astype(np.int64))


def elements(index: RowIndex, taps: int, sweep: Sweep, plane: int) -> Plan:
    """Plan the output of single elements, a row at a time; the buffer holds all input maps."""
    value, read, bounds = _by_rows(index.crow.numpy(), index.col.numpy(), taps, _reads(taps, sweep), plane)
    return single_rows(value, read, bounds)


def elements_input(index: RowIndex, taps: int, sweep: Sweep, plane: int) -> Plan:
    """Plan the gradient of x for single elements; the buffer holds all output maps."""
    order = index.columns
    arrays = (order.ccol.numpy(), order.row.numpy(), order.place.numpy())
    return single_rows(*_by_columns(*arrays, taps, _reads(taps, sweep), plane))


def planes(
    index: RowIndex, out: int, taps: int, sweep: Sweep, plane: int, sizes: tuple[int, ...], *, by_row: bool = False
) -> Plan:
    """Plan the output of a dense weight on stored planes; rows belong to samples.

    Args:
        index: of the stored planes (n, c).
        out: output maps of the weight (out, c, kh, kw).
        taps: of the kernel.
        sweep: the taps that take part.
        plane: elements of a plane in the buffer, which holds the stored planes.
        sizes: of groups, descending.
        by_row: groups of the same output maps stand together, else those of the same sample.
    """
    samples, maps = index.shape
    col = index.col.numpy().astype(np.int64)[:, None]
    bounds = index.crow.numpy().astype(np.int64) * sweep.taps.size
    _, row, count, _ = runs(out, max(out, 1), sizes)
    sample, group = (a.ravel() for a in np.indices((samples, row.size)))
    if by_row:
        group, sample = (a.ravel() for a in np.indices((row.size, samples)))
    line = np.arange(samples * out)
    return Plan(
        entry_value=(col * taps + sweep.taps).ravel(),
        entry_read=(np.arange(col.size)[:, None] * plane + sweep.reads).ravel(),
        first=bounds[sample],
        last=bounds[sample + 1],
        row=sample * out + row[group],
        count=count[group],
        row_value=line % max(out, 1) * (maps * taps),
        row_plane=line,
        samples=np.arange(samples + 1) * row.size,
    )


def planes_input(index: RowIndex, out: int, taps: int, sweep: Sweep, plane: int, sizes: tuple[int, ...]) -> Plan:
    """Plan the gradient of stored planes; the buffer holds the gradient's planes of all samples."""
    samples, maps = index.shape
    starts = index.crow.numpy().astype(np.int64)
    line = np.arange(samples * out)[:, None]
    groups = [
        (*runs(int(n), max(int(n), 1), sizes)[1:3], begin) for begin, n in zip(starts, np.diff(starts), strict=False)
    ]
    row = np.concatenate([begin + row for row, _, begin in groups] or [np.zeros(0, np.int64)])
    owner = np.repeat(np.arange(samples), [row.size for row, _, _ in groups])
    each = out * sweep.taps.size
    return Plan(
        entry_value=(line % max(out, 1) * (maps * taps) + sweep.taps).ravel(),
        entry_read=(line * plane + sweep.reads).ravel(),
        first=owner * each,
        last=(owner + 1) * each,
        row=row,
        count=np.concatenate([count for _, count, _ in groups] or [np.zeros(0, np.int64)]),
        row_value=index.col.numpy().astype(np.int64) * taps,
        row_plane=np.arange(index.nnz),
        samples=np.concatenate([[0], np.cumsum([row.size for row, _, _ in groups])]).astype(np.int64),
    )


def _reads(taps: int, sweep: Sweep) -> Numbers:
    """Return the offset of every tap, -1 for one that takes no part."""
    reads = np.full(taps, -1, np.int64)
    reads[sweep.taps] = sweep.reads
    return reads


@njit()
def _by_rows(crow: Any, col: Any, taps: int, reads: Any, plane: int) -> Any:
    value, read = np.empty(col.size, np.int64), np.empty(col.size, np.int64)
    bounds = np.zeros(crow.size, np.int64)
    found = 0
    for i in range(crow.size - 1):
        for e in range(crow[i], crow[i + 1]):
            place = np.int64(col[e])
            at = reads[place % taps]
            if at >= 0:
                value[found], read[found] = e, place // taps * plane + at
                found += 1
        bounds[i + 1] = found
    return value[:found], read[:found], bounds


@njit()
def _by_columns(ccol: Any, row: Any, place: Any, taps: int, reads: Any, plane: int) -> Any:
    value, read = np.empty(row.size, np.int64), np.empty(row.size, np.int64)
    maps = (ccol.size - 1) // taps
    bounds = np.zeros(maps + 1, np.int64)
    found = 0
    for c in range(maps):
        for t in range(taps):
            if reads[t] >= 0:
                for e in range(ccol[c * taps + t], ccol[c * taps + t + 1]):
                    value[found], read[found] = place[e], np.int64(row[e]) * plane + reads[t]
                    found += 1
        bounds[c + 1] = found
    return value[:found], read[:found], bounds
