"""List the cases of sparse coding, and name what each is about, so that a case can be made concrete again."""

from __future__ import annotations

from sparsebench.representations.pattern import Pattern
from sparsebench.suites.cell import Case
from sparsebench.suites.workloads.data import PIXELS
from sparsebench.suites.workloads.sparse_coding import plans
from sparsebench.suites.workloads.sparse_coding.notebook.conserved_flow import FLOWS
from sparsebench.suites.workloads.sparse_coding.plans import Plan
from sparsebench.suites.workloads.sparse_coding.record import notebook_settings
from sparsebench.suites.workloads.sparse_coding.short import CHECK
from sparsebench.suites.workloads.sparse_coding.short import SETTINGS as CHECKED
from sparsebench.suites.workloads.studies.check import OPERATION

SUITE = "sparse_coding"
UNITS = 100
PROFILES: tuple[str, ...] = ("quick", "full", "gpu")
LEVELS: dict[str, tuple[float, ...]] = {
    "quick": (0.8, 0.95),
    "full": (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98),
}
"""Shares of the conserved flow's code that are dropped; 0 keeps the notebook's own dense code."""
LEARNED_LEVELS: dict[str, tuple[float, ...]] = {"quick": (0.95,), "full": LEVELS["full"]}
"""The same for a learning step."""
BATCH: dict[str, int] = {"quick": 256, "full": 1024}
MODEL_BATCH: dict[str, int] = {"quick": 256, "full": 1_000}
"""Test images of a model's operations: no more than the digits that need no download have."""
TIMED_FLOWS: dict[str, tuple[float, ...]] = {"quick": (1e-4,), "full": FLOWS}
TIMED_EPOCHS = 10
"""Epochs behind the dictionary of the timed operations, in both profiles, so that their rows mean the same."""
NOTEBOOK_IMAGES: dict[str, int] = {"quick": 100, "full": 3_000}
"""Images of the notebook's loop that is timed; 3,000 are an epoch."""
MODEL_OPERATIONS: tuple[str, ...] = ("encode", "decode", "reconstruct")
AGAINST = "encode_against_omp"
HELD_OPERATIONS: tuple[str, ...] = ("decode", "learn")
RANDOM = "random codes N={units} k={active}"
"""Workload of codes that no model gave: the places of each row drawn anew, as a large dictionary's are spread."""
RANDOM_SHAPES: dict[str, tuple[tuple[int, int], ...]] = {
    "quick": (),
    "full": ((10_000, 8), (10_000, 32), (10_000, 128)),
    "gpu": ((10_000, 32), (131_072, 32), (131_072, 256)),
}
"""(N, k) of them, each with 1,024 images of 784 pixels."""
KEPT = "kept codes of {model} N={units}"
"""Workload of codes with as many entries a row as a model of the kept study has, each row's places drawn."""
KEPT_LEVELS: tuple[int, ...] = (50, 25, 14, 7, 3)
"""k of the TopK autoencoders with N = UNITS whose codes are timed so."""
RANDOM_OPERATIONS: tuple[str, ...] = ("decode", "decode_backward")


def cases(profile: str) -> list[Case]:
    """Return the cases of a profile.

    quick: the short check, and decoding of codes as the kept study's models have them, in every representation, which
    needs no training.
    full: the notebook's two trainings and its loop; every model at several levels, encoding, decoding and both, each in
    the one representation that suits its codes; patches of natural images; then codes in every representation: those
    of conserved flow and of TopK autoencoders at every sparsity, and random ones of a large dictionary; N up to 10,000.
    gpu: decoding with a large dictionary alone.

    Raises:
        ValueError: if the profile is unknown.
    """
    if profile not in PROFILES:
        raise ValueError(f"expected a profile of {', '.join(PROFILES)}, got {profile!r}")
    if profile == "gpu":
        return _random(profile)
    return _kept() if profile == "quick" else [*_trained(profile), *_random(profile)]


def trainings(profile: str) -> list[Case]:
    """Return the cases that `--train` adds: for quick N = 100, trainings of a second; full trains anyway."""
    return _trained(profile) if profile == "quick" else []


def _kept() -> list[Case]:
    check = _case(CHECK.label, OPERATION, (CHECKED.images, CHECKED.units, PIXELS), None, "dense")
    batch = MODEL_BATCH["quick"]
    return [
        check,
        *(_case(kept_name(plan), "decode", (batch, plan.units, PIXELS), sparsity(plan)) for plan in kept_plans()),
    ]


def kept_plans() -> list[Plan]:
    """Return the models of the kept study whose codes are timed in every representation, the fullest codes first."""
    return [plan for k in KEPT_LEVELS for plan in plans.held() if plan.level == k]


def kept_name(plan: Plan) -> str:
    """Return the workload of codes like those of a kept model; its sparsity says which k."""
    return KEPT.format(model=plan.short, units=plan.units)


def _trained(profile: str) -> list[Case]:
    learned = [
        _case(flow_name(s.flow), "train", (s.epochs * s.images, s.units, PIXELS), None, "dense")
        for s in notebook_settings(profile)
    ]
    loop = _case(
        flow_name(FLOWS[-1]), "notebook_epoch", (NOTEBOOK_IMAGES[profile], UNITS, PIXELS), None, "dense", "float64"
    )
    models = [
        _case(plan.workload, operation, model_shape(plan, MODEL_BATCH[profile], operation), None, plan.holder)
        for plan in plans.plans(profile)
        for operation in MODEL_OPERATIONS
    ]
    against = [
        _case(plan.workload, AGAINST, model_shape(plan, MODEL_BATCH[profile], AGAINST), None, plan.holder)
        for plan in plans.pursued(profile)
    ]
    return [*learned, loop, *models, *against, *_flow(profile), *_topk(profile)]


def flow_name(flow: float) -> str:
    """Return the workload of the notebook's network."""
    return f"conserved flow f={flow:g}"


def model_shape(plan: Plan, batch: int, operation: str) -> tuple[int, int, int]:
    """Return the sizes of an operation of a model: (n, d, N) for what starts with images, (n, N, d) for decoding."""
    pixels = PIXELS if plan.data == "digits" else plans.PATCH_PIXELS
    return (batch, plan.units, pixels) if operation == "decode" else (batch, pixels, plan.units)


def _flow(profile: str) -> list[Case]:
    """Return the code of conserved flow in every representation."""
    batch = BATCH[profile]
    decode, encode = (batch, UNITS, PIXELS), (batch, PIXELS, UNITS)
    planned = [("decode", decode, LEVELS[profile]), ("learn", decode, LEARNED_LEVELS[profile])]
    if profile == "full":
        planned.insert(1, ("encode", encode, LEVELS[profile]))
    return [
        _case(flow_name(flow), operation, shape, sparsity)
        for flow in TIMED_FLOWS[profile]
        for operation, shape, sparsity in ((o, s, level) for o, s, levels in planned for level in levels)
    ]


def _topk(profile: str) -> list[Case]:
    """Return the codes of TopK autoencoders, one trained for each k, in every representation."""
    batch, held = MODEL_BATCH[profile], plans.held() if profile == "full" else []
    return [
        _case(codes_name(plan), operation, (batch, plan.units, PIXELS), sparsity(plan))
        for operation in HELD_OPERATIONS
        for plan in held
    ]


def codes_name(plan: Plan) -> str:
    """Return the workload of a model's codes in every representation; its sparsity says which k."""
    return f"codes of {plan.short} N={plan.units}"


def sparsity(plan: Plan) -> float:
    """Return the share of zeros in the codes of a model that keeps k of N entries."""
    return 1.0 - (plan.level or 0.0) / plan.units


def _random(profile: str) -> list[Case]:
    """Return random codes of a large dictionary in every representation."""
    return [
        _case(RANDOM.format(units=units, active=active), operation, (1_024, units, PIXELS), 1.0 - active / units)
        for units, active in RANDOM_SHAPES[profile]
        for operation in RANDOM_OPERATIONS
    ]


def _case(
    workload: str,
    operation: str,
    shape: tuple[int, int, int],
    sparsity: float | None,
    representation: str | None = None,
    dtype: str = "float32",
) -> Case:
    return Case(
        suite=SUITE,
        workload=workload,
        operation=operation,
        shape=shape,
        pattern=Pattern(kind="element"),
        sparsity=sparsity,
        dtype=dtype,
        representation=representation,
    )
