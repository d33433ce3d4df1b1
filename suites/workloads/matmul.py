"""Multiply a sparse weight by dense activations, at the shapes of real layers: forward, backward, and each product."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsebench.representations import autograd
from sparsebench.representations.base import Representation
from sparsebench.representations.pattern import Pattern
from sparsebench.suites.cell import DTYPES, Case
from sparsebench.suites.workloads import step
from sparsebench.suites.workloads.matmul_cases import cases
from sparsebench.suites.workloads.problem import Action, Problem

__all__ = ["cases", "levels", "problem"]


def problem(case: Case, device: str, data: Path | None) -> Problem:
    """Draw the matrix and the activations of a case; `data` is not needed.

    Raises:
        ValueError: if the case's operation is none of this suite's.
    """
    kinds: dict[str, type[MatmulProblem]] = {
        "matmul": MatmulProblem,
        "rmatmul": TransposedProblem,
        "sampled_matmul": SampledProblem,
        "matmul_backward": TrainingProblem,
    }
    if case.operation not in kinds:
        raise ValueError(f"expected an operation of {', '.join(kinds)}, got {case.operation!r}")
    return kinds[case.operation](case, device)


def drawn_blocks(
    pattern: Pattern, shape: tuple[int, int], sparsity: float, seed: int, dtype: torch.dtype, device: str
) -> Tensor:
    """Draw a strided matrix (m, k) of whole blocks on a device, the blocks being those of `Pattern.tensor`.

    The CPU would list every element of the blocks and sort the list, for seconds at 8192 × 8192. The values are
    ±[0.5, 1.5] too, but not the same ones: they come from the device's own generator, seeded.
    """
    (rows, columns), (height, width) = shape, pattern.block
    grid = math.ceil(rows / height), math.ceil(columns / width)
    places = Pattern(kind="element").places(grid, sparsity, np.random.default_rng(seed))
    kept = torch.zeros(grid, dtype=torch.bool)
    kept[tuple(torch.from_numpy(numbers) for numbers in places)] = True
    mask = kept.to(device).repeat_interleave(height, 0).repeat_interleave(width, 1)[:rows, :columns]
    return _filled(mask, torch.Generator(device).manual_seed(seed), dtype)


def drawn_elements(shape: tuple[int, int], sparsity: float, seed: int, dtype: torch.dtype, device: str) -> Tensor:
    """Draw a strided matrix (m, k) of single elements on a device, as many as `Pattern` would; see `drawn_blocks`."""
    places = shape[0] * shape[1]
    generator = torch.Generator(device).manual_seed(seed)
    mask = torch.zeros(places, dtype=torch.bool, device=device)
    chosen = torch.randperm(places, generator=generator, device=device)[: round((1.0 - sparsity) * places)]
    mask[chosen] = True
    return _filled(mask.view(shape), generator, dtype)


def _filled(mask: Tensor, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    """Return ±[0.5, 1.5] where the mask is set, 0 elsewhere."""
    values = torch.rand(mask.shape, generator=generator, device=mask.device).mul_(2.0).sub_(1.0)
    return torch.where(mask, torch.copysign(values.abs() + 0.5, values), 0.0).to(dtype)


def levels(case: Case) -> tuple[float, ...]:
    """Return the sparsities that the matrix of a case can have."""
    return case.pattern.levels((case.shape[0], case.shape[1]))


class MatmulProblem(Problem):
    """Y = S @ X with S (m, k) sparse and X (k, n) dense."""

    product = True

    def __init__(self, case: Case, device: str) -> None:
        self.case, self.device = case, device
        m, k, n = case.shape
        sparsity = case.sparsity if case.sparsity is not None else 0.0
        dtype = DTYPES[case.dtype]
        if device == "cuda" and case.pattern.kind == "block":
            self.tensor = drawn_blocks(case.pattern, (m, k), sparsity, case.seed, dtype, device)
        elif device == "cuda" and case.pattern.kind == "element":
            self.tensor = drawn_elements((m, k), sparsity, case.seed, dtype, device)
        else:
            self.tensor = case.pattern.tensor((m, k), sparsity, case.seed, dtype).to(device)
        generator = torch.Generator(device).manual_seed(case.seed + 1)
        self.x = torch.randn(k, n, generator=generator, device=device).to(dtype)
        self.g = torch.randn(m, n, generator=generator, device=device).to(dtype)

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

    def exact(self) -> tuple[Tensor, ...]:
        """Compute the product in float64."""
        return (self.tensor.double() @ self.x.double(),)

    def turned(self) -> tuple[float, ...]:
        """Turn X, and so the product."""
        self.x.neg_()
        return (-1.0,)

    def useful_flops(self) -> float:
        """Return 2 · non-zeros · n."""
        return 2.0 * int(torch.count_nonzero(self.tensor)) * self.case.shape[2]


class TransposedProblem(MatmulProblem):
    """Sᵀ @ G with G (m, n) dense: what training needs for the gradient of X, alone."""

    operation = "rmatmul"

    def references(self) -> Mapping[str, Action]:
        """Return the dense transposed product with the weight in either order."""
        return {name: partial(torch.matmul, weight.t(), self.g) for name, weight in self._dense_forms.items()}

    def action(self, cls: type[Representation], built: Representation) -> Action:
        """Return builtᵀ @ G."""
        return lambda: built.rmatmul(self.g)

    def exact(self) -> tuple[Tensor, ...]:
        """Compute the product in float64."""
        return (self.tensor.double().t() @ self.g.double(),)

    def turned(self) -> tuple[float, ...]:
        """Turn G, and so the product."""
        self.g.neg_()
        return (-1.0,)


class SampledProblem(MatmulProblem):
    """(G @ Xᵀ) at the stored places of S: what training needs for the gradient of the values, alone."""

    operation = "sampled_matmul"

    def references(self) -> Mapping[str, Action]:
        """Return the whole product G @ Xᵀ, which a dense gradient costs, with the result in either order."""
        return {
            "dense row-major": lambda: self.g @ self.x.t(),
            "dense column-major": lambda: (self.x @ self.g.t()).t(),
        }

    def action(self, cls: type[Representation], built: Representation) -> Action:
        """Return the product at the stored places, laid out as the values are."""
        return lambda: (built, built.sampled_matmul(self.g, self.x.t()))

    def outputs(self, result: Any) -> tuple[Tensor, ...]:
        """Return the product at the non-zeros of S; places that are only fill have no counterpart to judge by."""
        built, values = result
        return (torch.where(self.tensor != 0, built.with_values(values).to_dense(), 0),)

    def held(self, result: Any) -> tuple[Tensor, ...]:
        """Return the values alone."""
        return (result[1],)

    def exact(self) -> tuple[Tensor, ...]:
        """Compute the product at the non-zeros of S in float64."""
        return (torch.where(self.tensor != 0, self.g.double() @ self.x.double().t(), 0.0),)


class TrainingProblem(MatmulProblem):
    """The same product with the gradients of X and of the stored values: three products in all."""

    operation = "train"

    def native_parts(self) -> tuple[str, ...]:
        """Return the three products."""
        return ("matmul", "rmatmul", "sampled_matmul")

    def references(self) -> Mapping[str, Action]:
        """Return the dense forward and backward pass with the weight in either order."""
        return {name: step.dense(torch.matmul, weight, self.x, self.g) for name, weight in self._dense_forms.items()}

    def action(self, cls: type[Representation], built: Representation) -> Action:
        """Return forward and backward through the one autograd Function."""
        return step.sparse(lambda values, x: autograd.matmul(built, x, values), built, self.x, self.g)

    def outputs(self, result: Any) -> tuple[Tensor, ...]:
        """Return (Y, dX, dS at the non-zeros of S); positions that are only fill have no counterpart to judge by."""
        return step.outputs(self.tensor, result)

    def held(self, result: Any) -> tuple[Tensor, ...]:
        """Return (Y, the gradient of the values, dX) as they are handed back."""
        return result[1], result[2], result[3]

    def exact(self) -> tuple[Tensor, ...]:
        """Compute (Y, Sᵀ G, (G Xᵀ) at the non-zeros of S) in float64."""
        g, x = self.g.double(), self.x.double()
        weight_gradient = torch.where(self.tensor != 0, g @ x.t(), 0.0)
        return *super().exact(), self.tensor.double().t() @ g, weight_gradient

    def turned(self) -> tuple[float, ...]:
        """Turn X, and so Y and dS, but not dX."""
        return *super().turned(), 1.0, -1.0

    def useful_flops(self) -> float:
        """Return three products' worth."""
        return 3.0 * super().useful_flops()
