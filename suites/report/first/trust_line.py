"""Say in one line how far a run can be trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from sparsebench.suites.report.breakeven import BreakEven
from sparsebench.suites.report.trust import MARKS, mark_row
from sparsebench.suites.search.answer import noise_of, points_of
from sparsebench.suites.text import count


def trust_line(frame: pd.DataFrame, found: Sequence[BreakEven], error_rates: str | None = None) -> str:
    """Return the line: curves answered, noise between visits, marks, and error rates where they are known.

    Args:
        frame: `Run.frame`.
        found: from `break_evens`.
        error_rates: what a self-test found on this machine, as a clause.
    """
    every = [one for one in found if one.answer.verdict != "unmeasured" and not one.builds]
    judged = [one for one in every if one.searched] or every
    answered = sum(one.answer.settled for one in judged)
    rows = frame[(frame["status"] == "ok") & frame["sparsity"].notna()].to_dict("records")
    visits = [points_of(row) for row in rows]
    marks = Counter(mark_row(row) for row in rows)
    parts = [f"{answered} of {count(len(judged), 'break-even')} answered, {len(judged) - answered} open"]
    if len(every) > len(judged):
        parts.append(f"{count(len(every) - len(judged), 'more curve')} at given sparsities only")
    if any(len(points) > 1 for points in visits):
        parts.append(f"visits of one cell lie ± {100 * noise_of(visits).spread:.1f} % apart")
    parts.append("speed-ups: " + ", ".join(f"{marks[name]} {name}" for name in MARKS))
    return "; ".join([*parts, *([error_rates] if error_rates else [])]) + "."
