"""Tell a representation's speed-up at a sparsity at which it was perhaps not measured."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from sparsebench.suites.search.fit import SLOPE, depth

SAME = 0.006
"""A level so near to the one that is asked for counts as it: patterns have steps."""
APART = 0.2
"""In u = −log(density): two levels nearer than this say nothing of the slope."""
BEYOND = math.log(3)
"""How far a curve is continued behind its last level, as from 85 to 95 %; further on it counts as no faster."""
BEYOND_ONE = math.log(2)
"""How far behind a single level, whose slope is believed, not measured."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A speed-up at a sparsity.

    Attributes:
        speedup: over dense.
        measured: True if it was measured there, False if it lies between measured levels or beside them.
    """

    speedup: float
    measured: bool


@dataclass(frozen=True, kw_only=True)
class Line:
    """A speed-up over sparsity, straight in log(speed-up) over u = −log(density) between the levels measured.

    Attributes:
        levels: pairs (sparsity, log of the median speed-up), ascending.
    """

    levels: tuple[tuple[float, float], ...]

    def at(self, sparsity: float) -> Estimate | None:
        """Return the speed-up at a sparsity, None if nothing was measured.

        Beside the levels it goes on as cost does, 1 ÷ speed-up = c₀ + c₁·density, and no further up than `BEYOND`.
        """
        if not self.levels:
            return None
        near = min(self.levels, key=lambda level: abs(level[0] - sparsity))
        if abs(near[0] - sparsity) <= SAME:
            return Estimate(speedup=math.exp(near[1]), measured=True)
        above = next((i for i, (level, _) in enumerate(self.levels) if level > sparsity), len(self.levels))
        if 0 < above < len(self.levels):
            (low, first), (high, last) = self.levels[above - 1], self.levels[above]
            share = (depth(sparsity) - depth(low)) / (depth(high) - depth(low))
            return Estimate(speedup=math.exp(first + share * (last - first)), measured=False)
        return Estimate(speedup=math.exp(self._beside(sparsity, near)), measured=False)

    def _beside(self, sparsity: float, near: tuple[float, float]) -> float:
        level, value = near
        others = [one for one in self.levels if abs(depth(one[0]) - depth(level)) >= APART]
        step = min(depth(sparsity) - depth(level), BEYOND if others else BEYOND_ONE)
        if not others:
            return value + SLOPE * step
        other, known = min(others, key=lambda one: abs(one[0] - level))
        per_density = max(0.0, (math.exp(-known) - math.exp(-value)) / (level - other))
        cost = math.exp(-value) + per_density * (1 - level) * math.expm1(-step)
        # no cost falls faster than density does
        return -math.log(max(cost, math.exp(-value) * min(1.0, math.exp(-step))))


def line_of(rows: Iterable[tuple[float, float]]) -> Line:
    """Return the line of a curve's levels.

    Args:
        rows: pairs (sparsity, speed-up), each sparsity once; a speed-up that is no positive number is left out.
    """
    known = sorted((level, math.log(value)) for level, value in rows if value > 0 and math.isfinite(value))
    return Line(levels=tuple(known))
