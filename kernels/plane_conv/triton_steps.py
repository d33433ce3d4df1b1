"""Write a convolution, and the gradient of its input, as one kind of step: which taps meet, and where each reads.

Both gather: out[u, v] = Σ over taps (a, b) of weight[tap(a, b)] · source[u · scale + offset + a · tap_offset, …], with
zeros outside of the source. In the input gradient with a stride s, places of x whose row (plus padding) has the same
remainder by s meet the same taps, at the same offsets; each such class of rows and columns is a step of its own, and no
tap is visited that does not hit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from sparsebench.kernels.common.triton_launch import side
from sparsebench.kernels.plane_conv.geometry import Geometry, Pair


@dataclass(frozen=True, kw_only=True)
class Step:
    """One strided part of the result, all of whose places meet the same taps. Every pair is (down, across).

    Attributes:
        first: place of the result where the part begins.
        every: distance of its places.
        taps: how many taps it meets; 0 if none.
        tap_first: number of the first of these in the kernel.
        tap_every: distance of their numbers.
        scale: places of the source for a place of the part.
        offset: where the first tap reads for the part's first place; below 0 is outside.
        tap_offset: how much further the next tap reads.
    """

    first: Pair
    every: Pair
    taps: Pair
    tap_first: Pair
    tap_every: Pair
    scale: Pair
    offset: Pair
    tap_offset: Pair

    def part(self, result: Tensor) -> Tensor:
        """Return the view of (…, h, w) that this step computes."""
        (top, left), (down, across) = self.first, self.every
        return result[..., top::down, left::across]

    def numbers(self) -> tuple[int, ...]:
        """Return what the kernels take as numbers, in their order."""
        return (*self.tap_first, *self.tap_every, *self.scale, *self.offset, *self.tap_offset)


def forward_step(geometry: Geometry) -> Step:
    """Return the step of the convolution itself: all of y, all taps."""
    down, across = geometry.padding
    return Step(
        first=(0, 0),
        every=(1, 1),
        taps=geometry.kernel,
        tap_first=(0, 0),
        tap_every=(1, 1),
        scale=geometry.stride,
        offset=(-down, -across),
        tap_offset=geometry.dilation,
    )


def input_steps(geometry: Geometry, size: Pair) -> Iterator[Step]:
    """Yield the steps of the gradient of x (h, w) = `size`; together they write every place once."""
    axes = (
        [_input_axis(*one) for one in _residues(geometry, size, 0)],
        [_input_axis(*one) for one in _residues(geometry, size, 1)],
    )
    for top, down in axes[0]:
        for left, across in axes[1]:
            names = ("taps", "tap_first", "tap_every", "scale", "offset", "tap_offset")
            pairs: dict[str, Pair] = {name: (one, other) for name, one, other in zip(names, down, across, strict=True)}
            yield Step(first=(top, left), every=geometry.stride, **pairs)


def _residues(geometry: Geometry, size: Pair, axis: int) -> Iterator[tuple[int, int, int, int, int]]:
    for first in range(min(geometry.stride[axis], size[axis])):
        yield first, geometry.kernel[axis], geometry.stride[axis], geometry.padding[axis], geometry.dilation[axis]


def _input_axis(first: int, kernel: int, stride: int, padding: int, dilation: int) -> tuple[int, tuple[int, ...]]:
    """Return the first place and (taps, tap_first, tap_every, scale, offset, tap_offset) of one axis.

    x at `first` + stride · u gets weight[i] · g[(first + stride · u + padding − i · dilation) / stride] of the taps for
    which that is whole; they are equally far apart.
    """
    hits = [i for i in range(kernel) if (first + padding - i * dilation) % stride == 0]
    if not hits:
        return first, (0, 0, 1, 1, 0, 0)
    every = hits[1] - hits[0] if len(hits) > 1 else 1
    offset = (first + padding - hits[0] * dilation) // stride
    return first, (len(hits), hits[0], every, 1, offset, -(every * dilation) // stride if len(hits) > 1 else 0)


@dataclass(frozen=True, kw_only=True)
class Tile:
    """How a kernel cuts its work; every number is a power of two.

    Attributes:
        rows: maps of the result that a program computes.
        columns: pixels of the result, or maps of the other side where pixels are summed over.
        inner: terms of the sum that are taken in at a time.
        warps: of a program.
        stages: of the software pipeline.
    """

    rows: int
    columns: int
    inner: int
    warps: int = 4
    stages: int = 2

    def options(self, *, nvidia: bool) -> dict[str, int]:
        """Return what the kernels are compiled with: told how many registers a thread may have, ptxas spills none."""
        return {"num_warps": self.warps, "num_stages": self.stages, **({"maxnreg": 255} if nvidia else {})}


def gather_tile(maps: int, pixels: int, *, single: bool) -> Tile:
    """Return the tile of a sum over maps and taps, by matrix instructions unless `single` (float32, multiply-add).

    None spills a register on a target of `compile_targets`. Larger ones did: 64 × 64 in float32, where all that a step
    reads is held in registers, and 64 × 128 of halves on four warps, for their addresses.
    """
    if single:
        return Tile(rows=side(maps, 8, 32), columns=side(pixels, 16, 64), inner=16)
    tile = Tile(rows=side(maps, 16, 64), columns=side(pixels, 16, 128), inner=32)
    return replace(tile, warps=8) if tile.rows * tile.columns >= 64 * 128 else tile


def reduce_tile(rows: int, columns: int, *, single: bool) -> Tile:
    """Return the tile of a sum over samples and pixels; arguments as in `gather_tile`."""
    if single:
        return Tile(rows=side(rows, 8, 32), columns=side(columns, 16, 32), inner=16)
    return Tile(rows=side(rows, 16, 64), columns=side(columns, 16, 64), inner=32)


def vector_tile(pixels: int, most: int = 256) -> Tile:
    """Return the tile of a product without a shared operand: `inner` terms at a time, for `columns` pixels."""
    columns = side(pixels, 32, most)
    return Tile(rows=1, columns=columns, inner=4, warps=max(1, min(4, columns // 32)))
