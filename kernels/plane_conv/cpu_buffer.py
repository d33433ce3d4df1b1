"""Lay planes out with their margins, so that every tap of a convolution is one offset into a buffer.

A plane is cut into phases, one for each remainder of the stride that a tap reads at: in a phase neighbouring places of
the output read neighbouring elements, whatever the stride. Margins are zeros; the one at the end of a row is the one at
the beginning of the next. The places of an output plane are taken as one line, `pitch` places to a row: what lies
between its rows is computed too, and dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numba import prange

from sparsebench.kernels.common.jit import njit
from sparsebench.kernels.microkernels import tiles
from sparsebench.kernels.microkernels.call import call
from sparsebench.kernels.plane_conv.cpu_generated import Kernel, address
from sparsebench.kernels.plane_conv.geometry import Geometry, Pair

SLACK = 256
"""Elements behind the last plane: whole vectors are read past it. Zeros, as the gradient multiplies them by zeros."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How one plane stands in a buffer: phases of (rows, pitch), phase after phase.

    Attributes:
        origins: (row, column) of the source at the corner of each phase; below 0 is margin.
        step: from row to row and from column to column of a phase, in the source.
        rows: of a phase.
        pitch: columns of a phase.
    """

    origins: tuple[Pair, ...]
    step: Pair
    rows: int
    pitch: int

    @property
    def plane(self) -> int:
        """Return the elements of a plane in the buffer."""
        return len(self.origins) * self.rows * self.pitch

    def fill(self, source: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Return a new buffer with the chosen planes.

        Args:
            source: (planes, h, w), contiguous.
            which: int64, the numbers of the planes.

        Returns:
            1-D: plane after plane, and SLACK zeros.
        """
        buffer = np.empty(which.size * self.plane + SLACK, source.dtype)
        buffer[which.size * self.plane :] = 0
        origins = np.array(self.origins, np.int64).reshape(-1, 2)
        _fill(
            source, which, origins, *self.step, self.rows, self.pitch, buffer, copier(source.dtype.name, self.step[1])
        )
        return buffer


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Output places that are computed together, and where the taps read for them.

    Attributes:
        taps: numbers of the taps that take part, int64.
        reads: offset of each of them in a plane of the buffer, in elements, int64.
        size: (rows, columns) of places.
        start: row and column of the first place in the output plane.
        step: from place to place in the output plane, down and across.
    """

    taps: np.ndarray
    reads: np.ndarray
    size: Pair
    start: Pair
    step: Pair


@cache
def forward(geometry: Geometry, size: Pair) -> tuple[Layout, tuple[Sweep, ...]]:
    """Return how x (h, w) is laid out, and the one sweep over all of y."""
    out = geometry.output(size)
    steps = [
        (i * geometry.dilation[0], j * geometry.dilation[1])
        for i in range(geometry.kernel[0])
        for j in range(geometry.kernel[1])
    ]
    (sy, sx), (top, left) = geometry.stride, geometry.padding
    phases = sorted({(y % sy, x % sx) for y, x in steps})
    rows = max(y // sy for y, _ in steps) + out[0]
    origins = tuple((y - top, x - left) for y, x in phases)
    reach = max(x // sx for _, x in steps)
    pitch = reach + out[1] - _common(origins, sx, size[1], reach + out[1], reach)
    layout = Layout(origins=origins, step=geometry.stride, rows=rows, pitch=pitch)
    reads = [(phases.index((y % sy, x % sx)) * rows + y // sy) * pitch + x // sx for y, x in steps]
    sweep = Sweep(taps=np.arange(geometry.taps), reads=np.array(reads, np.int64), size=out, start=(0, 0), step=(1, 1))
    return layout, (sweep,)


@cache
def backward(geometry: Geometry, size: Pair) -> tuple[Layout, tuple[Sweep, ...]]:
    """Return how g (h', w') is laid out, and the sweeps over the gradient of x (h, w): one a phase of the stride."""
    (sy, sx), (top, left) = geometry.stride, geometry.padding
    found: list[tuple[Pair, Pair, list[tuple[int, int, int]]]] = []
    for y in range(min(sy, size[0])):
        for x in range(min(sx, size[1])):
            hits = []
            for t in range(geometry.taps):
                up = y + top - t // geometry.kernel[1] * geometry.dilation[0]
                aside = x + left - t % geometry.kernel[1] * geometry.dilation[1]
                if up % sy == 0 and aside % sx == 0:
                    hits.append((t, up // sy, aside // sx))
            places = (-(-(size[0] - y) // sy), -(-(size[1] - x) // sx))
            found.append(((y, x), places, hits))
    shifts = [(up, aside) for _, _, hits in found for _, up, aside in hits] or [(0, 0)]
    low = (max(0, -min(up for up, _ in shifts)), max(0, -min(aside for _, aside in shifts)))
    rows = low[0] + max([up + places[0] for _, places, hits in found for _, up, _ in hits] or [1])
    pitch = low[1] + max([aside + places[1] for _, places, hits in found for _, _, aside in hits] or [1])
    origins = ((-low[0], -low[1]),)
    widest = max(places[1] for _, places, _ in found)
    pitch -= _common(origins, 1, geometry.output(size)[1], pitch, max(0, pitch - widest))
    layout = Layout(origins=origins, step=(1, 1), rows=max(rows, 1), pitch=max(pitch, 1))
    sweeps = tuple(
        Sweep(
            taps=np.array([t for t, _, _ in hits], np.int64),
            reads=np.array([(up + low[0]) * layout.pitch + aside + low[1] for _, up, aside in hits], np.int64),
            size=places,
            start=start,
            step=geometry.stride,
        )
        for start, places, hits in found
    )
    return layout, sweeps


def _common(origins: tuple[Pair, ...], step: int, width: int, columns: int, most: int) -> int:
    """Return how many zeros at the end of a row can be those at the beginning of the next one, at most `most`."""
    shares = []
    for _, left in origins:
        first, last = _inside(left, step, width, columns)
        shares.append(int(min(first, columns - last)))
    return min([most, *shares])


def beside(layout: Layout, size: Pair, lanes: int) -> Layout:
    """Return how g (h', w') is laid out beside an x in `layout`: the same pitch, zeros between and behind its rows."""
    line = (size[0] - 1) * layout.pitch + size[1]
    whole = -(-line // lanes) * lanes
    return Layout(origins=((0, 0),), step=(1, 1), rows=max(size[0], -(-whole // layout.pitch)), pitch=layout.pitch)


def copier(dtype: str, step: int = 1) -> int:
    """Return the address of the kernel that copies rows, of the source every `step`-th element."""
    return address(Kernel(kind="copy", dtype=dtype, rows=1, vectors=1, lanes=tiles.lanes(dtype), step=step))


@njit(parallel=True)
def _fill(
    source: Any, which: Any, origins: Any, down: int, across: int, rows: int, pitch: int, buffer: Any, copy: int
) -> None:
    """Copy every chosen plane, phase by phase; see Layout. copy: address of a generated kernel."""
    height, width = source.shape[1], source.shape[2]
    phases, size = origins.shape[0], source.itemsize
    for k in prange(which.size):
        for f in range(phases):
            top, left = origins[f, 0], origins[f, 1]
            # rows low .. high and columns first .. last of the phase lie inside of the source
            low, high = _inside(top, down, height, rows)
            first, last = _inside(left, across, width, pitch)
            begin = (k * phases + f) * rows * pitch
            buffer[begin : begin + rows * pitch] = 0
            call(
                copy,
                (
                    source.ctypes.data
                    + ((which[k] * height + top + low * down) * width + left + first * across) * size,
                    down * width * size,
                    buffer.ctypes.data + (begin + low * pitch + first) * size,
                    pitch * size,
                    high - low,
                    last - first,
                ),
            )


@njit()
def _inside(origin: int, step: int, size: int, count: int) -> Any:
    """Return the first number n with origin + n·step ≥ 0, and the one behind the last with origin + n·step < size."""
    first = min(count, max(0, -(origin // step)))
    return first, min(count, max(first, (size - origin + step - 1) // step))
