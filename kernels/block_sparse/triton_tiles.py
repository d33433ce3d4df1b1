"""List the tiles that a Triton product may be cut into, for a block, an operand and a device.

Which merge of small blocks pays, with h the height and w the width of a block, d the share of blocks that is stored:

- Along the inner dimension: ⌊64 / w⌋ stored blocks of a block row are gathered into one step of the sum, (h, 64) @
  (64, columns). Every product in it is wanted, and the rows of x are read where they lie. Done.
- Along the rows ("super-rows" of r block rows, over the union of their block columns): x is read once for the union,
  1 − (1−d)ʳ of it, rather than r times for d of it, but blocks that are not stored are multiplied as zeros. With r = 8
  and d = 0.1 that is 0.57 of x instead of 0.8, 1.4 times less to read, for 5.7 times the arithmetic; at d = 0.01 it is
  0.077 instead of 0.08, for 7.7 times. And zero times an infinity of x would be NaN in rows that do not store the
  block. A candidate, `union`, that sums anew where x is not finite: with blocks of 16 x is most of what is read.
- SWAP instead: Hopper's matrix instructions take 64 rows and any multiple of 8 columns (NVIDIA, PTX ISA, wgmma:
  m64nNk16), so a block of up to 64 rows goes to the side of the columns, as tileᵀ = xᵀ blockᵀ, and nothing of it is
  padding from 16 rows on. The rows are then those of xᵀ, of which there are many.

The sampled product gathers ⌊columns / w⌋ blocks of a block row side by side, which are all wanted as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import torch

from sparsebench.kernels.common.triton_launch import side

UNION = 128
"""Rows of a tile over the union of several block rows' columns."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """How a kernel cuts its work.

    Attributes:
        rows: of a block that a task computes, a power of two.
        columns: of the result that a task computes, a power of two.
        inner: elements that a step of the sum takes in, a power of two of at least 16.
        merge: blocks that are gathered into one step (product), or into one tile (sampled product).
        swap: compute the transpose of a tile.
        descriptors: read tiles with bulk copies of the hardware (TMA).
        union: compute as many block rows as `rows` holds at a time, over the union of their block columns.
        warps: of a program.
        stages: of the software pipeline. Block numbers and tiles are loaded one after the other, so that a product
            holds (stages + 1) // 2 tiles in shared memory at a time, the sampled product stages − 1.
        programs: of the grid for each multiprocessor, which then walk over the tasks; 0 for a program a task, which the
            device hands out as others end.
    """

    rows: int
    columns: int
    inner: int
    merge: int = 1
    swap: bool = False
    descriptors: bool = False
    union: bool = False
    warps: int = 4
    stages: int = 3
    programs: int = 2

    def constants(self) -> dict[str, int | bool]:
        """Return what the kernels take as compile-time constants."""
        return {
            "ROWS": self.rows,
            "COLUMNS": self.columns,
            "INNER": self.inner,
            "MERGE": self.merge,
            "SWAP": self.swap,
            "DESCRIPTORS": self.descriptors,
            "STAGES": self.stages,
        }

    def options(self, *, nvidia: bool) -> dict[str, int]:
        """Return the options that the kernels are compiled with, for NVIDIA's GPUs or others.

        Told how many registers a thread may have, ptxas spills none; left to itself it spills one or two of some tiles
        so that another program fits on a multiprocessor. 168 let three programs of four warps run on one.
        """
        sums = self.rows * self.columns // (32 * self.warps)  # of a thread, in float32
        registers = {"maxnreg": 255 if sums >= 64 else 168} if nvidia else {}
        return {"num_warps": self.warps, "num_stages": self.stages, **registers}

    def as_dict(self) -> dict[str, Any]:
        """Return the attributes, to be kept as JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Self | None:
        """Return the tile that `as_dict` gave, or None if it is none."""
        kinds = {field.name: type(getattr(_ANY, field.name)) for field in fields(cls)}
        if set(kept) != set(kinds) or any(type(kept[name]) is not kind for name, kind in kinds.items()):
            return None
        return cls(**kept)


_ANY = Tile(rows=16, columns=16, inner=16)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a device allows.

    Attributes:
        shared: bytes of shared memory that a program may use.
        descriptors: whether it has bulk copies of tiles (NVIDIA, from compute capability 9.0 on).
        deep: whether copies to shared memory run on their own, so that a pipeline of many stages has a use.
    """

    shared: int
    descriptors: bool
    deep: bool


def product_tiles(
    height: int, width: int, n: int, dtype: torch.dtype, limits: Limits, *, described: bool, split: bool
) -> list[Tile]:
    """Return candidates for S @ x, the likeliest first.

    Args:
        height: of a block as it is read.
        width: of a block as it is read, along the inner dimension.
        n: columns of x.
        dtype: of values and x.
        limits: of the device.
        described: whether the operands meet the rules of tensor descriptors.
        split: whether rows are split: storing in two ways leaves no registers for the largest tile.
    """
    narrow = n <= 64
    if dtype == torch.float32:
        # no matrix instructions without rounding to TF32: small tiles, as all is in registers, and no descriptors, as
        # what they leave in shared memory is read into more registers than there are
        rows = side(height, 8, 64)
        inner = 16 if rows == 16 else 32
        shapes = [(rows, 16 if n <= 16 else 64, inner, max(1, inner // width), False, 4)]
        if not narrow:
            shapes.append((rows, 64 if rows == 8 else 128, 16, max(1, 16 // width), False, 4))
    else:
        rows, inner = side(height, 16, 128), 64
        merge = max(1, inner // width)
        if narrow:
            columns = side(n, 16, 64)
            shapes = [(rows, columns, inner, merge, rows < columns, 4)]
            if rows == 128:
                shapes.append((64, columns, inner, merge, False, 4))
        elif rows == 128:
            # the largest tile has the registers only where matrix instructions read shared memory themselves
            wide = [(128, 256, inner, merge, False, 8)] if n > 128 and not split and limits.descriptors else []
            shapes = [*wide, (128, 128, inner, merge, False, 8)]
        else:
            wide = [(rows, 256, inner, merge, True, 8)] if n > 128 else []
            shapes = [*wide, (rows, 128, inner, merge, True, 4)]
            if rows == 64:
                shapes.append((64, 256 if n > 128 else 128, inner, merge, False, 8))
    found = []
    for one_rows, columns, one_inner, one_merge, swap, warps in shapes:
        pointers = Tile(rows=one_rows, columns=columns, inner=one_inner, merge=one_merge, swap=swap, warps=warps)
        forms = [pointers]
        # one descriptor load is one block, so a step takes one block or a part of it, and nothing is gathered
        step = min(one_inner, width)
        if described and limits.descriptors and dtype != torch.float32 and step in (32, 64) and width % step == 0:
            forms.insert(0 if step == one_inner else 1, _with(pointers, inner=step, merge=1, descriptors=True))
        found += forms
    plain = dtype != torch.float32 and not narrow and not split
    if plain and 8 <= height <= 32 and width >= 8 and UNION % height == 32 % width == 0:
        found.append(Tile(rows=UNION, columns=128, inner=32, union=True, warps=8))  # 64 spill registers
    return _deepen(found, (5, 3, 7) if limits.deep else (2,), dtype, limits, lambda tile: (tile.stages + 1) // 2)


def sampled_tiles(height: int, width: int, dtype: torch.dtype, limits: Limits, *, described: bool) -> list[Tile]:
    """Return candidates for the sampled product, the likeliest first; arguments as in `product_tiles`."""
    if dtype == torch.float32:
        rows, own = side(height, 8, 64), side(width, 16, 64)
        shapes = [(rows, columns, 32, max(1, columns // width), False, 4) for columns in (64, own)]
    else:
        rows, own = side(height, 16, 128), side(width, 16, 128)
        # a block's own size first where it is large, as that can be loaded with descriptors; else merged ones
        sizes = (own, 128, 256) if own >= 64 else (128, 256, own)
        shapes = [
            (
                rows,
                columns,
                64,
                max(1, columns // width),
                rows < min(columns, 128),
                8 if rows * columns > 8192 or columns > 128 else 4,
            )
            for columns in sizes
            if rows * columns <= 128 * 128 or limits.descriptors
        ]
    found = []
    for one_rows, columns, inner, merge, swap, warps in dict.fromkeys(shapes):
        pointers = Tile(rows=one_rows, columns=columns, inner=inner, merge=merge, swap=swap, warps=warps)
        forms = [pointers]
        if described and limits.descriptors and merge == 1 and dtype != torch.float32:
            forms.insert(0, _with(pointers, descriptors=True))
        found += forms
    return _deepen(found, (4, 3) if limits.deep else (2,), dtype, limits, lambda tile: max(1, tile.stages - 1))


def _with(tile: Tile, **changes: Any) -> Tile:
    return Tile(**{**tile.as_dict(), **changes})


def _deepen(
    tiles: Iterable[Tile], depths: tuple[int, ...], dtype: torch.dtype, limits: Limits, held: Callable[[Tile], int]
) -> list[Tile]:
    """Return the tiles at the first two of the depths, the first tile at all; what the device cannot hold is out.

    Shared memory holds the tiles of the pipeline, and later the result on its way out.
    """

    def shared(tile: Tile) -> int:
        pipeline = held(tile) * (tile.rows + tile.columns) * tile.inner * dtype.itemsize
        return max(pipeline, tile.rows * tile.columns * dtype.itemsize) + 1024

    found: list[Tile] = []
    for tile in tiles:
        programs = 1 if tile.columns * tile.rows > 128 * 128 else 2
        forms = [_with(tile, stages=depth, programs=programs) for depth in (depths if not found else depths[:2])]
        found += [form for form in forms if shared(form) <= limits.shared]
    return found or [Tile(rows=16, columns=16, inner=16, stages=2)]
