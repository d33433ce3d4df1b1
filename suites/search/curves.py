"""Turn a workload's cases into curves, and a journal into what its curves are measured at next."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from sparsebench.suites.cell import CONTROL, FAILURES, IDENTITY, Case, cell_key
from sparsebench.suites.plan import Planned, plan
from sparsebench.suites.search.answer import Answer, answer, guess, noise_of, points_of
from sparsebench.suites.search.fit import Point
from sparsebench.suites.search.levels import BEGIN, nearest, next_level
from sparsebench.suites.workloads.problem import Workload

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One operation on one pattern and shape in one representation: a speed-up over sparsity.

    Attributes:
        case: at any level.
        representation: its name.
        levels: sparsities that the pattern can have, ascending.
    """

    case: Case
    representation: str
    levels: tuple[float, ...]

    def at(self, sparsity: float, visit: int = 1, *, weigh: bool = True) -> Planned:
        """Return the cell at a level, to be visited so often."""
        case = dataclasses.replace(self.case, sparsity=sparsity)
        return Planned(
            case=case,
            representation=self.representation,
            visit=visit,
            weigh=weigh,
            level_range=(self.levels[0], self.levels[-1]),
        )

    def key(self, device: str) -> str:
        """Return what all its rows have in common."""
        return curve_key(self.at(self.levels[0]).draft(device).row())


def curve_key(row: Row) -> str:
    """Return the identity of the curve that a journal's row belongs to."""
    return "|".join(f"{row[column]}" for column in IDENTITY if column != "sparsity")


@dataclass(frozen=True, kw_only=True)
class Agenda:
    """What a suite is to measure.

    Attributes:
        fixed: cells whose level is given.
        curves: what is searched.
    """

    fixed: tuple[Planned, ...]
    curves: tuple[Curve, ...]


def agenda(
    workload: Workload,
    profile: str,
    representations: list[str],
    only: str | None = None,
    levels: Sequence[float] | None = None,
    *,
    train: bool = False,
) -> Agenda:
    """Return the cells and the curves of a workload.

    A workload that has `levels(case)` is searched: its cases stand for their curves, whatever their own levels are.

    Args:
        workload: a suite's.
        profile: "gpu" is never searched: what it measures is chosen for a few minutes.
        representations: names.
        only: keep what holds this text; where that tells levels apart ("|0.9|") those cells are measured, not a curve.
        levels: measure every curve at these instead of searching; those that a pattern cannot have are left out.
        train: with the trainings that a short profile leaves to the kept studies.
    """
    asked: Callable[[Case], tuple[float, ...]] | None = getattr(workload, "levels", None)
    cells = plan(workload, profile, representations, train=train)
    if asked is None or profile == "gpu":
        chosen = [cell for cell in cells if only is None or only in cell.id]
        return Agenda(fixed=tuple(_weighed_once(chosen) if profile == "quick" else chosen), curves=())
    fixed: list[Planned] = []
    curves: dict[tuple[Case, str], Curve] = {}
    for cell in cells:
        case = cell.case
        possible = asked(case) if case.sparsity is not None else ()
        if only is not None and only not in cell.any_id:
            fixed += [cell] if only in cell.id else []
        elif len(possible) < 2:
            fixed.append(cell)
        else:
            one = Curve(
                case=dataclasses.replace(case, sparsity=possible[0]),
                representation=cell.representation,
                levels=possible,
            )
            curves.setdefault((one.case, one.representation), one)
    if levels is not None:
        return Agenda(fixed=(*fixed, *_grid(curves.values(), levels)), curves=())
    # dense meets dense at any level alike: one is enough to see the noise
    control = [one.at(nearest(one.levels, BEGIN)) for one in curves.values() if one.representation == CONTROL]
    searched = [one for one in curves.values() if one.representation != CONTROL]
    return Agenda(fixed=(*fixed, *control), curves=tuple(searched))


def _weighed_once(cells: Iterable[Planned]) -> list[Planned]:
    """Return cells of which one of each curve, the first, is weighed: weighing takes as long as timing."""
    seen: set[str] = set()
    found = []
    for cell in cells:
        found.append(dataclasses.replace(cell, weigh=cell.weigh and cell.any_id not in seen))
        seen.add(cell.any_id)
    return found


def _grid(curves: Iterable[Curve], levels: Sequence[float]) -> list[Planned]:
    """Return the cells of a fixed grid, those of one case and level next to each other."""
    found = [
        curve.at(level)
        for curve in curves
        for level in levels
        if curve.case.pattern.m is None or any(abs(level - one) < 1e-9 for one in curve.levels)
    ]
    return together(found)


def together(cells: Iterable[Planned]) -> list[Planned]:
    """Return cells so that those of one case are next to each other, in the order in which cases come first."""
    groups: dict[Case, list[Planned]] = defaultdict(list)
    for cell in cells:
        groups[cell.case].append(cell)
    return [cell for group in groups.values() for cell in group]


@dataclass(frozen=True, kw_only=True)
class State:
    """What a journal says of the curves of a run.

    Attributes:
        answers: by the curve's key.
        refused: keys of the curves that a representation does not hold, so that there is nothing to answer.
        following: the cells to measure next: curves with fewer than two visits first, then those that cross early.
        narrowing: cells that would make the intervals of answered crossings narrower, the widest first.
    """

    answers: dict[str, Answer]
    refused: frozenset[str]
    following: tuple[Planned, ...]
    narrowing: tuple[Planned, ...]


def state(curves: Sequence[Curve], rows: Sequence[Row], device: str, most: int) -> State:
    """Return what is known of each curve, and what to measure next: a function of the journal's rows alone.

    Args:
        curves: of a suite.
        rows: of the whole run, so that a suite learns from the others.
        device: "cpu" or "cuda".
        most: visits of a curve, after which it stays open.
    """
    points: dict[str, list[Point]] = defaultdict(list)
    visits: dict[str, int] = {}
    closed: set[str] = set()
    refused: set[str] = set()
    weighed: set[str] = set()
    cells: list[list[Point]] = []
    for row in rows:
        found = points_of(row)
        cells.append(found)
        points[curve_key(row)] += found
        visits[cell_key(dict(row))] = len(found)
        if row.get("workspace_bytes") is not None:
            weighed.add(curve_key(row))
        if row["status"] in FAILURES:
            closed.add(curve_key(row))
        elif row["status"] != "ok":
            refused.add(curve_key(row))
    noise = noise_of(cells)
    known = {curve.key(device): curve for curve in curves}
    expected = _expectations(curves, points, device)
    answers: dict[str, Answer] = {}
    following: list[tuple[int, float, Planned]] = []
    narrowing: list[tuple[float, Planned]] = []
    for key, curve in known.items():
        mine = points.get(key, [])
        answers[key] = answer(mine, noise, curve.levels[0], curve.levels[-1])
        if key in closed | refused or len(mine) >= most:
            continue
        level = next_level(mine, noise, curve.levels, expected(curve), narrow=True)
        if level is not None:
            visit = visits.get(curve.at(level).key(device), 0) + 1
            cell = curve.at(level, visit, weigh=key not in weighed)
            if answers[key].settled:
                narrowing.append((-answers[key].half_width, cell))
            else:
                # those that win early come first: they are who the question is about
                following.append((min(len(mine), 2), answers[key].order, cell))
    following.sort(key=lambda item: item[:2])
    narrowing.sort(key=lambda item: item[0])
    return State(
        answers=answers,
        refused=frozenset(refused),
        following=tuple(cell for *_, cell in following),
        narrowing=tuple(cell for _, cell in narrowing),
    )


def _expectations(
    curves: Sequence[Curve], points: Mapping[str, Sequence[Point]], device: str
) -> Callable[[Curve], float]:
    """Return where a curve is expected to cross that nothing is known of: where its neighbours do."""
    near: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for curve in curves:
        if mine := points.get(curve.key(device)):
            where = min(max(guess(mine), 0.0), 0.999)
            near[curve.representation, curve.case.pattern.kind].append(where)
            near[curve.representation,].append(where)

    def expected(curve: Curve) -> float:
        name = curve.representation
        found = near.get((name, curve.case.pattern.kind)) or near.get((name,))
        return median(found) if found else BEGIN

    return expected
