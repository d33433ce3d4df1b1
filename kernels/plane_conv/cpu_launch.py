"""Run a planned convolution on the CPU: lay out the planes, pick the generated kernels, share out the work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from sparsebench.kernels.common import jit
from sparsebench.kernels.microkernels import host, tiles
from sparsebench.kernels.plane_conv import cpu_driver
from sparsebench.kernels.plane_conv.cpu_buffer import Layout, Sweep, copier
from sparsebench.kernels.plane_conv.cpu_generated import Kernel, address
from sparsebench.kernels.plane_conv.cpu_groups import Plan
from sparsebench.kernels.plane_conv.geometry import Geometry, Pair

GROUPS: tuple[int, ...] = (8, 4, 2, 1)
"""Output maps that are computed together, where they have the same entries."""
REDUCED: tuple[int, ...] = (4, 2, 1)
"""Planes of the gradient that are multiplied together."""
WORKING_SET = 384 << 10
"""Bytes of planes that a band reads: with the weights beside them they stay in a cache of the second level."""
PLACES = 1024
"""Places of a band: their sums stay there too until they are copied out."""


Shares = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]
"""What each thread does: its units bounds[part] .. bounds[part + 1]; where the units of each sample start; the first
group of each sample and the one behind its last; rows of a band. A unit is a group in a band."""


def fill(layout: Layout, planes: Tensor, which: np.ndarray) -> np.ndarray:
    """Return a buffer of the chosen planes of a contiguous tensor (..., h, w)."""
    return layout.fill(planes.detach().reshape(-1, *planes.shape[-2:]).numpy(), which)


@dataclass(frozen=True, kw_only=True, eq=False)
class Gathering:
    """Everything that `cpu_driver.gather` takes but the operands: it can be used again for operands of the same sizes.

    Attributes are the arguments of that function; `panel` is how many weights `cpu_driver.pack` writes, `kernels` what
    the table of kernels is made from, which all share.
    """

    plan: tuple[np.ndarray, ...]
    begins: np.ndarray
    panel: int
    places: np.ndarray
    reads: np.ndarray
    work: Shares
    batches: Pair
    sweep: tuple[int, ...]
    kernels: tuple[str, int, bool]
    copy: int
    apart: int

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """Return the arrays that are held; two gatherings may share some."""
        return (*self.plan, self.begins, self.places, self.reads, *self.work[:-1])


def prepare(
    plan: Plan,
    sweep: Sweep,
    pitch: int,
    depth: int,
    dtype: torch.dtype,
    out: tuple[int, ...],
    samples: int,
    batches: Pair,
    *,
    apart: int = 0,
) -> Gathering | None:
    """Work out how the places of one sweep are computed for every row of a plan; None if there are none.

    Args:
        plan: what is added up.
        sweep: which places.
        pitch: of the buffer.
        depth: planes of the buffer that a group reads.
        dtype: that is computed in.
        out: shape of the result (..., h, w).
        samples: that every group is computed for.
        batches: elements from sample to sample of the buffer and of the output.
        apart: elements between the weights of neighbouring rows of a group, which are then read where they stand; 0
            packs them.
    """
    if min(sweep.size) < 1 or plan.row.size == 0 or samples == 0:
        return None
    name, size = str(dtype).removeprefix("torch."), dtype.itemsize
    band = max(1, min(sweep.size[0], WORKING_SET // max(1, depth * pitch * size), PLACES // pitch))
    sizes = (plan.last - plan.first) * plan.count
    return Gathering(
        plan=_arrays(plan),
        begins=plan.row_value[plan.row] if apart else np.cumsum(sizes) - sizes,
        panel=int(sizes.sum()),
        places=plan.entry_value * size if apart else _NONE,
        reads=plan.entry_read * size,
        work=_work(plan, samples, band, sweep.size[0]),
        batches=batches,
        sweep=(pitch, *sweep.size, out[-2] * out[-1], out[-1], *sweep.start, *sweep.step),
        kernels=(name, band * pitch, apart > 0),
        copy=copier(name),
        apart=apart,
    )


def gather(gathering: Gathering | None, values: Tensor, buffer: np.ndarray, out: Tensor) -> None:
    """Write the places of a sweep to `out`; see cpu_driver.gather."""
    if gathering is None:
        return
    weights = values.reshape(-1).numpy()
    if not gathering.apart:
        panels = np.empty(gathering.panel, weights.dtype)
        cpu_driver.pack(weights, gathering.plan, gathering.begins, panels)
        weights = panels
    cpu_driver.gather(
        weights,
        gathering.begins,
        gathering.apart,
        gathering.places,
        gathering.reads,
        buffer,
        out.view(-1).numpy(),
        gathering.plan,
        gathering.work,
        gathering.batches,
        gathering.sweep,
        *_gather_table(*gathering.kernels),
        gathering.copy,
    )


def slide(
    plan: Plan,
    geometry: Geometry,
    flipped: bool,
    pitch: int,
    values: Tensor,
    buffer: np.ndarray,
    out: Tensor,
    samples: int,
    batches: Pair,
) -> None:
    """Write every row of a plan whose entries are whole kernels to `out` (..., h, w); see cpu_driver.slide."""
    height, width = out.shape[-2:]
    if min(height, width) < 1 or plan.row.size == 0 or samples == 0:
        return
    name, size = _name(values), values.element_size()
    lanes = tiles.lanes(name)
    while lanes > 4 and width <= lanes // 2:
        lanes //= 2
    rows = -(-height // -(-height // (14 if host.vector_bytes() == 64 else 8)))
    usual, final = (
        address(
            Kernel(
                kind="rows",
                dtype=name,
                rows=count,
                vectors=1,
                lanes=lanes,
                taps=geometry.kernel,
                dilation=geometry.dilation,
                flipped=flipped,
            )
        )
        for count in (rows, height % rows or rows)
    )
    cpu_driver.slide(
        values.detach().reshape(-1).numpy(),
        plan.entry_value * size,
        plan.entry_read * size,
        buffer,
        out.view(-1).numpy(),
        _arrays(plan),
        _work(plan, samples, rows, height),
        batches,
        (pitch, height, width, height * width),
        (usual, final, lanes),
    )


def reduce(
    plan: Plan,
    owners: int,
    taps: int,
    length: int,
    g: np.ndarray,
    buffer: np.ndarray,
    out: Tensor,
    samples: int,
    batches: Pair,
    plane: int,
) -> None:
    """Add the gradient of every stored weight of a plan to `out`; see cpu_driver.reduce.

    owners: groups that share rows and stand together, which one thread works on.
    """
    if plan.row.size == 0 or samples == 0:
        return
    name = _name(out)
    wide = tiles.lanes(name)
    cpu_driver.reduce(
        g,
        buffer,
        out.view(-1).numpy(),
        _arrays(plan),
        _equal(((plan.last - plan.first) * plan.count + 16).reshape(-1, owners).sum(1)) * owners,
        -(-length // wide) * wide,
        samples,
        batches,
        plane,
        _reduce_table(name, taps if 8 < taps <= 12 else 8),
    )


def _arrays(plan: Plan) -> tuple[np.ndarray, ...]:
    return (
        plan.entry_value, plan.entry_read, plan.first, plan.last, plan.row, plan.count, plan.row_value, plan.row_plane,
    )  # fmt: skip


def _work(plan: Plan, samples: int, band: int, height: int) -> Shares:
    """Cut the units of all samples into one share a thread, of equal cost as far as it can be."""
    bands = -(-height // band)
    cost = (plan.last - plan.first) * plan.count + 16
    if plan.samples is None:
        lows, highs = np.zeros(samples, np.int64), np.full(samples, plan.row.size, np.int64)
        costs = np.tile(cost, bands * samples)
    else:
        lows, highs = plan.samples[:-1], plan.samples[1:]
        # groups stand sample by sample already; several bands repeat those of each sample
        parts = [cost] if bands == 1 else [np.tile(cost[a:b], bands) for a, b in zip(lows, highs, strict=True)]
        costs = np.concatenate(parts)
    starts = np.concatenate([[0], np.cumsum((highs - lows) * bands)]).astype(np.int64)
    return _equal(costs), starts, lows, highs, band


def _equal(costs: np.ndarray) -> np.ndarray:
    """Return where to cut a list of tasks into one share a thread."""
    done, parts = np.cumsum(costs), jit.threads()
    marks = np.searchsorted(done, done[-1] * np.arange(1, parts) / parts)
    return np.concatenate([[0], marks, [costs.size]]).astype(np.int64)


_NONE = np.zeros(0, np.int64)


@cache
def _gather_table(dtype: str, places: int, apart: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return addresses of kernels of 8, 4, 2, 1 rows, the widest first, and how many places they take; 0 for none."""
    lanes = tiles.lanes(dtype)
    least = min(4, lanes)  # narrower kernels take as long; where a vector is narrower itself, it is the least
    vectors = {8: 2, 4: 4, 2: 8, 1: 8} if host.vector_bytes() == 64 else {8: 1, 4: 2, 2: 4, 1: 8}
    made, sizes = np.zeros((4, 8), np.int64), np.zeros((4, 8), np.int64)
    for i, rows in enumerate(GROUPS):
        width = min(vectors[rows] * lanes, max(least, 1 << (places - 1).bit_length()))
        for j in range(8):
            if width < least:
                break
            narrow = min(lanes, width)
            made[i, j] = address(
                Kernel(kind="gather", dtype=dtype, rows=rows, vectors=width // narrow, lanes=narrow, apart=apart)
            )
            sizes[i, j] = width
            width //= 2
    return made, sizes


@cache
def _reduce_table(dtype: str, single: int) -> np.ndarray:
    """Return addresses (3, columns + 1) of kernels of 4, 2, 1 rows; 0 where there is none."""
    lanes = tiles.lanes(dtype)
    wide = host.vector_bytes() == 64
    columns: dict[int, Sequence[int]] = {
        4: (4, 2, 1) if wide else (2, 1),
        2: (8, 4, 2, 1) if wide else (4, 2, 1),
        1: (single, 4, 2, 1),
    }
    made = np.zeros((3, max(max(c) for c in columns.values()) + 1), np.int64)
    for i, rows in enumerate(REDUCED):
        for count in columns[rows]:
            made[i, count] = address(Kernel(kind="dots", dtype=dtype, rows=rows, vectors=count, lanes=lanes))
    return made


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
