"""Fit log(speed-up) over sparsity near 1, and say where it crosses, with an interval.

What a product costs relative to dense is close to c₀ + c₁·d in the density d, so that log(speed-up) is smooth in
u = −log d, of slope 1 where only d costs and flatter where c₀ does. Near the crossing a line does: the second
derivative there is −c₀(1 − c₀), a quarter at most, and what a line misses at a distance Δu is taken for Δu²/7, and each
point is charged with that beside its noise. Points far from the crossing therefore say little, and none is thrown away.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SLOPE, SLOPE_SPREAD = 0.8, 0.35
"""What is believed of the slope before anything is measured: between 0 (bytes that do not shrink) and about 1."""
LEAST_SLOPE = 0.1
"""A flatter line crosses nowhere in particular."""
CURVATURE = 1 / 7
"""A little over the most that c₀(1 − c₀) / 2 can be, ⅛: dense has its own steps, and some formats are quadratic."""
DRAWS = 2000
ROUNDS = 4
"""Fits in a row, each weighing the points by their distance from the crossing of the one before."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """What one visit of a cell found.

    Attributes:
        sparsity: in [0, 1).
        value: log(speed-up), the median of the visit's rounds.
        error: standard error of that median, from the rounds.
    """

    sparsity: float
    value: float
    error: float


@dataclass(frozen=True, kw_only=True)
class Noise:
    """How far visits of one cell lie apart, which rounds do not show.

    Attributes:
        spread: standard deviation of a visit's log(speed-up), pooled over the cells of a run.
        weight: how many degrees of freedom that counts as for one curve, whose own residuals come beside it.
    """

    spread: float = 0.04
    weight: float = 12.0


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Where a curve crosses 1.

    Attributes:
        sparsity: the crossing; below 0 or towards 1 where the line crosses outside of what can be measured.
        low: lower end of its 95 % interval.
        high: upper end.
        draws: crossings of the bootstrap, sorted.
    """

    sparsity: float
    low: float
    high: float
    draws: np.ndarray

    def share_above(self, sparsity: float) -> float:
        """Return the share of draws that cross above a sparsity."""
        return float((self.draws > sparsity).mean())


def depth(sparsity: float) -> float:
    """Return u = −log(density)."""
    return -math.log1p(-min(sparsity, 1.0 - 1e-9))


def level(u: float) -> float:
    """Return the sparsity of a depth."""
    return -math.expm1(-min(u, 20.0))


def fit(points: Sequence[Point], noise: Noise, start: float) -> Fit:
    """Fit the points of all visits of a curve.

    The interval comes from a hierarchical bootstrap. A draw takes the spread between visits from what the pool and the
    curve's own residuals leave open of it (scaled inverse χ²), moves every visit by that and by its rounds' error, and
    fits anew. Drawing visits themselves with replacement would give intervals of 55 to 80 % where there are two to four
    visits: they show too little of their own spread (tests/suites/test_search_fit.py).

    Args:
        points: at least one.
        noise: between visits.
        start: a sparsity near the crossing.
    """
    u = np.array([depth(point.sparsity) for point in points])
    y = np.array([point.value for point in points])
    error = np.array([point.error for point in points])
    at, spread = depth(start), noise.spread
    line, variance = np.zeros((2, len(y) + 1)), np.ones(len(y))
    for _ in range(ROUNDS):
        variance = spread**2 + error**2 + (CURVATURE * (u - at) ** 2) ** 2
        line = _operator(u - at, variance)
        a, b = line @ np.append(y, SLOPE)
        rest = (y - a - b * (u - at)) ** 2 / (1 + (error**2 + (CURVATURE * (u - at) ** 2) ** 2) / spread**2)
        own = max(0, len(y) - 2)
        spread = math.sqrt((noise.weight * noise.spread**2 + float(rest.sum())) / (noise.weight + own))
        at = min(max(at - a / max(b, LEAST_SLOPE), -2.0), 12.0)
    line = _operator(u - at, variance)
    rng = np.random.default_rng(0)
    freedom = noise.weight + max(0, len(y) - 2)
    spreads = spread * np.sqrt(freedom / rng.chisquare(freedom, DRAWS))
    sigma = np.sqrt(spreads[:, None] ** 2 + error**2 + (CURVATURE * (u - at) ** 2) ** 2)
    moved = np.empty((DRAWS, len(y) + 1))
    moved[:, :-1] = y + sigma * rng.standard_normal((DRAWS, len(y)))
    moved[:, -1] = SLOPE + SLOPE_SPREAD * rng.standard_normal(DRAWS)
    a, b = line @ moved.T
    crossings = np.sort(-np.expm1(-np.minimum(at - a / np.maximum(b, LEAST_SLOPE), 20.0)))
    low, high = np.percentile(crossings, [2.5, 97.5])
    a, b = line @ np.append(y, SLOPE)
    return Fit(sparsity=level(at - a / max(b, LEAST_SLOPE)), low=float(low), high=float(high), draws=crossings)


def _operator(distance: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return what makes (value at the centre, slope) of the values and the slope believed in, by least squares."""
    design = np.vstack([np.column_stack([np.ones_like(distance), distance]), [0.0, 1.0]])
    weights = np.append(1 / variance, 1 / SLOPE_SPREAD**2)
    return np.asarray(np.linalg.solve(design.T @ (weights[:, None] * design), design.T * weights))
