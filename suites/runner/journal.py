"""Keep a run on disk: one folder, one line a cell, written the moment it is done."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparsebench.suites.cell import Cell, cell_key


class RunFolderError(ValueError):
    """A run folder is not what it should be. A user's mistake."""


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """The files of one run.

    Attributes:
        path: the folder; made when something is first written.
    """

    path: Path

    @property
    def cells(self) -> Path:
        """Return the journal: JSON lines, one a cell, appended."""
        return self.path / "cells.jsonl"

    @property
    def machine(self) -> Path:
        """Return the machine's facts and the run's settings."""
        return self.path / "machine.json"

    @property
    def current(self) -> Path:
        """Return the file that names the cell being measured right now; left behind only by a worker that died."""
        return self.path / "current.json"

    def append(self, cell: Cell) -> None:
        """Add a cell to the journal and make sure that it has reached the disk."""
        self.path.mkdir(parents=True, exist_ok=True)
        with self.cells.open("ab+") as journal:
            if journal.tell() > 0:
                journal.seek(-1, os.SEEK_END)
                if journal.read(1) != b"\n":  # a write was cut short: keep the stump from swallowing this row
                    journal.write(b"\n")
            journal.write(json.dumps(finite(cell.row()), ensure_ascii=False, allow_nan=False).encode() + b"\n")
            journal.flush()
            os.fsync(journal.fileno())

    def keep(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write arrays for the report's pictures to NAME.npz."""
        self.path.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(self.path / f"{name}.npz", **dict(arrays))  # type: ignore[arg-type]

    def rows(self) -> list[dict[str, Any]]:
        """Return the journal's rows; a line that a kill cut short is passed over, as its cell was never finished."""
        if not self.cells.exists():
            return []
        found = []
        for line in self.cells.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(row, dict):
                found.append(row)
        return found

    def finished(self) -> set[str]:
        """Return the keys of the cells that need no second try."""
        return {cell_key(row) for row in self.rows()}

    def begin(self, cell: Cell, started_at: float) -> None:
        """Note which cell is being measured, so that a worker's death can be laid at its door."""
        self.path.mkdir(parents=True, exist_ok=True)
        draft = self.current.with_suffix(".tmp")
        draft.write_text(json.dumps({"started_at": started_at, "cell": cell.row()}), encoding="utf-8")
        draft.replace(self.current)

    def end(self) -> None:
        """Note that no cell is being measured."""
        self.current.unlink(missing_ok=True)

    def in_progress(self) -> tuple[float, Cell] | None:
        """Return when the current cell was begun (seconds since the epoch) and the cell, or None."""
        try:
            noted = json.loads(self.current.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        return noted["started_at"], Cell(**noted["cell"])


def finite(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with infinities and NaNs as None: JSON has neither, and neither is a measurement."""
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
