"""Draw the one picture that a README shows."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.lines import Line2D

from sparsebench.suites.report.breakeven import GROUP
from sparsebench.suites.report.colours import looks
from sparsebench.suites.report.figures import SPEEDUP, curves
from sparsebench.suites.report.journal import ReportError
from sparsebench.suites.text import times

INK = "#24292f"


def overview_figure(frame: pd.DataFrame, path: Path) -> Path:
    """Write a PNG of speed-up over sparsity for one shape, a panel a pattern, with its legend.

    Where the frame holds several operations, shapes, types or devices, the one with the most timed cells is drawn.

    Args:
        frame: `Run.frame`, or rows of it.
        path: the PNG.

    Returns:
        path.

    Raises:
        ReportError: if no cell has both a sparsity and a speed-up.
    """
    timed = frame[(frame["status"] == "ok") & frame["sparsity"].notna() & (frame["speedup"] > 0)]
    if timed.empty:
        raise ReportError("expected cells with a sparsity and a speed-up to draw, got none; run a suite first")
    shared = [column for column in GROUP if column != "pattern"]
    keys = max(timed.groupby(shared, sort=False, dropna=False), key=lambda item: len(item[1]))[0]
    rows = frame[(frame[shared] == list(keys)).all(axis=1)]
    names = looks(timed.loc[timed.index.intersection(rows.index), "representation"])
    figure = curves(rows, SPEEDUP, names, ink=INK)
    figure.set_facecolor("white")
    figure.set_size_inches(figure.get_figwidth(), figure.get_figheight() + 0.75)
    first = rows.iloc[0]
    figure.suptitle(
        f"{first['workload']}: {first['operation']} {times(first['shape'])}, {first['dtype']}, {first['device']}",
        fontsize=10, color=INK,
    )  # fmt: skip
    handles = [
        Line2D([], [], color=look.colour, marker=look.marker, linestyle=look.dash, markeredgewidth=0, label=name)
        for name, look in names.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False, fontsize=9, labelcolor=INK)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=150)
    return path
