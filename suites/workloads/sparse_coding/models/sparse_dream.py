"""Learn a dictionary with SparseDream: logistic units whose thresholds keep each of them on for a share p of images.

    o = σ(W v − t),  r = Wᵀ o,  e = v − r
    W += ξ W ⊙ [o (e ÷ max(r, ε))ᵀ]
    t += γ (o − p)

A batch takes the mean of these steps, so that a batch of one is the rule of one image, and a batch of n at n times the
rates goes about as far.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsebench.suites.workloads.sparse_coding.models._rules import (
    check_positive,
    check_rates,
    check_share,
    held,
    scaled_step,
    sound,
    uniform,
)
from sparsebench.suites.workloads.sparse_coding.models.coder import CoderSettings, SparseCoder


@dataclass(frozen=True, kw_only=True)
class SparseDreamSettings(CoderSettings):
    """What SparseDream learns with.

    Attributes:
        rate: ξ; falls to 0 in `fit`.
        gamma: γ, the rate of the thresholds; falls to 0 in `fit`.
        activity: p, the mean that each unit is held at.
        epsilon: ε, the smallest reconstruction that an error is divided by.
    """

    batch: int = 32
    rate: float = 1.0
    gamma: float = 10.0
    activity: float = 0.05
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rates(self, "rate", "gamma")
        check_share(self, "activity")
        check_positive(self, "epsilon")


class SparseDream(SparseCoder):
    """Code with o = σ(W v − t); see the module. Codes are strided: no entry is exactly zero."""

    name = "sparse-dream"
    follows = False
    settings: SparseDreamSettings

    def _start(self, images: Tensor, generator: torch.Generator) -> None:
        drawn = uniform(self.settings.units, images.shape[1], 0.1, 1.0, generator)
        self._dictionary = drawn.to(self.device, self.dtype)
        # A threshold of zero would leave every unit on at first, and its weights would be gone before it has risen.
        self._thresholds = (images @ self._dictionary.t()).mean(0)

    def _encode(self, images: Tensor) -> Tensor:
        return torch.sigmoid(images @ self._dictionary.t() - self._thresholds)

    def _learn(self, images: Tensor) -> float:
        code, settings = self._encode(images), self.settings
        left = 1.0 - self.elapsed
        self._dictionary, level = scaled_step(
            held(self, code), images, self._dictionary, rate=left * settings.rate, epsilon=settings.epsilon
        )
        self._thresholds = self._thresholds + left * settings.gamma * (code.mean(0) - settings.activity)
        return sound(level, self._dictionary, left * settings.rate)

    def _parameters(self) -> dict[str, Tensor]:
        return {"dictionary": self._dictionary, "thresholds": self._thresholds}
