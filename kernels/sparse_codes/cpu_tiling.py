"""Choose how the CPU products cut up the columns of their dense operands, from the sizes of the caches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from sparsebench.kernels.csr.emit import computed
from sparsebench.kernels.microkernels import host
from sparsebench.kernels.microkernels.emit import SIZES
from sparsebench.kernels.microkernels.host import cache_bytes
from sparsebench.kernels.sparse_codes.cpu_generated import LINE, Loop, address

_MIDDLE, _WIDEST = 8, 24
"""Vectors of a tile: enough sums to hide the adder's latency; as many as leave room in 32 registers."""
_AHEAD_BYTES = 16 << 10
"""How far ahead lines are asked for: that hides the way from the third level and fits the second beside the tile."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tiling:
    """How d columns are cut into tiles.

    Attributes:
        dtype: name of the dtype in memory.
        lanes: elements of a vector; fewer than the processor has if d is smaller.
        vectors: of a tile.
        tiles: how many.
        final_vectors: of the last tile.
        tail: lanes of its last vector that lie inside, from 1 to `lanes`.
        ahead: how many entries ahead the lines of a row are asked for; 0 for not at all.
        aligned: whether rows begin where lines do, so that a tile has no more lines than it fills.
    """

    dtype: str
    lanes: int
    vectors: int
    tiles: int
    final_vectors: int
    tail: int
    ahead: int
    aligned: bool

    @property
    def size(self) -> int:
        """Return the bytes of an element in memory."""
        return SIZES[self.dtype]

    @property
    def tile_bytes(self) -> int:
        """Return the bytes of a row of a tile."""
        return self.vectors * self.lanes * self.size

    @property
    def computed(self) -> torch.dtype:
        """Return the dtype of sums."""
        found: torch.dtype = getattr(torch, computed(self.dtype))
        return found

    @lru_cache(maxsize=4096)  # noqa: B019  # tilings are kept in a cache of bounded size anyway
    def pair(self, kind: str, wide: bool = False, adds: bool = False) -> tuple[int, int]:
        """Return the addresses of a kind of function for whole tiles and for the last one; see `Loop`."""
        whole = Loop(
            kind=kind, dtype=self.dtype, lanes=self.lanes, vectors=self.vectors, wide=wide, adds=adds,
            lines=self._lines(self.vectors),
        )  # fmt: skip
        final = address(
            replace(
                whole, vectors=self.final_vectors, tailed=self.tail < self.lanes, lines=self._lines(self.final_vectors)
            )
        )
        return (address(whole) if self.tiles > 1 else final), final

    def _lines(self, vectors: int) -> int:
        return (-(-vectors * self.lanes * self.size // LINE) + (not self.aligned)) if self.ahead else 0


def tiling(x: torch.Tensor, rows: int, *, dots: bool = False) -> Tiling:
    """Return the tiling of a product.

    Args:
        x: (…, d), the dense operand of which entries pick rows.
        rows: how many rows are picked, each counted once.
        dots: whether a row of the other operand stays in registers beside as many sums as a vector has lanes.
    """
    row = x.stride(0) * x.element_size()
    return _tiling(x.dtype, x.shape[1], rows, (x.data_ptr() | row) % LINE == 0, dots)


@lru_cache(maxsize=1024)
def _tiling(kind: torch.dtype, d: int, rows: int, aligned: bool, dots: bool) -> Tiling:
    dtype = str(kind).removeprefix("torch.")
    lanes = host.vector_bytes() // (8 if computed(dtype) == "float64" else 4)
    while lanes > 1 and lanes // 2 >= d:
        lanes //= 2
    column = max(1, rows) * lanes * SIZES[dtype]  # bytes of one vector of every row
    second, third = cache_bytes(2) // 2, cache_bytes(3) // 2
    widest = _MIDDLE if dots or host.vector_bytes() < 64 else _WIDEST
    # rows that fit the second level stay there from tile to tile; those that fit the third are read from memory once.
    # What fits neither is read in long pieces, which lie in few pages
    eight = column * _MIDDLE
    most = min(widest, second // column) if eight <= second else _MIDDLE if eight <= third else widest
    needed = -(-d // lanes)
    tiles = -(-needed // most)
    vectors = -(-needed // tiles)  # of about the same width, so that the last one is no short one
    tiles = -(-needed // vectors)
    left = d - (tiles - 1) * vectors * lanes
    final = -(-left // lanes)
    nearby = column * vectors <= second
    ahead = 0 if nearby else max(4, min(64, _AHEAD_BYTES // (vectors * lanes * SIZES[dtype])))
    return Tiling(
        dtype=dtype, lanes=lanes, vectors=vectors, tiles=tiles, final_vectors=final, tail=left - (final - 1) * lanes,
        ahead=ahead, aligned=aligned,
    )  # fmt: skip


def kernel_name(dtype: torch.dtype) -> str:
    """Return what tables call the generated loops, their vectors and what halves are computed in."""
    own = str(dtype).removeprefix("torch.")
    sums = computed(own)
    return f"generated {host.vector_bytes() * 8}-bit gathers, numba" + ("" if sums == own else f", {own} in {sums}")
