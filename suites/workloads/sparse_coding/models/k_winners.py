"""Learn a dictionary with k winners: the k units that an image drives most keep their drives, all others are silent.

    p = W v,  o = p ⊙ [p among the k largest],  r = Wᵀ o,  e = v − r
    W = max(W + ξ W ⊙ [o (e ÷ max(r, ε))ᵀ], 0)

the mean over a batch. Since o grows with W, a step may turn weights negative: they are cut at 0, and stay there, as the
rule scales with W. Winning units are pulled towards what they win, so that plain k-winners (`boost` 0) leave half of
100 units dead at k = 14; with `boost` > 0 units are chosen by p ⊙ e^{β (k/N − a)} in learning, a being how often a unit
has won of late (Ahmad and Scheinkman 2019, How can we be so dense?), and their values are p as before. Encoding
chooses by p alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsebench.kernels.sparse_codes import products
from sparsebench.suites.workloads.sparse_coding.models._rules import (
    check_positive,
    check_rates,
    held,
    scaled_step,
    uniform,
)
from sparsebench.suites.workloads.sparse_coding.models.coder import CoderSettings, SparseCoder
from sparsebench.suites.workloads.sparse_coding.solvers.code_layouts import csr_code

MEMORY = 0.01
"""The share of a batch in how often a unit has won of late."""


@dataclass(frozen=True, kw_only=True)
class KWinnersSettings(CoderSettings):
    """What k winners learn with.

    Attributes:
        winners: k, from 1 to units.
        rate: ξ; falls to 0 in `fit`.
        boost: β, 0 for none; falls to 0 in `fit`.
        epsilon: ε, the smallest reconstruction that an error is divided by.
    """

    batch: int = 32
    winners: int = 14
    rate: float = 0.5
    boost: float = 10.0
    epsilon: float = 1e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.winners <= self.units:
            raise ValueError(f"expected between 1 and {self.units} winners, got {self.winners}")
        check_rates(self, "rate", "boost")
        check_positive(self, "epsilon")


def winners_of(drives: Tensor, count: int, order: Tensor | None = None) -> Tensor:
    """Return the `count` largest entries of each row as sparse_csr, exactly so many a row, zeros included.

    Args:
        drives: (n, N), of a dtype that the kernels of sparse codes select from: on CUDA not float64.
        count: from 1 to N.
        order: (n, N), what to choose by; the drives themselves if None. Of equals, the first win.

    Returns:
        (n, N), sparse_csr with int64 indices, ascending in a row.
    """
    values, places = products.select(drives if order is None else order, count)
    chosen = values if order is None else drives.gather(1, places.long())
    return csr_code(chosen, places, drives.shape[1])


class KWinners(SparseCoder):
    """Code with the k largest drives; see the module. Codes are sparse_csr with exactly k entries a row."""

    name = "k-winners"
    settings: KWinnersSettings

    def _start(self, images: Tensor, generator: torch.Generator) -> None:
        drawn = uniform(self.settings.units, images.shape[1], 0.1, 1.0, generator)
        # k alike rows of norm 1/√k reconstruct what lies along them, no more: W Wᵀ ≈ 1/k
        drawn /= drawn.norm(dim=1, keepdim=True) * self.settings.winners**0.5
        self._dictionary = drawn.to(self.device, self.dtype)
        share = self.settings.winners / self.settings.units
        self._won = torch.full((self.settings.units,), share, dtype=self.dtype, device=self.device)

    def _encode(self, images: Tensor) -> Tensor:
        return winners_of(images @ self._dictionary.t(), self.settings.winners)

    def _learn(self, images: Tensor) -> float:
        settings, left = self.settings, 1.0 - self.elapsed
        share = settings.winners / settings.units
        drives = images @ self._dictionary.t()
        order = drives * torch.exp(left * settings.boost * (share - self._won)) if settings.boost > 0 else None
        code = winners_of(drives, settings.winners, order)
        moved, level = scaled_step(
            held(self, code), images, self._dictionary, rate=left * settings.rate, epsilon=settings.epsilon
        )
        self._dictionary = moved.clamp_min_(0.0)
        wins = torch.bincount(code.col_indices(), minlength=settings.units).to(self.dtype) / len(images)
        self._won = self._won + MEMORY * (wins - self._won)
        return level

    def _parameters(self) -> dict[str, Tensor]:
        return {"dictionary": self._dictionary, "won": self._won}
