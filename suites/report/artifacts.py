"""Read the arrays that trainings left in a run's folder: loose .npz files, or one archive of them as kept runs have."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

ARCHIVE = "artifacts.zip"
"""Holds .npz files of a run, each under its bare name."""
DAMAGED = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What NumPy and zipfile raise on a file that is cut short, damaged, locked or something else."""


def read_artifacts(folder: Path, pattern: str) -> Iterator[tuple[str, dict[str, np.ndarray] | str]]:
    """Yield each file's name with its arrays, in order of names, or with one word of why it cannot be read.

    Args:
        folder: of the run.
        pattern: of the names, as "sparse_cnn-*.npz". A loose file counts before one of its name in the archive.
    """
    found: dict[str, Path | zipfile.Path] = {}
    if (folder / ARCHIVE).exists():
        try:
            found |= {path.name: path for path in zipfile.Path(folder / ARCHIVE).iterdir()}
        except DAMAGED as error:
            yield ARCHIVE, type(error).__name__
    found |= {path.name: path for path in folder.iterdir()}
    for name, path in sorted(found.items()):
        if fnmatchcase(name, pattern):
            try:
                yield name, _arrays(path.read_bytes())
            except DAMAGED as error:
                yield name, type(error).__name__


def _arrays(held: bytes) -> dict[str, np.ndarray]:
    file = np.load(io.BytesIO(held), allow_pickle=False)
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise ValueError("expected an .npz file, got a single array")
    with file:
        return {name: np.asarray(file[name]) for name in file.files}
