"""Define what is measured (Case), what came of it (Cell, one row of a journal), and the columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from sparsebench.representations.pattern import Pattern

CONTROL = "dense"
"""The representation that is dense itself: it shows the noise, and has no break-even."""

STATUSES: tuple[str, ...] = ("ok", "unsupported", "not_installed", "wrong", "oom", "timeout", "crashed")
FAILURES: tuple[str, ...] = ("wrong", "oom", "timeout", "crashed")
"""Statuses that make a run exit with 1; `unsupported` and `not_installed` are answers, not failures."""

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to measure, before a representation and a device are chosen.

    Attributes:
        suite: the bench file without "bench_" and ".py".
        workload: the layer or model that it comes from, as "ResNet-50 conv4 1×1".
        operation: what is timed.
        shape: sizes of the operation, (m, k, n) for a matrix product.
        pattern: where the zeros are.
        sparsity: the share of units asked to be absent; None where the data decides.
        dtype: key of DTYPES.
        seed: of the random numbers.
        representation: the only one that the case is for, where the choice of a representation changes nothing.
    """

    suite: str
    workload: str
    operation: str
    shape: tuple[int, ...]
    pattern: Pattern
    sparsity: float | None
    dtype: str = "float32"
    seed: int = 0
    representation: str | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"expected a dtype of {', '.join(DTYPES)}, got {self.dtype!r}")
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"expected a shape of positive sizes, got {self.shape}")

    @property
    def key(self) -> str:
        """Return a readable name that no other case of the suite has."""
        return self._named("data" if self.sparsity is None else f"{self.sparsity:g}")

    @property
    def any_key(self) -> str:
        """Return the same with a star for the sparsity."""
        return self._named("*")

    def _named(self, level: str) -> str:
        shape = "x".join(map(str, self.shape))
        label = self.pattern.label.replace(" ", "-").replace("×", "x")
        return f"{self.workload}|{self.operation}|{shape}|{label}|{level}|{self.dtype}|{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One row of a journal: a case on one representation and one device. What was not measured is None.

    results/README.md tells every column with its unit.
    """

    suite: str
    workload: str
    operation: str
    representation: str
    provenance: str | None = None
    kernel: str | None = None
    device: str
    dtype: str
    pattern: str
    block: list[int]
    sparsity: float | None
    achieved_sparsity: float | None = None
    level_range: list[float] | None = None
    shape: list[int]
    seed: int
    status: str
    reason: str | None = None
    time_s: float | None = None
    time_spread: float | None = None
    reference: str | None = None
    reference_time_s: float | None = None
    wall_time_s: float | None = None
    reference_wall_time_s: float | None = None
    speedup: float | None = None
    speedup_low: float | None = None
    speedup_high: float | None = None
    efficiency: float | None = None
    visits: int | None = None
    visit_speedups: list[float] | None = None
    visit_errors: list[float] | None = None
    rounds: int | None = None
    disturbed_rounds: int | None = None
    inner_iterations: int | None = None
    build_time_s: float | None = None
    pays_off_after: float | None = None
    stored_bytes: int | None = None
    value_bytes: int | None = None
    index_bytes: int | None = None
    dense_bytes: int | None = None
    fill: float | None = None
    workspace_bytes: int | None = None
    build_peak_bytes: int | None = None
    relative_error: float | None = None
    tolerance: float | None = None
    checked: str | None = None
    quality: float | None = None
    quality_metric: str | None = None
    qualities: dict[str, float | None] | None = None
    useful_gflops: float | None = None
    threads: int | None = None
    profile: str | None = None
    finished_at: str | None = None

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"expected a status of {', '.join(STATUSES)}, got {self.status!r}")
        if self.status != "ok" and not self.reason:
            raise ValueError(f"expected a reason for status {self.status}, got none; say what happened in one line")

    @property
    def key(self) -> str:
        """Return the cell's identity: equal in two runs that measured the same thing."""
        # not of the whole row, which copies every list: a run over a large collection asks for many keys
        return cell_key({column: getattr(self, column) for column in IDENTITY})

    def row(self) -> dict[str, Any]:
        """Return the columns as a dictionary that JSON can hold."""
        return dataclasses.asdict(self)


COLUMNS: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(Cell))
IDENTITY: tuple[str, ...] = (
    "suite", "workload", "operation", "representation", "device", "dtype", "pattern", "sparsity", "shape", "seed",
)  # fmt: skip
"""Columns that say what was measured; the others say what came of it. `pattern` holds the label, block included."""


def cell_key(row: dict[str, Any]) -> str:
    """Return the identity of a journal's row as one string."""
    return "|".join(f"{row[column]}" for column in IDENTITY)


def cases_of(profile: str, lists: Mapping[str, Callable[[], list[Case]]]) -> list[Case]:
    """Return the cases of a profile from a workload's lists.

    Raises:
        ValueError: if the profile is unknown.
    """
    if profile not in lists:
        raise ValueError(f"expected a profile of {', '.join(lists)}, got {profile!r}")
    return lists[profile]()


def cell_of(row: dict[str, Any]) -> Cell:
    """Return a journal's row as a cell: a newer version's columns are left out, what an older one lacks is None.

    Raises:
        TypeError, ValueError: if it lacks what says which cell it is, or has a status that is unknown here.
    """
    return Cell(**{name: value for name, value in row.items() if name in COLUMNS})


def blank(case: Case, representation: str, device: str, *, status: str, reason: str | None = None) -> Cell:
    """Return a cell of a case in which nothing is measured yet."""
    return Cell(
        suite=case.suite,
        workload=case.workload,
        operation=case.operation,
        representation=representation,
        device=device,
        dtype=case.dtype,
        pattern=case.pattern.label,
        block=list(case.pattern.block),
        sparsity=case.sparsity,
        shape=list(case.shape),
        seed=case.seed,
        status=status,
        reason=reason,
    )
