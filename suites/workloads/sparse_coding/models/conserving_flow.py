"""Learn a dictionary with a flow that really is conserved: every image's code sums to f times its ink.

The notebook's rule moves thresholds that all images share, so Σo meets f Σv at best on average. Here each image has one
shift s more, which all of its thresholds share:

    o = σ(W v − t − s),  s such that Σo = f Σv

The sum falls strictly with s, so there is exactly one solution while 0 < f Σv < N: a safeguarded Newton iteration finds
it for a whole batch (`shifted_code`). Learning takes the same step of the dictionary as the notebook. The notebook's
step of the thresholds is γ (Σo − f Σv) o, which is zero here; in its place the units share the flow evenly,

    t += γ (o − Σo ÷ N)

or, with γ = 0, stay with thresholds of zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsebench.suites.workloads.sparse_coding.models._rules import (
    check_positive,
    check_rates,
    held,
    scaled_step,
    sound,
    uniform,
)
from sparsebench.suites.workloads.sparse_coding.models.coder import CoderSettings, SparseCoder

ITERATIONS = 64
"""At most: bisection alone would halve a bracket of 1,000 down to float32's resolution in about 34."""


@dataclass(frozen=True, kw_only=True)
class ConservingFlowSettings(CoderSettings):
    """What the network learns with.

    Attributes:
        flow: f, Σo ÷ Σv of every image.
        rate: ξ, the rate of the dictionary; falls to 0 in `fit`.
        gamma: γ, the rate at which units come to share the flow evenly; falls to 0 in `fit`.
        epsilon: ε, the smallest reconstruction that an error is divided by.
    """

    batch: int = 32
    flow: float = 0.2
    rate: float = 1.0
    gamma: float = 3.0
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rates(self, "rate", "gamma")
        check_positive(self, "flow", "epsilon")


def shifted_code(drives: Tensor, targets: Tensor) -> Tensor:
    """Return o = σ(z − s), with one s a row such that Σo is the row's target.

    The bracket is where all entries equal the smallest or the largest drive: s = z_min − logit(c/N) gives at least c,
    s = z_max − logit(c/N) at most c. A Newton step that leaves it is replaced by its middle. The shift is measured from
    the row's largest drive, since large numbers would hide it in rounding.

    Args:
        drives: z (n, N).
        targets: c (n,). What no code can meet is defined: all zeros if c ≤ 0, all ones if c ≥ N.

    Returns:
        (n, N), each row's sum within 1e-5 of its target in float32, relative.
    """
    units = drives.shape[1]
    feasible = (targets > 0) & (targets < units)
    c = torch.where(feasible, targets, targets.new_full((), 0.5 * units)).unsqueeze(1)
    z = drives - drives.amax(1, keepdim=True)
    odds = torch.log(c) - torch.log(units - c)
    low, high = z.amin(1, keepdim=True) - odds, -odds
    shift = high.clone()
    tolerance = 8 * torch.finfo(z.dtype).eps
    for iteration in range(ITERATIONS):
        code = torch.sigmoid(z - shift)
        excess = code.sum(1, keepdim=True) - c
        if iteration % 4 == 3 and bool((excess.abs() <= tolerance * c).all()):  # asked rarely: a GPU would have to wait
            break
        low, high = torch.where(excess > 0, shift, low), torch.where(excess > 0, high, shift)
        slope = (code * (1 - code)).sum(1, keepdim=True)
        newton = shift + excess / slope.clamp_min(torch.finfo(z.dtype).tiny)
        inside = (newton > low) & (newton < high)
        shift = torch.where(excess == 0, shift, torch.where(inside, newton, 0.5 * (low + high)))
    code = torch.sigmoid(z - shift)
    impossible = (targets >= units).to(z.dtype).unsqueeze(1).expand_as(code)
    return torch.where(feasible.unsqueeze(1), code, impossible)


class ConservingFlow(SparseCoder):
    """Code with Σo = f Σv for every image; see the module. Codes are strided.

    A blank image has a code of zeros; one with f Σv ≥ N, a code of ones.
    """

    name = "conserving-flow"
    follows = False
    settings: ConservingFlowSettings

    def _start(self, images: Tensor, generator: torch.Generator) -> None:
        drawn = uniform(self.settings.units, images.shape[1], 0.1, 1.0, generator)
        self._dictionary = drawn.to(self.device, self.dtype)
        self._thresholds = torch.zeros(self.settings.units, dtype=self.dtype, device=self.device)

    def _encode(self, images: Tensor) -> Tensor:
        drives = images @ self._dictionary.t() - self._thresholds
        return shifted_code(drives, self.settings.flow * images.sum(1))

    def _learn(self, images: Tensor) -> float:
        code, settings, left = self._encode(images), self.settings, 1.0 - self.elapsed
        self._dictionary, level = scaled_step(
            held(self, code), images, self._dictionary, rate=left * settings.rate, epsilon=settings.epsilon
        )
        used = code.mean(0)
        self._thresholds = self._thresholds + left * settings.gamma * (used - used.mean())
        return sound(level, self._dictionary, left * settings.rate)

    def _parameters(self) -> dict[str, Tensor]:
        return {"dictionary": self._dictionary, "thresholds": self._thresholds}

    def multiply_adds(self) -> int:
        """Return N · d and one more for each unit and iteration: the product, and the shift's sums at most."""
        return self.settings.units * (self._pixels_known() + ITERATIONS)
