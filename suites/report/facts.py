"""Write the chapters beside time: bytes, error, what ran."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from sparsebench.suites.cell import CONTROL
from sparsebench.suites.report.chapters import NO_NUMBERS
from sparsebench.suites.report.colours import INK, Look, order
from sparsebench.suites.report.crossing import crossing
from sparsebench.suites.report.figures import BYTES, curves, plain, svg
from sparsebench.suites.report.headline import heat
from sparsebench.suites.report.table import Picture, Section, Table, Value, figure, without_constants, words
from sparsebench.suites.text import NONE, SPACE, significant, times

EQUAL = 1e-9
"""Added to stored ÷ dense: as many bytes as dense is not smaller than dense."""


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
            "line is smaller than dense. Bytes are counted, not estimated: they need no trust mark. "
            "Representations that hold the same bytes lie on one line; the table tells them apart.",
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
    for keys, group in rows.groupby(["suite", "pattern", "dtype"], sort=False):
        values = [words(key) for key in keys]
        for name in names:
            heaviest = group[group["representation"] == name].groupby("sparsity")["bytes_ratio"].max()
            found = crossing(zip(map(float, heaviest.index), 1.0 / (heaviest + EQUAL), strict=True))
            style = heat(found.verdict, found.sparsity) if found.sparsity is not None else "heat-none"
            values.append(figure(found.short, found.order, style))
        body.append(tuple(values))
    table = Table(
        title="Smaller than dense from", head=("suite", "pattern", "dtype", *names), rows=tuple(body),
        note="The largest of the shapes at each sparsity counts.",
    )  # fmt: skip
    return without_constants(table, ("suite", "dtype"))


def error_section(frame: pd.DataFrame, looks: Mapping[str, Look]) -> Section:
    """Return the largest relative error of each representation and type, against its tolerance."""
    judged = frame[frame["relative_error"].notna()]
    rows = []
    for dtype, cells in judged.groupby("dtype", sort=False):
        for name in order(cells["representation"]):
            mine = cells[cells["representation"] == name]
            worst = mine.loc[mine["relative_error"] == mine["relative_error"].max()].iloc[0]
            used = 100 * worst["relative_error"] / worst["tolerance"] if worst["tolerance"] > 0 else None
            over = used is not None and used > 100
            where = f"{worst['operation']} {times(worst['shape'])}, {worst['pattern']}"
            rows.append((
                words(name), words(dtype), figure(significant(worst["relative_error"], 2), worst["relative_error"]),
                figure(significant(worst["tolerance"], 2), worst["tolerance"]),
                figure(NONE if used is None else f"{significant(used, 2)}{SPACE}%", used, "bad" if over else ""),
                words(where), figure(str(len(mine)), len(mine)),
            ))  # fmt: skip
    head = ("representation", "dtype", "largest error", "tolerance", "of tolerance", "where", "cells")
    return Section(
        anchor="error",
        title="Error",
        text=(
            "‖result − float64‖ ÷ ‖float64‖, the largest over outputs and gradients. Judged before anything is timed.",
        )
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
