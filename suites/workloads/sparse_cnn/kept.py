"""Keep the CNN's trainings: workloads/kept.py with this workload's folder and version."""

from __future__ import annotations

from pathlib import Path

from sparsebench.suites.workloads import kept
from sparsebench.suites.workloads.kept import load, place, save

__all__ = ["VERSION", "folder", "identity", "load", "place", "save"]

VERSION = 1
"""Of the code that trains: raise it with every change of results. What another version kept is not gone on with."""


def folder() -> Path:
    """Return where the trainings are kept: the user's cache folder; delete it to train anew."""
    return kept.folder("sparse_cnn")


def identity(settings_key: str, seed: int, source: str) -> str:
    """Return a text that is equal only for trainings that end with the same bits."""
    return kept.identity(VERSION, settings_key, seed, source)
