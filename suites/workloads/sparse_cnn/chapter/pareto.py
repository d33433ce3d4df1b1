"""Weigh time, bytes and accuracy of one trained CNN on every representation against one another."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from sparsebench.suites.report.colours import INK, Look, order
from sparsebench.suites.report.figures import plain, svg
from sparsebench.suites.report.table import Picture, Table, figure, without_constants, words
from sparsebench.suites.report.trust import mark_row
from sparsebench.suites.text import NONE, percent, ratio, seconds, size

OPERATIONS: dict[str, str] = {"inference": "inference", "training_step": "a training step"}
"""Operations of the suite that are timed on every representation, as captions call them."""
SAME: tuple[str, ...] = ("operation", "device", "dtype", "shape")
"""Columns that cells must share to be weighed against one another."""


def timed_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the cells that have a time, stored bytes and an accuracy."""
    mine = frame[frame["operation"].isin(list(OPERATIONS)) & (frame["status"] == "ok")]
    return mine[(mine["time_s"] > 0) & (mine["stored_bytes"] > 0) & mine["quality"].notna()]


def undominated(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells that no other of them beats: none is as good in time, bytes and accuracy and better in one."""
    points = np.stack([cells["time_s"], cells["stored_bytes"], -cells["quality"]], axis=1).astype(float)
    beaten = [bool(((points <= point).all(axis=1) & (points < point).any(axis=1)).any()) for point in points]
    return cells[~np.array(beaten, dtype=bool)]


def pareto_table(cells: pd.DataFrame) -> Table:
    """Return the undominated cells of each operation, the fastest first."""
    rows = []
    for _, group in cells.groupby(list(SAME), sort=False, dropna=False):
        for row in undominated(group).sort_values("time_s").to_dict("records"):
            level = row["sparsity"] == row["sparsity"] and row["sparsity"] is not None
            rows.append((
                words(row["operation"]), words(row["device"]), words(row["workload"]), words(row["pattern"]),
                figure(percent(row["sparsity"]) if level else NONE, row["sparsity"]), words(row["representation"]),
                figure(seconds(row["time_s"]), row["time_s"]), figure(ratio(row["speedup"]), row["speedup"]),
                figure(size(row["stored_bytes"]), row["stored_bytes"]),
                figure(f"{100 * row['quality']:.2f} %", row["quality"]),
                words(mark_row(row) or NONE, style=f"trust {mark_row(row)}"),
            ))  # fmt: skip
    head = (
        "operation", "device", "network", "pattern", "sparsity", "representation", "time", "speed-up", "stored",
        "accuracy", "trust",
    )  # fmt: skip
    note = "No other cell of the operation is as fast, as small and as accurate, and better in one of the three."
    table = Table(title="What nothing else beats", head=head, rows=tuple(rows), note=note, brief=40)
    return without_constants(table, ("operation", "device"))


def pareto_figures(cells: pd.DataFrame, looks: Mapping[str, Look]) -> list[Picture]:
    """Draw accuracy over time and over stored bytes for each operation; undominated cells are full, others faint."""
    drawn = []
    for _, group in cells.groupby(list(SAME), sort=False, dropna=False):
        best = undominated(group)
        drawing = Figure(figsize=(9.2, 3.4), layout="constrained")
        left, right = drawing.subplots(1, 2, sharey=True)
        for axes, column, label in ((left, "time_s", "time of one apply"), (right, "stored_bytes", "stored bytes")):
            for name in order(group["representation"]):
                _dots(axes, group[group["representation"] == name], best, column, looks[name])
            axes.set_xscale("log")
            axes.minorticks_off()
            axes.set_xlabel(label, color=INK, fontsize=9)
            plain(axes, INK)
        left.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 3.0), numticks=9))
        right.xaxis.set_major_locator(LogLocator(base=4, numticks=9))
        left.xaxis.set_major_formatter(lambda value, _: seconds(value, digits=1))
        right.xaxis.set_major_formatter(lambda value, _: size(value))
        left.set_ylabel("test accuracy, %", color=INK, fontsize=9)
        row = group.iloc[0]
        caption = (
            f"Time, bytes and accuracy of {OPERATIONS[row['operation']]} ({row['device']}, {row['dtype']}): a mark is "
            "one network on one representation; full marks are beaten by no other in all three."
        )
        drawn.append(Picture(html=svg(drawing, "time, bytes and accuracy"), caption=caption))
    return drawn


def _dots(axes: Axes, cells: pd.DataFrame, best: pd.DataFrame, column: str, look: Look) -> None:
    for full, rows in ((False, cells[~cells.index.isin(best.index)]), (True, cells[cells.index.isin(best.index)])):
        axes.plot(
            rows[column], 100 * rows["quality"], color=look.colour, marker=look.marker, linestyle="none",
            markersize=8 if full else 5.5, markeredgewidth=0, alpha=1.0 if full else 0.35, zorder=3 if full else 2,
        )  # fmt: skip
