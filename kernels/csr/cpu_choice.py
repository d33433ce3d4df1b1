"""Choose how self @ x is computed: measured for the matrix at hand, once a machine and size class, kept on disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from sparsebench.kernels.common import chooser, jit, processor
from sparsebench.kernels.common.chooser import Trial
from sparsebench.kernels.common.tiling import lanes_for
from sparsebench.kernels.csr.layout import RowIndex
from sparsebench.kernels.microkernels import host

SMALL = 1 << 18
"""Multiplications below which nothing is measured: the default takes some ten microseconds."""
_LARGE = 1 << 21
"""Multiplications from which on an order of its own may pay."""
_REUSE = 8
"""Times that a row of x has to be read for that, on average."""
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-12, torch.float16: 1e-2, torch.bfloat16: 5e-2}
_CHECKED = 1 << 24
"""Multiplications that a check may take, two columns in any case."""
_BOUND_S = 0.5
"""Seconds that the choice for one size class may take."""


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
        found += [Choice(way="blocks", vectors=vectors) for vectors in _widths(dtype, n, (4, 8))]
    return found


Product = Callable[[RowIndex, Tensor, Tensor, Tensor, Choice], None]
"""Writes self @ x to its fourth argument: takes the index, values, x, the result and the choice."""


def choose(index: RowIndex, x: Tensor, product: Product) -> Choice:
    """Return how to compute self @ x.

    Args:
        index: of the stored elements.
        x: (k, n) or (items, k, n); only its sizes and strides matter.
        product: what is measured.
    """
    n = x.shape[-1]
    row, column = x.stride()[-2:]
    adjacent = column == 1 or n == 1
    if index.nnz * n < SMALL:
        return default(x.dtype, n, adjacent)
    m, k = index.shape
    aligned = row * x.element_size() % 4096 == 0
    kind = (x.dtype, m.bit_length(), k.bit_length(), _half_octaves(index.nnz), n if n < 512 else n >> 8 << 8, adjacent,
            aligned, jit.threads())  # fmt: skip
    found = _known.get(kind)
    if found is None or found[0] != chooser.changes():
        dtype = str(x.dtype).removeprefix("torch.")
        words = ("side by side" if adjacent else "apart") + (", aligned" if aligned else "")
        key = f"csr forward {dtype} 2^{kind[1]}×2^{kind[2]}, 2^{kind[3]}/2 stored, n {kind[4]} {words}"
        best = chooser.choose(
            processor.machine(), key, candidates(index, x.dtype, n, adjacent), lambda: trial(index, x, product),
            bound_s=_BOUND_S,
        )  # fmt: skip
        index.forget_column_blocks()  # those that were tried: what is used is made again
        _known[kind] = found = chooser.changes(), best
    return found[1]


_known: dict[tuple[Any, ...], tuple[int, Choice]] = {}
"""What was chosen, beside the number of changes that the chooser knew of then: a call must not wait for the rest."""


def trial(index: RowIndex, x: Tensor, product: Product) -> Trial[Choice]:
    """Return a product like the one at hand, of other numbers, and a check of its result against torch's in float64."""
    generator = torch.Generator().manual_seed(0)
    m, k = index.shape
    values = (torch.rand(index.nnz, generator=generator) + 0.5).to(x.dtype)
    like = torch.empty_strided((k, x.shape[-1]), x.stride()[-2:], dtype=x.dtype)
    like.copy_(torch.rand(like.shape, generator=generator) + 0.5)
    out = torch.empty((m, x.shape[-1]), dtype=x.dtype)
    checked = min(x.shape[-1], max(2, min(8, _CHECKED // max(1, index.nnz))))
    some = torch.linspace(0, x.shape[-1] - 1, checked).long()  # the first column and the last among them
    rows, picked = index.rows(), like[:, some].double()
    want = torch.zeros((m, some.numel()), dtype=torch.float64)
    for column in range(some.numel()):  # one by one: nothing of the size of values times columns is made
        want[:, column].index_add_(0, rows, values.double() * picked[index.col.long(), column])

    def run(choice: Choice) -> Tensor:
        product(index, values, like, out, choice)
        return out

    def right(choice: Choice) -> bool:
        out.fill_(torch.nan)
        got = run(choice)[:, some].double()
        return bool((got - want).abs().max() <= _TOLERANCE[x.dtype] * want.abs().max())

    return Trial(run=run, right=right)


def _half_octaves(count: int) -> int:
    """Return in which half power of two a positive count lies."""
    bits = count.bit_length()
    return 2 * bits + (count * count >> (2 * bits - 1))


@cache
def _tiles(dtype: torch.dtype, n: int) -> tuple[Choice, ...]:
    """Return the widths of tiles read in place: enough sums to hide the adder's latency, or what fits registers."""
    most = (8, 16, 4) if host.vector_bytes() == 64 else (8, 4)
    return tuple(Choice(way="rows", vectors=vectors) for vectors in _widths(dtype, n, most))


@cache
def _widths(dtype: torch.dtype, n: int, most: tuple[int, ...]) -> tuple[int, ...]:
    """Return the vectors of tiles of at most so many: of about the same width, so that the last one is no short one."""
    needed = -(-n // lanes_for(str(dtype).removeprefix("torch."), n))
    return tuple(dict.fromkeys(-(-needed // -(-needed // vectors)) for vectors in most))
