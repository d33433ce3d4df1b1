"""Choose how wide the tiles of the CPU products are, and how far ahead lines are asked for: measured once a machine.

Where the processor keeps many loads on their way by itself, asking for lines takes longer than it saves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sparsebench.kernels.common import chooser, jit, processor
from sparsebench.kernels.common.chooser import Trial
from sparsebench.kernels.sparse_codes.cpu_tiling import Tiling, Way, tiling, ways

SMALL = 1 << 20
"""Multiplications below which nothing is measured."""
_BOUND_S = 0.5
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-12, torch.float16: 1e-2, torch.bfloat16: 5e-2}

Product = Callable[[Tensor, Tensor, Tiling], Tensor]
"""Returns what is computed from (the other operand, x, a tiling): values, or the rows of a in dot products."""


def choose(x: Tensor, picked: int, entries: int, other: Tensor, product: Product, *, dots: bool = False) -> Tiling:
    """Return the tiling of a product.

    Args:
        x: (…, d), the dense operand of which entries pick rows; only its sizes and strides matter.
        picked: how many of its rows are read, each counted once.
        entries: how many there are.
        other: the other operand, of which only the sizes matter.
        product: what is measured.
        dots: as `tiling` has it.
    """
    if entries * x.shape[1] < SMALL:
        return tiling(x, picked, dots=dots)
    usual = tiling(x, picked, dots=dots)
    size = picked.bit_length()
    kind = (x.dtype, x.shape[1], size, entries.bit_length(), usual.aligned, dots, jit.threads())
    found = _known.get(kind)
    if found is None or found[0] != chooser.changes():
        dtype = str(x.dtype).removeprefix("torch.")
        key = f"codes {'dots' if dots else 'gather'} {dtype} {x.shape[1]} of 2^{size} rows, 2^{kind[3]} entries"
        key += " aligned" if usual.aligned else ""
        possible = ways(x, picked, dots=dots)
        best = possible[0] if len(possible) == 1 else chooser.choose(
            processor.machine(), key, possible, lambda: _trial(x, picked, other, product, dots),
            bound_s=_BOUND_S,
        )  # fmt: skip
        _known[kind] = found = chooser.changes(), best
    return tiling(x, picked, dots=dots, way=found[1])


_known: dict[tuple[Any, ...], tuple[int, Way]] = {}
"""What was chosen, beside the number of changes that the chooser knew of then."""


def _trial(x: Tensor, picked: int, other: Tensor, product: Product, dots: bool) -> Trial[Way]:
    """Return the product on other numbers, and a check against it in float64."""
    generator = torch.Generator().manual_seed(0)
    column = torch.rand((len(x), 1), generator=generator) + 0.5
    like = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype)
    like.copy_(column * (torch.rand((1, x.shape[1]), generator=generator) + 0.5))
    drawn = (torch.rand(other.shape, generator=generator) + 0.5).to(x.dtype)
    wanted: list[Tensor] = []

    def run(way: Way) -> Tensor:
        return product(drawn, like, tiling(x, picked, dots=dots, way=way))

    def right(way: Way) -> bool:
        if not wanted:  # the same loop in float64, which the tests hold to the reference
            exact = tiling(like.double(), picked, dots=dots, way=Way(vectors=1, ahead=0))
            wanted.append(product(drawn.double(), like.double(), exact).double())
        want = wanted[0]
        return bool((run(way).double() - want).abs().max() <= _TOLERANCE[x.dtype] * want.abs().max())

    return Trial(run=run, right=right)
