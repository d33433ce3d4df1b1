"""Write the chapters of break-evens, and of what a build costs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from sparsebench.suites.cell import CONTROL
from sparsebench.suites.report.anchors import cell_anchor
from sparsebench.suites.report.breakeven import BUILD, GROUP, UNCHECKED, BreakEven
from sparsebench.suites.report.first.chart import break_even_anchor
from sparsebench.suites.report.heat import heat
from sparsebench.suites.report.table import Section, Table, Value, figure, without_constants, words
from sparsebench.suites.report.trust import mark_row
from sparsebench.suites.text import NONE, SPACE, bare_percent, known, percent, ratio, seconds, significant

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


def case_words(row: Mapping[Hashable, Any]) -> Value:
    """Return what was asked: operation, shape and workload, with type and device where they are not the usual ones."""
    about = [f"{row['operation']} {str(row['shape']).replace('x', '×')}", str(row["workload"])]
    about += [str(row[name]) for name, usual in (("dtype", "float32"), ("device", "cpu")) if row[name] != usual]
    return words(", ".join(about), style="case")


def name_words(name: str, unchecked: str = "") -> Value:
    """Return a representation's name, marked where it is not checked."""
    if not unchecked:
        return words(name)
    return words(f"{name} – {UNCHECKED}", hint=unchecked, style="unchecked")


def break_even_section(found: Sequence[BreakEven]) -> Section:
    """Return the table of break-evens with their intervals, early ones first within each group."""
    groups: dict[tuple[str, ...], list[BreakEven]] = defaultdict(list)
    for one in sorted(found, key=lambda one: (one.operation, one.dtype, one.device, one.shape, one.pattern)):
        groups[tuple(getattr(one, column) for column in GROUP)].append(one)
    ranked = [one for group in groups.values() for one in sorted(group, key=lambda one: one.answer.order)]
    head = ("what", "pattern", "representation", "break-even", "best speed-up", "levels measured, %", "trust")
    table = Table(
        title="Break-even sparsity", head=head, rows=tuple(map(_break_even, ranked)),
        anchors=tuple(map(break_even_anchor, ranked)), brief=60,
    )  # fmt: skip
    return Section(
        anchor="break-even",
        title="Break-even",
        text=(
            "The sparsity from which on the speed-up is at least 1: one fit of log(speed-up) near 1 over all levels "
            "and visits, with its 95 % interval by a hierarchical bootstrap. “From 0 %”: faster at the lowest sparsity "
            "that the pattern can have, or at 5 %. “Not up to”: slower at the highest. “Open”: the levels measured do "
            "not tell, and the crossing lies somewhere in between; run longer, with the same --out.",
        )
        if ranked
        else (NO_NUMBERS,),
        tables=(table,) if ranked else (),
    )


def _break_even(one: BreakEven) -> tuple[Value, ...]:
    best = NONE if one.best_at is None else f"{ratio(one.best)} at {percent(one.best_at)}"
    style = "" if one.answer.sparsity is None else heat(one.answer.verdict, one.answer.sparsity)
    levels = Value(
        text="" if one.cells else NONE, sort=float(one.levels), style="levels",
        links=tuple((bare_percent(level), cell_anchor(key)) for key, level in one.cells),
        hint=f"{one.missing} missing" if one.missing else "",
    )  # fmt: skip
    best_cell = next((key for key, level in one.cells if level == one.best_at), None)
    return (
        case_words({name: getattr(one, name) for name in GROUP}), words(one.pattern),
        name_words(one.representation, "" if one.checked else UNCHECKED),
        figure(one.answer.text, one.answer.order, style),
        figure(best, one.best, href=cell_anchor(best_cell) if best_cell else ""), levels, trust(one.trust),
    )  # fmt: skip


def build_section(frame: pd.DataFrame) -> Section:
    """Return what building costs, and after how many applies it has paid off, at the highest sparsity of each group."""
    built = frame[(frame["status"] == "ok") & frame["build_time_s"].notna() & (frame["representation"] != CONTROL)]
    built = built[built["kernel"] != BUILD]
    rows = []
    for _, group in built.groupby([*GROUP, "representation"], sort=False, dropna=False):
        last = group.sort_values("sparsity", na_position="first").iloc[-1]
        to, row = cell_anchor(last.name), last.to_dict()
        level = row["sparsity"] if known(row["sparsity"]) else row["achieved_sparsity"]
        pays = row["pays_off_after"]
        rows.append((
            case_words(row), words(row["pattern"]), words(row["representation"]), share(level),
            figure(seconds(row["build_time_s"]), row["build_time_s"], href=to),
            figure(seconds(row["time_s"]), row["time_s"], href=to),
            figure(seconds(row["reference_time_s"]), row["reference_time_s"]),
            figure(_paid(row), pays if known(pays) else None), trust(mark_row(row)),
        ))  # fmt: skip
    head = (
        "what", "pattern", "representation", "at sparsity", "build", "apply", "dense apply",
        "pays off after … applies", "trust",
    )  # fmt: skip
    table = Table(title="Build and pay-off at the highest sparsity weighed", head=head, rows=tuple(rows), brief=60)
    return Section(
        anchor="build",
        title="Building",
        text=(
            "Building from a dense tensor is never inside the time of an apply. It has paid off after "
            "build ÷ (dense apply − apply) applies; never, where an apply is no faster than dense. “?” means: "
            "the interval of the speed-up holds 1, so it may never.",
        )
        if rows
        else (NO_NUMBERS,),
        tables=(without_constants(table, ("what",)),) if rows else (),
    )


def _paid(row: Mapping[Hashable, Any]) -> str:
    """Return after how many applies a build has paid off."""
    pays = row["pays_off_after"]
    if known(pays):
        doubt = "" if row["speedup_low"] > 1 else f"{SPACE}?"
        return f"{max(1, math.ceil(pays)):,}".replace(",", SPACE) + doubt
    gains = known(row["time_s"]) and known(row["reference_time_s"]) and row["time_s"] < row["reference_time_s"]
    return NONE if gains or not known(row["time_s"]) else "never"
