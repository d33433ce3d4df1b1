"""Say where the break-evens of two runs differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from sparsebench.suites.report.breakeven import BreakEven, break_evens
from sparsebench.suites.report.table import Table, figure, words
from sparsebench.suites.search.answer import Answer
from sparsebench.suites.text import count, times

POINTS = 0.03
"""Break-evens that lie no farther apart than this agree."""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """One curve that both runs answered.

    Attributes:
        a: in the first run.
        b: in the second.
    """

    a: BreakEven
    b: BreakEven

    @property
    def apart(self) -> float:
        """Return how far apart they lie, in shares of 1; an end counts as the level that it was measured at."""
        return abs(_place(self.a.answer) - _place(self.b.answer))

    @property
    def agrees(self) -> bool:
        """Tell whether both runs give the same answer."""
        return self.apart <= POINTS + 1e-9


def moved(a: pd.DataFrame, b: pd.DataFrame) -> tuple[Moved, ...]:
    """Return the curves that both runs answered, those farthest apart first.

    Args:
        a: frame of the first run.
        b: frame of the second.
    """
    first, second = ({curve_key(one): one for one in break_evens(frame) if one.answer.settled} for frame in (a, b))
    found = [Moved(a=first[key], b=second[key]) for key in first if key in second]
    return tuple(sorted(found, key=lambda one: -one.apart))


def share_told(found: Sequence[Moved]) -> str:
    """Return the one figure: "120 of 130 break-evens (92.3 %) within 3 points"; empty if there is none."""
    if not found:
        return ""
    same = sum(one.agrees for one in found)
    share = 100 * same / len(found)
    return f"{same} of {count(len(found), 'break-even')} ({share:.1f} %) within {100 * POINTS:g} points"


def differences(found: Sequence[Moved]) -> Table | None:
    """Return the curves whose answers differ, or None if there is none."""
    rows = tuple(
        (
            words(one.a.operation), words(times(one.a.shape)), words(one.a.pattern), words(one.a.representation),
            figure(one.a.answer.text, one.a.answer.order), figure(one.b.answer.text, one.b.answer.order),
            figure(f"{100 * one.apart:.1f}", one.apart),
        )
        for one in found
        if not one.agrees
    )  # fmt: skip
    head = ("operation", "shape", "pattern", "representation", "a", "b", "points apart")
    return Table(title="Break-evens that differ", head=head, rows=rows, brief=60) if rows else None


def _place(answer: Answer) -> float:
    return 0.0 if answer.verdict == "from the start" else answer.sparsity or 0.0


def curve_key(one: BreakEven) -> tuple[str, ...]:
    """Return what was asked, the representation last: equal in two runs that measured the same curve."""
    return one.suite, one.workload, one.operation, one.shape, one.dtype, one.device, one.pattern, one.representation
