"""Write the chapters about time: break-even, speed-up over sparsity, and what a build costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from sparsebench.suites.cell import CONTROL
from sparsebench.suites.report.breakeven import BUILD, GROUP, BreakEven
from sparsebench.suites.report.colours import Look
from sparsebench.suites.report.figures import SPEEDUP, curves, svg
from sparsebench.suites.report.headline import heat
from sparsebench.suites.report.table import Picture, Section, Table, Value, figure, without_constants, words
from sparsebench.suites.report.trust import mark_row
from sparsebench.suites.text import NONE, SPACE, count, known, percent, ratio, seconds, significant, times

SHARED: tuple[str, ...] = tuple(column for column in GROUP if column != "pattern")
"""Columns that one figure has in common; its panels are the patterns."""

NO_NUMBERS = "No cell has these numbers yet."


def trust(mark: str) -> Value:
    """Return a trust mark as a value; firm sorts first."""
    return Value(text=mark or NONE, sort={"firm": 0.0, "fair": 1.0, "loose": 2.0}.get(mark), style=f"trust {mark}")


def share(value: Any) -> Value:
    """Return a sparsity as a value."""
    return figure(percent(value) if known(value) else NONE, value if known(value) else None)


def interval(row: Mapping[Any, Any]) -> str:
    """Return a speed-up's 95 % interval, "0.98 – 1.04"."""
    if not (known(row["speedup_low"]) and known(row["speedup_high"])):
        return NONE
    return f"{significant(row['speedup_low'])} – {significant(row['speedup_high'])}"


def break_even_section(found: Sequence[BreakEven]) -> Section:
    """Return the table of break-evens with their intervals, early ones first within each group."""
    ranked = sorted(found, key=lambda one: (one.operation, one.dtype, one.device, one.shape, one.pattern))
    groups: dict[tuple[str, ...], list[BreakEven]] = {}
    for one in ranked:
        groups.setdefault((one.suite, one.workload, one.operation, one.shape, one.dtype, one.device, one.pattern), [])
        groups[one.suite, one.workload, one.operation, one.shape, one.dtype, one.device, one.pattern].append(one)
    rows = tuple(
        _break_even(one) for group in groups.values() for one in sorted(group, key=lambda one: one.answer.order)
    )
    head = (
        "operation", "workload", "shape", "dtype", "device", "pattern", "representation", "break-even",
        "best speed-up", "levels", "trust",
    )  # fmt: skip
    table = Table(title="Break-even sparsity", head=head, rows=rows)
    return Section(
        anchor="break-even",
        title="Break-even",
        text=(
            "The sparsity from which on the speed-up is at least 1: one fit of log(speed-up) near 1 over all levels "
            "and visits, with its 95 % interval by a hierarchical bootstrap. “From 0 %”: faster at the lowest sparsity "
            "that the pattern can have, or at 5 %. “Not up to”: slower at the highest. “Open”: the levels measured do "
            "not tell, and the crossing lies somewhere in between; run longer, with the same --out.",
        )
        if rows
        else (NO_NUMBERS,),
        tables=(without_constants(table, ("operation", "workload", "shape", "dtype", "device")),) if rows else (),
    )


def _break_even(one: BreakEven) -> tuple[Value, ...]:
    levels = str(one.levels) + (f", {one.missing} missing" if one.missing else "")
    best = NONE if one.best_at is None else f"{ratio(one.best)} at {percent(one.best_at)}"
    style = "" if one.answer.sparsity is None else heat(one.answer.verdict, one.answer.sparsity)
    return (
        words(one.operation), words(one.workload), words(times(one.shape)), words(one.dtype), words(one.device),
        words(one.pattern), words(one.representation),
        figure(one.answer.text, one.answer.order, style), figure(best, one.best),
        figure(levels, one.levels), trust(one.trust),
    )  # fmt: skip


def speedup_section(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Section:
    """Return a figure for each operation and shape, and a table of the cells whose sparsity the data decided."""
    timed = frame[(frame["status"] == "ok") & (frame["speedup"] > 0)]
    levelled = timed[timed["sparsity"].notna()]
    drawn = [
        Picture(html=svg(curves(rows, SPEEDUP, looks), "speed-up over sparsity"), caption=caption(rows))
        for _, rows in frame[frame["sparsity"].notna()].groupby(list(SHARED), sort=False, dropna=False)
        if (rows["speedup"] > 0).any()
    ]
    text = [
        "Paired against the fastest dense form of the same product; above the dashed line is faster than dense. "
        "The band is the 95 % interval of the median ratio. Dense is drawn too: how far it strays from 1 is what "
        "going through the interface, and the machine's noise, cost."
    ]
    control = levelled[levelled["representation"] == CONTROL]["speedup"]
    if not control.empty:
        middle, low, high = (float(control.quantile(share)) for share in (0.5, 0.05, 0.95))
        text.append(
            f"Dense against itself in this run: {ratio(middle)} in the middle, nine in ten between {ratio(low)} and "
            f"{ratio(high)} ({count(len(control), 'cell')})."
        )
    free = timed[timed["sparsity"].isna()]
    return Section(
        anchor="speed-up",
        title="Speed-up over sparsity",
        text=tuple(text) if not timed.empty else (NO_NUMBERS,),
        tables=(_data_decides(free),) if not free.empty else (),
        pictures=tuple(drawn),
        legend=bool(drawn),
    )


def caption(rows: pd.DataFrame) -> str:
    """Return what all rows of a figure have in common."""
    row = rows.iloc[0]
    return f"{row['workload']}: {row['operation']} {times(row['shape'])}, {row['dtype']}, {row['device']}"


def _data_decides(rows: pd.DataFrame) -> Table:
    head = (
        "workload", "operation", "shape", "representation", "sparsity", "speed-up", "95 % interval", "time", "trust",
    )  # fmt: skip
    ranked = rows.sort_values(["workload", "operation", "speedup"], ascending=[True, True, False])
    body = tuple(
        (
            words(row["workload"]), words(row["operation"]), words(times(row["shape"])), words(row["representation"]),
            share(row["achieved_sparsity"]), figure(ratio(row["speedup"]), row["speedup"]),
            figure(interval(row), row["speedup_low"]), figure(seconds(row["time_s"]), row["time_s"]),
            trust(mark_row(row)),
        )
        for row in ranked.to_dict("records")
    )  # fmt: skip
    return without_constants(Table(title="Where the data decide the sparsity", head=head, rows=body), ("shape",))


def build_section(frame: pd.DataFrame) -> Section:
    """Return what building costs, and after how many applies it has paid off, at the highest sparsity of each group."""
    built = frame[(frame["status"] == "ok") & frame["build_time_s"].notna() & (frame["representation"] != CONTROL)]
    built = built[built["kernel"] != BUILD]
    rows = []
    for _, group in built.groupby([*GROUP, "representation"], sort=False, dropna=False):
        row = group.sort_values("sparsity", na_position="first").iloc[-1].to_dict()
        pays = row["pays_off_after"]
        level = row["sparsity"] if known(row["sparsity"]) else row["achieved_sparsity"]
        gains = known(row["time_s"]) and known(row["reference_time_s"]) and row["time_s"] < row["reference_time_s"]
        paid = NONE if gains or not known(row["time_s"]) else "never"
        if known(pays):
            paid = f"{max(1, math.ceil(pays)):,}".replace(",", SPACE) + ("" if row["speedup_low"] > 1 else f"{SPACE}?")
        rows.append((
            words(row["operation"]), words(times(row["shape"])), words(row["dtype"]), words(row["pattern"]),
            words(row["representation"]), share(level),
            figure(seconds(row["build_time_s"]), row["build_time_s"]), figure(seconds(row["time_s"]), row["time_s"]),
            figure(seconds(row["reference_time_s"]), row["reference_time_s"]),
            figure(paid, pays if known(pays) else None),
            trust(mark_row(row)),
        ))  # fmt: skip
    head = (
        "operation", "shape", "dtype", "pattern", "representation", "at sparsity", "build", "apply", "dense apply",
        "pays off after … applies", "trust",
    )  # fmt: skip
    table = Table(title="At the highest sparsity measured", head=head, rows=tuple(rows), brief=60)
    return Section(
        anchor="build",
        title="Building, and when it pays off",
        text=(
            "Building from a dense tensor is never inside the time of an apply. It has paid off after "
            "build ÷ (dense apply − apply) applies; never, where an apply is no faster than dense. “?” means: "
            "the interval of the speed-up holds 1, so it may never.",
        )
        if rows
        else (NO_NUMBERS,),
        tables=(without_constants(table, ("operation", "dtype")),) if rows else (),
    )
