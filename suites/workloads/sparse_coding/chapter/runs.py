"""Read what trainings of sparse coding left in a run's folder: the notebook's, and models of the family."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sparsebench.suites.report.artifacts import read_artifacts
from sparsebench.suites.report.pictures import Array
from sparsebench.suites.workloads.studies import read

FILES = "sparse_coding-*.npz"
OPERATIONS: tuple[str, ...] = ("encode", "decode", "reconstruct")
"""Of a model, each timed apart."""
USUAL = 14.0
"""Active units at which models are shown beside each other."""


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What one training run left.

    Attributes:
        name: of the file, without its lead and ending.
        arrays: by name; a file may lack any of them.
    """

    name: str
    arrays: dict[str, np.ndarray]

    def get(self, name: str, dimensions: int) -> Array | None:
        """Return an array of numbers with so many dimensions, or None."""
        found = self.arrays.get(name)
        if found is None or found.ndim != dimensions or not found.size or found.dtype.kind not in "fiub":
            return None
        return found.astype(np.float64)

    def figures(self) -> dict[str, Any]:
        """Return every single number and text, those inside the text "settings" first."""
        found = {name: array.item() for name, array in self.arrays.items() if array.ndim == 0}
        try:
            settings = json.loads(str(found.pop("settings", "{}")))
        except ValueError:
            settings = {}
        return (settings if isinstance(settings, dict) else {}) | found

    @property
    def workload(self) -> str | None:
        """Return the model's workload, None for a training of the notebook's network."""
        found = self.arrays.get("workload")
        return str(found.item()) if found is not None and found.ndim == 0 and found.dtype.kind == "U" else None


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What is known of one model at one level, over all its seeds.

    Attributes:
        workload: as the cases call it.
        model: its name without size and level.
        data: "digits" or "patches".
        units: N; NaN if it is not known.
        figures: by name, means over the seeds; what is not defined is missing.
        spread: of l1_clipped over the seeds (sd, n − 1), NaN for a single one.
        seeds: how many trainings, 0 if the figures are the journal's.
        times: seconds an image, by operation; the journal's, at its number of threads.
        learning_s: seconds of learning, NaN if it is not known.
        shown: the files, by seed.
    """

    workload: str
    model: str
    data: str
    units: float
    figures: dict[str, float]
    spread: float
    seeds: int
    times: dict[str, float]
    learning_s: float
    shown: tuple[Learned, ...]

    def get(self, name: str) -> float:
        """Return a figure, NaN if there is none."""
        return self.figures.get(name, math.nan)


def read_learned(folder: Path) -> tuple[list[Learned], list[str]]:
    """Return what training left in a run's folder, and a note for each file that cannot be read."""
    found: list[Learned] = []
    notes: list[str] = []
    for name, arrays in read_artifacts(folder, FILES):
        if isinstance(arrays, str):
            notes.append(f"{name} cannot be read ({arrays}): left out")
        else:
            found.append(Learned(name=name.removeprefix("sparse_coding-").removesuffix(".npz"), arrays=arrays))
    return found, notes


def models(frame: pd.DataFrame, learned: Sequence[Learned]) -> list[ModelFacts]:
    """Return what files and journal say of every model, files first; a model that failed has no figures and no place.

    Args:
        frame: `Run.frame`.
        learned: from `read_learned`.
    """
    timed = frame[
        frame["operation"].isin(OPERATIONS) & (frame["status"] == "ok")
        & frame["sparsity"].isna() & (frame["time_s"] > 0)
    ]  # fmt: skip
    workloads = dict.fromkeys([one.workload for one in learned if one.workload] + list(timed["workload"]))
    found = [
        _facts(
            str(workload), timed[timed["workload"] == workload], [one for one in learned if one.workload == workload]
        )
        for workload in workloads
    ]
    return [one for one in found if one.figures]


def kept_models() -> list[ModelFacts]:
    """Return the models of the kept study, with the files of those that are shown."""
    shown = {str(arrays["workload"]): Learned(name=name, arrays=arrays) for name, arrays in read.coding_shown()}
    return [
        ModelFacts(
            workload=row["workload"],
            model=row["model"],
            data=row["data"],
            units=float(row["units"]),
            figures=_numbers({**row["figures"], "encode_s": row["encode_s"], "decode_s": row["decode_s"]}),
            spread=math.nan,
            seeds=1,
            times={},
            learning_s=float(row["seconds"]),
            shown=(shown[row["workload"]],) if row["workload"] in shown else (),
        )
        for row in read.coding_rows()
    ]


def kept_flows() -> list[Learned]:
    """Return the learning curves of the notebook's network in the kept study."""
    return [Learned(name=f"f={flow:g}", arrays={"curve": curve}) for flow, curve in read.flow_curves().items()]


def _facts(workload: str, cells: pd.DataFrame, files: Sequence[Learned]) -> ModelFacts:
    kept = [_numbers(one.figures()) for one in files]
    journal = [_numbers(_parsed(text)) for text in cells["qualities"]]
    names = dict.fromkeys(name for figures in (kept or journal) for name in figures)
    of = {name: [figures[name] for figures in (kept or journal) if name in figures] for name in names}
    clipped = of.get("l1_clipped", [])
    first = {name: str(files[0].arrays[name]) for name in ("model", "data") if files and name in files[0].arrays}
    times = {
        str(row["operation"]): row["time_s"] / float(str(row["shape"]).split("x")[0])
        for row in cells.to_dict("records")
    }
    units = of.get("units") or [float(row.split("x")[-1]) for row in cells[cells["operation"] == "encode"]["shape"]]
    return ModelFacts(
        workload=workload,
        model=first.get("model", workload.split(" N=")[0]),
        data=first.get("data", "patches" if workload.endswith("patches") else "digits"),
        units=units[0] if units else math.nan,
        figures={name: float(np.mean(values)) for name, values in of.items()},
        spread=float(np.std(clipped, ddof=1)) if kept and len(clipped) > 1 else math.nan,
        seeds=len(files),
        times=times,
        learning_s=float(np.mean(of["seconds"])) if "seconds" in of else math.nan,
        shown=tuple(files),
    )


def _parsed(text: Any) -> dict[str, Any]:
    """Return the journal's column `qualities`, which a table holds as JSON."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _numbers(figures: dict[str, Any]) -> dict[str, float]:
    """Return what is a finite number."""
    return {
        name: float(value)
        for name, value in figures.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }


def representatives(found: Sequence[ModelFacts]) -> list[ModelFacts]:
    """Return one of each model and kind of data: the smallest N, and as near to USUAL active units as there is."""
    chosen: dict[tuple[str, str], ModelFacts] = {}
    for one in found:
        other = chosen.get((one.data, one.model))
        if other is None or _distance(one) < _distance(other):
            chosen[one.data, one.model] = one
    return list(chosen.values())


def _distance(one: ModelFacts) -> tuple[float, float]:
    active = one.get("l0_weak")
    return one.units if one.units == one.units else math.inf, abs(math.log(max(active, 0.1) / USUAL))
