"""Find the sparsity from which on a representation beats dense, with its interval."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sparsebench.representations.registry import BUILTIN
from sparsebench.suites.cell import CONTROL
from sparsebench.suites.report.trust import mark_row, weakest
from sparsebench.suites.search.answer import Answer, answer, noise_of, points_of
from sparsebench.suites.search.fit import Noise

GROUP: tuple[str, ...] = ("suite", "workload", "operation", "shape", "dtype", "device", "pattern")
"""Columns that say what was asked; levels that any representation has in a group are expected of every other."""

CHECKED = "ok"
"""What the column `checked` says of a representation that passed the cheap part of `check`."""
UNCHECKED = "not checked"

BUILD = "build"
"""What the column `kernel` says where the operation stands on the build alone."""


@dataclass(frozen=True, kw_only=True)
class BreakEven:
    """The break-even of one representation on one operation, shape, type, device and pattern.

    Attributes:
        suite, workload, operation, shape, dtype, device, pattern, representation: what was asked.
        answer: from which sparsity on it is faster than dense, as far as is known.
        levels: how many sparsities have a number.
        missing: how many sparsities of the group have none for this representation.
        best: the highest speed-up, None if there is none.
        best_at: its sparsity.
        builds: True if the operation itself builds the representation, which dense does not have to.
        trust: the weakest trust mark of the two levels around the answer.
        searched: whether its levels were chosen by a search for its break-even, and not given.
        checked: False if it did not pass the cheap part of `check`, or is somebody else's and was never asked to.
        cells: key and sparsity of each of its cells, ascending in sparsity.
    """

    suite: str
    workload: str
    operation: str
    shape: str
    dtype: str
    device: str
    pattern: str
    representation: str
    answer: Answer
    levels: int
    missing: int
    best: float | None
    best_at: float | None
    builds: bool
    trust: str
    searched: bool = False
    checked: bool = True
    cells: tuple[tuple[str, float], ...] = ()

    @property
    def label(self) -> str:
        """Return the representation's name, marked where it is not checked."""
        return self.representation if self.checked else f"{self.representation} ({UNCHECKED})"


def break_evens(frame: pd.DataFrame) -> list[BreakEven]:
    """Return the break-even of every representation but dense itself in every group of cells that have a level.

    All levels, visits and seeds of a curve are pooled in one fit; how far visits lie apart is learnt from all cells.

    Args:
        frame: `Run.frame`.
    """
    found: list[BreakEven] = []
    levelled = frame[frame["sparsity"].notna()]
    noise = noise_of(points_of(row) for row in levelled.to_dict("records"))
    for keys, group in levelled.groupby(list(GROUP), sort=False, dropna=False):
        expected = set(group["sparsity"])
        for name, rows in group.groupby("representation", sort=False):
            if name != CONTROL:
                found.append(_of(dict(zip(GROUP, map(str, keys), strict=True)), str(name), rows, expected, noise))
    return found


def _of(keys: dict[str, str], name: str, rows: pd.DataFrame, expected: set[float], noise: Noise) -> BreakEven:
    timed = rows[(rows["status"] == "ok") & (rows["speedup"] > 0)]
    speedups: pd.Series[float] = timed.groupby("sparsity")["speedup"].median()
    records = timed.to_dict("records")
    first, last = _ends(records, keys["pattern"])
    searched = any(_numbers(row.get("level_range")) for row in records)
    found = answer([point for row in records for point in points_of(row)], noise, first, last)
    around = sorted(records, key=lambda row: abs(float(row["sparsity"]) - (found.sparsity or 0.0)))[:2]
    best_at = None if speedups.empty else float(speedups.index[int(speedups.to_numpy().argmax())])
    return BreakEven(
        **keys,
        representation=name,
        answer=found,
        levels=len(speedups),
        missing=0 if searched else len(expected - set(speedups.index)),
        best=None if best_at is None else float(speedups.max()),
        best_at=best_at,
        builds=bool((rows["kernel"] == BUILD).any()),
        trust=weakest([mark_row(row) for row in around]),
        searched=searched,
        checked=not unchecked(rows, name),
        cells=tuple((str(key), float(level)) for key, level in rows["sparsity"].sort_values().items()),
    )


def unchecked(rows: pd.DataFrame, name: str) -> str:
    """Return why a representation counts as not checked, "" if it passed, or is our own and nothing was found.

    Args:
        rows: cells of the representation.
        name: its name.
    """
    said = [value for value in rows["checked"] if isinstance(value, str) and value] if "checked" in rows else []
    wrong = [value for value in said if value != CHECKED]
    if wrong:
        return wrong[0]
    return "" if said or name in BUILTIN else UNCHECKED


def _ends(records: list[dict[Hashable, Any]], pattern: str) -> tuple[float, float]:
    """Return the lowest and the highest level that a curve can have; where rows do not tell, 5 and 99 %."""
    known = [ends for row in records if len(ends := _numbers(row.get("level_range"))) == 2]
    if known:
        return min(ends[0] for ends in known), max(ends[1] for ends in known)
    group = re.fullmatch(r"n:(\d+)", pattern)
    return (1 / int(group[1]), 1 - 1 / int(group[1])) if group else (0.05, 0.99)


def _numbers(value: Any) -> list[float]:
    return [float(part) for part in value.split("x")] if isinstance(value, str) and value else []
