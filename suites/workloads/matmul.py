"""Multiply a sparse weight by dense activations, at the shapes of real layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsebench.representations import autograd
from sparsebench.representations.base import Representation, Spec
from sparsebench.representations.pattern import Pattern
from sparsebench.suites.cell import DTYPES, Case
from sparsebench.suites.workloads.problem import Action, Problem

SUITE = "matmul"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A weight (m, k) and how many columns it meets.

    Attributes:
        name: where it comes from.
        shape: (m, k, n).
    """

    name: str
    shape: tuple[int, int, int]


ATTENTION = Layer(name="transformer attention 512×512", shape=(512, 512, 128))
MLP = Layer(name="transformer MLP 2048×512", shape=(2048, 512, 128))
CONV3 = Layer(name="ResNet-50 conv3 1×1", shape=(128, 512, 784))
CONV4 = Layer(name="ResNet-50 conv4 1×1", shape=(256, 1024, 196))
"""He et al. 2015, table 1: the first 1×1 convolution of a conv3 (28² places) and a conv4 (14² places) bottleneck."""

ELEMENT = Pattern(kind="element")
POWER_LAW = Pattern(kind="power-law")
BLOCK = Pattern(kind="block", block=(32, 32))
PLANE = Pattern(kind="plane", block=(1, 16))
CHANNEL = Pattern(kind="channel", block=(1, 16))
GROUPS = Pattern(kind="n:m", m=16)

QUICK_LEVELS = (0.5, 0.8, 0.9, 0.97)
QUICK_ENDS = (0.5, 0.9, 0.97)
QUICK_PAIR = (0.8, 0.97)
FULL_LEVELS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
GROUP_LEVELS = {4: (0.5, 0.75), 16: (0.5, 0.875, 0.9375, 0.75)}
"""Sparsities that n:4 and n:16 can have, the ones that a short profile needs first."""


def cases(profile: str) -> list[Case]:
    """Return the cases of a profile, those of one matrix next to each other.

    quick: all patterns on one layer, blocks on a second and elements on a third, training on blocks. full: all patterns
    on all layers, blocks of five sizes, training on all patterns of one layer.
    """
    if profile == "quick":
        return [
            *_grid(ATTENTION, (ELEMENT, BLOCK), QUICK_LEVELS),
            *_grid(ATTENTION, (POWER_LAW, PLANE, CHANNEL, GROUPS), QUICK_ENDS),
            *_grid(MLP, (BLOCK,), QUICK_PAIR),
            *_grid(CONV4, (ELEMENT,), QUICK_PAIR),
            *_grid(ATTENTION, (BLOCK,), QUICK_PAIR, "matmul_backward"),
        ]
    blocks = tuple(Pattern(kind="block", block=(size, size)) for size in (8, 16, 32, 64, 128))
    patterns = (ELEMENT, POWER_LAW, *blocks, PLANE, CHANNEL, Pattern(kind="n:m", m=4), GROUPS)
    forward = [case for layer in (ATTENTION, MLP, CONV3, CONV4) for case in _grid(layer, patterns, FULL_LEVELS)]
    return forward + _grid(ATTENTION, patterns, FULL_LEVELS, "matmul_backward")


def _grid(
    layer: Layer, patterns: tuple[Pattern, ...], levels: tuple[float, ...], operation: str = "matmul"
) -> list[Case]:
    return [
        Case(
            suite=SUITE,
            workload=layer.name,
            operation=operation,
            shape=layer.shape,
            pattern=pattern,
            sparsity=sparsity,
        )
        for pattern in patterns
        for sparsity in (levels if pattern.m is None else GROUP_LEVELS[pattern.m][: len(levels)])
    ]


def problem(case: Case, device: str, data: Path | None) -> Problem:
    """Draw the matrix and the activations of a case; `data` is not needed."""
    kinds: dict[str, type[MatmulProblem]] = {"matmul": MatmulProblem, "matmul_backward": TrainingProblem}
    return kinds[case.operation](case, device)


class MatmulProblem(Problem):
    """Y = S @ X with S (m, k) sparse and X (k, n) dense."""

    def __init__(self, case: Case, device: str) -> None:
        self.case, self.device = case, device
        m, k, n = case.shape
        sparsity = case.sparsity if case.sparsity is not None else 0.0
        self.tensor = case.pattern.tensor((m, k), sparsity, case.seed, DTYPES[case.dtype]).to(device)
        generator = torch.Generator().manual_seed(case.seed + 1)
        self.x = torch.randn(k, n, generator=generator).to(device, DTYPES[case.dtype])
        self.g = torch.randn(m, n, generator=generator).to(device, DTYPES[case.dtype])

    def spec(self) -> Spec:
        """Ask for matmul."""
        return self._spec("matmul")

    def _spec(self, operation: str) -> Spec:
        return Spec(
            operation=operation,
            shape=tuple(self.tensor.shape),
            dtype=self.tensor.dtype,
            device=self.device,
            pattern=self.case.pattern,
        )

    @cached_property
    def _dense_forms(self) -> dict[str, Tensor]:
        """Keep the weight in both orders; BLAS libraries differ in which one they like."""
        return {"dense row-major": self.tensor, "dense column-major": self.tensor.t().contiguous().t()}

    def references(self) -> Mapping[str, Action]:
        """Return the dense product with the weight in either order."""
        return {name: partial(torch.matmul, weight, self.x) for name, weight in self._dense_forms.items()}

    def action(self, cls: type[Representation], built: Representation) -> Action:
        """Return built @ X."""
        return lambda: built.matmul(self.x)

    def outputs(self, result: Any) -> tuple[Tensor, ...]:
        """Return (Y,)."""
        return (result,)

    def oracle(self) -> tuple[Tensor, ...]:
        """Return Y in float64."""
        return (self._exact,)

    @cached_property
    def _exact(self) -> Tensor:
        return self.tensor.double() @ self.x.double()

    def useful_flops(self) -> float:
        """Return 2 · non-zeros · n."""
        return 2.0 * int(torch.count_nonzero(self.tensor)) * self.case.shape[2]


class TrainingProblem(MatmulProblem):
    """The same product with the gradients of X and of the stored values: three products in all."""

    def spec(self) -> Spec:
        """Ask for training."""
        return self._spec("train")

    def native_parts(self) -> tuple[str, ...]:
        """Return the three products."""
        return ("matmul", "rmatmul", "sampled_matmul")

    def references(self) -> Mapping[str, Action]:
        """Return the dense forward and backward pass with the weight in either order."""
        return {name: self._dense_step(weight) for name, weight in self._dense_forms.items()}

    def _dense_step(self, weight: Tensor) -> Action:
        leaf = weight.detach().requires_grad_()
        x = self.x.detach().requires_grad_()

        def step() -> tuple[Tensor, ...]:
            y = leaf @ x
            return (y, *torch.autograd.grad(y, (leaf, x), self.g))

        return step

    def action(self, cls: type[Representation], built: Representation) -> Action:
        """Return forward and backward through the one autograd Function."""
        leaf = built.values.detach().requires_grad_()
        x = self.x.detach().requires_grad_()

        def step() -> tuple[Representation, Tensor, Tensor, Tensor]:
            y = autograd.matmul(built, x, leaf)
            values_gradient, x_gradient = torch.autograd.grad(y, (leaf, x), self.g)
            return built, y, values_gradient, x_gradient

        return step

    def outputs(self, result: Any) -> tuple[Tensor, ...]:
        """Return (Y, dX, dS at the non-zeros of S); positions that are only fill have no counterpart to judge by."""
        built, y, values_gradient, x_gradient = result
        weight_gradient = built.with_values(values_gradient).to_dense()
        return y.detach(), x_gradient, torch.where(self.tensor != 0, weight_gradient, 0)

    def oracle(self) -> tuple[Tensor, ...]:
        """Return (Y, Sᵀ G, (G Xᵀ) at the non-zeros of S) in float64."""
        return self._exact_step

    @cached_property
    def _exact_step(self) -> tuple[Tensor, Tensor, Tensor]:
        g, x = self.g.double(), self.x.double()
        weight_gradient = torch.where(self.tensor != 0, g @ x.t(), 0.0)
        return self._exact, self.tensor.double().t() @ g, weight_gradient

    def useful_flops(self) -> float:
        """Return three products' worth."""
        return 3.0 * super().useful_flops()
