"""Read what trainings of the sparse CNN left in a run's folder, and put seeds of one setting together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparsebench.suites.report.artifacts import read_artifacts
from sparsebench.suites.workloads.studies import read

FILES = "sparse_cnn-*.npz"
DENSE, NARROW = "dense", "narrow"
"""Methods without a sparse weight: the whole network, and one of fewer maps with as many parameters as a sparse one."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What one training left. Numbers that a file lacks are NaN, arrays empty.

    Attributes:
        method, pattern, data: what was trained, on which images.
        sparsity, rho, winners: rho is None without a penalty; winners is 1 where every plane may be on.
        seed, epochs: of the training.
        seen: images seen in it, all epochs together; NaN where a file does not tell.
        parameters: stored.
        planes: share of the planes of all convolutions that are stored.
        accuracy: on the test images after the last epoch, in [0, 1].
        weights: share of weights stored, of all layers with a mask together.
        activity: share of non-zero activations by hidden layer.
        plane_activity: share of activation planes that hold anything, by hidden layer.
        masks: stored planes (out, in) by layer.
    """

    method: str
    pattern: str
    data: str
    sparsity: float
    rho: float | None
    winners: float
    seed: int
    epochs: float
    seen: float
    parameters: float
    planes: float
    accuracy: float
    weights: float
    activity: dict[str, float]
    plane_activity: dict[str, float]
    masks: dict[str, NDArray[np.bool_]]

    @property
    def key(self) -> tuple[str, str, str, float, float, float, float]:
        """Return what trainings that differ by their seed alone have in common."""
        rho = -1.0 if self.rho is None else self.rho
        return self.data, self.method, self.pattern, self.sparsity, rho, self.winners, self.epochs


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Trainings that differ by their seed alone.

    Attributes:
        runs: by seed, at least one.
    """

    runs: tuple[Trained, ...]

    @property
    def seen(self) -> float:
        """Return how many images a training saw, NaN where the files do not tell."""
        return self.one.seen

    @property
    def one(self) -> Trained:
        """Return the training with the lowest seed."""
        return self.runs[0]

    @property
    def plain(self) -> bool:
        """Tell whether nothing is asked of the activations."""
        return self.one.rho is None and self.one.winners >= 1.0

    @property
    def method(self) -> str:
        """Return the method with what is asked of the activations."""
        extra = "" if self.one.rho is None else f", ρ={self.one.rho:g}"
        return self.one.method + extra + ("" if self.one.winners >= 1.0 else f", k={self.one.winners:g}")

    @property
    def label(self) -> str:
        """Return the method with pattern and sparsity, where it has them."""
        if self.one.method == DENSE:
            return self.method
        return f"{self.method}, {self.one.pattern} {100 * self.one.sparsity:g}\N{NO-BREAK SPACE}%"

    def mean(self, of: Callable[[Trained], float]) -> float:
        """Return the mean over the seeds, NaN if one has no number."""
        return float(np.mean([of(run) for run in self.runs]))

    def deviation(self, of: Callable[[Trained], float]) -> float | None:
        """Return the standard deviation over the seeds (n − 1), None for a single one."""
        return float(np.std([of(run) for run in self.runs], ddof=1)) if len(self.runs) > 1 else None


def read_trained(folder: Path) -> tuple[list[Setting], list[str]]:
    """Return what trainings left in a run's folder, by setting, and a note for each file that cannot be used.

    Where one setting and seed stands in two files, the later one by name counts.
    """
    found: dict[tuple[object, ...], dict[int, Trained]] = {}
    notes: list[str] = []
    for name, arrays in read_artifacts(folder, FILES):
        try:
            if isinstance(arrays, str):
                raise _LackingError(arrays)
            one = trained_of(arrays)
        except ValueError as error:
            why = str(error).splitlines()[0] if isinstance(error, _LackingError) else type(error).__name__
            notes.append(f"{name} cannot be read ({why}): left out")
            continue
        found.setdefault(one.key, {})[one.seed] = one
    return _settings(found), notes


def kept_trained() -> list[Setting]:
    """Return the trainings of the kept study, by setting."""
    found: dict[tuple[object, ...], dict[int, Trained]] = {}
    for arrays in read.cnn_trainings():
        one = trained_of(arrays)
        found.setdefault(one.key, {})[one.seed] = one
    return _settings(found)


def _settings(found: Mapping[tuple[object, ...], Mapping[int, Trained]]) -> list[Setting]:
    settings = [Setting(runs=tuple(run for _, run in sorted(by_seed.items()))) for by_seed in found.values()]
    return sorted(settings, key=lambda setting: setting.one.key)


class _LackingError(ValueError):
    """A file lacks what no part of the report can do without."""


def trained_of(arrays: dict[str, np.ndarray]) -> Trained:
    """Return a training from a file's arrays.

    Raises:
        ValueError: if method, data, sparsity, seed or accuracy is missing or of another kind.
    """
    accuracy = _numbers(arrays, "accuracy")
    sparsity, seed, rho = (_number(arrays, name) for name in ("sparsity", "seed", "rho"))
    lacking = [
        name
        for name, good in {
            "method": bool(_text(arrays, "method")),
            "data": bool(_text(arrays, "data")),
            "sparsity": math.isfinite(sparsity),
            "seed": math.isfinite(seed),
            "accuracy": bool(accuracy) and math.isfinite(accuracy[-1]),
        }.items()
        if not good
    ]
    if lacking:
        raise _LackingError(f"lacks {', '.join(lacking)}")
    winners = _number(arrays, "winners")
    masks = {
        name.removeprefix("mask_"): array
        for name, array in arrays.items()
        if name.startswith("mask_") and array.dtype == np.bool_ and array.ndim == 2 and array.size
    }
    return Trained(
        method=_text(arrays, "method"),
        pattern=_text(arrays, "pattern"),
        data=_text(arrays, "data"),
        sparsity=sparsity,
        rho=rho if math.isfinite(rho) else None,
        winners=winners if math.isfinite(winners) else 1.0,
        seed=int(seed),
        epochs=_number(arrays, "epochs"),
        seen=_number(arrays, "seen"),
        parameters=_number(arrays, "parameters"),
        planes=_number(arrays, "planes"),
        accuracy=accuracy[-1],
        weights=_stored_weights(_by_layer(arrays, "layers", "weight_density"), masks),
        activity=_by_layer(arrays, "hidden", "activity"),
        plane_activity=_by_layer(arrays, "hidden", "plane_activity"),
        masks=masks,
    )


def _stored_weights(density: dict[str, float], masks: dict[str, NDArray[np.bool_]]) -> float:
    """Return the share of weights that are stored over the layers with a mask; their kernels are equally large."""
    known = [(density[name], mask.size) for name, mask in masks.items() if name in density]
    return sum(share * planes for share, planes in known) / sum(planes for _, planes in known) if known else math.nan


def _text(arrays: dict[str, np.ndarray], name: str) -> str:
    found = arrays.get(name)
    return str(found.item()) if found is not None and found.ndim == 0 and found.dtype.kind == "U" else ""


def _number(arrays: dict[str, np.ndarray], name: str) -> float:
    found = arrays.get(name)
    return float(found.item()) if found is not None and found.ndim == 0 and found.dtype.kind in "fiu" else math.nan


def _numbers(arrays: dict[str, np.ndarray], name: str) -> list[float]:
    found = arrays.get(name)
    return [float(x) for x in found] if found is not None and found.ndim == 1 and found.dtype.kind in "fiu" else []


def _by_layer(arrays: dict[str, np.ndarray], names: str, values: str) -> dict[str, float]:
    layers, numbers = arrays.get(names), _numbers(arrays, values)
    if layers is None or layers.ndim != 1 or len(layers) != len(numbers):
        return {}
    return {str(layer): number for layer, number in zip(layers, numbers, strict=True)}


def seeds(settings: Iterable[Setting]) -> str:
    """Say how many seeds stand behind something: "one seed, no sd", "10 seeds", "2 to 10 seeds"."""
    counts = sorted({len(setting.runs) for setting in settings})
    if counts == [1]:
        return "one seed, no sd"
    return f"{counts[0]} seeds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
