"""Wrap the conserved flow as members of the family: the notebook's, one image at a time, and its rule on batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparsebench.suites.workloads.sparse_coding import operations
from sparsebench.suites.workloads.sparse_coding._rules import check_positive, check_rates, held, sound, uniform
from sparsebench.suites.workloads.sparse_coding.coder import CoderSettings, SparseCoder
from sparsebench.suites.workloads.sparse_coding.conserved_flow import initial_dictionary
from sparsebench.suites.workloads.sparse_coding.holding import loop_holding
from sparsebench.suites.workloads.sparse_coding.loops import Loop, epoch_compiled


@dataclass(frozen=True, kw_only=True)
class FlowSettings(CoderSettings):
    """What the conserved flow learns with; the defaults are the notebook's.

    Attributes:
        flow: f, the share of the input's sum that the code's sum should have.
        gamma: γ, the rate of the thresholds.
        rate: ξ, the rate of the dictionary.
        epsilon: ε, the smallest reconstruction that an error is divided by.
    """

    flow: float = 0.2
    gamma: float = 1e-4
    rate: float = 0.02
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_rates(self, "flow", "gamma", "rate")
        check_positive(self, "epsilon")


class _Flow(SparseCoder):
    """Code with o = σ(W v − t); the subclasses differ in how they learn. Codes are strided."""

    settings: FlowSettings

    def _start(self, images: Tensor, generator: torch.Generator) -> None:
        drawn = self._drawn(images.shape[1], generator)
        self._dictionary = drawn.to(self.device, self.dtype)
        self._thresholds = torch.zeros(self.settings.units, dtype=self.dtype, device=self.device)

    def _drawn(self, pixels: int, generator: torch.Generator) -> Tensor:
        return uniform(self.settings.units, pixels, 0.1, 1.0, generator)

    def _encode(self, images: Tensor) -> Tensor:
        return torch.sigmoid(operations.drive(images, self._dictionary, self._thresholds))

    def _parameters(self) -> dict[str, Tensor]:
        return {"dictionary": self._dictionary, "thresholds": self._thresholds}

    def multiply_adds(self) -> int:
        """Return N · d: one product with the dictionary."""
        return self.settings.units * self._pixels_known()


class NotebookFlow(_Flow):
    """Learn as the notebook does: one image at a time, in file order, in float64, on the CPU.

    `fit` gives the curve, dictionary and thresholds of `conserved_flow.learn` at the same settings and seed. `batch`
    does not matter. With a `holder`, each image's code is held and decoded by that representation.
    """

    name = "notebook-flow"

    def __init__(
        self,
        settings: FlowSettings,
        *,
        seed: int = 0,
        device: str = "cpu",
        dtype: torch.dtype = torch.float64,
        holder: str | None = None,
    ) -> None:
        if device != "cpu" or dtype != torch.float64:
            raise ValueError(
                f"expected float64 on the CPU for the notebook's loop, got {dtype} on {device}; ConservedFlow has both"
            )
        super().__init__(settings, seed=seed, device=device, dtype=dtype, holder=holder)
        self._loop: Loop = epoch_compiled if holder is None else loop_holding(holder, settings.units)

    def epoch(self, images: Tensor, number: int) -> float:
        """Learn from every image once, in file order; see SparseCoder.epoch."""
        images = self._checked(images, least=1)
        level = self._learn(images)
        self._check_sane(level, images, number)
        return level

    def _drawn(self, pixels: int, generator: torch.Generator) -> Tensor:
        return torch.from_numpy(initial_dictionary(self.settings.units, self.seed, pixels))

    def _learn(self, images: Tensor) -> float:
        s = self.settings
        pixels = np.ascontiguousarray(images.numpy())
        # both arrays share the tensors' memory and are changed in place
        return self._loop(
            self._dictionary.numpy(), self._thresholds.numpy(), pixels, s.rate, s.gamma, s.flow, s.epsilon
        )


class ConservedFlow(_Flow):
    """Learn by the notebook's rule on batches: the mean of its images' steps; see operations.learning_step.

    A batch of one is the notebook's step. A batch of n goes about as far at n times the rates ξ and γ, as long as
    ξ ≤ 1, so that W stays positive.
    """

    name = "conserved-flow"

    def _learn(self, images: Tensor) -> float:
        s, code = self.settings, self._encode(images)
        stored = held(self, code)
        seen: list[Tensor] = []

        def decode(x: Tensor) -> Tensor:
            seen.append(stored @ x if isinstance(stored, Tensor) else stored.matmul(x))
            return seen[0]

        self._dictionary, self._thresholds, _ = operations.learning_step(
            decode,
            lambda x: stored.t() @ x if isinstance(stored, Tensor) else stored.rmatmul(x),
            images,
            operations.excess_flow(code, images, s.flow),
            self._dictionary,
            self._thresholds,
            rate=s.rate,
            gamma=s.gamma,
            epsilon=s.epsilon,
        )
        return sound(float((images - seen[0]).abs().sum(1).mean()), self._dictionary, s.rate)
