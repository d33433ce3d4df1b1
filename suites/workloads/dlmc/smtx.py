"""Read and check one matrix of the collection: where its non-zeros stand, in compressed sparse rows, as text."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparsebench.suites.workloads.idx import DataError

HEAD_BYTES = 256
"""The first line has three numbers; no right one is longer than this."""
AGAIN = "take it from the collection again"


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """Where the non-zeros of a matrix stand.

    Attributes:
        shape: (rows, columns).
        offsets: where each row begins, int64 (rows + 1,).
        columns: of the non-zeros, int64 (stored,), ascending in each row.
    """

    shape: tuple[int, int]
    offsets: np.ndarray
    columns: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """Return the row of each non-zero, int64 (stored,)."""
        return np.repeat(np.arange(self.shape[0], dtype=np.int64), np.diff(self.offsets))


def read_head(path: Path) -> tuple[int, int, int]:
    """Return (rows, columns, non-zeros) from the first line of a file.

    Raises:
        DataError: if it cannot be read or says something else, in one line that names the file.
    """
    try:
        with path.open("rb") as file:
            line = file.readline(HEAD_BYTES)
    except OSError as error:
        raise DataError(f"expected to read {path}, got {error.strerror or error}; check its rights") from error
    return _head(path, line)


def read_smtx(path: Path) -> Places:
    """Read a whole file: `rows, columns, nnz`, then the row offsets, then the column numbers, a line each.

    The layout is that of Gale, Zaharia and Elsen, Sparse GPU Kernels for Deep Learning, arXiv 2006.10901.

    Raises:
        DataError: if it cannot be read, is cut short, or its numbers disagree; in one line that names the file.
    """
    try:
        lines = path.read_bytes().rstrip(b"\n\r ").split(b"\n")
    except OSError as error:
        raise DataError(f"expected to read {path}, got {error.strerror or error}; check its rights") from error
    rows, width, stored = _head(path, lines[0])
    if len(lines) != 3 and (stored or len(lines) != 2):
        raise _wrong(path, "three lines (sizes, row offsets, columns)", f"{len(lines)}")
    offsets = _numbers(path, lines[1], rows + 1, "row offsets")
    columns = _numbers(path, lines[2] if len(lines) == 3 else b"", stored, "columns")
    if offsets[0] != 0 or offsets[-1] != stored:
        raise _wrong(path, f"row offsets from 0 to {stored}", f"from {offsets[0]} to {offsets[-1]}")
    if (steps := np.flatnonzero(np.diff(offsets) < 0)).size:
        at = int(steps[0])
        raise _wrong(path, "row offsets that never fall", f"{offsets[at]} and then {offsets[at + 1]} at row {at}")
    if stored and (columns.min() < 0 or columns.max() >= width):
        bad = int(columns[(columns < 0) | (columns >= width)][0])
        raise _wrong(path, f"columns from 0 to {width - 1}", f"{bad}")
    places = Places(shape=(rows, width), offsets=offsets, columns=columns)
    of = places.rows
    if (falls := np.flatnonzero((np.diff(columns) <= 0) & (np.diff(of) == 0))).size:
        at = int(falls[0])
        raise _wrong(path, "columns that rise in each row", f"{columns[at]} and then {columns[at + 1]} in row {of[at]}")
    return places


def _head(path: Path, line: bytes) -> tuple[int, int, int]:
    words = line.replace(b",", b" ").split()
    if len(words) != 3 or not all(word.isdigit() and len(word) < 19 for word in words):
        raise _wrong(path, "rows, columns and non-zeros in the first line", _shown(line))
    rows, columns, stored = map(int, words)
    if rows < 1 or columns < 1 or stored > rows * columns:
        raise _wrong(path, "at least one row and column, and no more non-zeros than places", _shown(line))
    return rows, columns, stored


def _numbers(path: Path, line: bytes, count: int, what: str) -> np.ndarray:
    line = line.strip()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # numpy stops at what is no number, and only warns of it
            read = np.fromstring(line.decode("ascii"), dtype=np.int64, sep=" ") if line else ()
    except (ValueError, DeprecationWarning):
        bad = next((word for word in line.split() if not re.fullmatch(rb"-?\d{1,18}", word)), line)
        raise _wrong(path, f"whole numbers as {what}", _shown(bad)) from None
    if len(read) != count:
        raise _wrong(path, f"{count} {what}", f"{len(read)}")
    return np.asarray(read, dtype=np.int64)


def _shown(line: bytes) -> str:
    text = " ".join(line[:60].decode(errors="replace").split())
    return repr(text) if text else "nothing"


def _wrong(path: Path, expected: str, got: str) -> DataError:
    return DataError(f"{path}: expected {expected}, got {got}; {AGAIN}")
