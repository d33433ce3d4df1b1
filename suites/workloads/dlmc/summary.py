"""Sum up a run over the collection: means of ratios over matrices, by network, sparsity and columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sparsebench.suites.cell import CONTROL
from sparsebench.suites.report.colours import order
from sparsebench.suites.workloads.dlmc.collection import COLUMNS

OWN = "own"
"""The number of columns that a matrix meets in its network; final_dense of ResNet-50 meets 1, and counts there."""
NEEDED = ("time_s", "speedup", "stored_bytes", "dense_bytes")


@dataclass(frozen=True, kw_only=True)
class Mean:
    """What a representation makes of several matrices.

    Attributes:
        representation: its name.
        matrices: how many have a number.
        of: how many the run has in this group.
        speedup: geometric mean against dense.
        lowest, highest: of the speed-ups.
        won: share of its matrices on which it is faster than dense.
        fastest: share of its matrices on which no other representation is faster; dense itself takes no part.
        bytes_ratio: geometric mean of stored ÷ dense bytes.
        key: of one of its rows.
    """

    representation: str
    matrices: int
    of: int
    speedup: float
    lowest: float
    highest: float
    won: float
    fastest: float
    bytes_ratio: float
    key: str


def told(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the timed rows of a run with model, method, level and columns ("own", "1", "32", "128") of their own.

    Args:
        frame: `Run.frame`, rows of this suite alone.
    """
    parts = frame["workload"].map(lambda name: str(name).split("/"))
    rows = frame[(frame["status"] == "ok") & parts.map(len).eq(4)]
    rows = rows[(rows[list(NEEDED)] > 0).all(axis=1)]
    parts = parts[rows.index]
    met = rows["shape"].map(lambda shape: str(shape).rpartition("x")[2])
    return rows.assign(
        model=[part[0] for part in parts],
        method=[part[1] for part in parts],
        level=[_number(part[2]) for part in parts],
        columns=met.where(met.isin([str(number) for number in COLUMNS]), OWN),
        bytes_ratio=rows["stored_bytes"] / rows["dense_bytes"],
    )


def column_kinds(rows: pd.DataFrame) -> list[str]:
    """Return the kinds of columns that rows have, those of the networks first."""
    return [kind for kind in (OWN, *map(str, COLUMNS)) if kind in set(rows["columns"])]


def means(rows: pd.DataFrame) -> list[Mean]:
    """Return the mean of each representation over the matrices of some rows, the fastest first, dense last.

    Args:
        rows: from `told`, one model's at one kind of columns.
    """
    everything = rows["workload"].nunique()
    others = rows[rows["representation"] != CONTROL]
    best = others.groupby("workload")["time_s"].min()
    found = []
    for name in order(rows["representation"]):
        mine = rows[rows["representation"] == name].drop_duplicates("workload", keep="last")
        first = mine["workload"].map(best) >= mine["time_s"]
        found.append(
            Mean(
                representation=name,
                matrices=len(mine),
                of=everything,
                speedup=geometric(mine["speedup"]),
                lowest=float(mine["speedup"].min()),
                highest=float(mine["speedup"].max()),
                won=float((mine["speedup"] > 1).mean()),
                fastest=float(first.mean()) if name != CONTROL else 0.0,
                bytes_ratio=geometric(mine["bytes_ratio"]),
                key=str(mine.index[0]),
            )
        )
    return sorted(found, key=lambda one: (one.representation == CONTROL, -one.speedup))


def geometric(values: pd.Series[float]) -> float:
    """Return the geometric mean of values above 0."""
    return float(np.exp(np.log(values.to_numpy(dtype=float)).mean()))


def networks(rows: pd.DataFrame) -> Iterator[tuple[str, float, float, pd.DataFrame]]:
    """Yield (method, level, quality, rows) of each network whose quality is known, in order of method and level."""
    for (method, level), some in rows.groupby(["method", "level"]):
        quality = some["quality"].dropna()
        if not quality.empty:
            yield str(method), float(str(level)), float(quality.iloc[0]), some


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
