"""Say how far a number can be trusted, from its rounds, the width of its interval and its spread."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sparsebench.suites.text import known

MARKS: tuple[str, ...] = ("firm", "fair", "loose")
"""From the best to the worst. Where there is no number to trust the mark is "" (nothing)."""


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What a mark asks of a speed-up.

    Attributes:
        width: the interval may reach at most this share above or below the speed-up.
        rounds: at least so many.
        spread: interquartile range ÷ median of the candidate's times, at most.
    """

    width: float
    rounds: int
    spread: float


DEMANDS: dict[str, Demand] = {
    "firm": Demand(width=0.05, rounds=10, spread=0.10),
    "fair": Demand(width=0.10, rounds=5, spread=0.25),
}
"""What passes neither is loose. results/README.md tells it to readers."""


def half_width(speedup: float, low: float, high: float) -> float:
    """Return how far a 95 % interval reaches from its speed-up, as a ratio less 1, on its wider side."""
    if not 0 < low <= high or speedup <= 0:
        return math.inf
    return max(high / speedup, speedup / low) - 1.0


def mark(
    speedup: float | None, low: float | None, high: float | None, rounds: float | None, spread: float | None
) -> str:
    """Return "firm", "fair" or "loose"; "" where there is no speed-up. What was not measured passes no demand."""
    if not known(speedup):
        return ""
    if not (known(low) and known(high) and known(rounds) and known(spread)):
        return "loose"
    width = half_width(speedup, low, high)
    for name, demand in DEMANDS.items():
        if width <= demand.width + 1e-9 and rounds >= demand.rounds and spread <= demand.spread:
            return name
    return "loose"


def mark_row(row: Mapping[Hashable, Any]) -> str:
    """Return the mark of a journal's row."""
    return mark(row["speedup"], row["speedup_low"], row["speedup_high"], row["rounds"], row["time_spread"])


def weakest(marks: Iterable[str]) -> str:
    """Return the worst of several marks; "" if there is none."""
    return max((name for name in marks if name), key=MARKS.index, default="")
