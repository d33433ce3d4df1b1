"""Choose how the CPU products cut up the columns of their dense operands, from the sizes of the caches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from sparsebench.kernels.common import tiling as common
from sparsebench.kernels.common.row_loop import RowLoop
from sparsebench.kernels.microkernels import host
from sparsebench.kernels.microkernels.emit import SIZES
from sparsebench.kernels.microkernels.host import cache_bytes
from sparsebench.kernels.sparse_codes.cpu_generated import LINE, Loop, address

_MIDDLE, _WIDEST = 8, 24
"""Vectors of a tile: enough sums to hide the adder's latency; as many as leave room in 32 registers."""
_FAR = 32
"""How many entries ahead lines of wide tiles may be asked for instead."""
_AHEAD_BYTES = 16 << 10
"""How far ahead lines are asked for: that hides the way from the third level and fits the second beside the tile."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tiling(common.Tiling):
    """How d columns are cut into tiles.

    Attributes:
        ahead: how many entries ahead the lines of a row are asked for; 0 for not at all.
        aligned: whether rows begin where lines do, so that a tile has no more lines than it fills.
    """

    ahead: int
    aligned: bool

    def loop(self, kind: str, vectors: int, wide: bool, adds: bool) -> Loop:
        """Return what a function over tiles of so many vectors is."""
        lines = -(-vectors * self.lanes * self.size // LINE) + (not self.aligned) if self.ahead else 0
        return Loop(kind=kind, dtype=self.dtype, lanes=self.lanes, vectors=vectors, wide=wide, adds=adds, lines=lines)

    def address(self, loop: RowLoop) -> int:
        """Return the address of such a function, compiled."""
        return address(loop)


@dataclass(frozen=True, kw_only=True)
class Way:
    """How wide tiles are, and how far ahead lines are asked for.

    Attributes:
        vectors: of a tile, at most.
        ahead: entries; 0 for not at all.
    """

    vectors: int
    ahead: int


def ways(x: torch.Tensor, rows: int, *, dots: bool = False) -> list[Way]:
    """Return what may be faster than what the sizes of the caches suggest, that first; arguments as in `tiling`."""
    usual = tiling(x, rows, dots=dots)
    widths = (_MIDDLE, *(() if dots or host.vector_bytes() < 64 else (2 * _MIDDLE, _WIDEST)))
    found = [Way(vectors=usual.vectors, ahead=usual.ahead), Way(vectors=usual.vectors, ahead=0)]
    found += [Way(vectors=vectors, ahead=0) for vectors in widths]
    found += [Way(vectors=vectors, ahead=_FAR) for vectors in widths[1:]]
    made: dict[tuple[int, int], Way] = {}
    for way in found:  # widths that come to the same tiles are tried once
        t = tiling(x, rows, dots=dots, way=way)
        made.setdefault((t.vectors, t.ahead), way)
    return list(made.values())


def tiling(x: torch.Tensor, rows: int, *, dots: bool = False, way: Way | None = None) -> Tiling:
    """Return the tiling of a product.

    Args:
        x: (…, d), the dense operand of which entries pick rows.
        rows: how many rows are picked, each counted once.
        dots: whether a row of the other operand stays in registers beside as many sums as a vector has lanes.
        way: how, None for what the sizes of the caches suggest.
    """
    row = x.stride(0) * x.element_size()
    return _tiling(x.dtype, x.shape[1], rows, (x.data_ptr() | row) % LINE == 0, dots, way)


@lru_cache(maxsize=1024)
def _tiling(kind: torch.dtype, d: int, rows: int, aligned: bool, dots: bool, way: Way | None = None) -> Tiling:
    dtype = str(kind).removeprefix("torch.")
    lanes = common.lanes_for(dtype, d)
    column = max(1, rows) * lanes * SIZES[dtype]  # bytes of one vector of every row
    second, third = cache_bytes(2) // 2, cache_bytes(3) // 2
    widest = _MIDDLE if dots or host.vector_bytes() < 64 else _WIDEST
    # rows that fit the second level stay there from tile to tile; those that fit the third are read from memory once.
    # What fits neither is read in long pieces, which lie in few pages
    eight = column * _MIDDLE
    most = min(widest, second // column) if eight <= second else _MIDDLE if eight <= third else widest
    if way is not None:
        most = way.vectors
    needed = -(-d // lanes)
    tiles = -(-needed // most)
    vectors = -(-needed // tiles)  # of about the same width, so that the last one is no short one
    nearby = column * vectors <= second
    ahead = 0 if nearby else max(4, min(64, _AHEAD_BYTES // (vectors * lanes * SIZES[dtype])))
    if way is not None:
        ahead = way.ahead
    return Tiling(
        dtype=dtype, lanes=lanes, vectors=vectors, ahead=ahead, aligned=aligned, **common.ends(d, lanes, vectors)
    )
