"""Cut the columns of a dense operand into tiles of vectors, for the generated loops over rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import torch

from sparsebench.kernels.common.row_loop import RowLoop
from sparsebench.kernels.common.tailed import computed
from sparsebench.kernels.microkernels import host
from sparsebench.kernels.microkernels.emit import SIZES


@dataclass(frozen=True, kw_only=True, eq=False)
class Tiling:
    """How n columns are cut into tiles; a subclass says which loops walk over them.

    Attributes:
        dtype: name of the dtype in memory.
        lanes: elements of a vector; fewer than the processor has if n is smaller.
        vectors: of a tile.
        tiles: how many.
        final_vectors: of the last tile.
        tail: lanes of its last vector that lie inside, from 1 to `lanes`.
    """

    dtype: str
    lanes: int
    vectors: int
    tiles: int
    final_vectors: int
    tail: int

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

    def loop(self, kind: str, vectors: int, wide: bool, adds: bool) -> RowLoop:
        """Return what a function over tiles of so many vectors is."""
        raise NotImplementedError

    def address(self, loop: RowLoop) -> int:
        """Return the address of such a function, compiled."""
        raise NotImplementedError

    @lru_cache(maxsize=4096)  # noqa: B019  # tilings are kept in a cache of bounded size anyway
    def pair(self, kind: str, wide: bool = False, adds: bool = False) -> tuple[int, int]:
        """Return the addresses of a kind of function for whole tiles and for the last one; see the folder's `Loop`."""
        last = replace(self.loop(kind, self.final_vectors, wide, adds), tailed=self.tail < self.lanes)
        final = self.address(last)
        return (self.address(self.loop(kind, self.vectors, wide, adds)) if self.tiles > 1 else final), final


def lanes_for(dtype: str, n: int) -> int:
    """Return the elements of a vector for n columns: the processor's, or a half or a quarter … of them."""
    lanes = host.vector_bytes() // (8 if computed(dtype) == "float64" else 4)
    while lanes > 1 and lanes // 2 >= n:
        lanes //= 2
    return lanes


def ends(n: int, lanes: int, vectors: int) -> dict[str, int]:
    """Return how many tiles of so many vectors n columns are, and what the last one holds, as `Tiling` calls them."""
    tiles = -(-n // (vectors * lanes))
    left = n - (tiles - 1) * vectors * lanes
    final = -(-left // lanes)
    return {"tiles": tiles, "final_vectors": final, "tail": left - (final - 1) * lanes}


def kernel_name(dtype: torch.dtype, what: str) -> str:
    """Return what tables call generated loops, their vectors and what halves are computed in."""
    own = str(dtype).removeprefix("torch.")
    sums = computed(own)
    return f"generated {host.vector_bytes() * 8}-bit {what}, numba" + ("" if sums == own else f", {own} in {sums}")
