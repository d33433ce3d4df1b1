"""Write the chapter of speed-up curves, and of the cells whose sparsity the data decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from sparsebench.suites.cell import CONTROL
from sparsebench.suites.report.anchors import cell_anchor
from sparsebench.suites.report.chapters import NO_NUMBERS, case_words, interval, share, trust
from sparsebench.suites.report.colours import Look
from sparsebench.suites.report.draw.plot import Dot, Series, plot
from sparsebench.suites.report.draw.scale import log_scale, sparsity_scale
from sparsebench.suites.report.first.groups import Keys, in_order
from sparsebench.suites.report.first.plain_words import pattern_words
from sparsebench.suites.report.table import Picture, Section, Table, figure, words
from sparsebench.suites.report.trust import mark_row
from sparsebench.suites.text import count, known, percent, ratio, seconds, times

LEAST = 3
"""Levels that make a curve; fewer are told by the table alone."""


def speedup_section(frame: pd.DataFrame, looks: Mapping[str, Look], order: Mapping[Keys, int] | None = None) -> Section:
    """Return a figure for each group that has a curve, and a table of the cells whose sparsity the data decide.

    Args:
        frame: `Run.frame`.
        looks: of the representations.
        order: places of groups, from `reading_order`.
    """
    timed = frame[(frame["status"] == "ok") & (frame["speedup"] > 0)]
    levelled = timed[timed["sparsity"].notna()]
    drawn, few = [], 0
    for rows in in_order(levelled, order or {}):
        series = _series(rows, looks)
        few += rows[rows["representation"] != CONTROL]["representation"].nunique() - len(series)
        if series:
            drawn.append(Picture(html=_curves(rows, series, looks), caption=caption(rows)))
    text = [
        "Paired against the fastest dense form of the same product; above the dashed line is faster than dense. "
        "The band is the 95 % interval of the median ratio. Every dot leads to its row."
    ]
    if few:
        text.append(
            f"Not drawn: {count(few, 'curve')} of fewer than {LEAST} levels; they are in the table of break-evens."
        )
    control = levelled[levelled["representation"] == CONTROL]["speedup"]
    if not control.empty:
        middle, low, high = (float(control.quantile(part)) for part in (0.5, 0.05, 0.95))
        text.append(
            f"Dense against itself in this run: {ratio(middle)} in the middle, nine in ten between {ratio(low)} and "
            f"{ratio(high)} ({count(len(control), 'cell')})."
        )
    free = timed[timed["sparsity"].isna()]
    return Section(
        anchor="speed-up",
        title="Speed-up",
        text=tuple(text) if not timed.empty else (NO_NUMBERS,),
        tables=(_data_decides(free),) if not free.empty else (),
        pictures=tuple(drawn),
        pictures_first=True,
        shown=6,
    )


def _series(rows: pd.DataFrame, looks: Mapping[str, Look]) -> list[Series]:
    """Return the curves of a group that have levels enough."""
    found = []
    for name in (name for name in looks if name != CONTROL):
        mine = rows[rows["representation"] == name].sort_values("sparsity")
        levels = mine.groupby("sparsity")
        if len(levels) < LEAST:
            continue
        dots = tuple(
            Dot(
                x=float(str(level)),
                y=float(some["speedup"].median()),
                low=_or_none(some["speedup_low"].min()),
                high=_or_none(some["speedup_high"].max()),
                told=f"{ratio(float(some['speedup'].median()))} at {percent(float(str(level)))}",
                href=cell_anchor(some.index[0]),
            )
            for level, some in levels
        )
        found.append(Series(name=name, dots=dots))
    return found


def _or_none(value: float) -> float | None:
    return float(value) if known(value) and value > 0 else None


def _curves(rows: pd.DataFrame, series: Sequence[Series], looks: Mapping[str, Look]) -> str:
    dots = [dot for one in series for dot in one.dots]
    row = rows.iloc[0]
    title = pattern_words(row["pattern"])
    y = log_scale("speed-up", [1.0, *(dot.y for dot in dots)], lambda tick: f"{tick:g}×")
    x = sparsity_scale({dot.x for dot in dots})
    return plot(title, series, x, y, looks, about=f"Speed-up over sparsity, {title}, {caption(rows)}")


def caption(rows: pd.DataFrame) -> str:
    """Return what all rows of a figure have in common."""
    row = rows.iloc[0]
    return f"{row['operation']} {times(row['shape'])}, {row['workload']}, {row['dtype']}, {row['device']}"


def _data_decides(rows: pd.DataFrame) -> Table:
    head = ("what", "representation", "sparsity", "speed-up", "95 % interval", "time", "trust")
    ranked = rows.sort_values(["workload", "operation", "speedup"], ascending=[True, True, False])
    body = tuple(
        (
            case_words(row), words(row["representation"]), share(row["achieved_sparsity"]),
            figure(ratio(row["speedup"]), row["speedup"], href=cell_anchor(key)),
            figure(interval(row), row["speedup_low"]),
            figure(seconds(row["time_s"]), row["time_s"], href=cell_anchor(key)), trust(mark_row(row)),
        )
        for key, row in zip(ranked.index, ranked.to_dict("records"), strict=True)
    )  # fmt: skip
    return Table(title="Where the data decide the sparsity", head=head, rows=body)
