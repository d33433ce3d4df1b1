"""Rows for tests of the report: one curve at a time, its speed-ups given."""

from __future__ import annotations

from sparsebench.representations.pattern import Pattern
from sparsebench.suites.cell import Case, blank

Row = dict[str, object]


def rows_of(levels: dict[float, float | None], name: str = "torch-csr", **changes: object) -> list[Row]:
    """Return rows of one group: ok where there is a speed-up, with an interval of ±10 %, else a failure."""
    rows = []
    for level, speedup in levels.items():
        case = Case(suite="matmul", workload="layer", operation="matmul", shape=(8, 8, 8),
                    pattern=Pattern(kind="element"), sparsity=level)  # fmt: skip
        row = blank(case, name, "cpu", status="oom", reason="no memory").row()
        if speedup is not None:
            row |= {"status": "ok", "reason": None, "speedup": speedup, "speedup_low": speedup / 1.1,
                    "speedup_high": speedup * 1.1, "rounds": 20, "time_spread": 0.02}  # fmt: skip
        rows.append(row | changes)
    return rows


def searched(crossing: float, name: str, **changes: object) -> list[Row]:
    """Return the rows of a curve that is answered: 1 ÷ density-like speed-up, exact, with three visits a level.

    Args:
        crossing: the sparsity at which it is 1.
        name: of the representation.
        changes: columns that are otherwise.
    """
    levels = sorted({max(0.05, crossing - 0.1), min(0.99, crossing + 0.04), 0.8, 0.9, 0.95})
    values = {level: (1 - crossing) / (1 - level) for level in levels}
    rows = rows_of(dict(values), name, **changes)
    for row, value in zip(rows, values.values(), strict=True):
        row |= {"visit_speedups": [value] * 3, "visit_errors": [0.004] * 3, "visits": 3, "speedup_low": 0.99 * value,
                "speedup_high": 1.01 * value, "level_range": [0.05, 0.99]}  # fmt: skip
    return rows
