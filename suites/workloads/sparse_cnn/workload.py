"""List the cases of the sparse CNN: its trainings, and the trained networks on every representation."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

from sparsebench.representations.pattern import Pattern
from sparsebench.suites.cell import Case
from sparsebench.suites.workloads.problem import Problem, Training
from sparsebench.suites.workloads.sparse_cnn import images, plans
from sparsebench.suites.workloads.sparse_cnn.chapter.section import chapter
from sparsebench.suites.workloads.sparse_cnn.kept_nets import ELEMENTS, KEPT_NETS, PLANES, KeptPlan
from sparsebench.suites.workloads.sparse_cnn.layer_problem import LayerProblem
from sparsebench.suites.workloads.sparse_cnn.net_problems import NetProblem, StepProblem
from sparsebench.suites.workloads.sparse_cnn.network import PRUNABLE
from sparsebench.suites.workloads.sparse_cnn.plans import Plan
from sparsebench.suites.workloads.sparse_cnn.settings import BLOCK, Settings
from sparsebench.suites.workloads.sparse_cnn.short import CHECK
from sparsebench.suites.workloads.sparse_cnn.short import SETTINGS as CHECKED
from sparsebench.suites.workloads.sparse_cnn.train_problem import CnnTraining
from sparsebench.suites.workloads.sparse_cnn.training import one_thread, train
from sparsebench.suites.workloads.studies.check import OPERATION, CheckTraining

__all__ = ["cases", "chapter", "problem", "trainings"]

SUITE = "sparse_cnn"
BATCHES: dict[str, int] = {"inference": 64, "training_step": 128, "conv2_step": 128, "conv3_step": 128}
"""Images of a timed pass, by operation. A step has as many as the trainings have; those of single layers tell where its
time goes."""
KERNEL = 9
"""Weights of a plane of the convolutions that are pruned."""
NETS: dict[str, type[NetProblem]] = {"inference": NetProblem, "training_step": StepProblem}
QUICK: dict[str, tuple[str, ...]] = {"inference": ("plane", "element"), "training_step": ("plane",)}
"""Patterns that a short profile times, by operation."""
STEPPED: tuple[str, ...] = ("planes", "block-sparse", "csr")
"""Representations that a short profile times a training step in; with all of them it takes half a minute."""
LAYERS: dict[str, str] = {f"{name}_step": name for name in PRUNABLE}
BLOCKS: dict[str, tuple[int, int]] = {
    "element": (1, 1),
    "plane": (1, KERNEL),
    "channel": (1, KERNEL),
    "block": (BLOCK, BLOCK * KERNEL),
}


def cases(profile: str) -> list[Case]:
    """Return the cases of a profile.

    quick: the short check, and networks of the kept study, which need no training: inference with planes and with
    elements at each of its sparsities, a training step of planes at one of them.
    full: the trainings, each on ten seeds, then the trained networks of seed 0 at two sparsities, the training step
    layer by layer too.
    gpu: nothing, as the CNN is trained and timed on the CPU.

    Raises:
        ValueError: if the profile is unknown.
    """
    if profile == "gpu":
        return []
    return _kept() if profile == "quick" else _trained(profile)


def trainings(profile: str) -> list[Case]:
    """Return the cases that `--train` adds: for quick one seed, 20,000 images seen a training; the others train anyway.

    Inference with planes and with elements at 90 %, a training step of planes.
    """
    return _trained(profile) if profile == "quick" else []


def _trained(profile: str) -> list[Case]:
    learned = [
        _case(plan.workload, plan.settings, "train", plan.seen, seed, "dense")
        for seed in range(plans.SEEDS.get(profile, 1))
        for plan in plans.plans(profile)
    ]
    timed = [
        _case(plan.workload, plan.settings, operation, count)
        for plan in plans.timed(profile)
        for operation, count in BATCHES.items()
        if profile == "full" or plan.settings.pattern in QUICK.get(operation, ())
    ]
    return learned + timed


def _kept() -> list[Case]:
    check = _case(CHECK.label, CHECKED, OPERATION, CHECKED.images or 1, 0, "dense")
    check = dataclasses.replace(check, sparsity=None)  # nothing is timed at a level
    inference = [_kept_case(plan, "inference") for plan in (*PLANES, *ELEMENTS)]
    step = next(plan for plan in PLANES if plan.sparsity == plans.QUICK_SPARSITY)
    return [check, *inference, *(_kept_case(step, "training_step", name) for name in STEPPED)]


def _kept_case(plan: KeptPlan, operation: str, representation: str | None = None) -> Case:
    settings = Settings(method=plan.method, pattern=plan.pattern, sparsity=plan.sparsity)
    return _case(plan.workload, settings, operation, BATCHES[operation], 0, representation)


def _case(
    workload: str, settings: Settings, operation: str, count: int, seed: int = 0, representation: str | None = None
) -> Case:
    return Case(
        suite=SUITE,
        workload=workload,
        operation=operation,
        shape=(count, *settings.maps),
        pattern=Pattern(kind=settings.pattern, block=BLOCKS[settings.pattern]),
        sparsity=settings.sparsity,
        seed=seed,
        representation=representation,
    )


@cache
def _plans() -> dict[tuple[str, str, float | None], Plan]:
    """Return the plan of every case by what names it."""
    found = {}
    for profile in plans.SEEDS:
        for plan in plans.plans(profile):
            case = _case(plan.workload, plan.settings, "train", plan.seen)
            found[case.workload, case.pattern.label, case.sparsity] = plan
    return found


def problem(case: Case, device: str, data: Path | None) -> Problem | Training:
    """Make a case concrete. A network that is timed is trained when it was not kept, neither here nor in the study.

    Raises:
        DataError: if the data folder is not as expected.
        ValueError: if the case is none of this suite's.
    """
    if case.workload == CHECK.label:
        return CheckTraining(case, device, CHECK)
    for kept in (*PLANES, *ELEMENTS):
        if (kept.workload, kept.pattern, kept.sparsity) == (case.workload, case.pattern.kind, case.sparsity):
            found, count = images.load(data), case.shape[0]
            kind = KEPT_NETS[_operation(case, tuple(KEPT_NETS))]
            return kind(case, device, kept, found.test_x[:count], found.test_y[:count])
    plan = _plans().get((case.workload, case.pattern.label, case.sparsity))
    if plan is None:
        known = ", ".join(sorted({workload for workload, *_ in _plans()} | {kept.workload for kept in PLANES}))
        raise ValueError(
            f"expected a case of {known}, got {case.workload!r} with {case.pattern.label} at {case.sparsity}"
        )
    _operation(case, ("train", *BATCHES))
    found = images.load(data)
    settings = plan.fitted(len(found.x))
    if case.operation == "train":
        return CnnTraining(case, device, found, settings)
    with one_thread():
        trained = train(settings, case.seed, found)
    count = case.shape[0]
    if case.operation in LAYERS:
        return LayerProblem(case, device, trained, found.test_x[:count], LAYERS[case.operation])
    return NETS[case.operation](case, device, trained, found.test_x[:count], found.test_y[:count])


def _operation(case: Case, known: tuple[str, ...]) -> str:
    if case.operation not in known:
        raise ValueError(f"expected an operation of {', '.join(known)}, got {case.operation!r}")
    return case.operation
