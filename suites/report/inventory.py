"""Write the chapters that take stock: coverage, the machine, every cell."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from sparsebench.suites.cell import STATUSES
from sparsebench.suites.report.anchors import cell_anchor, command
from sparsebench.suites.report.breakeven import unchecked
from sparsebench.suites.report.chapters import case_words, interval, name_words, share, trust
from sparsebench.suites.report.colours import order
from sparsebench.suites.report.table import Section, Table, Value, figure, words
from sparsebench.suites.report.trust import mark_row
from sparsebench.suites.text import NONE, count, known, ratio, seconds, significant, size, times


def coverage_section(frame: pd.DataFrame) -> Section:
    """Return representation × suite with each status counted, and every cell that is not ok with its reason."""
    seen = [*STATUSES, *sorted(set(frame["status"].astype(str)) - set(STATUSES))]
    shown = [status for status in seen if (frame["status"] == status).any()]
    rows = []
    for name in order(frame["representation"]):
        for suite, group in frame[frame["representation"] == name].groupby("suite", sort=False):
            counts = group["status"].value_counts()
            cells = [_count(status, int(counts.get(status, 0))) for status in shown]
            rows.append((words(name), words(suite), *cells, figure(str(len(group)), len(group))))
    head = ("representation", "suite", *shown, "all")
    tables = [Table(title="Cells by status", head=head, rows=tuple(rows))] if rows else []
    failed = frame[frame["status"] != "ok"]
    if not failed.empty:
        tables.append(_reasons(failed))
    good = int((frame["status"] == "ok").sum())
    return Section(
        anchor="coverage",
        title="Coverage",
        text=(f"{good} of {count(len(frame), 'cell')} ok.",) if len(frame) else ("The journal holds no cells.",),
        tables=tuple(tables),
    )


def _count(status: str, number: int) -> Value:
    style = "zero" if not number else "" if status == "ok" else f"status {status}"
    return figure(str(number), number, style)


def _reasons(failed: pd.DataFrame) -> Table:
    rows = []
    alike = failed.groupby(["representation", "status", "reason"], sort=False, dropna=False)
    for (name, status, reason), group in alike:
        where = "; ".join(
            f"{operation}: {', '.join(dict.fromkeys(part['pattern'].astype(str)))}"
            for operation, part in group.groupby("operation", sort=False)
        )
        shapes = ", ".join(times(shape) for shape in dict.fromkeys(group["shape"]))
        told = reason if isinstance(reason, str) else NONE
        rows.append((
            words(name), words(status, style=f"status {status}"), words(told, style="long"),
            words(where, shapes, style="long"), figure(str(len(group)), len(group)),
        ))  # fmt: skip
    rows.sort(key=lambda row: (row[1].text in ("unsupported", "not_installed"), row[1].text))
    head = ("representation", "status", "reason", "where", "cells")
    return Table(title="Every cell that is not ok", head=head, rows=tuple(rows))


def machine_section(machine: Mapping[str, Any]) -> Section:
    """Return every fact of the machine."""
    rows = tuple((words(name), words(value, style="long")) for name, value in flat(machine))
    return Section(
        anchor="machine",
        title="The machine",
        text=() if rows else ("Not known: the run has no machine.json.",),
        tables=(Table(title="Facts", head=("fact", "value"), rows=rows),) if rows else (),
    )


def flat(facts: Mapping[str, Any], lead: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested facts as pairs (name, value); bytes get their unit, a table of plain facts one line."""
    for name, value in facts.items():
        label = f"{lead}{name}"
        if isinstance(value, Mapping) and any(isinstance(inner, (Mapping, list)) for inner in value.values()):
            yield from flat(value, f"{label} · ")
        elif isinstance(value, Mapping):
            yield label, ", ".join(f"{key} {_fact(str(key), inner)}" for key, inner in value.items()) or NONE
        elif isinstance(value, list) and value and all(isinstance(inner, Mapping) for inner in value):
            each = (", ".join(str(part) for part in inner.values() if part is not None) for inner in value)
            yield label, "; ".join(each)
        elif isinstance(value, list):
            yield label, ", ".join(_fact(str(name), inner) for inner in value) or NONE
        else:
            yield label.replace("_bytes", ""), _fact(str(name), value)


def _fact(name: str, value: Any) -> str:
    if value is None:
        return NONE
    if name.endswith("bytes") and isinstance(value, int) and not isinstance(value, bool):
        return size(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return significant(value) if isinstance(value, float) else str(value)


def cells_section(frame: pd.DataFrame) -> Section:
    """Return every cell in short, with the command that measures it again; cells.csv has all columns."""
    head = (
        "what", "pattern", "sparsity", "representation", "status", "speed-up", "95 % interval", "trust", "ε", "time",
        "dense", "stored", "workspace", "build peak", "error",
    )  # fmt: skip
    checks = {str(name): unchecked(rows, str(name)) for name, rows in frame.groupby("representation", sort=False)}
    rows = tuple(_cell(row, checks[row["representation"]]) for row in frame.to_dict("records"))
    table = Table(
        title=count(len(frame), "cell"), head=head, rows=rows, folded=True, anchors=tuple(map(cell_anchor, frame.index))
    )
    return Section(
        anchor="cells",
        title="Every cell",
        text=("All columns, with full precision, are in cells.csv; results/README.md says what each one means.",),
        tables=(table,) if rows else (),
    )


def _cell(row: Mapping[Any, Any], unchecked: str) -> tuple[Value, ...]:
    level = row["sparsity"] if known(row["sparsity"]) else row["achieved_sparsity"]
    style = "" if row["status"] == "ok" else f"status {row['status']}"
    reason = row["reason"] if isinstance(row["reason"], str) else ""
    return (
        dataclasses.replace(case_words(row), command=command(row)), words(row["pattern"]), share(level),
        name_words(row["representation"], unchecked), words(row["status"], hint=reason, style=style),
        figure(ratio(row["speedup"]), row["speedup"]), figure(interval(row), row["speedup_low"]), trust(mark_row(row)),
        figure(significant(row["efficiency"], 2), row["efficiency"]),
        figure(seconds(row["time_s"]), row["time_s"]),
        figure(seconds(row["reference_time_s"]), row["reference_time_s"]),
        figure(size(row["stored_bytes"]), row["stored_bytes"]),
        figure(size(row["workspace_bytes"]), row["workspace_bytes"]),
        figure(size(row["build_peak_bytes"]), row["build_peak_bytes"]),
        figure(significant(row["relative_error"], 2), row["relative_error"]),
    )  # fmt: skip
