"""Keep a run on disk: one folder, one line a cell, written the moment it is done."""

from __future__ import annotations

import dataclasses
import fcntl
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparsebench.suites.cell import IDENTITY, Cell, cell_key, cell_of
from sparsebench.suites.files import write_whole
from sparsebench.suites.measure.gauge import Earlier
from sparsebench.suites.measure.timing import Samples

JOURNAL = "cells.jsonl"
SAMPLED: frozenset[str] = frozenset(field.name for field in dataclasses.fields(Samples))


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
        return self.path / JOURNAL

    @property
    def machine(self) -> Path:
        """Return the machine's facts and the run's settings."""
        return self.path / "machine.json"

    @property
    def current(self) -> Path:
        """Return the file that names the cell being measured right now; left behind only by a worker that died."""
        return self.path / "current.json"

    @property
    def samples(self) -> Path:
        """Return the rounds of every visit: JSON lines, appended; later visits count them along."""
        return self.path / "samples.jsonl"

    def append(self, cell: Cell, samples: Samples | None = None) -> None:
        """Add a cell to the journal, with the rounds of its last visit, and make sure that both reached the disk."""
        self.path.mkdir(parents=True, exist_ok=True)
        if samples is not None:
            _append_line(self.samples, {"cell": cell.key, "visit": cell.visits, **dataclasses.asdict(samples)})
        _append_line(self.cells, finite(cell.row()))

    def keep(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write arrays for the report's pictures to NAME.npz."""
        whole = io.BytesIO()
        np.savez_compressed(whole, **dict(arrays))  # type: ignore[arg-type]  # its stub takes one for allow_pickle
        self.write(f"{name}.npz", whole.getvalue())

    def write(self, name: str, content: str | bytes) -> None:
        """Write a file of the folder, whole or not at all."""
        self.path.mkdir(parents=True, exist_ok=True)
        write_whole(self.path / name, content)

    def probe(self) -> None:
        """See whether the folder takes files.

        Raises:
            OSError: if it does not: it has no room, or may not be written.
        """
        self.write(".probe", bytes(1 << 20))
        (self.path / ".probe").unlink()

    def rows(self) -> list[dict[str, Any]]:
        """Return the journal's rows, the last of each cell; a line that a kill cut short is passed over."""
        if not self.cells.exists():
            return []
        return parse(self.cells.read_text(encoding="utf-8", errors="replace"))[0]

    def visits(self) -> dict[str, int]:
        """Return how often each cell was visited, by its key; FINAL for those that need no further visit."""
        return {cell_key(row): visits_of(row) for row in self.rows()}

    def finished(self, visit: int = 1) -> set[str]:
        """Return the keys of the cells that were visited as often as this, or that need no further visit."""
        return {key for key, visits in self.visits().items() if visits >= visit}

    def earlier(self) -> dict[str, Earlier]:
        """Return what is known of each timed cell, by its key.

        A kill may have come after a visit's rounds were written and before its row was: that visit does not count, and
        when it is made again its rounds take the place of those.
        """
        visits: dict[str, dict[int, Samples]] = {}
        if self.samples.exists():
            for line in self.samples.read_text(encoding="utf-8", errors="replace").splitlines():
                with suppress(ValueError, KeyError, TypeError):  # cut short by a kill
                    noted = json.loads(line)
                    key = noted.pop("cell")
                    known = {name: _tuple(value) for name, value in noted.items() if name in SAMPLED}
                    of_cell = visits.setdefault(key, {})
                    number = noted.get("visit")  # older versions noted none: they stand in order
                    of_cell[number if isinstance(number, int) else len(of_cell) + 1] = Samples(**known)
        found: dict[str, Earlier] = {}
        for row in self.rows():
            key = cell_key(row)
            if row["status"] == "ok" and isinstance(row.get("visits"), int) and key in visits:
                told = tuple(visits[key][number] for number in sorted(visits[key]) if number <= row["visits"])
                with suppress(ValueError, TypeError):  # of a version too far from this one: measured anew
                    if told:
                        found[key] = Earlier(cell=cell_of(row), visits=told)
        return found

    def begin(self, cell: Cell, started_at: float) -> None:
        """Note which cell is being measured, so that a worker's death can be laid at its door."""
        self.write(self.current.name, json.dumps({"started_at": started_at, "cell": cell.row()}))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder and keep it from other runs while this one lasts; a run that is killed lets go of it, too.

        Raises:
            RunFolderError: if it cannot be made or written, or another run is writing it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / ".lock").open("w")
        except OSError as error:
            raise RunFolderError(
                f"expected a folder to write a run into, got {self.path}: {error.strerror}; choose another --out"
            ) from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunFolderError(
                    f"expected {self.path} for this run alone, got one that another run is writing; "
                    "wait for it or choose another --out"
                ) from None
            yield

    def facts(self) -> dict[str, Any] | None:
        """Return the machine's facts and the settings of the run that the folder holds, None if it holds none.

        Where machine.json is missing, damaged, or of a version that noted other things, the settings are those that the
        rows name; "settings" is there in any case.

        Raises:
            RunFolderError: if there are rows, and neither they nor machine.json tell the settings.
        """
        try:
            facts = json.loads(self.machine.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            facts = None
        if isinstance(facts, dict) and isinstance(facts.get("settings"), dict):
            return facts
        rows = self.rows()
        if not rows:
            return None
        named = [{name: row[name] for name in ("profile", "threads") if row.get(name) is not None} for row in rows]
        if not (settings := next((one for one in reversed(named) if len(one) == 2), None)):
            raise RunFolderError(
                f"expected the settings of a run to resume in {self.machine}, got none there and none in {self.cells}; "
                "choose another --out"
            )
        return (facts if isinstance(facts, dict) else {}) | {"settings": settings}

    def end(self) -> None:
        """Note that no cell is being measured."""
        self.current.unlink(missing_ok=True)

    def in_progress(self) -> tuple[float, Cell] | None:
        """Return when the current cell was begun (seconds since the epoch) and the cell, or None."""
        try:
            noted = json.loads(self.current.read_text(encoding="utf-8"))
            return noted["started_at"], cell_of(noted["cell"])
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):  # cut short, or another version's
            return None


def finite(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with infinities and NaNs as None: JSON has neither, and neither is a measurement."""
    return {key: _finite(value) for key, value in row.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return finite(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


class JournalTail:
    """Follow a journal that another process writes, reading only what is new: progress must not cost what it shows."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._offset = 0
        self._visits: dict[str, int] = {}

    def visits(self) -> dict[str, int]:
        """Return how often each cell was visited so far."""
        if self._folder.cells.exists():
            with self._folder.cells.open("rb") as journal:
                journal.seek(self._offset)
                new = journal.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._offset += len(whole)
            for row in parse(whole.decode(errors="replace"))[0]:
                self._visits[cell_key(row)] = visits_of(row)
        return self._visits


FINAL = 1_000_000
"""Visits of a cell that another visit would tell nothing new about."""


def visits_of(row: Mapping[str, Any]) -> int:
    """Return how often a row's cell was visited; FINAL for failures and for what is measured once only."""
    visits = row.get("visits")
    return visits if row["status"] == "ok" and visits is not None else FINAL


def parse(text: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows of a journal, the last of each key only, and a note for each line that is none."""
    notes: list[str] = []
    latest: dict[str, dict[str, Any]] = {}
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            cut = number == len(lines)
            notes.append(f"line {number} of {JOURNAL} is {'cut short' if cut else 'no JSON'}: skipped")
            continue
        missing = [name for name in (*IDENTITY, "status") if name not in row] if isinstance(row, dict) else ["a row"]
        if missing:
            notes.append(f"line {number} of {JOURNAL} lacks {', '.join(missing)}: skipped")
            continue
        latest[cell_key(row)] = row
    return list(latest.values()), notes


def _append_line(path: Path, row: dict[str, Any]) -> None:
    with path.open("ab+") as lines:
        if lines.tell() > 0:
            lines.seek(-1, os.SEEK_END)
            if lines.read(1) != b"\n":  # a write was cut short: keep the stump from swallowing this row
                lines.write(b"\n")
        lines.write(json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        lines.flush()
        os.fsync(lines.fileno())


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
