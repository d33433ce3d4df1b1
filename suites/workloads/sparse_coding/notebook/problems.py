"""Define the operations of sparse coding that are timed, each with its dense form and its float64 oracle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from sparsebench.representations.base import Representation
from sparsebench.suites.cell import DTYPES, Case
from sparsebench.suites.workloads.problem import Action, Problem, Quality
from sparsebench.suites.workloads.sparse_coding import quality
from sparsebench.suites.workloads.sparse_coding.notebook import operations
from sparsebench.suites.workloads.sparse_coding.notebook.conserved_flow import Settings


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Images with a trained network, on the CPU in float32.

    Attributes:
        images: V (n, pixels).
        dictionary: W (units, pixels).
        thresholds: t (units,).
        settings: that the network learned with.
        trivial: the trivial rows of the images; see quality.trivial_rows.
    """

    images: Tensor
    dictionary: Tensor
    thresholds: Tensor
    settings: Settings
    trivial: Mapping[str, float]


class CodeProblem(Problem):
    """What the three operations share: a batch of images, the network, and the code with its largest entries.

    The code is made on the CPU whatever the device, so that a case means the same everywhere.
    """

    def __init__(self, case: Case, device: str, batch: Batch) -> None:
        self.case, self.device, self.settings = case, device, batch.settings
        self._trivial = batch.trivial
        dtype = DTYPES[case.dtype]
        units = len(batch.dictionary)
        self.kept = operations.kept_entries(units, case.sparsity if case.sparsity is not None else 0.0)
        code = operations.encode(batch.images, batch.dictionary, batch.thresholds, self.kept)
        self.tensor = code.to(device, dtype)
        self.images = batch.images.to(device, dtype)
        self.dictionary = batch.dictionary.to(device, dtype)
        self.thresholds = batch.thresholds.to(device, dtype)

    def outputs(self, result: Any) -> tuple[Tensor, ...]:
        """Return the result as a tuple."""
        return result if isinstance(result, tuple) else (result,)

    def quality(self, outputs: tuple[Tensor, ...]) -> Quality:
        """Return the mean over the images of Σ|v − r|, what dropping entries costs, and all other figures."""
        return self._quality_of(self.tensor.double() @ self.dictionary.double())

    def _quality_of(self, reconstructions: Tensor) -> Quality:
        figures: dict[str, float | None] = {**quality.measure(self.images, self.tensor, reconstructions)}
        figures |= {"multiply_adds": float(self.dictionary.numel()), **self._trivial}
        return Quality(value=quality.l1(self.images, reconstructions), metric="l1_per_image", figures=figures)

    @cached_property
    def nonzeros(self) -> int:
        """Return how many entries the code has."""
        return int(torch.count_nonzero(self.tensor))


class DecodeProblem(CodeProblem):
    """r = O @ W: images from stored codes."""

    def references(self) -> Mapping[str, Action]:
        """Return the dense product with the dictionary in either order."""
        columns = self.dictionary.t().contiguous().t()
        return {
            "dense row-major": lambda: self.tensor @ self.dictionary,
            "dense column-major": lambda: self.tensor @ columns,
        }

    def action(self, cls: type[Representation], built: Representation) -> Action:
        """Return built @ W."""
        return lambda: built.matmul(self.dictionary)

    def exact(self) -> tuple[Tensor, ...]:
        """Compute r in float64."""
        return (self.tensor.double() @ self.dictionary.double(),)

    def turned(self) -> tuple[float, ...]:
        """Turn W, and so r."""
        self.dictionary.neg_()
        return (-1.0,)

    def useful_flops(self) -> float:
        """Return 2 · entries · pixels."""
        return 2.0 * self.nonzeros * self.dictionary.shape[1]

    def quality(self, outputs: tuple[Tensor, ...]) -> Quality:
        """Return the figures of what was decoded; the others' quality is that of the exact product."""
        return self._quality_of(outputs[0])


class EncodeProblem(CodeProblem):
    """From images to a stored code: drive, logistic, keep the largest, store. Storing is part of it by definition."""

    operation = "build"

    def _encode(self) -> Tensor:
        return operations.encode(self.images, self.dictionary, self.thresholds, self.kept)

    def references(self) -> Mapping[str, Action]:
        """Return the same without storing."""
        return {"dense, nothing stored": self._encode}

    def action(self, cls: type[Representation], built: Representation) -> Action:
        """Return encoding into a new representation; `built` is not used."""
        return lambda: cls.build(self._encode(), self.case.pattern)

    def outputs(self, result: Any) -> tuple[Tensor, ...]:
        """Return the code, strided."""
        return (result.to_dense() if isinstance(result, Representation) else result,)

    def exact(self) -> tuple[Tensor, ...]:
        """Compute the code in float64, its largest entries chosen in float64 too."""
        return (operations.encode(self.images.double(), self.dictionary.double(), self.thresholds.double(), self.kept),)

    def useful_flops(self) -> float:
        """Return those of V Wᵀ, which is dense: 2 · images · pixels · units."""
        return 2.0 * self.images.numel() * len(self.dictionary)


class LearnProblem(CodeProblem):
    """One learning step on the mean of the batch: a product with the code, and one with its transpose."""

    operation = "rmatmul"

    def __init__(self, case: Case, device: str, batch: Batch) -> None:
        super().__init__(case, device, batch)
        self.excess = operations.excess_flow(self.tensor, self.images, self.settings.flow)

    def _step(
        self, code_product: operations.Product, transposed_product: operations.Product, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor, Tensor]:
        return operations.learning_step(
            code_product,
            transposed_product,
            self.images.to(dtype),
            self.excess.to(dtype),
            self.dictionary.to(dtype),
            self.thresholds.to(dtype),
            rate=self.settings.rate,
            gamma=self.settings.gamma,
            epsilon=self.settings.epsilon,
        )

    def references(self) -> Mapping[str, Action]:
        """Return the same with dense products."""
        code = self.tensor
        return {"dense": lambda: self._step(lambda x: code @ x, lambda x: code.t() @ x, code.dtype)}

    def action(self, cls: type[Representation], built: Representation) -> Action:
        """Return the step, which leaves W and t as they are and returns new ones."""
        return lambda: self._step(built.matmul, built.rmatmul, self.tensor.dtype)

    def exact(self) -> tuple[Tensor, ...]:
        """Compute W', t' and the product behind them in float64."""
        code = self.tensor.double()
        return self._step(lambda x: code @ x, lambda x: code.t() @ x, torch.float64)

    def turned(self) -> tuple[float, ...]:
        """Turn the images; what is learned of them then has to be computed anew."""
        self.images.neg_()
        return ()

    def useful_flops(self) -> float:
        """Return those of the two products: 2 · entries · pixels each."""
        return 4.0 * self.nonzeros * self.dictionary.shape[1]

    def native_parts(self) -> tuple[str, ...]:
        """Return both products."""
        return ("matmul", "rmatmul")
