"""Write the chapter of memory over sparsity: what is stored, what an apply needs beside it, and what a build does."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from sparsebench.suites.cell import CONTROL
from sparsebench.suites.report.anchors import cell_anchor
from sparsebench.suites.report.chapters import NO_NUMBERS
from sparsebench.suites.report.colours import Look, order
from sparsebench.suites.report.crossing import crossing
from sparsebench.suites.report.draw.plot import Dot, Series, plot
from sparsebench.suites.report.draw.scale import log_scale, sparsity_scale
from sparsebench.suites.report.first.groups import Keys, in_order
from sparsebench.suites.report.first.plain_words import pattern_words
from sparsebench.suites.report.heat import heat
from sparsebench.suites.report.table import Picture, Section, Table, Value, figure, words
from sparsebench.suites.text import percent, size

EQUAL = 1e-9
"""Added to stored ÷ dense: as many bytes as dense is not smaller than dense."""
LEAST = 1e-4
"""Of the dense tensor: what needs less stands there, as an axis of ratios has no 0."""
KINDS: dict[str, str] = {
    "stored_bytes": "stored",
    "workspace_bytes": "workspace of an apply",
    "build_peak_bytes": "peak of a build",
}


def memory_section(frame: pd.DataFrame, looks: Mapping[str, Look], order: Mapping[Keys, int] | None = None) -> Section:
    """Return stored bytes, workspace and build peak over sparsity, and from which sparsity on less is stored.

    Args:
        frame: `Run.frame`.
        looks: of the representations.
        order: places of groups, from `reading_order`.
    """
    known = frame[(frame["stored_bytes"] > 0) & (frame["dense_bytes"] > 0) & frame["sparsity"].notna()]
    # bytes of a tensor do not depend on what is done with it: one figure for all operations and columns
    placed = pd.concat(in_order(known, order or {})) if len(known) else known
    tensors = placed.groupby(["suite", "workload", "dense_bytes", "dtype", "pattern"], sort=False, dropna=False)
    drawn = [picture for _, rows in tensors for picture in _pictures(rows, looks)]
    same = ["suite", "workload", "dense_bytes", "dtype", "pattern", "representation", "sparsity"]
    known = known.assign(bytes_ratio=known["stored_bytes"] / known["dense_bytes"]).drop_duplicates(same, keep="last")
    return Section(
        anchor="memory",
        title="Memory",
        text=(
            "Stored: values and indices as they are really held. Workspace: the peak of allocations during one apply, "
            "less its result. Peak of a build: what it keeps included. All are divided by the bytes of the dense "
            "tensor; below the dashed line is smaller. They are counted, so they need no trust mark; workspace and "
            "peak are weighed once a curve.",
        )
        if drawn
        else (NO_NUMBERS,),
        tables=(_smaller(known),) if len(known) else (),
        pictures=tuple(drawn),
        pictures_first=True,
        shown=2 * len(KINDS),
    )


def _pictures(rows: pd.DataFrame, looks: Mapping[str, Look]) -> list[Picture]:
    """Return a figure of each kind of memory that was weighed."""
    row = rows.iloc[0]
    title = pattern_words(row["pattern"])
    caption = f"{row['workload']}, {row['dtype']}, dense {size(row['dense_bytes'])}"
    drawn = []
    for column, kind in KINDS.items():
        operation = rows if column == "stored_bytes" else rows[rows["operation"] == row["operation"]]
        shape = operation if column == "stored_bytes" else operation[operation["shape"] == operation["shape"].iloc[0]]
        series = _series(shape[shape[column].notna()], column, looks)
        if series:
            dots = [dot for one in series for dot in one.dots]
            y = log_scale("÷ dense bytes", [1.0, *(dot.y for dot in dots)], lambda tick: f"{tick:g}")
            x = sparsity_scale({dot.x for dot in dots})
            html = plot(f"{title}: {kind}", series, x, y, looks, about=f"{title}, {caption}: {kind} over sparsity")
            drawn.append(Picture(html=html, caption=caption))
    return drawn


def _series(rows: pd.DataFrame, column: str, looks: Mapping[str, Look]) -> list[Series]:
    found = []
    for name in looks:
        mine = rows[rows["representation"] == name].drop_duplicates("sparsity").sort_values("sparsity")
        dots = tuple(
            Dot(
                x=float(row["sparsity"]),
                y=max(float(row[column]) / float(row["dense_bytes"]), LEAST),
                told=f"{size(row[column])} at {percent(row['sparsity'])}",
                href=cell_anchor(key),
            )
            for key, row in zip(mine.index, mine.to_dict("records"), strict=True)
        )
        found += [Series(name=name, dots=dots)] if dots else []
    return found


def _smaller(rows: pd.DataFrame) -> Table:
    """Return from which sparsity on less is stored; representations stand downwards, as they are many."""
    names = [name for name in order(rows["representation"]) if name != CONTROL]
    several = ["pattern", *(["dtype"] if rows["dtype"].nunique() > 1 else [])]
    groups = {" ".join(map(str, keys)): some for keys, some in rows.groupby(several, sort=False)}
    body = tuple(
        (words(name), *(_from(some[some["representation"] == name]) for some in groups.values())) for name in names
    )
    return Table(
        title="Less is stored than dense from", head=("representation", *groups), rows=body,
        note="The largest of the shapes at each sparsity counts.",
    )  # fmt: skip


def _from(rows: pd.DataFrame) -> Value:
    heaviest = rows.groupby("sparsity")["bytes_ratio"].max()
    found = crossing(zip(map(float, heaviest.index), 1.0 / (heaviest + EQUAL), strict=True))
    style = heat(found.verdict, found.sparsity) if found.sparsity is not None else "heat-none"
    return figure(found.short, found.order, style)
