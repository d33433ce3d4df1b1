"""List the cases of the sparse CNN: its trainings, and the trained networks on every representation."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from sparsebench.representations.pattern import Pattern
from sparsebench.suites.cell import Case
from sparsebench.suites.workloads.problem import Problem, Training
from sparsebench.suites.workloads.sparse_cnn import images, plans
from sparsebench.suites.workloads.sparse_cnn.chapter.section import chapter
from sparsebench.suites.workloads.sparse_cnn.layer_problem import LayerProblem
from sparsebench.suites.workloads.sparse_cnn.net_problems import NetProblem, StepProblem
from sparsebench.suites.workloads.sparse_cnn.network import PRUNABLE
from sparsebench.suites.workloads.sparse_cnn.plans import Plan
from sparsebench.suites.workloads.sparse_cnn.settings import BLOCK
from sparsebench.suites.workloads.sparse_cnn.train_problem import CnnTraining
from sparsebench.suites.workloads.sparse_cnn.training import one_thread, train

__all__ = ["cases", "chapter", "problem"]

SUITE = "sparse_cnn"
BATCHES: dict[str, int] = {"inference": 64, "training_step": 128, "conv2_step": 128, "conv3_step": 128}
"""Images of a timed pass, by operation. A step has as many as the trainings have; those of single layers tell where its
time goes."""
KERNEL = 9
"""Weights of a plane of the convolutions that are pruned."""
NETS: dict[str, type[NetProblem]] = {"inference": NetProblem, "training_step": StepProblem}
QUICK: dict[str, tuple[str, ...]] = {"inference": ("plane", "element"), "training_step": ("plane",)}
"""Patterns that a short profile times, by operation."""
LAYERS: dict[str, str] = {f"{name}_step": name for name in PRUNABLE}
BLOCKS: dict[str, tuple[int, int]] = {
    "element": (1, 1),
    "plane": (1, KERNEL),
    "channel": (1, KERNEL),
    "block": (BLOCK, BLOCK * KERNEL),
}


def cases(profile: str) -> list[Case]:
    """Return the cases of a profile: the trainings, each on every seed, then the timed networks of seed 0.

    quick: one seed, 20,000 images seen a training; inference with planes and with elements at 90 %, a training step of
    planes.
    full: ten seeds, longer trainings, two sparsities, the training step layer by layer too.
    gpu: nothing, as the CNN is trained and timed on the CPU.

    Raises:
        ValueError: if the profile is unknown.
    """
    if profile == "gpu":
        return []
    trainings = [
        _case(plan, "train", plan.seen, seed, "dense")
        for seed in range(plans.SEEDS.get(profile, 1))
        for plan in plans.plans(profile)
    ]
    timed = [
        _case(plan, operation, count)
        for plan in plans.timed(profile)
        for operation, count in BATCHES.items()
        if profile == "full" or plan.settings.pattern in QUICK.get(operation, ())
    ]
    return trainings + timed


def _case(plan: Plan, operation: str, count: int, seed: int = 0, representation: str | None = None) -> Case:
    settings = plan.settings
    return Case(
        suite=SUITE,
        workload=plan.workload,
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
            case = _case(plan, "train", plan.seen)
            found[case.workload, case.pattern.label, case.sparsity] = plan
    return found


def problem(case: Case, device: str, data: Path | None) -> Problem | Training:
    """Make a case concrete. A network that is timed is trained when it was not kept.

    Raises:
        DataError: if the data folder is not as expected.
        ValueError: if the case is none of this suite's.
    """
    plan = _plans().get((case.workload, case.pattern.label, case.sparsity))
    if plan is None:
        known = ", ".join(sorted({workload for workload, *_ in _plans()}))
        raise ValueError(
            f"expected a case of {known}, got {case.workload!r} with {case.pattern.label} at {case.sparsity}"
        )
    if case.operation != "train" and case.operation not in BATCHES:
        raise ValueError(f"expected an operation of train, {', '.join(BATCHES)}, got {case.operation!r}")
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
