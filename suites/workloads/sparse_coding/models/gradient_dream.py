"""Learn SparseDream by gradients: an encoder of one or two layers that shares its first weights with the decoder.

    h = relu(W v);  a = h with one layer, a = relu(S h + b) with two;  r = Wᵀ a
    loss = mean over a batch of [‖r − v‖² + λ Σ tanh(a)] + μ Σᵢ (‖wᵢ‖² − 1)²

by torch's autograd and Adam. tanh counts what is on, softly; the last term keeps rows of W at length 1, or the code
would hide from the count by shrinking. With a `holder`, the code is held by that representation, which decodes it and
gives the dictionary's gradient of the decoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsebench.representations import autograd
from sparsebench.suites.workloads.sparse_coding.models._rules import check_positive, check_rates, held
from sparsebench.suites.workloads.sparse_coding.models.coder import CoderSettings, SparseCoder


@dataclass(frozen=True, kw_only=True)
class GradientDreamSettings(CoderSettings):
    """What it learns with.

    Attributes:
        layers: 1 or 2, of the encoder.
        rate: of Adam; falls to 0 in `fit`.
        sparsity: λ, what each unit that is on costs at most; of images with pixels in [0, 1].
        length: μ, the weight of the rows' lengths.
    """

    batch: int = 64
    layers: int = 2
    rate: float = 3e-3
    sparsity: float = 0.3
    length: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layers not in (1, 2):
            raise ValueError(f"expected 1 or 2 layers, got {self.layers}")
        check_rates(self, "sparsity", "length")
        check_positive(self, "rate")


class GradientDream(SparseCoder):
    """Code with rectified units; see the module. Codes are strided, and hold exact zeros."""

    name = "gradient-dream"
    settings: GradientDreamSettings

    def _start(self, images: Tensor, generator: torch.Generator) -> None:
        units, pixels = self.settings.units, images.shape[1]
        drawn = torch.randn(units, pixels, dtype=torch.float64, generator=generator)
        self._weights = {"dictionary": drawn / drawn.norm(dim=1, keepdim=True)}
        if self.settings.layers == 2:
            self._weights["second"] = torch.eye(units, dtype=torch.float64)  # at first the same as one layer
            self._weights["bias"] = torch.zeros(units, dtype=torch.float64)
        self._weights = {
            name: weight.to(self.device, self.dtype).requires_grad_() for name, weight in self._weights.items()
        }
        self._adam = torch.optim.Adam(self._weights.values(), lr=self.settings.rate)
        for weight in self._weights.values():  # made now, so that `state` holds Adam's moments from the beginning
            self._adam.state[weight] = {
                "step": torch.zeros(()),
                "exp_avg": torch.zeros_like(weight.detach()),
                "exp_avg_sq": torch.zeros_like(weight.detach()),
            }

    def _encode(self, images: Tensor) -> Tensor:
        return self._code(images).detach()

    def _code(self, images: Tensor) -> Tensor:
        first = torch.relu(images @ self._weights["dictionary"].t())
        if self.settings.layers == 1:
            return first
        return torch.relu(first @ self._weights["second"].t() + self._weights["bias"])

    def loss(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of images (n, d), () with its graph, and the reconstructions (n, d)."""
        code, dictionary = self._code(images), self._weights["dictionary"]
        reconstruction = code @ dictionary if self.holder is None else self._decoded(code, dictionary)
        squares = (reconstruction - images).square().sum() / len(images)
        active = torch.tanh(code).sum() / len(images)
        lengths = (dictionary.square().sum(1) - 1).square().sum()
        return squares + self.settings.sparsity * active + self.settings.length * lengths, reconstruction

    def _decoded(self, code: Tensor, dictionary: Tensor) -> Tensor:
        """Return code @ W, multiplied by the representation; so is the gradient of W. The code's is g Wᵀ."""
        stored = held(self, code.detach())
        through = autograd.matmul(stored, dictionary, stored.values.detach() if stored.trains() else None)
        # the same product with W held fixed adds its gradient to the code, and nothing to the result
        fixed = code @ dictionary.detach()
        return through + (fixed - fixed.detach())

    def _learn(self, images: Tensor) -> float:
        for group in self._adam.param_groups:
            group["lr"] = self.settings.rate * (1.0 - self.elapsed)
        self._adam.zero_grad(set_to_none=True)
        with torch.enable_grad():
            loss, reconstruction = self.loss(images)
            loss.backward()
        self._adam.step()
        return float((images - reconstruction.detach()).abs().sum(1).mean())

    def _parameters(self) -> dict[str, Tensor]:
        moments = {
            f"{name} {part}": self._adam.state[weight][part]
            for name, weight in self._weights.items()
            for part in ("step", "exp_avg", "exp_avg_sq")
        }
        return {**self._weights, **moments}

    def multiply_adds(self) -> int:
        """Return N · d, and N² for the second layer."""
        units = self.settings.units
        return units * self._pixels_known() + (units * units if self.settings.layers == 2 else 0)
