"""Choose how the CPU products cut up the columns of their dense operands."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from sparsebench.kernels.csr.emit import computed
from sparsebench.kernels.csr.generated import Loop, address
from sparsebench.kernels.microkernels import host
from sparsebench.kernels.microkernels.emit import SIZES
from sparsebench.kernels.microkernels.host import cache_bytes

WIDEST = 4
"""Vectors of a tile: with two sums each they hide the adder's latency, and they leave room in 16 registers."""
_REUSE = 4
"""Times that a packed element of x has to be read, on average, for packing to pay."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tiling:
    """How n columns are cut into tiles.

    Attributes:
        dtype: name of the dtype in memory.
        lanes: elements of a vector; fewer than the processor has if n is smaller.
        vectors: of a tile.
        tiles: how many.
        final_vectors: of the last tile.
        tail: lanes of its last vector that lie inside, from 1 to `lanes`.
        packs: whether tiles of x are copied side by side, so that they fill the second-level cache evenly. Where they
            stand, rows of x that lie a power of two apart compete for a few of its sets.
        gathers: whether the columns of x lie apart, so that packing goes element by element.
    """

    dtype: str
    lanes: int
    vectors: int
    tiles: int
    final_vectors: int
    tail: int
    packs: bool
    gathers: bool

    @cached_property
    def size(self) -> int:
        """Return the bytes of an element in memory."""
        return SIZES[self.dtype]

    @cached_property
    def columns(self) -> int:
        """Return the columns of a tile."""
        return self.vectors * self.lanes

    @cached_property
    def tile_bytes(self) -> int:
        """Return the bytes of a row of a tile."""
        return self.columns * self.size

    @cached_property
    def computed(self) -> torch.dtype:
        """Return the dtype of sums."""
        found: torch.dtype = getattr(torch, computed(self.dtype))
        return found

    @lru_cache(maxsize=4096)  # noqa: B019  # tilings are kept in a cache of bounded size anyway
    def pair(self, kind: str, wide: bool = False, adds: bool = False) -> tuple[int, int]:
        """Return the addresses of a kind of function for whole tiles and for the last one; see `Loop`."""
        whole = Loop(kind=kind, dtype=self.dtype, lanes=self.lanes, vectors=self.vectors, wide=wide, adds=adds)
        final = address(replace(whole, vectors=self.final_vectors, tailed=self.tail < self.lanes))
        return (address(whole) if self.tiles > 1 else final), final


def tiling(x: Tensor, nnz: int, rows: int, *, sums: bool = False) -> Tiling:
    """Return the tiling of a product.

    Args:
        x: (..., rows of x, n), the dense operand of which elements pick rows.
        nnz: stored elements.
        rows: of the panel that is walked about in at random: of x, or of the result with `sums`.
        sums: whether that panel holds sums, and x is read once, row by row, where it stands.
    """
    row, column = x.stride()[-2:]
    n = x.shape[-1]
    return _tiling(x.dtype, n, rows, row, column == 1 or n == 1, nnz >= _REUSE * rows, sums)


@lru_cache(maxsize=1024)
def _tiling(kind: torch.dtype, n: int, rows: int, row: int, adjacent: bool, reused: bool, sums: bool) -> Tiling:
    dtype = str(kind).removeprefix("torch.")
    computed_size = 8 if computed(dtype) == "float64" else 4
    lanes = host.vector_bytes() // computed_size
    while lanes > 1 and lanes // 2 >= n:
        lanes //= 2
    size = computed_size if sums else SIZES[dtype]
    needed = -(-n // lanes)
    fitting = cache_bytes(2) // 2 // max(1, rows * lanes * size)
    # a panel that does not fit in the cache anyway is best read in long pieces
    vectors = min(needed, WIDEST, fitting if fitting >= 1 else WIDEST)
    columns = vectors * lanes
    tiles = -(-n // columns)
    left = n - (tiles - 1) * columns
    final = -(-left // lanes)
    apart = tiles > 1 or row > 2 * columns
    return Tiling(
        dtype=dtype, lanes=lanes, vectors=vectors, tiles=tiles, final_vectors=final, tail=left - (final - 1) * lanes,
        packs=not sums and (not adjacent or (reused and apart)), gathers=not adjacent,
    )  # fmt: skip


def kernel_name(dtype: torch.dtype) -> str:
    """Return what tables call the generated loops, their vectors and what halves are computed in."""
    own = str(dtype).removeprefix("torch.")
    sums = computed(own)
    return f"generated {host.vector_bytes() * 8}-bit loops, numba" + ("" if sums == own else f", {own} in {sums}")
