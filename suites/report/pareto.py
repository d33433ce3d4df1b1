"""Weigh time, stored bytes and error against one another, group by group, at one level of sparsity."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sparsebench.suites.report.anchors import cell_anchor
from sparsebench.suites.report.chapters import NO_NUMBERS, case_words, name_words
from sparsebench.suites.report.colours import Look
from sparsebench.suites.report.curves import caption
from sparsebench.suites.report.draw.plot import Dot, Series, plot
from sparsebench.suites.report.draw.scale import digits, doubling_scale, log_scale
from sparsebench.suites.report.first.groups import Keys, in_order
from sparsebench.suites.report.first.plain_words import pattern_words
from sparsebench.suites.report.table import Picture, Section, Table, figure, words
from sparsebench.suites.text import percent, seconds, significant, size

ALIKE = 3.0
"""Errors no further apart than this factor are alike: they are a matter of the order of sums."""
LEAST = 3
"""Representations that a picture needs."""
AIMED = 0.85
"""Of levels that equally many have, the one nearest to this is drawn."""


@dataclass(frozen=True, kw_only=True)
class Rated:
    """One cell.

    Attributes:
        key: of its row.
        row: its columns.
        beaten: True if another is as good in all three and better in one.
    """

    key: str
    row: Mapping[Hashable, Any]
    beaten: bool


def rated(rows: pd.DataFrame) -> list[Rated]:
    """Return the cells of one group at one level, each with whether another dominates it; the fastest first.

    Args:
        rows: with time_s, stored_bytes and relative_error.
    """
    ranked = rows.sort_values("time_s")
    points = ranked[["time_s", "stored_bytes", "relative_error"]].to_numpy(dtype=float).tolist()
    return [
        Rated(
            key=str(ranked.index[i]),
            row=ranked.iloc[i].to_dict(),
            beaten=any(_beats(other, one) for j, other in enumerate(points) if j != i),
        )
        for i, one in enumerate(points)
    ]


def _beats(a: Sequence[float], b: Sequence[float]) -> bool:
    """Tell whether (time, bytes, error) a is as good as b and better in one."""
    good = a[0] <= b[0] and a[1] <= b[1] and a[2] <= ALIKE * b[2]
    return good and (a[0] < b[0] or a[1] < b[1] or ALIKE * a[2] < b[2])


def pareto_section(frame: pd.DataFrame, looks: Mapping[str, Look], order: Mapping[Keys, int] | None = None) -> Section:
    """Return a picture for each group, and a table of what nothing else beats.

    Args:
        frame: `Run.frame`.
        looks: of the representations.
        order: places of groups, from `reading_order`.
    """
    whole = frame[(frame["status"] == "ok") & (frame["time_s"] > 0) & (frame["stored_bytes"] > 0)]
    whole = whole[whole["relative_error"].notna() & whole["sparsity"].notna()]
    pictures, table = [], []
    for rows in in_order(whole, order or {}):
        level = _level(rows)
        cells = rated(rows[rows["sparsity"] == level].drop_duplicates("representation"))
        if len(cells) >= LEAST:
            pictures.append(Picture(html=_picture(rows, level, cells, looks), caption=caption(rows)))
            table += [one for one in cells if not one.beaten]
    return Section(
        anchor="pareto",
        title="Time, bytes, error",
        text=(
            "Each group at the level that most representations were measured at. Full marks, with their names, are "
            "beaten by no other: none is as fast, as small and as exact, and better in one of the three. Errors no "
            f"more than {ALIKE:g} times apart count as alike. Further left is smaller, further down is faster.",
        )
        if pictures
        else (NO_NUMBERS,),
        tables=(_front(table),) if table else (),
        pictures=tuple(pictures),
        pictures_first=True,
        legend=bool(pictures),
        shown=6,
    )


def _level(rows: pd.DataFrame) -> float:
    counts = rows.groupby("sparsity")["representation"].nunique()
    best = [float(str(level)) for level, number in counts.items() if number == counts.max()]
    return min(best, key=lambda level: abs(level - AIMED))


def _picture(rows: pd.DataFrame, level: float, cells: Sequence[Rated], looks: Mapping[str, Look]) -> str:
    series = [
        Series(
            name=str(one.row["representation"]),
            dots=(
                Dot(
                    x=float(one.row["stored_bytes"]),
                    y=float(one.row["time_s"]),
                    told=_told(one),
                    href=cell_anchor(one.key),
                    faded=one.beaten,
                ),
            ),
            joined=False,
        )
        for one in sorted(cells, key=lambda one: not one.beaten)
    ]
    dots = [one.dots[0] for one in series]
    title = f"{pattern_words(rows['pattern'].iloc[0])} at {percent(level)}"
    x = doubling_scale("stored bytes", [dot.x for dot in dots], size)
    y = log_scale("time of an apply", [dot.y for dot in dots], lambda tick: seconds(tick, digits(tick)))
    return plot(title, series, x, y, looks, about=f"Time over stored bytes, {title}, {caption(rows)}")


def _told(one: Rated) -> str:
    row = one.row
    told = f"{seconds(row['time_s'])}, {size(row['stored_bytes'])}, error "
    return told + significant(row["relative_error"], 2) + (", beaten" if one.beaten else "")


def _front(cells: Sequence[Rated]) -> Table:
    head = ("what", "pattern", "at sparsity", "representation", "time", "speed-up", "stored", "error")
    rows = []
    for one in cells:
        row, to = one.row, cell_anchor(one.key)
        speedup = row["speedup"]
        rows.append((
            case_words(row), words(row["pattern"]), figure(percent(row["sparsity"]), row["sparsity"]),
            name_words(str(row["representation"])),
            figure(seconds(row["time_s"]), row["time_s"], href=to),
            figure(f"{significant(speedup)}×", speedup, href=to),
            figure(size(row["stored_bytes"]), row["stored_bytes"], href=to),
            figure(significant(row["relative_error"], 2), row["relative_error"], href=to),
        ))  # fmt: skip
    return Table(title="What nothing else beats", head=head, rows=tuple(rows), brief=60)
