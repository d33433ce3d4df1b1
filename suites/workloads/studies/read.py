"""Read the kept studies that the package ships."""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sparsebench.suites.workloads.studies.arrays import unpacked

FILE = Path(__file__).resolve().parent / "studies.json.gz"
CHECKS = "epyc-2-cores-check"
"""The kept run of the short checks."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a kept study was made.

    Attributes:
        run: its folder in results/reference.
        processor, cores, version, torch, commit, date: of the machine, of sparsebench, and when.
    """

    run: str
    processor: str
    cores: int
    version: str
    torch: str
    commit: str
    date: str

    @property
    def text(self) -> str:
        """Return it in brief, to stand behind "kept study"."""
        return (
            f"{self.run} ({self.processor}, {self.cores} cores, sparsebench {self.version} at {self.commit}, "
            f"torch {self.torch}, {self.date})"
        )


@cache
def _held() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(FILE.read_bytes()))
    return found


def held() -> dict[str, Any]:
    """Return all that the file holds, as `pack` made it; not to be changed."""
    return _held()


def source(part: str) -> Source:
    """Return where a part was made: "sparse_cnn", "sparse_coding" or "checks"."""
    return Source(**held()[part]["from"])


def cnn_trainings() -> list[dict[str, np.ndarray]]:
    """Return the arrays of every training of the sparse CNN, as `record.artifact` made them, with `seen` beside."""
    return [
        {name: unpacked(value) if name.startswith("mask_") else _array(value) for name, value in one.items()}
        for one in held()["sparse_cnn"]["trainings"]
    ]


def coding_rows() -> list[dict[str, Any]]:
    """Return the rows of the study of sparse coding: a model each, with its figures."""
    found: list[dict[str, Any]] = held()["sparse_coding"]["trainings"]
    return found


def coding_shown() -> list[tuple[str, dict[str, np.ndarray]]]:
    """Return name and arrays of the models that are shown: dictionary, images, reconstructions, codes, curve."""
    part = held()["sparse_coding"]
    rows = {row["workload"]: row for row in part["trainings"]}
    found = []
    for one in part["shown"]:
        row = rows[one["workload"]]
        arrays = {name: unpacked(one[name]) for name in ("dictionary", "reconstructions", "codes") if name in one}
        arrays |= {"images": unpacked(part["images"][one["data"]]), "curve": np.array(one["curve"])}
        arrays |= {name: np.array(row[name]) for name in ("model", "workload", "data", "units", "seconds")}
        arrays |= {name: np.array(row[name]) for name in ("encode_s", "decode_s")}
        arrays |= {name: _array(value) for name, value in row["figures"].items()}
        found.append((one["name"], arrays))
    return found


def flow_curves() -> dict[float, np.ndarray]:
    """Return the learning curve (epochs,) of the notebook's network, by flow."""
    return {one["flow"]: np.array(one["curve"]) for one in held()["sparse_coding"]["flows"]}


def _array(value: Any) -> np.ndarray:
    """Return a number, a text or a list as an array; None is NaN."""
    if isinstance(value, list):
        return np.array([math.nan if one is None else one for one in value]) if value else np.array([], dtype=str)
    return np.array(math.nan if value is None else value)
