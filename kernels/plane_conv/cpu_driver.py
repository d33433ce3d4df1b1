"""Share the work of a CPU convolution out to threads: numba loops that call generated kernels by address.

Every output has one owner, which adds up in a fixed order: the same bits in every run, whatever the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from sparsebench.kernels.common.jit import njit
from sparsebench.kernels.microkernels.call import call


@njit(parallel=True)
def pack(values: Any, plan: Any, begins: Any, panels: Any) -> None:
    """Copy the weights of every group side by side, in the order in which `gather` reads them.

    Args:
        values: 1-D.
        plan: the arrays of a Plan, in their order.
        begins: (groups): where the panel of a group begins.
        panels: 1-D: for every entry of a group as many weights as it has rows.
    """
    entry_value, _, first, last, row, count, row_value, _ = plan
    for g in prange(first.size):
        rows, begin = count[g], first[g]
        for r in range(rows):
            # a row's weights stand near each other in the values, and the panel stays in the first cache
            base, at = row_value[row[g] + r], begins[g] + r
            for e in range(last[g] - begin):
                panels[at + e * rows] = values[base + entry_value[begin + e]]


@njit(parallel=True)
def gather(
    weights: Any,
    begins: Any,
    apart: int,
    places: Any,
    reads: Any,
    buffer: Any,
    out: Any,
    plan: Any,
    work: Any,
    batches: Any,
    sweep: Any,
    table: Any,
    widths: Any,
    copy: int,
) -> None:
    """Add up all entries of every group of rows, band by band, and copy the places that count to the output.

    Args:
        weights: 1-D: panels as `pack` makes them, or the values.
        begins: (groups): where the panel of a group, or its first row, begins.
        apart: elements between the weights of neighbouring rows, for kernels of values that are not packed.
        places: byte offset of the weights of every entry; read by kernels of values that are not packed.
        reads: byte offset of every entry's places in the buffer.
        buffer: 1-D, see cpu_buffer.py.
        out: 1-D.
        plan: the arrays of a Plan, in their order.
        work: what each thread does; see `cpu_launch.Shares`.
        batches: elements from sample to sample of the buffer and of the output.
        sweep: pitch of the buffer; rows and columns of places; elements of an output plane and of its row; first row
            and column there; steps down and across.
        table: (4, kernels): addresses of kernels of 8, 4, 2, 1 rows, the widest first.
        widths: as the table: places that a kernel computes; 0 where there is none.
        copy: address of the kernel that copies.
    """
    _, _, first, last, row, count, _, row_plane = plan
    bounds, starts, lows, highs, band = work
    pitch, height, width, plane, line, top, left, down, across = sweep
    size, room = out.itemsize, band * pitch + widths.max()
    for part in prange(bounds.size - 1):
        sums = np.empty(8 * room, out.dtype)
        sample = np.searchsorted(starts, bounds[part], side="right") - 1
        for unit in range(bounds[part], bounds[part + 1]):
            # bands of a sample one after the other, all groups in each: what they read stays in the cache
            while starts[sample + 1] <= unit:
                sample += 1
            within, groups = unit - starts[sample], highs[sample] - lows[sample]
            step = within // groups
            y, g = step * band, lows[sample] + within - step * groups
            rows, which = count[g], 0
            while 8 >> which > rows:
                which += 1
            start = buffer.ctypes.data + sample * batches[0] * size
            tall = min(band, height - y)
            at, end = 0, (tall - 1) * pitch + width
            while at < end:
                k = _width(widths[which], end - at)
                call(
                    table[which, k],
                    (
                        weights.ctypes.data + begins[g] * size,
                        apart * size,
                        places.ctypes.data + first[g] * 8,
                        reads.ctypes.data + first[g] * 8,
                        last[g] - first[g],
                        start + (y * pitch + at) * size,
                        sums.ctypes.data + at * size,
                        room * size,
                    ),
                )
                at += widths[which, k]
            for r in range(rows):
                to = row_plane[row[g] + r] * plane + sample * batches[1] + (top + y * down) * line + left
                if across == 1:
                    source, target = sums.ctypes.data + r * room * size, out.ctypes.data + to * size
                    call(copy, (source, pitch * size, target, down * line * size, tall, width))
                else:
                    _spread(sums, r * room, pitch, out, to, down * line, across, tall, width)


@njit()
def _width(widths: Any, rest: int) -> int:
    """Return which width to compute next: the least that covers the rest, unless a quarter of it were in vain."""
    k, last = 0, widths.size - 1
    while k < last and widths[k + 1] >= rest:
        k += 1
    return k + 1 if k < last and widths[k + 1] > 0 and 4 * rest <= 3 * widths[k] else k


@njit()
def _spread(
    source: Any, begin: int, pitch: int, out: Any, to: int, line: int, across: int, height: int, width: int
) -> None:
    """Copy places to every `across`-th column of the output."""
    for y in range(height):
        for x in range(width):
            out[to + y * line + x * across] = source[begin + y * pitch + x]


@njit(parallel=True)
def slide(
    values: Any,
    places: Any,
    reads: Any,
    buffer: Any,
    out: Any,
    plan: Any,
    work: Any,
    batches: Any,
    sweep: Any,
    table: Any,
) -> None:
    """Add up pairs of maps, each with all its taps, one output map at a time; arguments as in `gather`.

    But:

    places: byte offset of the weights of every entry.
    sweep: pitch; rows and columns of places; elements of an output plane.
    table: addresses of the usual kernel and of the last one, and the lanes of a vector; a band is what one computes.
    """
    _, _, first, last, _, _, _, _ = plan
    bounds, starts, lows, highs, band = work
    pitch, height, width, plane = sweep
    usual, final, lanes = table
    size = values.itemsize
    for part in prange(bounds.size - 1):
        sample = np.searchsorted(starts, bounds[part], side="right") - 1
        for unit in range(bounds[part], bounds[part + 1]):
            while starts[sample + 1] <= unit:
                sample += 1
            within, groups = unit - starts[sample], highs[sample] - lows[sample]
            step = within // groups
            y, g = step * band, lows[sample] + within - step * groups
            start = buffer.ctypes.data + sample * batches[0] * size
            to = out.ctypes.data + (g * plane + sample * batches[1]) * size
            kernel = usual if height - y >= band else final
            for x in range(0, width, lanes):
                call(
                    kernel,
                    (
                        values.ctypes.data,
                        places.ctypes.data + first[g] * 8,
                        reads.ctypes.data + first[g] * 8,
                        last[g] - first[g],
                        start + (y * pitch + x) * size,
                        pitch * size,
                        to + (y * width + x) * size,
                        width * size,
                        min(lanes, width - x),
                    ),
                )


@njit(parallel=True)
def reduce(
    g: Any,
    buffer: Any,
    out: Any,
    plan: Any,
    bounds: Any,
    length: int,
    samples: int,
    batches: Any,
    plane: int,
    table: Any,
) -> None:
    """Add to every stored weight the products of its gradient's plane and its shifted plane of x.

    Args:
        g: 1-D: the gradient's planes in the layout beside x.
        buffer: 1-D: planes of x.
        out: 1-D: laid out as the values are.
        plan: the arrays of a Plan, in their order.
        bounds: (parts + 1): groups of each thread; groups with a row in common belong to one thread.
        length: places that are multiplied, whole vectors.
        samples: that are added up.
        batches: elements from sample to sample of g and of the buffer.
        plane: elements of a plane of g.
        table: (3, columns + 1): addresses of kernels of 4, 2, 1 rows by their columns; 0 where there is none.
    """
    entry_value, entry_read, first, last, row, count, row_value, row_plane = plan
    size = g.itemsize
    for part in prange(bounds.size - 1):
        sums, reads = np.empty(64, g.dtype), np.empty(16, np.int64)
        for task in range(bounds[part], bounds[part + 1]):
            which = 0
            while 4 >> which > count[task]:
                which += 1
            most = table.shape[1] - 1
            while table[which, most] == 0 and most > 1:
                most -= 1
            start = g.ctypes.data + row_plane[row[task]] * plane * size
            e = first[task]
            while e < last[task]:
                columns = min(most, last[task] - e)
                while table[which, columns] == 0:
                    columns -= 1
                for c in range(columns):
                    reads[c] = entry_read[e + c] * size
                call(
                    table[which, columns],
                    (
                        start,
                        plane * size,
                        buffer.ctypes.data,
                        reads.ctypes.data,
                        length,
                        samples,
                        batches[0] * size,
                        batches[1] * size,
                        sums.ctypes.data,
                    ),
                )
                for r in range(count[task]):
                    for c in range(columns):
                        out[row_value[row[task] + r] + entry_value[e + c]] += sums[r * columns + c]
                e += columns
