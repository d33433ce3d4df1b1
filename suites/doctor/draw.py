"""Draw products, let one be chosen for each, and compare it with the best of all candidates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from sparsebench.kernels.block_sparse import cpu_choice, cpu_trial
from sparsebench.kernels.block_sparse.cpu_launch import NARROW
from sparsebench.kernels.block_sparse.layout import BlockIndex, blocks_from_elements
from sparsebench.kernels.common import chooser
from sparsebench.kernels.common.race import duel, race

PRODUCTS = ("dsd", "dsdᵀ", "dds", "sdd", "sddᵀ")
_POWERS = (512, 1024, 2048)


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A product that was drawn; see `cpu_choice.choose`."""

    product: str
    index: BlockIndex
    dtype: torch.dtype
    n: int

    @property
    def told(self) -> str:
        """Return it in words."""
        (m, k), block = self.index.shape, self.index.block[0]
        share = self.index.blocks * block * block / (m * k)
        return f"{self.product:<4} {m}×{k}, n {self.n}, {share:.0%} in blocks of {block}, {str(self.dtype)[6:]}"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came out for one product.

    Attributes:
        told: the product.
        chosen: the name of what was chosen.
        best: the name of the fastest candidate.
        ratio: the speed of what was chosen ÷ that of the best.
        error: of the ratio, one standard deviation.
    """

    told: str
    chosen: str
    best: str
    ratio: float
    error: float


def draw(count: int, seed: int) -> Iterator[Drawn]:
    """Draw products: sizes of 300 to 3000 and powers of two, 2 to 50 % stored, n of 1 to 1500."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        product = str(rng.choice(PRODUCTS))
        block = int(rng.choice((8, 16, 32, 64)))
        m, k = (int(rng.choice(_POWERS) if rng.random() < 0.5 else rng.integers(300, 3001)) for _ in range(2))
        n = int(2 ** rng.integers(0, 11)) if rng.random() < 0.4 else int(np.exp(rng.uniform(0, np.log(1500))))
        share = float(np.exp(rng.uniform(np.log(0.02), np.log(0.5))))
        dtype = torch.bfloat16 if rng.random() < 0.25 else torch.float32
        places = np.nonzero(rng.random((-(-m // block), -(-k // block))) < share)
        rows, columns = (torch.from_numpy(part * block) for part in places)
        index, _ = blocks_from_elements(rows, columns, torch.ones(len(rows)), (m, k), (block, block))
        if product.startswith("dsd") and n < NARROW:  # as it is computed: lanes along the blocks
            product = "ddsᵀ" if product == "dsd" else "dds"
        yield Drawn(product=product, index=index, dtype=dtype, n=n)


def compare(drawn: Drawn, *, bound_s: float = 3.0) -> Result:
    """Return how fast what is chosen is beside the best of all candidates, on the whole product.

    Args:
        drawn: the product.
        bound_s: seconds to look for the best candidate, and as much again to tell it from what was chosen.
    """
    given = (drawn.product, drawn.index, drawn.dtype, drawn.n)
    chosen = cpu_choice.choose(*given)
    whole = cpu_trial.problem(drawn.product, drawn.index, drawn.n, drawn.dtype, drawn.n)
    listed = cpu_choice.candidates(drawn.product, drawn.index.block, drawn.dtype, drawn.n)
    others = [candidate for candidate in listed if candidate != chosen]
    found = race(
        [chosen, *others],
        whole.run,
        enter=cpu_trial.checked(whole, drawn.dtype),
        between=chooser.other_work,
        turn=whole.turn,
        bound_s=bound_s,
    )
    best = chosen if found is None else found.best
    ratio, error = 1.0, 0.0
    if best != chosen:
        slower, error = duel(chosen, best, whole.run, between=chooser.other_work, turn=whole.turn, bound_s=bound_s)
        ratio = 1 / slower
        chooser.lost(cpu_choice.machine(), cpu_choice.key_of(*given), chosen, slower - 2 * error)
    return Result(told=drawn.told, chosen=chosen.name, best=best.name, ratio=ratio, error=error)


def summary(results: list[Result]) -> str:
    """Return the least and the mean of the ratios."""
    ratios = np.array([result.ratio for result in results])
    return f"chosen ÷ best over {len(ratios)} products: least {ratios.min():.3f}, mean {ratios.mean():.3f}"
