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
CELL, REPRESENTATION = "cell", "representation"
"""What a verdict is about: one cell, or all cells of a representation together."""
OWN = 2.0
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


def pooled(changes: Sequence[Change]) -> Change:
    """Return the change of several cells together, each weighed by how sure it is.

    Where they differ by more than their errors say, the error grows with it (Birge's ratio).

    Args:
        changes: at least one, each with a finite error.
    """
    weights = [1 / max(one.error, 1e-6) ** 2 for one in changes]
    log = sum(weight * one.log for weight, one in zip(weights, changes, strict=True)) / sum(weights)
    left = sum(weight * (one.log - log) ** 2 for weight, one in zip(weights, changes, strict=True))
    spread = left / (len(changes) - 1) if len(changes) > 1 else 1.0
    return Change(log=log, error=math.sqrt(max(1.0, spread) / sum(weights)))


def factor_of(machines: Sequence[Mapping[str, Any]], level: str, visits: int) -> float:
    """Return how many standard errors make a difference: the most that the runs' self-tests ask for, else FACTOR.

    Args:
        machines: the facts of each run, from machine.json.
        level: CELL or REPRESENTATION.
        visits: on the side that has fewer; the self-test's next lower number of visits counts.
    """
    return max(_tested(facts, level, visits) for facts in machines)


def _tested(facts: Mapping[str, Any], level: str, visits: int) -> float:
    try:
        known = {
            int(rate["visits"]): float(rate["factor"])
            for rate in facts["selftest"]["rates"]
            if rate["level"] == level and rate["percent"] == 0
        }
        return known[max((tried for tried in known if tried <= visits), default=min(known))]
    except (KeyError, TypeError, ValueError):
        return FACTOR
