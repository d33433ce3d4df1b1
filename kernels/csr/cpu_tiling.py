"""Choose how the CPU products cut up the columns of their dense operands."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from sparsebench.kernels.common import tiling as common
from sparsebench.kernels.common.row_loop import RowLoop
from sparsebench.kernels.common.tailed import computed
from sparsebench.kernels.csr.cpu_generated import Loop, address
from sparsebench.kernels.microkernels.emit import SIZES
from sparsebench.kernels.microkernels.host import cache_bytes

WIDEST = 4
"""Vectors of a tile: with two sums each they hide the adder's latency, and they leave room in 16 registers."""
_REUSE = 4
"""Times that a packed element of x has to be read, on average, for packing to pay."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tiling(common.Tiling):
    """How n columns are cut into tiles.

    Attributes:
        packs: whether tiles of x are copied side by side, so that they fill the second-level cache evenly. Where they
            stand, rows of x that lie a power of two apart compete for a few of its sets.
        gathers: whether the columns of x lie apart, so that packing goes element by element.
    """

    packs: bool
    gathers: bool

    def loop(self, kind: str, vectors: int, wide: bool, adds: bool) -> Loop:
        """Return what a function over tiles of so many vectors is."""
        return Loop(kind=kind, dtype=self.dtype, lanes=self.lanes, vectors=vectors, wide=wide, adds=adds)

    def address(self, loop: RowLoop) -> int:
        """Return the address of such a function, compiled."""
        return address(loop)


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
def in_place(kind: torch.dtype, n: int, vectors: int) -> Tiling:
    """Return the tiling of n columns, side by side in memory, that are read where they stand."""
    dtype = str(kind).removeprefix("torch.")
    lanes = common.lanes_for(dtype, n)
    return Tiling(
        dtype=dtype, lanes=lanes, vectors=vectors, packs=False, gathers=False, **common.ends(n, lanes, vectors)
    )


@lru_cache(maxsize=1024)
def _tiling(kind: torch.dtype, n: int, rows: int, row: int, adjacent: bool, reused: bool, sums: bool) -> Tiling:
    dtype = str(kind).removeprefix("torch.")
    lanes = common.lanes_for(dtype, n)
    size = SIZES[computed(dtype) if sums else dtype]
    needed = -(-n // lanes)
    fitting = cache_bytes(2) // 2 // max(1, rows * lanes * size)
    # a panel that does not fit in the cache anyway is best read in long pieces
    vectors = min(needed, WIDEST, fitting if fitting >= 1 else WIDEST)
    cut = common.ends(n, lanes, vectors)
    apart = cut["tiles"] > 1 or row > 2 * vectors * lanes
    packs = not sums and (not adjacent or (reused and apart))
    return Tiling(dtype=dtype, lanes=lanes, vectors=vectors, packs=packs, gathers=not adjacent, **cut)
