"""Encode, decode and learn: every model of the family, and codes held in every representation.

Of conserved flow, the dictionary comes from training (about 2 s, once per process and setting), the images are the
first ones that it learned from. Of every image's code the largest entries are kept, equally many for each. Images whose
entries lie too close to tell which are the largest are passed over (2 % of them at f = 1e-4, a third at f = 0.2, whose
idle units are all alike): rounding must not decide what is kept, or no oracle could judge it. Models are trained as
plans.py lists them, kept, and judged and timed on test images.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from sparsebench.suites.cell import Case
from sparsebench.suites.workloads.data import DataError, Digits, digits
from sparsebench.suites.workloads.problem import Problem, Training
from sparsebench.suites.workloads.sparse_coding import plans, quality
from sparsebench.suites.workloads.sparse_coding.chapter.section import chapter
from sparsebench.suites.workloads.sparse_coding.code_problems import (
    CODE_PROBLEMS,
    Codes,
    kept_codes,
    learned_codes,
    random_codes,
)
from sparsebench.suites.workloads.sparse_coding.coding_cases import (
    AGAINST,
    HELD_OPERATIONS,
    LEVELS,
    MODEL_OPERATIONS,
    RANDOM,
    RANDOM_OPERATIONS,
    RANDOM_SHAPES,
    TIMED_EPOCHS,
    cases,
    codes_name,
    flow_name,
    kept_name,
    kept_plans,
    sparsity,
    trainings,
)
from sparsebench.suites.workloads.sparse_coding.images import images
from sparsebench.suites.workloads.sparse_coding.model_problems import MODEL_PROBLEMS
from sparsebench.suites.workloads.sparse_coding.notebook import operations
from sparsebench.suites.workloads.sparse_coding.notebook.conserved_flow import FLOWS, Learned, Settings, learn
from sparsebench.suites.workloads.sparse_coding.notebook.notebook_problem import NotebookEpochProblem
from sparsebench.suites.workloads.sparse_coding.notebook.problems import (
    Batch,
    DecodeProblem,
    EncodeProblem,
    LearnProblem,
)
from sparsebench.suites.workloads.sparse_coding.notebook.training import FlowTraining
from sparsebench.suites.workloads.sparse_coding.plans import Plan
from sparsebench.suites.workloads.sparse_coding.short import CHECK
from sparsebench.suites.workloads.sparse_coding.trained import trained as trained_coder
from sparsebench.suites.workloads.studies.check import CheckTraining

__all__ = ["cases", "chapter", "problem", "trainings"]

CLEAR_GAP = 1e-4
"""The least distance of drives between the last entry kept and the first one dropped: float32 rounds them by 1e-5."""
FLOW_PROBLEMS: dict[str, type[DecodeProblem | EncodeProblem | LearnProblem]] = {
    "decode": DecodeProblem,
    "encode": EncodeProblem,
    "learn": LearnProblem,
}


def problem(case: Case, device: str, data: Path | None) -> Problem | Training:
    """Make a case concrete; a model is trained when the store does not have it.

    Raises:
        DataError: if the data folder is not as expected, or holds too few images.
        ValueError: if the case is none of this suite's.
        Exception: whatever a model raises that cannot be trained; that is its own cells' matter.
    """
    if case.workload == CHECK.label:
        return CheckTraining(case, device, CHECK)
    for one in kept_plans():
        if (kept_name(one), sparsity(one)) == (case.workload, case.sparsity):
            count, units, pixels = case.shape
            codes = kept_codes(count, units, pixels, round(one.level or 0.0), case.seed)
            return CODE_PROBLEMS[_operation(case, ("decode",))](case, device, codes)
    flows = {flow_name(flow): flow for flow in FLOWS}
    if case.workload in flows:
        return _flow_problem(case, device, data, flows[case.workload])
    if case.workload in _randoms():
        active = _randoms()[case.workload]
        return CODE_PROBLEMS[_operation(case, RANDOM_OPERATIONS)](case, device, _drawn(case.shape, active, case.seed))
    models = {plan.workload: plan for plan in [*plans.quick(), *plans.full()]}
    held = {(codes_name(plan), sparsity(plan)): plan for plan in plans.held()}
    plan = models.get(case.workload) or held.get((case.workload, case.sparsity or 0.0))
    if plan is None:
        known = ", ".join([*flows, *models, *sorted({name for name, _ in held}), *_randoms()])
        raise ValueError(f"expected a workload of {known}, got {case.workload!r} at sparsity {case.sparsity}")
    operation = _operation(case, (*MODEL_OPERATIONS, AGAINST) if case.workload in models else HELD_OPERATIONS)
    return model_problem(case, device, data, plan, operation, held=case.workload not in models)


def model_problem(
    case: Case, device: str, data: Path | None, plan: Plan, operation: str, *, held: bool = False
) -> Problem:
    """Return the problem of a model: its own operation, or its codes held in any representation."""
    judged = images(plan.data, "test", data)[0]
    if len(judged) < case.shape[0]:
        raise DataError(f"expected at least {case.shape[0]:,} test images, got {len(judged):,}")
    found = trained_coder(plan, case.seed, data)
    some = judged[: case.shape[0]]
    if held:
        return CODE_PROBLEMS[operation](case, device, learned_codes(found, some))
    return MODEL_PROBLEMS[operation](case, device, found, some)


def _operation(case: Case, known: tuple[str, ...]) -> str:
    if case.operation not in known:
        raise ValueError(f"expected an operation of {', '.join(known)} for {case.workload}, got {case.operation!r}")
    return case.operation


def _flow_problem(case: Case, device: str, data: Path | None, flow: float) -> Problem | Training:
    _operation(case, ("train", "notebook_epoch", *FLOW_PROBLEMS))
    if case.operation == "notebook_epoch":
        return NotebookEpochProblem(case, device, _digits(data), Settings(flow=flow, units=case.shape[1]))
    if case.operation == "train":
        count, units, _ = case.shape
        if count % Settings.images:
            raise ValueError(f"expected whole epochs of {Settings.images:,} images, got {count:,} in all")
        settings = Settings(flow=flow, units=units, epochs=count // Settings.images)
        return FlowTraining(case, device, _digits(data), settings)
    units = case.shape[2] if case.operation == "encode" else case.shape[1]
    settings = Settings(flow=flow, units=units, epochs=TIMED_EPOCHS)
    return FLOW_PROBLEMS[case.operation](case, device, _batch(settings, case.seed, data, case.shape[0]))


@cache
def _randoms() -> dict[str, int]:
    """Return how many entries a row has, by workload."""
    shapes = {shape for found in RANDOM_SHAPES.values() for shape in found}
    return {RANDOM.format(units=units, active=active): active for units, active in shapes}


def _drawn(shape: tuple[int, ...], active: int, seed: int) -> Codes:
    count, units, pixels = shape
    return random_codes(count, units, pixels, active, seed)


@cache
def _digits(data: Path | None) -> Digits:
    return digits(data, "train")


@cache
def trained(settings: Settings, seed: int, data: Path | None) -> Learned:
    """Return the training of the notebook's network with these settings, once per process."""
    return learn(_digits(data), settings, seed)


@cache
def _batch(settings: Settings, seed: int, data: Path | None, count: int) -> Batch:
    """Return the first `count` images whose largest entries are clear at every sparsity of either profile."""
    images, learned = _digits(data), trained(settings, seed, data)
    dictionary, thresholds = torch.from_numpy(learned.dictionary), torch.from_numpy(learned.thresholds)
    clear = clear_images(images.images, dictionary, thresholds)
    if len(clear) < count:
        raise DataError(f"expected at least {count:,} images with clear codes, got {len(clear):,} of {len(images):,}")
    chosen = images.images[clear[:count]]
    return Batch(
        images=chosen,
        dictionary=dictionary,
        thresholds=thresholds,
        settings=learned.settings,
        trivial=quality.trivial_rows(chosen),
    )


def clear_images(images: Tensor, dictionary: Tensor, thresholds: Tensor) -> Tensor:
    """Return the numbers of the images (int64, ascending) whose kept entries lie CLEAR_GAP above the dropped ones."""
    drives = operations.drive(images.double(), dictionary.double(), thresholds.double())
    clear = torch.ones(len(images), dtype=torch.bool)
    for share in sorted({level for levels in LEVELS.values() for level in levels}):
        clear &= operations.gaps(drives, operations.kept_entries(drives.shape[1], share)) >= CLEAR_GAP
    return clear.nonzero().squeeze(1)
