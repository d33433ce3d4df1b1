"""Join the kept accuracy with the times and bytes that this run measured of kept networks, over sparsity."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from sparsebench.suites.report.colours import INK, Look, order
from sparsebench.suites.report.figures import plain, positions, svg
from sparsebench.suites.report.table import Picture
from sparsebench.suites.text import bare_percent, seconds, size
from sparsebench.suites.workloads.sparse_cnn.chapter.runs import DENSE, Setting
from sparsebench.suites.workloads.sparse_cnn.kept_nets import METRIC

OPERATION = "inference"
DASHED: dict[str, Any] = {"color": INK, "linewidth": 1, "linestyle": (0, (4, 3)), "zorder": 1}
"""How dense is drawn."""
NONE_TIMED = (
    "No kept network was timed in this run, so accuracy stands alone; "
    "time them with: sparsebench run --suite sparse_cnn"
)


def kept_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of kept networks' inference that have a time.

    Args:
        frame: `Run.frame`.
    """
    mine = frame[(frame["operation"] == OPERATION) & (frame["status"] == "ok") & (frame["time_s"] > 0)]
    return mine[(mine["quality_metric"] == METRIC) & mine["sparsity"].notna()]


def joined_text(frame: pd.DataFrame) -> str | None:
    """Say in one line which representations have no time here, with the reason of the first cell; None if all have."""
    timed = kept_rows(frame)
    if timed.empty:
        return NONE_TIMED
    planned = frame[frame["workload"].isin(set(timed["workload"])) & (frame["operation"] == OPERATION)]
    reasons = planned.groupby("representation", sort=False)["reason"].first()
    lacking = [name for name in order(planned["representation"]) if name not in set(timed["representation"])]
    if not lacking:
        return None
    return "Without a time of a kept network here: " + "; ".join(f"{name} ({reasons[name]})" for name in lacking) + "."


def joined_figures(frame: pd.DataFrame, settings: Sequence[Setting], looks: Mapping[str, Look]) -> list[Picture]:
    """Draw accuracy, time and bytes over sparsity, three panels beside each other for each pattern.

    Args:
        frame: `Run.frame`.
        settings: the kept ones, for the accuracy of the dense network.
        looks: colours by representation.
    """
    drawn = []
    for (workload, pattern), rows in kept_rows(frame).groupby(["workload", "pattern"], sort=False):
        drawing = Figure(figsize=(10.4, 3.4), layout="constrained")
        accuracy, time, held = drawing.subplots(1, 3)
        places = positions(rows["sparsity"])
        _accuracy(accuracy, rows, places)
        for one in settings:
            if one.one.method == DENSE and one.plain and f", {round(one.seen):,} seen" in str(workload):
                accuracy.axhline(100 * one.mean(lambda run: run.accuracy), **DASHED)
        _lines(time, rows, "time_s", "reference_time_s", places, looks)
        _lines(held, rows, "stored_bytes", "dense_bytes", places, looks)
        time.yaxis.set_major_formatter(FuncFormatter(lambda value, _: seconds(value, digits=1)))
        held.yaxis.set_major_locator(LogLocator(base=2, numticks=9))
        held.yaxis.set_major_formatter(FuncFormatter(lambda value, _: size(value)))
        titles = {accuracy: "kept test accuracy, %", time: "time of inference here", held: "stored bytes"}
        for axes, text in titles.items():
            axes.set_title(text, fontsize=10, color=INK, loc="left")
            axes.set_xticks(list(places.values()), [bare_percent(level) for level in places])
            axes.set_xlabel(f"sparsity ({pattern}), %", color=INK, fontsize=9)
            plain(axes, INK)
        caption = (
            f"{workload}, {pattern}: what sparsity costs in accuracy, and what it gains in time and bytes. Accuracy is "
            "the kept study's (bars: ± sd over its seeds); time and bytes are this run's. Dashed: dense."
        )
        drawn.append(Picture(html=svg(drawing, f"accuracy, time and bytes over sparsity, {pattern}"), caption=caption))
    return drawn


def _accuracy(axes: Axes, rows: pd.DataFrame, places: Mapping[float, float]) -> None:
    once = rows.drop_duplicates("sparsity").sort_values("sparsity")
    spread = [100 * float(json.loads(text).get("kept_sd") or 0.0) for text in once["qualities"]]
    axes.errorbar(
        [places[float(level)] for level in once["sparsity"]], 100 * once["quality"], yerr=spread, color=INK,
        marker="o", markersize=4.5, linewidth=1.4, capsize=2.5, elinewidth=1,
    )  # fmt: skip


def _lines(
    axes: Axes, rows: pd.DataFrame, column: str, dense: str, places: Mapping[float, float], looks: Mapping[str, Look]
) -> None:
    for name in order(rows["representation"]):
        line, look = rows[rows["representation"] == name].sort_values("sparsity"), looks[name]
        axes.plot(
            [places[float(level)] for level in line["sparsity"]], line[column], color=look.colour, marker=look.marker,
            linestyle=look.dash, linewidth=1.2, markersize=5, markeredgewidth=0,
        )  # fmt: skip
    axes.axhline(float(rows[dense].median()), **DASHED)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 3.0), numticks=9))
    axes.yaxis.set_minor_locator(NullLocator())
