"""Write the chapters beside time: bytes, error, what ran, coverage, the machine, every cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from sparsebench.suites.cell import STATUSES
from sparsebench.suites.report.breakeven import CONTROL, crossing
from sparsebench.suites.report.chapters import NO_NUMBERS, caption, interval, share, trust
from sparsebench.suites.report.colours import INK, Look, order
from sparsebench.suites.report.figures import BYTES, curves, plain, svg
from sparsebench.suites.report.headline import heat
from sparsebench.suites.report.table import Picture, Section, Table, Value, figure, without_constants, words
from sparsebench.suites.report.text import NONE, count, percent, ratio, seconds, significant, size, times
from sparsebench.suites.report.trust import mark_row


def bytes_section(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Section:
    """Return stored bytes over sparsity relative to dense, and from which sparsity on they are fewer."""
    known = frame[(frame["stored_bytes"] > 0) & (frame["dense_bytes"] > 0) & frame["sparsity"].notna()]
    known = known.assign(bytes_ratio=known["stored_bytes"] / known["dense_bytes"])
    # bytes do not depend on what is done with them: one figure for all operations on the same tensor
    same = ["suite", "workload", "shape", "dtype", "pattern", "representation", "sparsity"]
    known = known.drop_duplicates(same, keep="last")
    drawn = []
    for _, rows in known.groupby(["suite", "workload", "shape", "dtype"], sort=False, dropna=False):
        row = rows.iloc[0]
        text = f"{row['workload']}: {times(row['shape'])}, {row['dtype']}"
        drawn.append(Picture(html=svg(curves(rows, BYTES, looks), "stored bytes over sparsity"), caption=text))
    return Section(
        anchor="bytes",
        title="Stored bytes over sparsity",
        text=(
            "Values and indices as they are really held, divided by the bytes of the dense tensor; below the dashed "
            "line is smaller than dense. Bytes are counted, not estimated: they need no trust mark.",
        )
        if drawn
        else (NO_NUMBERS,),
        tables=(_smaller(known),) if drawn else (),
        pictures=tuple(drawn),
        legend=bool(drawn),
    )


def _smaller(rows: pd.DataFrame) -> Table:
    names = [name for name in order(rows["representation"]) if name != CONTROL]
    body = []
    for (pattern, dtype), group in rows.groupby(["pattern", "dtype"], sort=False):
        values = [words(pattern), words(dtype)]
        for name in names:
            levels = (1.0 / group[group["representation"] == name].groupby("sparsity")["bytes_ratio"].max()).items()
            found = crossing((float(str(level)), float(gain)) for level, gain in levels)
            style = heat(found.verdict, found.sparsity) if found.sparsity is not None else "heat-none"
            values.append(figure(found.text if found.sparsity is not None else NONE, found.order, style))
        body.append(tuple(values))
    return Table(
        title="Smaller than dense from", head=("pattern", "dtype", *names), rows=tuple(body),
        note="The largest of the shapes at each sparsity counts.",
    )  # fmt: skip


def error_section(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Section:
    """Return the largest relative error of each representation and type, against its tolerance."""
    judged = frame[frame["relative_error"].notna()]
    rows = []
    for dtype, cells in judged.groupby("dtype", sort=False):
        for name in order(cells["representation"]):
            mine = cells[cells["representation"] == name]
            worst = mine.loc[mine["relative_error"] == mine["relative_error"].max()].iloc[0]
            used = worst["relative_error"] / worst["tolerance"] if worst["tolerance"] > 0 else None
            rows.append((
                words(name), words(dtype), figure(significant(worst["relative_error"], 2), worst["relative_error"]),
                figure(significant(worst["tolerance"], 2), worst["tolerance"]),
                figure(NONE if used is None else f"{100 * used:.2g} %", used, "bad" if used and used > 1 else ""),
                words(f"{worst['operation']} {times(worst['shape'])}, {worst['pattern']}"), figure(str(len(mine)), len(mine)),
            ))  # fmt: skip
    head = ("representation", "dtype", "largest error", "tolerance", "of tolerance", "where", "cells")
    return Section(
        anchor="error",
        title="Error",
        text=("‖result − float64‖ ÷ ‖float64‖, the largest over outputs and gradients. Judged before anything is timed.",)
        if rows
        else (NO_NUMBERS,),
        tables=(Table(title="Largest relative error", head=head, rows=tuple(rows)),) if rows else (),
        pictures=(_errors(judged, looks),) if rows else (),
    )


def _errors(judged: pd.DataFrame, looks: Mapping[str, Look]) -> Picture:
    names = order(judged["representation"])
    floor = judged.loc[judged["relative_error"] > 0, "relative_error"].min()
    floor = floor / 3 if floor == floor else 1e-17
    dots = judged.assign(shown=judged["relative_error"].clip(lower=floor))
    drawing = Figure(figsize=(9.2, 0.26 * len(names) + 1.1), layout="constrained")
    axes = drawing.subplots()
    sns.stripplot(
        data=dots, x="shown", y="representation", hue="representation", order=names, hue_order=names, legend=False,
        palette={name: looks[name].colour for name in names}, size=3.5, alpha=0.7, jitter=False, ax=axes,
    )  # fmt: skip
    axes.set_xscale("log")
    for tolerance, cells in judged.groupby("tolerance"):
        axes.axvline(float(str(tolerance)), color=INK, linewidth=1, linestyle=(0, (4, 3)), alpha=0.7)
        label = f"tolerance of {', '.join(dict.fromkeys(cells['dtype']))}"
        axes.annotate(
            label, (float(str(tolerance)), 1.0), xycoords=("data", "axes fraction"), xytext=(-3, 2), ha="right",
            textcoords="offset points", fontsize=8, color=INK,
        )  # fmt: skip
    axes.minorticks_off()
    axes.xaxis.set_major_locator(LogLocator(base=10, numticks=10))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0e}".replace("e-0", "e-"))
    axes.set_xlabel("relative error", color=INK, fontsize=9)
    axes.set_ylabel("")
    plain(axes, INK)
    exact = " An error of exactly 0 stands at the left edge." if (judged["relative_error"] == 0).any() else ""
    return Picture(html=svg(drawing, "relative error"), caption=f"Relative error of every cell.{exact}")


def kernels_section(frame: pd.DataFrame) -> Section:
    """Return which kernels ran, and what was derived rather than the representation's own."""
    ran = frame[frame["kernel"].notna() | frame["provenance"].notna()]
    columns = ["representation", "operation", "device", "provenance", "kernel", "reference"]
    rows = []
    for keys, group in ran.groupby(columns, sort=False, dropna=False):
        named = [str(key) if isinstance(key, str) else NONE for key in keys]
        derived = named[3].startswith("derived")
        rows.append((
            *(words(key) for key in named[:3]), Value(text=named[3], sort=named[3], style="derived" if derived else ""),
            words(named[4], style="long"), words(named[5]), figure(str(len(group)), len(group)),
        ))  # fmt: skip
    rows.sort(key=lambda row: (order(ran["representation"]).index(row[0].text), row[1].text))
    head = (*columns, "cells")
    return Section(
        anchor="kernels",
        title="What ran",
        text=(
            "Native: the representation's own. Derived: built by the base class from others, some of it perhaps dense. "
            "Reference is the dense form that was the fastest.",
        )
        if rows
        else (NO_NUMBERS,),
        tables=(Table(title="Provenance and kernels", head=head, rows=tuple(rows)),) if rows else (),
    )


def coverage_section(frame: pd.DataFrame) -> Section:
    """Return representation × suite with each status counted, and every cell that is not ok with its reason."""
    seen = [*STATUSES, *sorted(set(frame["status"].astype(str)) - set(STATUSES))]
    shown = [status for status in seen if (frame["status"] == status).any()]
    rows = []
    for name in order(frame["representation"]):
        for suite, group in frame[frame["representation"] == name].groupby("suite", sort=False):
            counts = group["status"].value_counts()
            cells = [
                figure(str(number), number, "" if status == "ok" else f"status {status}") if number else figure("0", 0, "zero")
                for status in shown
                for number in [int(counts.get(status, 0))]
            ]
            rows.append((words(name), words(suite), *cells, figure(str(len(group)), len(group))))
    tables = [Table(title="Cells by status", head=("representation", "suite", *shown, "all"), rows=tuple(rows))] if rows else []
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


def _reasons(failed: pd.DataFrame) -> Table:
    rows = []
    for (name, status, reason), group in failed.groupby(["representation", "status", "reason"], sort=False, dropna=False):
        where = "; ".join(
            f"{operation}: {', '.join(dict.fromkeys(part['pattern'].astype(str)))}"
            for operation, part in group.groupby("operation", sort=False)
        )
        shapes = ", ".join(times(shape) for shape in dict.fromkeys(group["shape"]))
        told = reason if isinstance(reason, str) else NONE
        rows.append((
            words(name), Value(text=str(status), sort=str(status), style=f"status {status}"), words(told, style="long"),
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
            yield label, "; ".join(", ".join(str(part) for part in inner.values() if part is not None) for inner in value)
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
    """Return every cell in short; cells.csv has all columns."""
    head = (
        "workload", "operation", "shape", "dtype", "device", "pattern", "sparsity", "representation", "status",
        "speed-up", "95 % interval", "trust", "time", "stored", "fill", "workspace", "build peak", "error", "useful GFLOP/s",
    )  # fmt: skip
    rows = tuple(_cell(row) for row in frame.to_dict("records"))
    return Section(
        anchor="cells",
        title="Every cell",
        text=("All columns, with full precision, are in cells.csv; results/README.md says what each one means.",),
        tables=(without_constants(Table(title=count(len(frame), "cell"), head=head, rows=rows, folded=True), ("dtype", "device")),)
        if rows
        else (),
    )


def _cell(row: Mapping[Any, Any]) -> tuple[Value, ...]:
    level = row["sparsity"] if row["sparsity"] == row["sparsity"] else row["achieved_sparsity"]
    status = Value(text=str(row["status"]), sort=str(row["status"]), style="" if row["status"] == "ok" else f"status {row['status']}")
    return (
        words(row["workload"]), words(row["operation"]), words(times(row["shape"])), words(row["dtype"]),
        words(row["device"]), words(row["pattern"]), share(level), words(row["representation"]), status,
        figure(ratio(row["speedup"]), row["speedup"]), figure(interval(row), row["speedup_low"]), trust(mark_row(row)),
        figure(seconds(row["time_s"]), row["time_s"]), figure(size(row["stored_bytes"]), row["stored_bytes"]),
        figure(significant(row["fill"]), row["fill"]), figure(size(row["workspace_bytes"]), row["workspace_bytes"]),
        figure(size(row["build_peak_bytes"]), row["build_peak_bytes"]),
        figure(significant(row["relative_error"], 2), row["relative_error"]),
        figure(significant(row["useful_gflops"]), row["useful_gflops"]),
    )  # fmt: skip
