"""Name the places of the page that numbers lead to, and the command that measures a row again."""

from __future__ import annotations

import shlex
import zlib
from collections.abc import Hashable, Mapping
from functools import cache
from typing import Any

from sparsebench.suites import plan
from sparsebench.suites.text import known


def anchor(letter: str, *parts: object) -> str:
    """Return a short address inside the page, the same in every report: "c3f2a9c01"."""
    return f"{letter}{zlib.crc32('|'.join(map(str, parts)).encode()):08x}"


def mark_id(name: str) -> str:
    """Return the name of a representation's mark inside the page, and of its colour as a CSS variable."""
    return anchor("m", name)


def colour(name: str) -> str:
    """Return a representation's colour as the page knows it: another one on a dark page."""
    return f"var(--{mark_id(name)})"


def cell_anchor(key: Hashable) -> str:
    """Return the address of a cell's row, from its key."""
    return anchor("c", key)


def command(row: Mapping[Hashable, Any]) -> str:
    """Return what measures the cell of a journal's row again, as a line for a shell.

    A level that was searched need not be among those of the plan, so it is asked for by --levels.
    """
    level = "data" if not known(row["sparsity"]) else f"{row['sparsity']:g}"
    searched = level != "data" and row.get("profile") != "gpu" and _searches(str(row["suite"]))
    pattern = str(row["pattern"]).replace(" ", "-").replace("×", "x")
    names = [row["representation"], row["workload"], row["operation"], row["shape"], pattern]
    seed = f"{row['seed']:.0f}" if known(row["seed"]) else "0"
    name = "|".join(map(str, [*names, "*" if searched else level, row["dtype"], seed]))
    parts = ["sparsebench", "run", "--suite", row["suite"], "--representation", row["representation"], "--only", name]
    parts += ["--levels", repr(float(row["sparsity"]))] if searched else []
    parts += ["--profile", row["profile"]] if row.get("profile") not in (None, "quick") else []
    parts += ["--device", row["device"]] if row["device"] != "cpu" else []
    parts += ["--dlmc", "DIR"] if row["suite"] == plan.LAST else []  # the reader's folder: a row names none
    parts += ["--threads", f"{row['threads']:.0f}"] if known(row.get("threads")) else []
    return shlex.join(map(str, parts))


@cache
def _searches(suite: str) -> bool:
    """Tell whether a suite searches its levels, so that they are no part of its plan; one not installed does not."""
    try:
        return hasattr(plan.workload_of(suite), "levels")
    except Exception:
        return False
