"""Time codes of given places in every representation: decoding, the dictionary's gradient, and all of backward."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparsebench.suites.cell import DTYPES, Case
from sparsebench.suites.workloads.matmul import MatmulProblem, TrainingProblem, TransposedProblem
from sparsebench.suites.workloads.problem import Quality
from sparsebench.suites.workloads.sparse_coding.model_problems import MAIN
from sparsebench.suites.workloads.sparse_coding.solvers.code_layouts import strided
from sparsebench.suites.workloads.sparse_coding.trained import TrainedCoder
from sparsebench.suites.workloads.studies.read import coding_rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Codes:
    """Codes with what they decode by, on the CPU in float32.

    Attributes:
        code: O (n, N), strided.
        dictionary: W (N, d).
        error: what comes back from the loss, (n, d).
        figures: of the model that gave the codes, on all test images; None for random ones.
        metric: what the main one of them is called.
    """

    code: Tensor
    dictionary: Tensor
    error: Tensor
    figures: Mapping[str, float | None] | None = None
    metric: str = MAIN["digits"]


def learned_codes(trained: TrainedCoder, images: Tensor) -> Codes:
    """Return the codes that a model gives images (n, d); the error is r − v, the gradient of ½ Σ(v − r)²."""
    code = trained.coder.encode(images)
    return Codes(
        code=strided(code),
        dictionary=trained.coder.dictionary.detach(),
        error=trained.coder.decode(code).detach() - images,
        figures=trained.figures,
    )


def random_codes(count: int, units: int, pixels: int, active: int, seed: int) -> Codes:
    """Draw codes (count, units) with exactly `active` entries a row, all of them above 0, and a dictionary.

    Raises:
        ValueError: if `active` is not between 1 and `units`.
    """
    if not 1 <= active <= units:
        raise ValueError(f"expected between 1 and {units} active units, got {active}")
    rng = np.random.default_rng(seed)
    places = np.stack([rng.choice(units, active, replace=False) for _ in range(count)])
    code = torch.zeros(count, units)
    code.scatter_(1, torch.from_numpy(places), torch.from_numpy(rng.uniform(0.1, 1.0, (count, active))).float())
    dictionary, error = (torch.from_numpy(rng.standard_normal((n, pixels))).float() for n in (units, count))
    return Codes(code=code, dictionary=dictionary, error=error)


def _take(problem: MatmulProblem, case: Case, device: str, codes: Codes) -> None:
    """Put codes where a product's operands stand."""
    dtype = DTYPES[case.dtype]
    problem.case, problem.device = case, device
    problem.tensor = codes.code.to(device, dtype)
    problem.x = codes.dictionary.to(device, dtype)
    problem.g = codes.error.to(device, dtype)


def _quality(codes: Codes) -> Quality | None:
    if codes.figures is None:
        return None
    value = codes.figures[MAIN["digits"]]
    return Quality(value=float("nan") if value is None else value, metric=codes.metric, figures=codes.figures)


def kept_codes(count: int, units: int, pixels: int, active: int, seed: int) -> Codes:
    """Draw codes as `random_codes` does, with the figures of the kept study's model of so many active units.

    How long decoding takes depends on how many entries a row has and how they are spread, not on what was learned.

    Raises:
        ValueError: if the study has no such model.
    """
    name = f"topk-autoencoder N={units} k={active}"
    found = [row["figures"] for row in coding_rows() if row["workload"] == name]
    if not found:
        raise ValueError(f"expected {name} in the kept study, got none; make it anew")
    drawn = random_codes(count, units, pixels, active, seed)
    return dataclasses.replace(drawn, figures=found[0], metric=f"kept {MAIN['digits']}")


class DecodeCodes(MatmulProblem):
    """r = O @ W."""

    def __init__(self, case: Case, device: str, codes: Codes) -> None:
        self.codes = codes
        _take(self, case, device, codes)

    def quality(self, outputs: tuple[Tensor, ...]) -> Quality | None:
        """Return the figures of the model that gave the codes."""
        return _quality(self.codes)


class LearnCodes(TransposedProblem):
    """Oᵀ @ error: the gradient of the dictionary."""

    def __init__(self, case: Case, device: str, codes: Codes) -> None:
        self.codes = codes
        _take(self, case, device, codes)

    def quality(self, outputs: tuple[Tensor, ...]) -> Quality | None:
        """Return the figures of the model that gave the codes."""
        return _quality(self.codes)


class BackwardCodes(TrainingProblem):
    """r = O @ W with the gradients of the dictionary and of the code's stored values."""

    def __init__(self, case: Case, device: str, codes: Codes) -> None:
        self.codes = codes
        _take(self, case, device, codes)


CODE_PROBLEMS: dict[str, type[DecodeCodes | LearnCodes | BackwardCodes]] = {
    "decode": DecodeCodes,
    "learn": LearnCodes,
    "decode_backward": BackwardCodes,
}
"""By operation."""
