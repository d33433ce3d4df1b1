"""Find the sparsity from which on a representation beats dense, with its interval."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from sparsebench.suites.cell import CONTROL
from sparsebench.suites.report.text import NONE, percent
from sparsebench.suites.report.trust import mark_row, weakest

GROUP: tuple[str, ...] = ("suite", "workload", "operation", "shape", "dtype", "device", "pattern")
"""Columns that say what was asked; levels that any representation has in a group are expected of every other."""

BUILD = "build"
"""What the column `kernel` says where the operation stands on the build alone."""


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """Where a curve over sparsity reaches 1 for good.

    Attributes:
        verdict: "crosses", "always" (1 or more at every level), "never" (below 1 at the highest level) or
            "unmeasured" (no level has a number).
        sparsity: where it crosses; for "always" the lowest level, for "never" the highest, for "unmeasured" None.
        between: the levels that the verdict stands on: the two neighbours of a crossing, else the one at the end.
    """

    verdict: str
    sparsity: float | None
    between: tuple[float, ...] = ()

    @property
    def text(self) -> str:
        """Return it as tables show it."""
        if self.sparsity is None:
            return "not measured"
        lead = {"always": "≤ ", "never": "not up to "}.get(self.verdict, "")
        return lead + percent(self.sparsity)

    @property
    def short(self) -> str:
        """Return it as ranges and coloured tables show it: "≤ 50 %", "87 %", "never", "–"."""
        if self.sparsity is None:
            return NONE
        if self.verdict == "never":
            return "never"
        return ("≤ " if self.verdict == "always" else "") + percent(self.sparsity)

    @property
    def order(self) -> float:
        """Return a number that sorts early break-evens first, then never, then what is not measured."""
        return {"never": 2.0, "unmeasured": 3.0}.get(self.verdict, self.sparsity or 0.0)


@dataclass(frozen=True, kw_only=True)
class BreakEven:
    """The break-even of one representation on one operation, shape, type, device and pattern.

    Attributes:
        suite, workload, operation, shape, dtype, device, pattern, representation: what was asked.
        point: of the speed-up.
        optimistic: of the upper ends of the intervals: not later than `point`.
        pessimistic: of the lower ends: not earlier than `point`.
        levels: how many sparsities have a number.
        missing: how many sparsities of the group have none for this representation.
        best: the highest speed-up, None if there is none.
        best_at: its sparsity.
        builds: True if the operation itself builds the representation, which dense does not have to.
        trust: the weakest trust mark of the levels that `point` stands on.
    """

    suite: str
    workload: str
    operation: str
    shape: str
    dtype: str
    device: str
    pattern: str
    representation: str
    point: Crossing
    optimistic: Crossing
    pessimistic: Crossing
    levels: int
    missing: int
    best: float | None
    best_at: float | None
    builds: bool
    trust: str


def crossing(levels: Iterable[tuple[float, float | None]]) -> Crossing:
    """Return the lowest sparsity from which on a speed-up is at least 1 at all higher measured levels.

    Between the last level below 1 and the first of the unbroken row at or above 1, log(speed-up) is interpolated
    linearly over sparsity. A level whose value is None, NaN, infinite or not positive was not measured: it is left out,
    never taken for a number.

    Args:
        levels: pairs (sparsity, speed-up), each sparsity once, in any order.
    """
    points = sorted(
        (level, value) for level, value in levels if value is not None and math.isfinite(value) and value > 0
    )
    if not points:
        return Crossing(verdict="unmeasured", sparsity=None)
    first = len(points)
    while first > 0 and points[first - 1][1] >= 1.0:
        first -= 1
    if first == len(points):
        return Crossing(verdict="never", sparsity=points[-1][0], between=(points[-1][0],))
    if first == 0:
        return Crossing(verdict="always", sparsity=points[0][0], between=(points[0][0],))
    (below, low), (above, high) = points[first - 1], points[first]
    share = -math.log(low) / (math.log(high) - math.log(low))
    return Crossing(verdict="crosses", sparsity=below + share * (above - below), between=(below, above))


def break_evens(frame: pd.DataFrame) -> list[BreakEven]:
    """Return the break-even of every representation but dense itself in every group of cells that have a level.

    Where a level stands several times (seeds), the median of the speed-ups counts, with the lowest lower and the
    highest upper end.

    Args:
        frame: `Run.frame`.
    """
    found: list[BreakEven] = []
    levelled = frame[frame["sparsity"].notna()]
    for keys, group in levelled.groupby(list(GROUP), sort=False, dropna=False):
        expected = set(group["sparsity"])
        for name, rows in group.groupby("representation", sort=False):
            if name != CONTROL:
                found.append(_of(dict(zip(GROUP, map(str, keys), strict=True)), str(name), rows, expected))
    return found


def _of(keys: dict[str, str], name: str, rows: pd.DataFrame, expected: set[float]) -> BreakEven:
    timed = rows[(rows["status"] == "ok") & (rows["speedup"] > 0)]
    by_level = timed.groupby("sparsity")
    speedups: pd.Series[float] = by_level["speedup"].median()
    point = crossing(_pairs(speedups))
    marks = [mark_row(row) for row in timed[timed["sparsity"].isin(point.between)].to_dict("records")]
    best_at = None if speedups.empty else float(speedups.index[int(speedups.to_numpy().argmax())])
    return BreakEven(
        **keys,
        representation=name,
        point=point,
        optimistic=crossing(_pairs(by_level["speedup_high"].max())),
        pessimistic=crossing(_pairs(by_level["speedup_low"].min())),
        levels=len(speedups),
        missing=len(expected - set(speedups.index)),
        best=None if best_at is None else float(speedups.max()),
        best_at=best_at,
        builds=bool((rows["kernel"] == BUILD).any()),
        trust=weakest(marks),
    )


def _pairs(series: pd.Series[float]) -> list[tuple[float, float]]:
    return [(float(level), float(value)) for level, value in zip(series.index, series, strict=True)]
