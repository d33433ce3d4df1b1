"""Plan and launch the Triton kernels of sparse convolution: grid, strides, tile, and what programs share out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsebench.kernels.common.triton_launch import grid, processors, side
from sparsebench.kernels.common.triton_plan import OPERAND, Launch
from sparsebench.kernels.plane_conv import triton_gather, triton_reduce, triton_vectors
from sparsebench.kernels.plane_conv.geometry import Geometry
from sparsebench.kernels.plane_conv.triton_steps import Step, Tile, forward_step, gather_tile, reduce_tile, vector_tile


@dataclass(frozen=True, kw_only=True, eq=False)
class Terms:
    """Which maps a sum takes in, as `triton_gather.gather` reads them; the kernel says what each kind means.

    Attributes:
        kind: "shared", "blocks", "planes" or "planes_input".
        maps: int32.
        rows: maps of the result; of a sample at most in "planes_input".
        count: of the sum, where it is the same for all rows.
        starts: beginnings of groups, or None.
        order: maps or blocks by another order, or None.
        groups: block rows.
        source_maps: maps of the source.
        block: (maps of the result, maps of the source) in a block.
    """

    kind: str
    maps: Tensor
    rows: int
    count: int = 0
    starts: Tensor | None = None
    order: Tensor | None = None
    groups: int = 1
    source_maps: int = 0
    block: tuple[int, int] = (1, 1)


@dataclass(frozen=True, kw_only=True)
class Part:
    """What writes one step's part of a result.

    Attributes:
        step: which part, and how it reads.
        whole: whether that is all of the result, so that no view has to be made.
        launch: from weights and the source; None if the part meets no tap, and is 0.
    """

    step: Step
    whole: bool
    launch: Launch | None

    def run(self, weight: Tensor, source: Tensor, out: Tensor) -> None:
        """Write the part of out, of the shape and strides that this was made for."""
        part = out if self.whole else self.step.part(out)
        if self.launch is None:
            part.zero_()
        else:
            self.launch(weight, source, part)


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """A sum over maps and taps for operands of one signature, worked out up to its launches.

    Attributes:
        shape: of the result.
        parts: that write it.
        prepare: makes what the kernels read from the values or the weight.
        clear: whether maps are left out that are to be 0.
    """

    shape: tuple[int, ...]
    parts: tuple[Part, ...]
    prepare: Callable[[Tensor], Tensor]
    clear: bool = False

    def __call__(self, weight: Tensor, source: Tensor) -> Tensor:
        """Return the result of other operands, of the same signature."""
        out = source.new_empty(self.shape)
        if self.clear:
            out.zero_()
        if self.parts:
            held = self.prepare(weight)
            for part in self.parts:
                part.run(held, source, out)
        return out


def plan_gather(
    geometry: Geometry, steps: Iterable[Step], terms: Terms, weight: Tensor, source: Tensor, out: Tensor, samples: int
) -> tuple[Part, ...]:
    """Return what writes the steps' parts of out by matrix instructions.

    Args:
        geometry: of the convolution.
        steps: which parts of out, and how they read.
        terms: which maps are added up.
        weight: (taps, blocks, maps of the result, maps of the source), any strides.
        source: (samples, maps, h, w), or (planes, h, w).
        out: all of the result, of the dimensions that the kind asks for.
        samples: how many there are.
    """

    def launch(step: Step, part: Tensor) -> Launch:
        (h, w), (u, v) = source.shape[-2:], part.shape[-2:]
        height = terms.block[0] if terms.kind == "blocks" else terms.rows
        # samples store some planes each, of which no more than the mean is known here
        usual = math.ceil(out.shape[0] / samples) if terms.kind == "planes_input" else height
        tile = gather_tile(usual, u * v, single=out.dtype == torch.float32)
        programs = samples * terms.groups * math.ceil(height / tile.rows) * math.ceil(u * v / tile.columns)
        return Launch(
            triton_gather.gather,
            grid(programs),
            (
                OPERAND, OPERAND, OPERAND, terms.maps if terms.starts is None else terms.starts, terms.maps,
                terms.maps if terms.order is None else terms.order, terms.rows, terms.groups, terms.count,
                terms.source_maps, h, w, u, v, *step.numbers(), *weight.stride(), *_four(source), *_four(part),
            ),
            {
                "KIND": terms.kind, "ORDERED": terms.order is not None, "HEIGHT": terms.block[0],
                "WIDTH": terms.block[1], "DOWN": step.taps[0], "ACROSS": step.taps[1], "KERNEL": geometry.kernel[1],
                "ROWS": tile.rows, "PIXELS": tile.columns, "INNER": tile.inner,
            },
            _options(tile),
            device=source.device,
        )  # fmt: skip

    return _parts(steps, out, launch)


def plan_pairs(
    geometry: Geometry,
    steps: Iterable[Step],
    lists: tuple[Tensor, Tensor, Tensor | None],
    source: Tensor,
    out: Tensor,
    *,
    elements: bool,
) -> tuple[Part, ...]:
    """Return what writes the steps' parts of out (samples, rows, h, w) from single planes, or from elements.

    Args:
        geometry: of the convolution.
        steps: which parts of out, and how they read.
        lists: where each row begins, the map that each entry reads, and which value it is (None: in this order).
        source: (samples, maps, h, w), any strides.
        out: all of the result.
        elements: whether rows are listed by map and tap; the values are then (nnz), else (pairs, taps), contiguous.
    """
    starts, others, place = lists

    def launch(step: Step, part: Tensor) -> Launch:
        (h, w), (samples, rows, u, v) = source.shape[-2:], part.shape
        tile = vector_tile(u * v)
        return Launch(
            triton_vectors.gather_pairs,
            grid(samples * rows * math.ceil(u * v / tile.columns)),
            (
                OPERAND, OPERAND, OPERAND, starts, others, others if place is None else place, rows, h, w, u, v,
                *step.numbers(), *source.stride(), *part.stride(),
            ),
            {
                "ELEMENTS": elements, "ORDERED": place is not None, "DOWN": step.taps[0], "ACROSS": step.taps[1],
                "KERNEL": geometry.kernel[1], "TAPS": geometry.taps, "ENTRIES": tile.inner, "PIXELS": tile.columns,
            },
            _options(tile),
            device=source.device,
        )  # fmt: skip

    return _parts(steps, out, launch)


def plan_elements(geometry: Geometry, crow: Tensor, col: Tensor, source: Tensor, out: Tensor) -> tuple[Part, ...]:
    """Return what writes the convolution (samples, rows, u, v) from elements (nnz) that are listed by rows."""

    def launch(step: Step, part: Tensor) -> Launch:
        (h, w), (samples, rows, u, v) = source.shape[-2:], part.shape
        tile = vector_tile(u * v)
        return Launch(
            triton_vectors.gather_elements,
            grid(samples * rows * math.ceil(u * v / tile.columns)),
            (
                OPERAND, OPERAND, OPERAND, crow, col, rows, h, w, u, v, *step.numbers()[4:], *source.stride(),
                *part.stride(),
            ),
            {
                "ACROSS": geometry.kernel[1], "TAPS": geometry.taps, "ENTRIES": tile.inner, "PIXELS": tile.columns,
            },
            _options(tile),
            device=source.device,
        )  # fmt: skip

    return _parts([forward_step(geometry)], out, launch)


def _parts(steps: Iterable[Step], out: Tensor, launch: Callable[[Step, Tensor], Launch]) -> tuple[Part, ...]:
    """Return the parts that hold anything, with their launches."""
    found = []
    for step in steps:
        part = step.part(out)
        if part.numel():
            whole = part.shape == out.shape
            found.append(Part(step=step, whole=whole, launch=launch(step, part) if min(step.taps) else None))
    return tuple(found)


def run_reduce(
    geometry: Geometry, g: Tensor, x: Tensor, lists: tuple[Tensor, Tensor], sizes: tuple[int, int, int], *, blocks: bool
) -> Tensor:
    """Return the gradient of weights, (blocks, rows, columns, taps), by matrix instructions.

    Args:
        geometry: of the convolution.
        g: (samples, maps of out, u, v), any strides.
        x: (samples, maps, h, w), any strides.
        lists: maps of g and of x, or the block row and column of each block.
        sizes: (blocks, rows, columns).
        blocks: which of the two `lists` holds.
    """
    number, rows, columns = sizes
    tile = reduce_tile(rows, columns, single=g.dtype == torch.float32)
    programs = number * math.ceil(rows / tile.rows) * math.ceil(columns / tile.columns) * geometry.taps
    total = g.shape[0] * math.ceil(g.shape[2] * g.shape[3] / tile.inner)
    if programs == 0 or total == 0:
        return g.new_zeros((*sizes, geometry.taps))
    splits, steps = _shares(programs, total, g.device)
    out = g.new_empty((splits, *sizes, geometry.taps), dtype=g.dtype if splits == 1 else torch.float32)
    triton_reduce.reduce[grid(programs, splits)](
        g, x, out, *lists, rows, columns, g.shape[1], x.shape[1], g.shape[0], steps, *x.shape[-2:], *g.shape[-2:],
        *forward_step(geometry).numbers()[4:], *g.stride(), *x.stride(), *out.stride()[:4], BLOCKS=blocks,
        ACROSS=geometry.kernel[1], TAPS=geometry.taps, ROWS=tile.rows, COLUMNS=tile.columns, INNER=tile.inner,
        **_options(tile),
    )  # fmt: skip
    return _added(out, g)


def run_reduce_elements(
    geometry: Geometry, g: Tensor, x: Tensor, row: Tensor, col: Tensor, entries: int, *, pairs: bool
) -> Tensor:
    """Return the gradient of elements, or of pairs tap by tap, (entries); g and x as in `run_reduce`."""
    tile = vector_tile(g.shape[2] * g.shape[3], most=128)
    programs = math.ceil(entries / tile.inner)
    total = g.shape[0] * math.ceil(g.shape[2] * g.shape[3] / tile.columns)
    if programs == 0 or total == 0:
        return g.new_zeros(entries)
    splits, steps = _shares(programs, total, g.device)
    out = g.new_empty((splits, entries), dtype=g.dtype if splits == 1 else torch.float32)
    triton_reduce.reduce_elements[grid(programs, splits)](
        g, x, out, row, col, entries, g.shape[0], steps, *x.shape[-2:], *g.shape[-2:],
        *forward_step(geometry).numbers()[4:], *g.stride(), *x.stride(), out.stride(0), PAIRS=pairs,
        ACROSS=geometry.kernel[1], TAPS=geometry.taps, ENTRIES=tile.inner, PIXELS=tile.columns, **_options(tile),
    )  # fmt: skip
    return _added(out, g)


def run_reduce_planes(
    geometry: Geometry, g: Tensor, x: Tensor, lists: tuple[Tensor, Tensor, Tensor], maps: int
) -> Tensor:
    """Return the gradient of a dense weight, (maps of g, maps, taps), from stored planes x (planes, h, w).

    Args:
        geometry: of the convolution.
        g: (samples, maps of out, u, v), any strides.
        x: stored planes, any strides.
        lists: where the entries of each map begin, and the sample and the plane of each entry.
        maps: how many maps x would have if all were stored.
    """
    out = g.new_empty((g.shape[1], maps, geometry.taps))
    if out.numel() == 0:
        return out
    single = g.dtype == torch.float32
    tile = reduce_tile(g.shape[1], geometry.taps, single=single)
    across = side(geometry.taps, 16, 2**16)
    triton_reduce.reduce_planes[grid(maps * math.ceil(g.shape[1] / tile.rows))](
        g, x, out, *lists, g.shape[1], *x.shape[-2:], *g.shape[-2:], *forward_step(geometry).numbers()[4:],
        *g.stride(), *x.stride(), *out.stride()[:2], ACROSS=geometry.kernel[1], TAPS=geometry.taps, ROWS=tile.rows,
        COLUMNS=across, INNER=tile.inner, **_options(tile),
    )  # fmt: skip
    return out


def _shares(programs: int, total: int, device: torch.device) -> tuple[int, int]:
    """Return over how many programs `total` steps of a sum are shared out, and how many steps each takes."""
    steps = math.ceil(total / min(total, max(1, 2 * processors(device) // programs)))
    return math.ceil(total / steps), steps


def _added(parts: Tensor, like: Tensor) -> Tensor:
    """Return the sum of (splits, …) in the order that torch fixes for a shape, in the dtype of `like`."""
    return parts[0] if parts.shape[0] == 1 else parts.sum(0).to(like.dtype)


def _four(planes: Tensor) -> tuple[int, ...]:
    """Return four strides of (samples, maps, h, w), or of stored planes (planes, h, w), which have no samples."""
    return planes.stride() if planes.dim() == 4 else (0, *planes.stride())


def _options(tile: Tile) -> dict[str, int]:
    return tile.options(nvidia=torch.version.hip is None)
