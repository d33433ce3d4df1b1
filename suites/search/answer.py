"""Say what is known of a curve: where it crosses, that it is faster from the start, or not up to the end, or open."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from sparsebench.suites.search.fit import SLOPE, Fit, Noise, Point, depth, fit, level
from sparsebench.suites.text import NONE, bare_percent, percent

SURE = 0.975
"""Share of the bootstrap's draws that has to agree before an end is called the answer."""
WIDTH = 0.04
"""A crossing is answered when its interval reaches at most so far to either side, in shares of 1."""
LOW_ENOUGH = 0.05
"""Who is faster at 5 % is faster from the start."""
LEAST_VISITS = 3
"""Two that agree by chance look surer than they are."""
LEAST_ERROR = 0.002
"""No median of a visit is known better."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """From which sparsity on a representation is faster than dense.

    Attributes:
        verdict: "crosses"; "from the start" (faster at the lowest level that the pattern can have, or at 5 %);
            "not up to" (slower at the highest); "open" (the levels do not tell yet); "unmeasured".
        sparsity: where it crosses, as far as is known; the level of the two ends; None if unmeasured.
        low: lower end of the 95 % interval of a crossing; of an open one, the highest level found slower, 0 if none.
        high: upper end; of an open one, the lowest level from which on all were found faster, 1 if none.
        visits: how many visits it stands on.
    """

    verdict: str
    sparsity: float | None = None
    low: float = 0.0
    high: float = 1.0
    visits: int = 0

    @property
    def text(self) -> str:
        """Return it as tables show it: "52 % [50, 54]", "from 0 %", "not up to 99 %", "open: 45 to 80 %"."""
        if self.verdict == "open":
            if self.low > 0 and self.high < 1:
                return f"open: {bare_percent(self.low)} to {percent(self.high)}"
            return f"open: above {percent(self.low)}" if self.low > 0 else f"open: below {percent(self.high)}"
        interval = f" [{100 * self.low:.0f}, {100 * self.high:.0f}]" if self.verdict == "crosses" else ""
        return self.short + interval

    @property
    def short(self) -> str:
        """Return it without an interval: "52 %", "from 0 %", "not up to 99 %", "open", "–"."""
        if self.verdict == "crosses":
            return percent(self.sparsity or 0.0)
        if self.verdict == "not up to":
            return f"not up to {percent(self.sparsity or 0.0)}"
        return {"from the start": f"from {percent(0.0)}", "open": "open"}.get(self.verdict, NONE)

    @property
    def order(self) -> float:
        """Return a number that sorts early break-evens first, then what is not reached, then what is not measured."""
        if self.verdict == "from the start":
            return 0.0
        if self.verdict == "open" and self.high == 1:
            return 1.5
        return {"not up to": 2.0, "unmeasured": 3.0}.get(self.verdict, self.sparsity or 0.0)

    @property
    def half_width(self) -> float:
        """Return how far its interval reaches, on the wider side."""
        middle = self.sparsity or 0.0
        return max(self.high - middle, middle - self.low)

    @property
    def settled(self) -> bool:
        """Tell whether measuring more would not change what is told."""
        return self.verdict in ("crosses", "from the start", "not up to")


def points_of(row: Mapping[Any, Any]) -> list[Point]:
    """Return what each visit of a journal's row found; a row that does not tell its visits apart counts as one."""
    if row.get("status") != "ok" or row.get("sparsity") is None:
        return []
    sparsity = float(row["sparsity"])
    values, errors = (_numbers(row.get(name)) for name in ("visit_speedups", "visit_errors"))
    if values and len(values) == len(errors) and min(values) > 0:
        return [
            Point(sparsity=sparsity, value=math.log(value), error=max(error, LEAST_ERROR))
            for value, error in zip(values, errors, strict=True)
        ]
    whole, low, high = (_number(row.get(name)) for name in ("speedup", "speedup_low", "speedup_high"))
    if not (0 < low <= high and whole > 0):
        return []
    error = max((math.log(high) - math.log(low)) / 3.92, LEAST_ERROR)
    return [Point(sparsity=sparsity, value=math.log(whole), error=error)]


def _numbers(value: Any) -> list[float]:
    """Return a list of numbers, which tables hold as "1.02x0.98"."""
    try:
        return [float(part) for part in (value.split("x") if isinstance(value, str) else value or ())]
    except (TypeError, ValueError):
        return []


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0.0


MEDIANS: dict[int, float] = {1: 0.455, 2: 0.693, 3: 0.789, 4: 0.839}
"""Median of χ² ÷ its degrees of freedom: the middle variance of few visits is that much lower than the true one."""
ENOUGH = 12
"""Cells with several visits that a run's own noise is told from; with fewer it is assumed."""


def noise_of(cells: Iterable[Sequence[Point]]) -> Noise:
    """Return how far visits of one cell lie apart in the middle cell of a run; at least 1 %.

    Args:
        cells: the points of each cell.
    """
    shares = []
    for points in cells:
        if len(points) > 1:
            variance = float(np.var([point.value for point in points], ddof=1))
            shares.append(variance / MEDIANS.get(len(points) - 1, 0.9) - np.mean([point.error**2 for point in points]))
    if len(shares) < ENOUGH:
        return Noise()
    return Noise(spread=max(0.01, math.sqrt(max(0.0, float(np.median(shares))))))


def fitted(points: Sequence[Point], noise: Noise) -> Fit:
    """Return the fit of a curve's points, begun at the crossing behind which all measured levels are faster."""
    return _fitted(tuple(points), noise)


@lru_cache(maxsize=4096)
def _fitted(points: tuple[Point, ...], noise: Noise) -> Fit:
    return fit(points, noise, guess(points))


def guess(points: Sequence[Point]) -> float:
    """Return about where a curve crosses: between two levels, or ahead of them along the slope believed in."""
    means = level_means(points)
    above = len(means)
    while above > 0 and means[above - 1][1] >= 0:
        above -= 1
    if above == 0:
        sparsity, value = means[0]
        return level(depth(sparsity) - value / SLOPE)
    if above == len(means):
        sparsity, value = means[-1]
        return level(depth(sparsity) - value / SLOPE)
    (below, low), (beyond, high) = means[above - 1], means[above]
    return level(depth(below) + (depth(beyond) - depth(below)) * -low / (high - low))


def level_means(points: Sequence[Point]) -> list[tuple[float, float]]:
    """Return (sparsity, mean value) of each level, ascending."""
    levels: dict[float, list[float]] = defaultdict(list)
    for point in points:
        levels[point.sparsity].append(point.value)
    return [(sparsity, float(np.mean(values))) for sparsity, values in sorted(levels.items())]


def answer(points: Sequence[Point], noise: Noise, first: float, last: float) -> Answer:
    """Return what is known of a curve.

    Args:
        points: of all its levels and visits.
        noise: between visits.
        first: the lowest level that the pattern can have; at most 5 % counts as it.
        last: the highest level that is asked for, or that the pattern can have.
    """
    if not points:
        return Answer(verdict="unmeasured")
    found, means = fitted(points, noise), level_means(points)
    lowest, highest, visits = means[0][0], means[-1][0], len(points)
    start, end = max(first, LOW_ENOUGH) + 0.005, last - 0.005
    if lowest <= start and found.share_above(max(lowest, LOW_ENOUGH)) <= 1 - SURE:
        return Answer(verdict="from the start", sparsity=lowest, visits=visits)
    if highest >= end and found.share_above(highest) >= SURE:
        return Answer(verdict="not up to", sparsity=highest, visits=visits)
    slower = [sparsity for sparsity, value in means if value < 0]
    below = max(slower, default=0.0)
    faster = [sparsity for sparsity, _ in means if sparsity > below]
    near = found.high - found.sparsity <= WIDTH and found.sparsity - found.low <= WIDTH
    # a flat line that never meets 1 crosses somewhere, if it is drawn far enough: both sides have to have been seen
    if near and visits >= LEAST_VISITS and slower and faster:
        sparsity, low = max(0.0, found.sparsity), max(0.0, found.low)
        return Answer(verdict="crosses", sparsity=sparsity, low=low, high=found.high, visits=visits)
    sparsity = min(max(found.sparsity, below), min(faster, default=1.0))
    return Answer(verdict="open", sparsity=sparsity, low=below, high=min(faster, default=1.0), visits=visits)
