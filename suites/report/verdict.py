"""Tell whether a speed-up differs between two runs, and how often that is told wrongly where it was tried."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from sparsebench.suites.search.answer import points_of
from sparsebench.suites.search.fit import Noise, Point

VERDICTS: tuple[str, ...] = ("same", "faster", "slower", "unclear")
WITHIN = 0.10
"""A ratio this near to 1 that does not differ for sure is the same; one that is farther away is unclear."""
LEAST = 0.02
"""A change that is smaller than this share is of no account, however sure it is."""
FACTOR = 3.0
"""How many standard errors make a difference, where no self-test has found what this machine needs."""
OWN = 4.0
"""Visits that a run's noise counts as beside a cell's own: a cell that jumps more than the others is less sure."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """How a cell's speed-up differs between two runs.

    Attributes:
        log: of speed-up in b ÷ speed-up in a.
        error: its standard error.
    """

    log: float
    error: float

    @property
    def ratio(self) -> float:
        """Return speed-up in b ÷ speed-up in a."""
        return math.exp(self.log)

    def verdict(self, factor: float = FACTOR) -> str:
        """Return "faster" or "slower" if it differs by `factor` standard errors, else "same" or "unclear"."""
        if abs(self.log) > factor * self.error and abs(self.ratio - 1.0) > LEAST:
            return "faster" if self.log > 0 else "slower"
        return "same" if abs(self.ratio - 1.0) <= WITHIN + 1e-9 else "unclear"


def change(a: Mapping[Any, Any], b: Mapping[Any, Any], noise: Noise) -> Change:
    """Return how a journal's row differs from another run's of the same cell; without an interval nothing is sure.

    Args:
        a: the row to measure against.
        b: the other.
        noise: how far visits of one cell lie apart.
    """
    (first, one), (second, other) = (_side(row, noise) for row in (a, b))
    return Change(log=second - first, error=math.sqrt(one + other))


def _side(row: Mapping[Any, Any], noise: Noise) -> tuple[float, float]:
    points = points_of(row)
    if not points:
        return math.log(row["speedup"]), math.inf
    if not isinstance(row.get("visit_speedups"), (str, list)):
        # the interval is all that is known, and covers what visits differ by
        return points[0].value, points[0].error ** 2
    return mean(points, noise)


def mean(visits: Sequence[Point], noise: Noise) -> tuple[float, float]:
    """Return the mean log(speed-up) of a cell's visits, and the variance of that mean.

    The variance of a visit is what the run's noise says, weighed as OWN visits, and the cell's own.
    """
    middle = fmean(point.value for point in visits)
    expected = noise.spread**2 + fmean(point.error**2 for point in visits)
    own = sum((point.value - middle) ** 2 for point in visits)
    return middle, (OWN * expected + own) / (OWN + len(visits) - 1) / len(visits)


def factor_of(*machines: Mapping[str, Any]) -> float:
    """Return how many standard errors make a difference: the most that the runs' self-tests ask for, else FACTOR.

    Args:
        machines: the facts of each run, from machine.json.
    """
    found = [
        float(tested["factor"])
        for facts in machines
        if isinstance(tested := facts.get("selftest"), Mapping) and isinstance(tested.get("factor"), (int, float))
    ]
    return max(found) if len(found) == len(machines) else max([FACTOR, *found])
