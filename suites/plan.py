"""Decide what a run will measure: suites, cases and representations, in order."""

from __future__ import annotations

import importlib
import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

from sparsebench.representations import registry
from sparsebench.representations.registry import first_line
from sparsebench.suites.cell import Case, Cell, blank
from sparsebench.suites.measure.timing import EFFORTS
from sparsebench.suites.workloads.idx import DataError
from sparsebench.suites.workloads.problem import Workload

HERE = Path(__file__).resolve().parent
OUTSIDE = HERE / "outside.py"
"""The bench file of every workload that another package brings."""
LAST = "dlmc"
"""The suite that comes behind our others: it is as long as the folder that the user has."""
GROUP = "sparsebench.workloads"
"""Entry-point group in which a package offers workloads: `name = "module"` or `"module:object"`."""


class PlanError(ValueError):
    """What was asked for does not exist. A user's mistake."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One cell to come.

    Attributes:
        case: what to measure.
        representation: on which one.
        visit: how often it is to have been visited when it is done.
        weigh: whether its build is timed and its memory weighed, where that was not done; once a curve is enough.
        level_range: the lowest and the highest sparsity that its curve is searched at; None if it is not.
    """

    case: Case
    representation: str
    visit: int = 1
    weigh: bool = True
    level_range: tuple[float, float] | None = None

    @property
    def id(self) -> str:
        """Return the name that pytest shows for the cell."""
        return f"{self.representation}|{self.case.key}"

    @property
    def any_id(self) -> str:
        """Return the same with a star for the sparsity."""
        return f"{self.representation}|{self.case.any_key}"

    def key(self, device: str) -> str:
        """Return the identity that the cell will have in the journal."""
        return self.draft(device).key

    def draft(self, device: str) -> Cell:
        """Return the cell before anything is measured."""
        return blank(self.case, self.representation, device, status="crashed", reason="planned")


def suites() -> dict[str, Path]:
    """Return the bench files by the name of their suite: ours first; an entry point may not take a name of ours."""
    own = {path.stem.removeprefix("bench_"): path for path in sorted(HERE.glob("bench_*.py"))}
    own[LAST] = own.pop(LAST)
    return own | {name: OUTSIDE for name in sorted(_points()) if name not in own}


def _points() -> dict[str, importlib.metadata.EntryPoint]:
    return {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}


def choose_suites(chosen: list[str] | None) -> list[str]:
    """Return the suites of that name, all if none is named.

    Raises:
        PlanError: if one is unknown.
    """
    known = list(suites())
    for name in chosen or []:
        if name not in known:
            raise PlanError(f"expected a suite of {', '.join(known)}, got {name!r}")
    return list(dict.fromkeys(chosen)) if chosen else known


def choose_representations(chosen: list[str] | None) -> list[str]:
    """Return the representations of that name or "module:Class", all known ones if none is named.

    Raises:
        PlanError: if one is unknown. One that is known and broken is no mistake of the user: its cells say so.
    """
    for name in chosen or []:
        try:
            registry.load(name)
        except registry.UnknownRepresentationError as error:
            raise PlanError(str(error)) from error
        except registry.BrokenRepresentationError as error:
            if ":" in name:
                raise PlanError(str(error)) from error
    return list(dict.fromkeys(chosen)) if chosen else registry.names()


def check_profile(profile: str) -> str:
    """Return the profile.

    Raises:
        PlanError: if it is unknown.
    """
    if profile not in EFFORTS:
        raise PlanError(f"expected a profile of {', '.join(EFFORTS)}, got {profile!r}")
    return profile


def workload_of(suite: str) -> Workload:
    """Return the workload that a suite's bench file or entry point names; whatever its import raises is raised."""
    if suites()[suite] == OUTSIDE:
        workload: Workload = _points()[suite].load()
    else:
        workload = importlib.import_module(f"sparsebench.suites.bench_{suite}").WORKLOAD
    return workload


def why_broken(suite: str, profile: str) -> str | None:
    """Return in one line why a suite cannot list the cases of a profile, or None: others must not suffer from it."""
    try:
        strange = {case.suite for case in workload_of(suite).cases(profile)} - {suite}
    except DataError as error:  # nothing is broken: the user has not said where the data are
        return first_line(error)
    except Exception as error:
        return f"{type(error).__name__}: {first_line(error)}"
    return f"expected all cases to be of suite {suite}, got {', '.join(sorted(strange))}" if strange else None


def all_cases(workload: Workload, profile: str, *, train: bool) -> list[Case]:
    """Return the cases of a workload, with those that `--train` adds if it is asked for and the workload has some."""
    more = getattr(workload, "trainings", None)
    return [*workload.cases(profile), *(more(profile) if train and more is not None else [])]


def plan(
    workload: Workload, profile: str, representations: list[str], only: str | None = None, *, train: bool = False
) -> list[Planned]:
    """Return the cells of a workload: the cases in order, each on every representation before the next.

    Args:
        workload: a suite's.
        profile: "quick", "full" or "gpu".
        representations: names.
        only: keep the cells whose id holds this text, as "attention" or "|block-32x32|".
        train: with the trainings that a short profile leaves to the kept studies.
    """
    cells = [
        Planned(case=case, representation=name)
        for case in all_cases(workload, profile, train=train)
        for name in (representations if case.representation is None else [case.representation])
    ]
    return [cell for cell in cells if only is None or only in cell.id]
