"""Find where an exact curve over sparsity, such as one of bytes, crosses 1."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from sparsebench.suites.text import NONE, percent


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
