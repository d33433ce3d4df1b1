"""Compare the speed-ups of two runs, cell by cell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import rich.box
import rich.table
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from sparsebench.suites.report.colours import order
from sparsebench.suites.report.inventory import flat
from sparsebench.suites.report.journal import Run, read_run
from sparsebench.suites.report.moved import Moved, differences, moved, share_told
from sparsebench.suites.report.table import Table, figure, markdown, words
from sparsebench.suites.report.verdict import (
    CELL,
    REPRESENTATION,
    VERDICTS,
    WITHIN,
    Change,
    change,
    factor_of,
    pooled,
)
from sparsebench.suites.search.answer import noise_of, points_of
from sparsebench.suites.text import bare_percent, count, known, ratio, significant, times

QUALITY_WITHIN = 0.01
"""A figure of merit this near, relative to the first run's, is the same: another order of sums moves it less."""

MACHINE_FACTS: tuple[str, ...] = (
    "cpu", "cores", "logical_cores", "threads", "memory_bytes", "os", "python", "libraries", "gpu", "torch_has_mkl",
)  # fmt: skip
"""Facts whose change changes numbers; load and time of day are none."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One cell in both runs.

    Attributes:
        key: of the cell, see suites.cell.cell_key.
        row_a: its row in the first run.
        row_b: its row in the second run.
        ratio: speed-up in b ÷ speed-up in a.
        verdict: one of VERDICTS.
        change: how its speed-up differs, with its error.
    """

    key: str
    row_a: Mapping[Any, Any]
    row_b: Mapping[Any, Any]
    ratio: float
    verdict: str
    change: Change


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What two runs say about the same cells. Prints itself on a rich console.

    Attributes:
        name_a: the first run's folder.
        name_b: the second's.
        pairs: cells with a speed-up in both.
        only_a: keys of cells that only the first run has.
        only_b: keys of cells that only the second run has.
        status_changes: (key, status in a, status in b) where they differ.
        untimed: how many cells have the same status in both and no speed-up to compare.
        warnings: lines about what makes the runs hard to compare.
        quality_changes: (key, metric, in a, in b) where a figure of merit is not the same.
        curves: those that both runs answered, farthest apart first; two searches share few cells, but all curves.
        machines: the facts of both runs; their self-tests say how many standard errors make a difference.
    """

    name_a: str
    name_b: str
    pairs: tuple[Pair, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    status_changes: tuple[tuple[str, str, str], ...]
    untimed: int
    warnings: tuple[str, ...]
    quality_changes: tuple[tuple[str, str, float, float], ...] = ()
    curves: tuple[Moved, ...] = ()
    machines: tuple[Mapping[str, Any], ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """Return how many cells have each verdict."""
        return {name: sum(pair.verdict == name for pair in self.pairs) for name in VERDICTS}

    @property
    def share_within(self) -> float | None:
        """Return the share of compared cells whose ratio is within 10 %, None if none was compared."""
        return self._within / len(self.pairs) if self.pairs else None

    @property
    def _within(self) -> int:
        return sum(abs(pair.ratio - 1.0) <= WITHIN + 1e-9 for pair in self.pairs)

    @property
    def medians(self) -> dict[str, float]:
        """Return the median ratio of each representation."""
        ratios: dict[str, list[float]] = {}
        for pair in self.pairs:
            ratios.setdefault(str(pair.row_a["representation"]), []).append(pair.ratio)
        return {name: median(ratios[name]) for name in order(ratios)}

    @property
    def representations(self) -> dict[str, str]:
        """Return the verdict on each representation, over all its cells: what one cell is too noisy to show."""
        found = {}
        for name in self.medians:
            sure = [
                pair for pair in self.pairs if pair.row_a["representation"] == name and math.isfinite(pair.change.error)
            ]
            if sure:
                visits = min(_visits(row) for pair in sure for row in (pair.row_a, pair.row_b))
                factor = factor_of(self.machines, REPRESENTATION, visits)
                found[name] = pooled([pair.change for pair in sure]).verdict(factor)
        return found

    def has(self, verdict: str) -> bool:
        """Tell whether a cell or a whole representation has a verdict."""
        return bool(self.counts[verdict]) or verdict in self.representations.values()

    @property
    def headline(self) -> str:
        """Return the one figure: "412 of 440 cells (93.6 %) within 10 %"."""
        if self.share_within is None:
            return "no cell has a speed-up in both runs: nothing to compare"
        limit = bare_percent(WITHIN)
        return f"{self._within} of {count(len(self.pairs), 'cell')} ({100 * self.share_within:.1f} %) within {limit} %"

    @property
    def summary(self) -> tuple[str, ...]:
        """Return the headline and the lines beneath it."""
        told = ", ".join(f"{number} {name}" for name, number in self.counts.items())
        moved_as_one = [f"{name} {one}" for name, one in self.representations.items() if one in ("faster", "slower")]
        lines = [self.headline, told]
        lines += ["all cells together: " + ", ".join(moved_as_one)] if moved_as_one else []
        lines += [share_told(self.curves)] if self.curves else []
        beside = [
            count(len(self.only_a), "cell") + " only in the first run" if self.only_a else "",
            count(len(self.only_b), "cell") + " only in the second run" if self.only_b else "",
            count(self.untimed, "cell") + " without a speed-up in both" if self.untimed else "",
            count(len(self.status_changes), "status change") if self.status_changes else "",
            count(len(self.quality_changes), "change of quality", "changes of quality") if self.quality_changes else "",
        ]
        return (*lines, "; ".join(part for part in beside if part)) if any(beside) else tuple(lines)

    def tables(self) -> tuple[Table, ...]:
        """Return the medians, the cells that are not the same (farthest first), and the changes of status."""
        found = [
            Table(
                title="Median ratio by representation",
                head=("representation", "median ratio", "together", "cells", *VERDICTS),
                rows=tuple(self._median(name, middle) for name, middle in self.medians.items()),
            )
        ]
        moved = sorted(
            (pair for pair in self.pairs if pair.verdict != "same"),
            key=lambda pair: (VERDICTS.index(pair.verdict), -max(pair.ratio, 1 / pair.ratio)),
        )
        if moved:
            head = ("operation", "shape", "pattern", "sparsity", "representation", "a", "b", "ratio", "verdict")
            rows = tuple(_pair_row(pair) for pair in moved)
            found.append(Table(title=f"Different, or outside {bare_percent(WITHIN)} %", head=head, rows=rows, brief=60))
        if (differing := differences(self.curves)) is not None:
            found.append(differing)
        if self.status_changes:
            rows = tuple((words(key), words(a), words(b)) for key, a, b in self.status_changes)
            found.append(Table(title="Status changes", head=("cell", "a", "b"), rows=rows))
        if self.quality_changes:
            rows = tuple(
                (words(key), words(metric), figure(significant(a, 4), a), figure(significant(b, 4), b))
                for key, metric, a, b in self.quality_changes
            )
            found.append(Table(title="Quality changes", head=("cell", "metric", "a", "b"), rows=rows, brief=60))
        return tuple(found)

    def _median(self, name: str, middle: float) -> tuple[Any, ...]:
        mine = [pair.verdict for pair in self.pairs if pair.row_a["representation"] == name]
        counts = (figure(str(mine.count(verdict)), mine.count(verdict)) for verdict in VERDICTS)
        together = words(self.representations.get(name, "unclear"))
        return (words(name), figure(ratio(middle), middle), together, figure(str(len(mine)), len(mine)), *counts)

    def markdown(self) -> str:
        """Return everything as GitHub's Markdown."""
        lines = [f"# {self.name_b} against {self.name_a}", "", f"**{self.headline}**", ""]
        lines += [f"- {line}" for line in (*self.summary[1:], *(f"warning: {line}" for line in self.warnings))]
        return "\n".join([*lines, "", "\n\n".join(markdown(table) for table in self.tables()), ""])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield what rich prints; the headline stands last, where a terminal ends."""
        for table in self.tables():
            drawn = rich.table.Table(title=table.title, title_justify="left", box=rich.box.SIMPLE)
            for title, right in zip(table.head, table.numeric, strict=True):
                drawn.add_column(title, justify="right" if right else "left")
            for row in table.rows[: table.brief]:
                drawn.add_row(*(Text(value.text) for value in row))
            if table.rows:
                yield drawn
        for line in self.warnings:
            yield Text(f"warning: {line}", style="yellow")
        for line in self.summary[1:]:
            yield Text(line)
        yield Text(self.headline, style="bold")


def compare(run_a: Path, run_b: Path) -> Comparison:
    """Compare two runs' folders.

    Args:
        run_a: the earlier run, or the one to be measured against.
        run_b: the other.

    Raises:
        ReportError: if one is no run.
    """
    a, b = read_run(run_a), read_run(run_b)
    rows_a, rows_b = _rows(a), _rows(b)
    shared = [key for key in rows_a if key in rows_b]
    noise = noise_of(points_of(row) for rows in (rows_a, rows_b) for row in rows.values())
    machines = (a.machine, b.machine)
    pairs, changes, untimed = [], [], 0
    for key in shared:
        one, other = rows_a[key], rows_b[key]
        if one["status"] != other["status"]:
            changes.append((key, str(one["status"]), str(other["status"])))
        elif one["status"] == "ok" and one["speedup"] > 0 and other["speedup"] > 0:
            found = change(one, other, noise)
            told = found.verdict(factor_of(machines, CELL, min(_visits(one), _visits(other))))
            moved_by = other["speedup"] / one["speedup"]
            pairs.append(Pair(key=key, row_a=one, row_b=other, ratio=moved_by, verdict=told, change=found))
        else:
            untimed += 1
    return Comparison(
        name_a=str(run_a),
        name_b=str(run_b),
        pairs=tuple(pairs),
        only_a=tuple(key for key in rows_a if key not in rows_b),
        only_b=tuple(key for key in rows_b if key not in rows_a),
        status_changes=tuple(changes),
        untimed=untimed,
        warnings=_warnings(a, b, shared),
        quality_changes=_quality_changes(rows_a, rows_b, shared),
        curves=moved(a.frame, b.frame),
        machines=machines,
    )


def _visits(row: Mapping[Any, Any]) -> int:
    return int(row["visits"]) if known(row.get("visits")) else 1


def _quality_changes(
    rows_a: Mapping[str, Mapping[Any, Any]], rows_b: Mapping[str, Mapping[Any, Any]], shared: list[str]
) -> tuple[tuple[str, str, float, float], ...]:
    """Return the cells that have the same figure of merit in both, with values that differ."""
    found = []
    for key in shared:
        (metric, a), (other, b) = (
            (row.get("quality_metric"), row.get("quality")) for row in (rows_a[key], rows_b[key])
        )
        if metric == other and known(a) and known(b) and abs(b - a) > QUALITY_WITHIN * abs(a):
            found.append((key, str(metric), float(a), float(b)))
    return tuple(found)


def _rows(run: Run) -> dict[str, dict[Any, Any]]:
    return dict(zip(map(str, run.frame.index), run.frame.to_dict("records"), strict=True))


def _warnings(a: Run, b: Run, shared: list[str]) -> tuple[str, ...]:
    found = []
    facts_a, facts_b = (
        dict(flat({name: run.machine[name] for name in MACHINE_FACTS if name in run.machine})) for run in (a, b)
    )
    if facts_a and facts_b:
        differ = [name for name in {**facts_a, **facts_b} if facts_a.get(name) != facts_b.get(name)]
        if differ:
            told = "; ".join(f"{name}: {facts_a.get(name, '–')} → {facts_b.get(name, '–')}" for name in differ)
            found.append(f"the two runs are not from the same machine as it was: {told}")
    else:
        found.append("at least one run does not say which machine it is from")
    threads_a, threads_b = (run.frame.loc[shared, "threads"].dropna() for run in (a, b))
    both = threads_a.index.intersection(threads_b.index)
    changed = int((threads_a[both] != threads_b[both]).sum())
    if changed:
        found.append(f"{count(changed, 'cell')} ran on another number of threads")
    return (*found, *(f"{run.folder}: {note}" for run in (a, b) for note in run.notes))


def _pair_row(pair: Pair) -> tuple[Any, ...]:
    row, other = pair.row_a, pair.row_b
    level = "–" if row["sparsity"] != row["sparsity"] else f"{bare_percent(row['sparsity'])} %"
    return (
        words(row["operation"]), words(times(row["shape"])), words(row["pattern"]), figure(level, row["sparsity"]),
        words(row["representation"]), *(figure(_interval(one), one["speedup"]) for one in (row, other)),
        figure(f"{pair.ratio:.2f}", pair.ratio), words(pair.verdict),
    )  # fmt: skip


def _interval(row: Mapping[Any, Any]) -> str:
    ends = "–".join(significant(row[end]) for end in ("speedup_low", "speedup_high"))
    return f"{ratio(row['speedup'])} ({ends})"
