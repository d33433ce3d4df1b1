"""Predict Lasso codes by a few unrolled, learned steps of soft thresholding: LISTA (Gregor and LeCun 2010)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsebench.suites.workloads.sparse_coding.models.coder import CoderSettings, SparseCoder
from sparsebench.suites.workloads.sparse_coding.solvers.code_layouts import to_csr
from sparsebench.suites.workloads.sparse_coding.solvers.ista import curvature
from sparsebench.suites.workloads.sparse_coding.solvers.scales import penalty_in

NETWORK = ("dictionary", "encoder", "lateral", "thresholds")
DECAY = (0.9, 0.999)
"""Of Adam's two moments (Kingma and Ba 2015)."""
TINY = 1e-8


@dataclass(frozen=True, kw_only=True)
class LISTASettings(CoderSettings):
    """Say which Lasso problem is to be predicted, and by how much of a network.

    Attributes:
        penalty: λ in P(a) = ½‖x − aD‖² + λ‖a‖₁.
        steps: T soft thresholdings, at least 1.
        rate: of Adam, falling to nothing over `fit` along a cosine.
    """

    penalty: float
    steps: int = 5
    rate: float = 3e-2

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.penalty > 0 and math.isfinite(self.penalty)):
            raise ValueError(f"expected a finite penalty λ > 0, got {self.penalty}")
        if self.steps < 1 or not self.rate > 0:
            raise ValueError(f"expected steps ≥ 1 and rate > 0, got {self.steps} and {self.rate}")


class LISTA(SparseCoder):
    """Encode by a₁ = h(xEᵀ), aₜ₊₁ = h(xEᵀ + aₜS), h(u) = sign(u)·max(|u| − θ, 0); E, S and θ are learned.

    With E = D/L, S = 1 − DDᵀ/L, θ = λ/L, where L is the largest eigenvalue of DDᵀ, these are T steps of ISTA: learning
    begins there, so at the start it is exactly as good as ISTA, and what it gains is what learning gives (Gregor
    and LeCun 2010, Learning fast approximations of sparse coding). Steps share E and S; each has a θ of its own for
    every unit. The dictionary is learned along with them, its atoms of norm 1.
    """

    name = "lista"
    settings: LISTASettings

    def _start(self, images: Tensor, generator: torch.Generator) -> None:
        s = self.settings
        atoms = self._drawn(images, generator)
        gram = atoms @ atoms.t()
        inverse = 1.0 / max(curvature(gram), 1e-30)
        self._tensors = {
            "dictionary": atoms,
            "encoder": atoms * inverse,
            "lateral": torch.eye(s.units, dtype=self.dtype, device=self.device) - gram * inverse,
            "thresholds": atoms.new_full((s.steps, s.units), penalty_in(s.penalty, self._power) * inverse),
        }
        moments = {f"{which}_{n}": torch.zeros_like(self._tensors[n]) for n in NETWORK for which in ("m", "v")}
        self._tensors |= {**moments, "taken": torch.zeros(1, dtype=torch.int64, device=self.device)}

    def _drawn(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Return atoms of norm 1: images drawn at random, with noise, so that blank and repeated ones serve too."""
        pick = torch.randint(len(images), (self.settings.units,), generator=generator)
        noise = torch.randn(self.settings.units, images.shape[1], generator=generator).to(images)
        drawn = images[pick.to(images.device)] - images.mean(0)
        drawn = drawn + noise * (0.1 * drawn.norm(dim=1).mean() / images.shape[1] ** 0.5 + 1e-3)
        atoms: Tensor = drawn / drawn.norm(dim=1, keepdim=True)
        return atoms

    def predict(self, images: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        """Return the strided code (n, N) of images (n, d) by the network `tensors`; differentiable in all of it."""
        driven = images @ tensors["encoder"].t()
        code = shrink(driven, tensors["thresholds"][0])
        for threshold in tensors["thresholds"][1:]:
            code = shrink(driven + code @ tensors["lateral"], threshold)
        return code

    def loss(self, images: Tensor, tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return what learning lowers, a mean over images (n, d), and the reconstructions (n, d)."""
        code = self.predict(images, tensors)
        reconstructions = code @ tensors["dictionary"]
        squared, penalty = (images - reconstructions).square().sum(1), penalty_in(self.settings.penalty, self._power)
        return (0.5 * squared + penalty * code.abs().sum(1)).mean(), reconstructions

    def _learn(self, images: Tensor) -> float:
        leaves = {n: self._tensors[n].detach().requires_grad_() for n in NETWORK}
        with torch.enable_grad():
            loss, reconstructions = self.loss(images, leaves)
            gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        level = float((images - reconstructions.detach()).abs().sum(1).mean())
        with torch.no_grad():
            self._step(gradients)
        return level

    def _step(self, gradients: tuple[Tensor | None, ...]) -> None:
        t = self._tensors
        t["taken"] += 1
        taken = int(t["taken"])
        rate = self.settings.rate * 0.5 * (1.0 + math.cos(math.pi * self.elapsed))
        first, second = DECAY
        for name, gradient in zip(NETWORK, gradients, strict=True):
            if gradient is None:  # one step only: nothing is lateral yet
                continue
            # E and S live on the scale 1/L: Adam's step, which is the same for all, is scaled to theirs
            scale = t[name].square().mean().sqrt().clamp_min(TINY) if name != "lateral" else t["encoder"].abs().mean()
            m, v = t[f"m_{name}"], t[f"v_{name}"]
            m.lerp_(gradient, 1.0 - first)
            v.lerp_(gradient.square(), 1.0 - second)
            size = (v / (1.0 - second**taken)).sqrt().clamp_min_(TINY)
            t[name].addcdiv_(m / (1.0 - first**taken), size, value=-rate * float(scale))
        t["thresholds"].clamp_min_(0.0)
        t["dictionary"] /= t["dictionary"].norm(dim=1, keepdim=True).clamp_min(TINY)

    def _encode(self, images: Tensor) -> Tensor:
        return to_csr(self.predict(images, self._tensors))

    def _parameters(self) -> dict[str, Tensor]:
        return self._tensors

    def multiply_adds(self) -> int:
        """Return those of encoding one image: N·d once, then N² for each step after the first."""
        units = self.settings.units
        return units * self._pixels_known() + (self.settings.steps - 1) * units * units


def shrink(values: Tensor, threshold: Tensor) -> Tensor:
    """Return sign(u)·max(|u| − θ, 0), u (n, N), θ (N,) ≥ 0."""
    return values - values.clamp(-threshold, threshold)
