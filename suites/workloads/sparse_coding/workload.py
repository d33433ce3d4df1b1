"""Encode, decode and learn digits with the code held in every representation, and train as the notebook does.

The dictionary comes from training the conserved-flow network (about 2 s, once per process and setting), the images
are the first ones that it learned from. Of every image's code the largest entries are kept, equally many for each.
Images whose entries lie too close to tell which are the largest are passed over (2 % of them at f = 1e-4, a third at
f = 0.2, whose idle units are all alike): rounding must not decide what is kept, or no oracle could judge it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from sparsebench.representations.pattern import Pattern
from sparsebench.suites.cell import Case
from sparsebench.suites.workloads.data import PIXELS, DataError, Digits, digits
from sparsebench.suites.workloads.problem import Problem
from sparsebench.suites.workloads.sparse_coding import operations
from sparsebench.suites.workloads.sparse_coding.conserved_flow import FLOWS, Learned, Settings, learn
from sparsebench.suites.workloads.sparse_coding.problems import Batch, DecodeProblem, EncodeProblem, LearnProblem
from sparsebench.suites.workloads.sparse_coding.record import (
    activity,
    artifact,
    load,
    notebook_settings,
    reproduce,
    save,
    trivial_rows,
)
from sparsebench.suites.workloads.sparse_coding.training import TrainProblem

__all__ = ["activity", "artifact", "cases", "load", "problem", "reproduce", "save", "trivial_rows"]

SUITE = "sparse_coding"
UNITS = 100
LEVELS: dict[str, tuple[float, ...]] = {
    "quick": (0.0, 0.8, 0.95),
    "full": (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98),
}
"""Shares of the code's entries that are dropped; 0 keeps the notebook's own dense code."""
BATCH: dict[str, int] = {"quick": 256, "full": 1024}
TIMED_FLOWS: dict[str, tuple[float, ...]] = {"quick": (1e-4,), "full": FLOWS}
TIMED_EPOCHS = 10
"""Epochs behind the dictionary of the timed operations, in both profiles, so that their rows mean the same."""
CLEAR_GAP = 1e-4
"""The least distance of drives between the last entry kept and the first one dropped: float32 rounds them by 1e-5."""


def cases(profile: str) -> list[Case]:
    """Return the cases of a profile: the notebook's two trainings, then decode, encode and learn at every sparsity.

    quick: f = 1e-4, 256 images. full: both settings, 1,024 images.

    Raises:
        ValueError: if the profile is unknown.
    """
    trainings = [
        _case(settings.flow, "train", (settings.epochs * settings.images, settings.units, PIXELS), None, "dense")
        for settings in notebook_settings(profile)
    ]
    batch = BATCH[profile]
    shapes = {"decode": (batch, UNITS, PIXELS), "encode": (batch, PIXELS, UNITS), "learn": (batch, UNITS, PIXELS)}
    return trainings + [
        _case(flow, operation, shape, sparsity)
        for flow in TIMED_FLOWS[profile]
        for operation, shape in shapes.items()
        for sparsity in LEVELS[profile]
    ]


def _case(
    flow: float,
    operation: str,
    shape: tuple[int, int, int],
    sparsity: float | None,
    representation: str | None = None,
) -> Case:
    return Case(
        suite=SUITE,
        workload=_workload(flow),
        operation=operation,
        shape=shape,
        pattern=Pattern(kind="element"),
        sparsity=sparsity,
        representation=representation,
    )


def _workload(flow: float) -> str:
    return f"conserved flow f={flow:g}"


def problem(case: Case, device: str, data: Path | None) -> Problem:
    """Make a case concrete.

    Raises:
        DataError: if the data folder is not as expected, or holds too few images.
        ValueError: if the case is none of this suite's.
    """
    flows = {_workload(flow): flow for flow in FLOWS}
    if case.workload not in flows:
        raise ValueError(f"expected a workload of {', '.join(flows)}, got {case.workload!r}")
    flow = flows[case.workload]
    if case.operation == "train":
        count, units, _ = case.shape
        if count % Settings.images:
            raise ValueError(f"expected whole epochs of {Settings.images:,} images, got {count:,} in all")
        settings = Settings(flow=flow, units=units, epochs=count // Settings.images)
        return TrainProblem(case, device, _digits(data), settings)
    kinds: dict[str, type[DecodeProblem | EncodeProblem | LearnProblem]] = {
        "decode": DecodeProblem,
        "encode": EncodeProblem,
        "learn": LearnProblem,
    }
    if case.operation not in kinds:
        raise ValueError(f"expected an operation of train, {', '.join(kinds)}, got {case.operation!r}")
    units = case.shape[2] if case.operation == "encode" else case.shape[1]
    learned = trained(Settings(flow=flow, units=units, epochs=TIMED_EPOCHS), case.seed, data)
    return kinds[case.operation](case, device, _batch(_digits(data), learned, case.shape[0]))


@cache
def _digits(data: Path | None) -> Digits:
    return digits(data, "train")


@cache
def trained(settings: Settings, seed: int, data: Path | None) -> Learned:
    """Return the training with these settings, once per process."""
    return learn(_digits(data), settings, seed)


def _batch(images: Digits, learned: Learned, count: int) -> Batch:
    """Return the first `count` images whose largest entries are clear at every sparsity of either profile."""
    dictionary, thresholds = torch.from_numpy(learned.dictionary), torch.from_numpy(learned.thresholds)
    clear = clear_images(images.images, dictionary, thresholds)
    if len(clear) < count:
        raise DataError(f"expected at least {count:,} images with clear codes, got {len(clear):,} of {len(images):,}")
    return Batch(
        images=images.images[clear[:count]],
        dictionary=dictionary,
        thresholds=thresholds,
        settings=learned.settings,
    )


def clear_images(images: Tensor, dictionary: Tensor, thresholds: Tensor) -> Tensor:
    """Return the numbers of the images (int64, ascending) whose kept entries lie CLEAR_GAP above the dropped ones."""
    drives = operations.drive(images.double(), dictionary.double(), thresholds.double())
    clear = torch.ones(len(images), dtype=torch.bool)
    for sparsity in sorted({level for levels in LEVELS.values() for level in levels}):
        clear &= operations.gaps(drives, operations.kept_entries(drives.shape[1], sparsity)) >= CLEAR_GAP
    return clear.nonzero().squeeze(1)
