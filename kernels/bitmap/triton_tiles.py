"""Choose how the Triton kernels of this folder cut their work."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch

from sparsebench.kernels.common.triton_launch import side


@dataclass(frozen=True, kw_only=True)
class Tile:
    """How a kernel cuts its work; all but warps are powers of two.

    Attributes:
        groups: of four rows that a step reads.
        columns: of the dense operand that a program computes; of the sum that a step takes in if sampled.
        octets: of eight columns of S that a step of the narrow product reads.
        warps: of a program.
    """

    groups: int = 1
    columns: int = 1
    octets: int = 8
    warps: int = 4

    def steps(self, chunks: int) -> int:
        """Return how many steps the narrow product takes over so many chunks."""
        return math.ceil(8 * chunks / self.octets)

    def constants(self, names: Collection[str]) -> dict[str, int]:
        """Return what a kernel with such parameters takes as compile-time constants."""
        known = {"GROUPS": self.groups, "COLUMNS": self.columns, "OCTETS": self.octets}
        return {name: one for name, one in known.items() if name in names}

    def options(self, *, nvidia: bool) -> dict[str, int]:
        """Return what the kernels are compiled with: told how many registers there are, ptxas spills none on sm_100."""
        if nvidia:
            return {"num_warps": self.warps, "maxnreg": 255}
        return {"num_warps": max(1, self.warps // 2)}  # AMD's are twice as wide


def narrow_tile(n: int, octets: int, *, transposed: bool) -> Tile:
    """Return the tile of a product with few columns: a lane decodes 32 places at a time.

    Args:
        n: columns of x.
        octets: of eight columns of S, in a row.
        transposed: whether Sᵀ is multiplied: sums of eight columns take more registers than there are then.
    """
    columns = side(n, 1, 4 if transposed else 8)
    if transposed:
        return Tile(groups=16, columns=columns, warps=8 if columns > 2 else 4)
    wide = side(octets, 32, 128)
    return Tile(octets=wide, columns=columns, warps=wide // 32)


def product_tile(n: int, dtype: torch.dtype, *, transposed: bool) -> Tile:
    """Return the tile of a product by matrix instructions: 64 rows, and columns enough to outweigh their decoding."""
    if dtype == torch.float32:  # without matrix instructions, what a step multiplies is held in registers
        return Tile(groups=4, columns=side(n, 16, 32))
    columns = side(n, 16, 128)
    return Tile(groups=16, columns=columns, warps=8 if columns > 128 else 4)


def sampled_tile(n: int, dtype: torch.dtype) -> Tile:
    """Return the tile of a sampled product over n."""
    if dtype == torch.float32:
        return Tile(groups=8, columns=16)
    return Tile(groups=16, columns=side(n, 16, 64), warps=8)


def parts_of(tasks: int, steps: int, processors: int) -> int:
    """Return into how many parts a sum of so many steps is cut, so that four programs a multiprocessor have one."""
    return max(1, min(steps, 4 * processors // max(1, tasks)))
