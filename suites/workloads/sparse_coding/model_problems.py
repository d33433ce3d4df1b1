"""Time a trained model: encoding, decoding, and both, each apart, with the code in one representation."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsebench.representations.base import Representation
from sparsebench.representations.formats.dense import Dense
from sparsebench.suites.cell import DTYPES, Case
from sparsebench.suites.workloads.problem import Action, Problem, Quality
from sparsebench.suites.workloads.sparse_coding import quality, record
from sparsebench.suites.workloads.sparse_coding.models.coder import SparseCoder
from sparsebench.suites.workloads.sparse_coding.solvers.code_layouts import strided
from sparsebench.suites.workloads.sparse_coding.trained import TrainedCoder

MAIN: dict[str, str] = {"digits": "l1_clipped", "patches": "squared"}
"""The figure that stands in the column `quality`, by kind of images."""


def copied(coder: SparseCoder, device: str, dtype: torch.dtype) -> SparseCoder:
    """Return a model that has learned the same, elsewhere."""
    copy = type(coder)(coder.settings, seed=coder.seed, device=device, dtype=dtype)
    copy.load(coder.state())
    return copy


class ModelProblem(Problem):
    """Decoding: r = O @ W with the code that the model gave these images, held in a representation.

    Its quality is that of the model on all test images, whichever of them are timed: rows of one model agree.
    """

    def __init__(self, case: Case, device: str, trained: TrainedCoder, images: Tensor) -> None:
        """Take a model and images (n, d)."""
        self.case, self.device, self.trained = case, device, trained
        dtype = DTYPES[case.dtype]
        self.coder = copied(trained.coder, device, dtype)
        self.images = images.to(device, dtype)
        self.tensor = strided(self.coder.encode(self.images))

    def references(self) -> Mapping[str, Action]:
        """Return decoding the dense code."""
        built = Dense.build(self.tensor)
        return {"dense code": lambda: self.coder.decode(built)}

    def action(self, cls: type[Representation], built: Representation) -> Action:
        """Return decoding the stored code."""
        return lambda: self.coder.decode(built)

    def outputs(self, result: Any) -> tuple[Tensor, ...]:
        """Return the result, strided."""
        return (result.to_dense() if isinstance(result, Representation) else result.detach(),)

    def exact(self) -> tuple[Tensor, ...]:
        """Compute the dense code decoded in float64."""
        exact = copied(self.coder, self.device, torch.float64)
        return (exact.decode(Dense.build(self.tensor.double())).detach(),)

    def turned(self) -> tuple[float, ...] | None:
        """Turn W; what is decoded by it, with its bias and cut to the unit, has to be computed anew."""
        self.coder.dictionary.detach().neg_()
        return ()

    def useful_flops(self) -> float:
        """Return 2 · entries · pixels."""
        return 2.0 * int(torch.count_nonzero(self.tensor)) * self.images.shape[1]

    def quality(self, outputs: tuple[Tensor, ...]) -> Quality:
        """Return the figures of the model on all test images; l1_clipped stands for digits, squared for patches."""
        figures, metric = self.trained.figures, MAIN[self.trained.plan.data]
        value = figures[metric]
        return Quality(value=float("nan") if value is None else value, metric=metric, figures=figures)


class EncodeModelProblem(ModelProblem):
    """From images to a stored code, by the model's own inference; storing is part of it, as in `encode` of others.

    The reference is one dense product with the dictionary, V Wᵀ: the cost of looking at every unit once. An encoder
    that iterates costs a multiple of it, one that never looks at most units less. What is judged is that the stored
    code is the one that the model gave: an iterative choice of units has no float64 counterpart to be compared with,
    and that models choose rightly is tested where they are.
    """

    operation = "build"

    def references(self) -> Mapping[str, Action]:
        """Return the product V Wᵀ with the dictionary in either order."""
        dictionary = self.coder.dictionary.detach()
        columns = dictionary.t().contiguous()
        return {
            "dense V Wᵀ alone": lambda: self.images @ dictionary.t(),
            "dense V Wᵀ alone, copied": lambda: self.images @ columns,
        }

    def action(self, cls: type[Representation], built: Representation) -> Action:
        """Return encoding into a new representation; `built` is not used."""
        return lambda: cls.build(self.coder.encode(self.images), self.case.pattern)

    def exact(self) -> tuple[Tensor, ...]:
        """Return the code that the model gave before."""
        return (self.tensor.double(),)

    def turned(self) -> None:
        """Turn nothing: another choice of units has no counterpart to be compared with."""

    def useful_flops(self) -> float:
        """Return 2 · multiply-adds of the model, as it counts them."""
        return 2.0 * len(self.images) * self.coder.multiply_adds()

    def artifact(self, result: Any) -> tuple[str, Mapping[str, np.ndarray]] | None:
        """Return what the report draws; see record.model_artifact."""
        return record.model_name(self.trained), record.model_artifact(self.trained, self.images)


class AgainstPursuitProblem(EncodeModelProblem):
    """The same encoding against matching pursuit (OMP) with as many atoms of the same dictionary.

    Where decoding adds a constant, as a bias of the pixels, OMP is given what remains without it. The figures are those
    of the timed images: the model's, and beside them OMP's, decoded by the same model.
    """

    def _pursue(self) -> Tensor:
        from sparsebench.suites.workloads.sparse_coding.solvers.omp import omp  # imported late: only here is it needed

        level = self.trained.plan.level
        if level is None:
            raise ValueError(f"expected a model with a k, got {self.trained.plan.workload}")
        return omp(self.images - self._constant, self.coder.dictionary.detach(), round(level))

    @cached_property
    def _constant(self) -> Tensor:
        nothing = self.coder.dictionary.new_zeros(1, len(self.coder.dictionary))
        return self.coder.decode(nothing).detach()

    def references(self) -> Mapping[str, Action]:
        """Return OMP, its code as it gives it."""
        return {"matching pursuit": self._pursue}

    def quality(self, outputs: tuple[Tensor, ...]) -> Quality:
        """Return l1_clipped of the timed images, and omp_squared, omp_l1, omp_l1_clipped and omp_r2 beside."""
        return self._compared

    @cached_property
    def _compared(self) -> Quality:
        mine = quality.measure(self.images, self.tensor, self.coder.decode(self.tensor).detach())
        theirs = quality.errors(self.images, self.coder.decode(self._pursue()).detach())
        figures: dict[str, float | None] = {**mine, "multiply_adds": float(self.coder.multiply_adds())}
        figures |= {f"omp_{name}": theirs[name] for name in ("squared", "l1", "l1_clipped", "r2")}
        return Quality(value=mine["l1_clipped"], metric=MAIN["digits"], figures=figures)

    def artifact(self, result: Any) -> None:
        """Return nothing: encoding alone has kept it."""


class ReconstructProblem(ModelProblem):
    """End to end: encode, store, decode. The reference does the same with a dense code."""

    def references(self) -> Mapping[str, Action]:
        """Return encoding, and decoding the dense code."""
        return {"dense code": lambda: self.coder.decode(Dense.build(strided(self.coder.encode(self.images))))}

    def action(self, cls: type[Representation], built: Representation) -> Action:
        """Return encoding and decoding; `built` is not used."""
        return lambda: self.coder.decode(cls.build(self.coder.encode(self.images), self.case.pattern))

    def turned(self) -> None:
        """Turn nothing: as in encoding."""

    def useful_flops(self) -> float:
        """Return those of encoding and of decoding."""
        return super().useful_flops() + 2.0 * len(self.images) * self.coder.multiply_adds()

    def builds_inside(self) -> bool:
        """Return True."""
        return True


MODEL_PROBLEMS: dict[str, type[ModelProblem]] = {
    "encode": EncodeModelProblem,
    "decode": ModelProblem,
    "reconstruct": ReconstructProblem,
    "encode_against_omp": AgainstPursuitProblem,
}
"""By operation."""
