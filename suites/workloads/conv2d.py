"""Convolve with a sparse weight, or convolve sparse activations, at the shapes of real layers; and train."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor
from torch.nn.grad import conv2d_input, conv2d_weight

from sparsebench.representations import autograd
from sparsebench.representations.base import Representation
from sparsebench.suites.cell import DTYPES, Case
from sparsebench.suites.workloads import step
from sparsebench.suites.workloads.conv2d_cases import LAYERS, cases
from sparsebench.suites.workloads.problem import Action, Problem

__all__ = ["cases", "levels", "problem"]

FORMATS: dict[str, torch.memory_format] = {
    "dense contiguous": torch.contiguous_format,
    "dense channels-last": torch.channels_last,
}
"""Dense convolution libraries differ in which order of the elements they like; weight, input and gradient have it."""


class Geometry(TypedDict):
    """How a kernel moves over its input, as `Representation.conv2d` takes it."""

    stride: tuple[int, int]
    padding: tuple[int, int]


def problem(case: Case, device: str, data: Path | None) -> Problem:
    """Draw the weight and the activations of a case; `data` is not needed.

    Sizes are the case's; stride and padding are those of the layer that it names.

    Raises:
        ValueError: if the case's operation is none of this suite's, its layer is unknown, or its shape is not
            (out, in, kh, kw, n, h, w).
    """
    kinds: dict[str, type[ConvProblem]] = {
        "conv2d": ConvProblem,
        "conv2d_backward": TrainingProblem,
        "conv2d_with": ActivationsProblem,
    }
    if case.operation not in kinds:
        raise ValueError(f"expected an operation of {', '.join(kinds)}, got {case.operation!r}")
    if case.workload not in LAYERS:
        raise ValueError(f"expected a layer of {', '.join(LAYERS)}, got {case.workload!r}")
    if len(case.shape) != 7:
        raise ValueError(f"expected a shape (out, in, kh, kw, n, h, w), got {case.shape}")
    return kinds[case.operation](case, device)


def levels(case: Case) -> tuple[float, ...]:
    """Return the sparsities that the weight of a case can have, or its input where that is what is stored."""
    out, maps, kh, kw, n, height, width = case.shape
    stored = (n, maps * height * width) if case.operation == "conv2d_with" else (out, maps * kh * kw)
    return case.pattern.levels(stored)


class ConvProblem(Problem):
    """Y = X ∗ S with S (out, in, kh, kw) sparse and X (n, in, h, w) dense, without a zero.

    Attributes:
        geometry: stride and padding.
        x: (n, in, h, w).
        g: (n, out, h', w'), the gradient of Y in training.
    """

    operation = "conv2d"
    product = True

    def __init__(self, case: Case, device: str) -> None:
        self.case, self.device = case, device
        out, maps, kh, kw, n, height, width = case.shape
        layer = LAYERS[case.workload]
        self.geometry: Geometry = {"stride": (layer.stride, layer.stride), "padding": (layer.padding, layer.padding)}
        self._generator = torch.Generator(device).manual_seed(case.seed + 1)
        self.tensor, self.x = self._operands((out, maps, kh, kw), (n, maps, height, width))
        places = (
            (size + 2 * layer.padding - kernel) // layer.stride + 1 for size, kernel in ((height, kh), (width, kw))
        )
        self.g = self._random((n, out, *places))

    def _operands(self, weight: tuple[int, ...], x: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Return what is stored, and the dense tensor that it meets."""
        return self._sparse(weight), self._random(x)

    def _sparse(self, shape: tuple[int, ...]) -> Tensor:
        """Draw a strided 4-D tensor whose matrix (first size, the others) has the case's pattern."""
        columns = shape[1] * shape[2] * shape[3]
        sparsity = self.case.sparsity if self.case.sparsity is not None else 0.0
        matrix = self.case.pattern.tensor((shape[0], columns), sparsity, self.case.seed, DTYPES[self.case.dtype])
        return matrix.reshape(shape).to(self.device)

    def _random(self, shape: tuple[int, ...]) -> Tensor:
        drawn = torch.randn(shape, generator=self._generator, device=self.device)
        return drawn.to(DTYPES[self.case.dtype])

    @property
    def weight(self) -> Tensor:
        """Return the weight (out, in, kh, kw), strided."""
        return self.tensor

    @cached_property
    def _dense_forms(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Keep weight and input in both orders of the elements."""
        return {
            name: (self.weight.contiguous(memory_format=form), self.x.contiguous(memory_format=form))
            for name, form in FORMATS.items()
        }

    def references(self) -> Mapping[str, Action]:
        """Return torch's dense convolution with everything in either order of the elements."""
        return {
            name: partial(torch.nn.functional.conv2d, x, weight, **self.geometry)
            for name, (weight, x) in self._dense_forms.items()
        }

    def action(self, cls: type[Representation], built: Representation) -> Action:
        """Return built.conv2d(X)."""
        return lambda: built.conv2d(self.x, **self.geometry)

    def exact(self) -> tuple[Tensor, ...]:
        """Compute the convolution in float64."""
        return (torch.nn.functional.conv2d(self.x.double(), self.weight.double(), **self.geometry),)

    def turned(self) -> tuple[float, ...]:
        """Turn X, and so the convolution."""
        self.x.neg_()
        return (-1.0,)

    def useful_flops(self) -> float:
        """Return 2 · out · in · kh · kw · n · h' · w' · the share of non-zeros; places over the edge count too."""
        density = int(torch.count_nonzero(self.tensor)) / self.tensor.numel()
        return 2.0 * density * self.weight.numel() * self.g.numel() / self.g.shape[1]


class ActivationsProblem(ConvProblem):
    """Y = S ∗ W with the activations S (n, in, h, w) sparse and the weight W (out, in, kh, kw) dense."""

    operation = "conv2d_with"

    def _operands(self, weight: tuple[int, ...], x: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        activations = self._sparse(x)
        self._weight = self._random(weight)
        return activations, activations

    @property
    def weight(self) -> Tensor:
        """Return the dense weight."""
        return self._weight

    def action(self, cls: type[Representation], built: Representation) -> Action:
        """Return built.conv2d_with(W)."""
        return lambda: built.conv2d_with(self.weight, **self.geometry)

    def turned(self) -> tuple[float, ...]:
        """Turn W, and so the convolution; X is what is stored."""
        self._weight.neg_()
        return (-1.0,)


class TrainingProblem(ConvProblem):
    """The forward convolution with the gradients of X and of the stored values."""

    operation = "train"

    def _convolve(self, weight: Tensor, x: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(x, weight, **self.geometry)

    def native_parts(self) -> tuple[str, ...]:
        """Return the three convolutions."""
        return ("conv2d", "conv2d_input", "conv2d_values")

    def references(self) -> Mapping[str, Action]:
        """Return the dense forward and backward pass with everything in either order of the elements."""
        return {
            name: step.dense(self._convolve, weight, x, self.g.contiguous(memory_format=FORMATS[name]))
            for name, (weight, x) in self._dense_forms.items()
        }

    def action(self, cls: type[Representation], built: Representation) -> Action:
        """Return forward and backward through the one autograd Function."""
        return step.sparse(lambda values, x: autograd.conv2d(built, x, values, **self.geometry), built, self.x, self.g)

    def outputs(self, result: Any) -> tuple[Tensor, ...]:
        """Return (Y, dX, dS at the non-zeros of S); positions that are only fill have no counterpart to judge by."""
        return step.outputs(self.tensor, result)

    def held(self, result: Any) -> tuple[Tensor, ...]:
        """Return (Y, the gradient of the values, dX) as they are handed back."""
        return result[1], result[2], result[3]

    def exact(self) -> tuple[Tensor, ...]:
        """Compute (Y, dX, dS at the non-zeros of S) in float64."""
        x, weight, g = self.x.double(), self.tensor.double(), self.g.double()
        stride, padding = self.geometry["stride"], self.geometry["padding"]
        x_gradient = conv2d_input(x.shape, weight, g, stride=stride, padding=padding)
        weight_gradient = conv2d_weight(x, weight.shape, g, stride=stride, padding=padding)
        return *super().exact(), x_gradient, torch.where(self.tensor != 0, weight_gradient, 0.0)

    def turned(self) -> tuple[float, ...]:
        """Turn X, and so Y and dS, but not dX."""
        return *super().turned(), 1.0, -1.0

    def useful_flops(self) -> float:
        """Return three convolutions' worth."""
        return 3.0 * super().useful_flops()
