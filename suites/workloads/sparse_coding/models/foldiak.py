"""Learn parts of images with Foldiak's network: Hebbian weights, anti-Hebbian inhibition, and thresholds.

    dy*/dt = f(Q x + L y* − t) − y*,  f(u) = 1 ÷ (1 + e^(−λu)),  λ = 10,  y = [y* > ½]
    ΔL = −α (y yᵀ − p²), then L ≤ 0 with a diagonal of 0;  ΔQ = β y (x − Q);  Δt = γ (y − p)

(Foldiak 1990, Forming sparse representations by local anti-Hebbian learning). Units that are on together come to
inhibit each other, so that each finds a part of its own. A batch takes the mean of its images' steps: a batch of one is
the rule of one image. As with Foldiak, thresholds settle alone before anything else is learned.

A unit's row of Q tends to the mean of the images that it is on for, which holds more than the unit's own part, so that
y Q is too bright. The code is therefore decoded by a dictionary of its own, learned beside by least squares:

    W += η D⁻¹ Yᵀ (X − Y W),  D = diag(Yᵀ Y 1)

over a batch. D exceeds YᵀY by diagonal dominance, so that η ≤ 1 never overshoots; of one image it is the normalised
LMS rule. Nothing else depends on W.
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
    uniform,
)
from sparsebench.suites.workloads.sparse_coding.models.coder import CoderSettings, SparseCoder


@dataclass(frozen=True, kw_only=True)
class FoldiakSettings(CoderSettings):
    """What Foldiak's network learns with; the rates are for a batch of 16, and fall to 0 in `fit`.

    Attributes:
        alpha: α, the rate of the inhibition.
        beta: β, the rate of the forward weights.
        gamma: γ, the rate of the thresholds.
        activity: p, the share of images that each unit is on for; 1/8 with Foldiak's bars.
        gain: λ, how steep f is.
        decoding: η, the rate of the dictionary.
        steps: Euler steps to settle y*; Foldiak's network has settled after about 40 of the default size.
        step: their size in time constants.
        settling: batches at the beginning of learning in which only thresholds move.
    """

    batch: int = 16
    alpha: float = 0.5
    beta: float = 0.2
    gamma: float = 0.2
    activity: float = 1 / 8
    gain: float = 10.0
    decoding: float = 0.1
    steps: int = 40
    step: float = 0.2
    settling: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rates(self, "alpha", "beta", "gamma", "decoding")
        check_share(self, "activity")
        check_positive(self, "gain", "step")
        if self.steps < 1 or self.settling < 0 or self.step > 1:
            raise ValueError(f"expected at least 1 step, of size at most 1, and settling ≥ 0, got {self}")


class Foldiak(SparseCoder):
    """Code with binary units that inhibit each other; see the module. Codes are strided, of zeros and ones."""

    name = "foldiak"
    follows = False
    settings: FoldiakSettings

    def _start(self, images: Tensor, generator: torch.Generator) -> None:
        units, pixels = self.settings.units, images.shape[1]
        drawn = uniform(units, pixels, 0.0, 1.0, generator)
        drawn /= drawn.norm(dim=1, keepdim=True)
        self._forward = drawn.to(self.device, self.dtype)
        self._inhibition = torch.zeros(units, units, dtype=self.dtype, device=self.device)
        self._thresholds = (images @ self._forward.t()).mean(0)
        self._dictionary = torch.zeros(units, pixels, dtype=self.dtype, device=self.device)
        self._seen = torch.zeros((), dtype=torch.int64)

    def settled(self, images: Tensor) -> Tensor:
        """Return y* (n, N) of images (n, d) after `steps` Euler steps from y* = 0."""
        s = self.settings
        drives = images @ self._forward.t() - self._thresholds
        state = torch.zeros_like(drives)
        for _ in range(s.steps):
            state = state + s.step * (torch.sigmoid(s.gain * (drives + state @ self._inhibition)) - state)
        return state

    def _encode(self, images: Tensor) -> Tensor:
        return (self.settled(images) > 0.5).to(self.dtype)  # L is symmetric: y L = L y

    def _learn(self, images: Tensor) -> float:
        s, n, left = self.settings, len(images), 1.0 - self.elapsed
        code = self._encode(images)
        self._thresholds = self._thresholds + left * s.gamma * (code.mean(0) - s.activity)
        stored = held(self, code)
        error = images - stored.matmul(self._dictionary)
        self._seen += 1
        if int(self._seen) > s.settling:
            weights = (code * code.sum(1, keepdim=True)).sum(0).clamp_min(1.0)
            both = stored.rmatmul(torch.cat((images, error), 1))
            won, missed = both[:, : images.shape[1]], both[:, images.shape[1] :]
            self._dictionary = self._dictionary + left * s.decoding * missed / weights.unsqueeze(1)
            self._forward = self._forward + left * s.beta / n * (won - code.sum(0).unsqueeze(1) * self._forward)
            together = code.t() @ code / n - s.activity**2
            self._inhibition = (self._inhibition - left * s.alpha * together).clamp_max_(0.0).fill_diagonal_(0.0)
        return float(error.abs().sum(1).mean())

    def _parameters(self) -> dict[str, Tensor]:
        return {
            "dictionary": self._dictionary,
            "forward": self._forward,
            "inhibition": self._inhibition,
            "thresholds": self._thresholds,
            "seen": self._seen,
        }

    def multiply_adds(self) -> int:
        """Return N · d for the drives and N² for each Euler step."""
        units = self.settings.units
        return units * self._pixels_known() + self.settings.steps * units * units
