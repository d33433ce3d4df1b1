"""Read a run's folder: the journal of cells, the machine's facts, and what did not read well."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sparsebench.suites.cell import COLUMNS, cell_key
from sparsebench.suites.runner.journal import JOURNAL, parse

MACHINE = "machine.json"

NUMBERS: tuple[str, ...] = (
    "sparsity", "achieved_sparsity", "seed", "time_s", "time_spread", "reference_time_s", "wall_time_s",
    "reference_wall_time_s", "speedup", "speedup_low",
    "speedup_high", "efficiency", "rounds", "inner_iterations", "build_time_s", "pays_off_after", "stored_bytes",
    "value_bytes", "index_bytes", "dense_bytes", "fill", "workspace_bytes", "build_peak_bytes", "relative_error",
    "tolerance", "quality", "useful_gflops", "threads", "visits", "disturbed_rounds",
)  # fmt: skip
"""Columns that hold numbers; what is no number there is read as missing."""


class ReportError(ValueError):
    """A folder is no run. A user's mistake, told in one line."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run's folder holds.

    Attributes:
        folder: where it stands.
        frame: one row a cell, the columns of suites.cell.COLUMNS (and further ones that the journal has); shape and
            block as text ("512x512x128"); indexed by the cell's key.
        machine: the facts of machine.json, empty where there is none.
        notes: what was skipped or is missing, one line each.
    """

    folder: Path
    frame: pd.DataFrame
    machine: dict[str, Any]
    notes: tuple[str, ...]


def read_run(folder: Path) -> Run:
    """Read a run's folder, finished or not.

    A line of the journal that is no row (a kill cuts the last one short) is skipped with a note; where a cell stands
    twice the later row wins, as each visit writes it again with more rounds in it.

    Args:
        folder: holds cells.jsonl and, usually, machine.json.

    Raises:
        ReportError: if the folder has no cells.jsonl, or it cannot be read.
    """
    folder = Path(folder)
    journal = folder / JOURNAL
    if not journal.is_file():
        raise ReportError(
            f"expected a folder with {JOURNAL}, got {folder}{_what(folder)}; "
            "name the folder that `sparsebench run` made"
        )
    try:
        text = journal.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ReportError(
            f"expected to read {journal}, got {type(error).__name__}: {error}; check its rights"
        ) from error
    rows, notes = parse(text)
    machine, machine_notes = _machine(folder / MACHINE)
    return Run(folder=folder, frame=frame_of(rows), machine=machine, notes=(*notes, *machine_notes))


def frame_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return rows as a table: every column of COLUMNS, numbers as floats, lists as text, indexed by the cell's key."""
    extra = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in COLUMNS]
    columns = [*COLUMNS, *extra]
    data = {
        name: [number(row.get(name)) if name in NUMBERS else _flat(row.get(name)) for row in rows] for name in columns
    }
    series = {
        name: pd.Series(values, dtype="float64" if name in NUMBERS else "object") for name, values in data.items()
    }
    frame = pd.DataFrame(series, columns=columns)
    frame.index = pd.Index([cell_key(row) for row in rows], dtype="object", name="key")
    return frame


def number(value: Any) -> float | None:
    """Return a finite number as a float, and anything else as None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _flat(value: Any) -> Any:
    if isinstance(value, list):
        return "x".join(map(str, value))
    return json.dumps(value) if isinstance(value, dict) else value


def _machine(path: Path) -> tuple[dict[str, Any], list[str]]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, [f"{MACHINE} is missing: which machine this was is not known"]
    except (OSError, ValueError) as error:
        return {}, [f"{MACHINE} cannot be read ({type(error).__name__}): which machine this was is not known"]
    if not isinstance(facts, dict):
        return {}, [f"{MACHINE} holds no table of facts: which machine this was is not known"]
    return facts, []


def _what(folder: Path) -> str:
    if not folder.exists():
        return ", which does not exist"
    return ", which has none" if folder.is_dir() else ", which is a file"
