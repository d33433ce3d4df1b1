"""Write the chapters of error, and of what ran."""

from __future__ import annotations

import pandas as pd

from sparsebench.suites.report.anchors import cell_anchor
from sparsebench.suites.report.chapters import NO_NUMBERS
from sparsebench.suites.report.colours import order
from sparsebench.suites.report.table import Section, Table, Value, figure, words
from sparsebench.suites.text import NONE, SPACE, significant, times


def error_section(frame: pd.DataFrame) -> Section:
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
                words(name), words(dtype), figure(
                    significant(worst["relative_error"], 2), worst["relative_error"], href=cell_anchor(worst.name)
                ),
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
    )


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
