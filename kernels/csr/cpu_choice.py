"""Choose how self @ x is computed: measured on the operands at hand, once per machine and size class, and kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import llvmlite
import numba
import torch
from torch import Tensor

from sparsebench.kernels.common import choices, jit
from sparsebench.kernels.common.tiling import lanes_for
from sparsebench.kernels.common.timing import fastest
from sparsebench.kernels.csr.layout import RowIndex
from sparsebench.kernels.microkernels import host

SMALL = 1 << 18
"""Multiplications below which nothing is measured: the default takes a few microseconds."""
_LARGE = 1 << 21
"""Multiplications from which on an order of its own may pay."""
_REUSE = 8
"""Times that a row of x has to be read for that, on average."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How self @ x is computed.

    Attributes:
        way: "rows": rows of x are read where they stand. "panel": tiles of x are packed side by side for the
            second-level cache. "blocks": by blocks of columns, whose rows of x fit the first-level cache.
        vectors: of a tile, at most; 0 for what half of the second-level cache holds.
    """

    way: str
    vectors: int


PANEL = Choice(way="panel", vectors=0)


def default(dtype: torch.dtype, n: int, adjacent: bool) -> Choice:
    """Return what is taken unmeasured, for x of n columns that are `adjacent` in memory or not."""
    return _tiles(dtype, n)[0] if adjacent else PANEL


def candidates(index: RowIndex, dtype: torch.dtype, n: int, adjacent: bool) -> list[Choice]:
    """Return what may win, the default first."""
    found = [*(_tiles(dtype, n) if adjacent else ()), PANEL]
    if index.nnz * n >= _LARGE and index.nnz >= _REUSE * index.shape[1]:
        found.append(Choice(way="blocks", vectors=4))
    return found


def choose(index: RowIndex, x: Tensor, run: Callable[[Choice], object]) -> Choice:
    """Return how to compute a product.

    Args:
        index: of the stored elements.
        x: (…, k, n).
        run: computes it in a given way.
    """
    n, row = x.shape[-1], x.stride(-2)
    adjacent = x.stride(-1) == 1 or n == 1
    if index.nnz * x.numel() < SMALL * index.shape[1]:
        return default(x.dtype, n, adjacent)
    m, k = index.shape
    key = (
        x.dtype, m.bit_length(), k.bit_length(), _half_octave(index.nnz), -(-n // lanes_for(str(x.dtype)[6:], n)),
        adjacent, row * x.element_size() % 4096 == 0, jit.threads(),
    )  # fmt: skip
    found = _chosen.get(key)
    if found is None:
        found = _chosen[key] = _measured(index, x, key, run)
    return found


_chosen: dict[tuple[object, ...], Choice] = {}


def _measured(index: RowIndex, x: Tensor, key: tuple[object, ...], run: Callable[[Choice], object]) -> Choice:
    text = f"csr forward {' '.join(str(part).removeprefix('torch.') for part in key)}"
    possible = candidates(index, x.dtype, x.shape[-1], bool(key[5]))
    known = choices.recall(_machine(), text)
    for candidate in possible:
        if known == vars(candidate):
            return candidate
    for candidate in possible:  # what is compiled at its first call is not timed
        run(candidate)
    best = fastest(possible, run)
    choices.remember(_machine(), text, vars(best))
    if best.way != "blocks":
        index.forget_column_blocks()
    return best


@cache
def _machine() -> str:
    """Return what a choice depends on."""
    return f"{host.processor()} {host.vector_bytes()} numba {numba.__version__} llvmlite {llvmlite.__version__}"


def _half_octave(count: int) -> int:
    """Return the number of the half power of two that a positive count lies in."""
    bits = count.bit_length()
    return 2 * bits + (count * count >> (2 * bits - 1))


@cache
def _tiles(dtype: torch.dtype, n: int) -> tuple[Choice, ...]:
    """Return the widths that rows may be read in: enough sums to hide the adder's latency, or as many as fit registers."""
    needed = -(-n // lanes_for(str(dtype).removeprefix("torch."), n))
    most = (8, 16, 4) if host.vector_bytes() == 64 else (8, 4)
    widths = {
        -(-needed // -(-needed // vectors)): None for vectors in most
    }  # of about the same width, the last one too
    return tuple(Choice(way="rows", vectors=vectors) for vectors in widths)
