"""Time FISTA beside scikit-learn's solvers of the same lasso problems, at the same duality gap.

python -m sparsebench.suites.workloads.sparse_coding.fista_peer --data DIR --out FILE.json

Both sides are given images and a dictionary; the products among the units are part of either's time. Coordinate descent
looks at its gap late and ends below the tolerance, so FISTA is asked for a quarter of it: the gaps, computed by one
function for both, are in the table. Which of scikit-learn's solvers is the fastest is tried on a part of the images.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import MiniBatchDictionaryLearning, sparse_encode
from sklearn.linear_model import Lasso
from sklearn.utils.parallel import Parallel, delayed
from torch import Tensor

from sparsebench.suites.measure.machine import set_threads
from sparsebench.suites.workloads.data import digits
from sparsebench.suites.workloads.sparse_coding.solvers.fista import fista
from sparsebench.suites.workloads.sparse_coding.solvers.lasso_gap import duality_gap

UNITS = 1_000
IMAGES = 1_024
TRIAL = 128
"""Images on which scikit-learn's solvers are compared with each other first."""
FAR = 4.0
"""Solvers that take more than so many times the fastest one's time there are not tried on all images."""
PENALTIES: tuple[float, ...] = (0.3, 0.6, 1.0)
TOLERANCE = 1e-4
"""Relative to ‖x‖²; scikit-learn's own default, and what its float32 can carry."""
SHARE = 0.25
"""Of the tolerance, asked of FISTA."""

Array = np.ndarray
Solver = Callable[[Array, Array, float, int], Array]
"""Takes images (n, d), dictionary (N, d), λ and a number of jobs; returns the code (n, N)."""


def _lasso(images: Array, atoms: Array, gram: Array | bool, penalty: float) -> Array:
    model = Lasso(alpha=penalty / atoms.shape[1], fit_intercept=False, precompute=gram, tol=TOLERANCE, max_iter=100_000)
    return np.asarray(model.fit(np.asfortranarray(atoms.T), images.T).coef_).reshape(len(images), -1)


def coordinates(images: Array, atoms: Array, penalty: float, jobs: int) -> Array:
    """Solve by coordinate descent on the products among the units, in so many processes."""
    gram = atoms @ atoms.T
    if jobs == 1:
        return _lasso(images, atoms, gram, penalty)
    parts = np.array_split(images, jobs)
    return np.concatenate(Parallel(n_jobs=jobs)(delayed(_lasso)(part, atoms, gram, penalty) for part in parts))


def coordinates_plain(images: Array, atoms: Array, penalty: float, jobs: int) -> Array:
    """Solve by coordinate descent on the atoms themselves."""
    return _lasso(images, atoms, False, penalty)


def least_angles(images: Array, atoms: Array, penalty: float, jobs: int) -> Array:
    """Solve by least-angle regression."""
    gram = atoms @ atoms.T
    return np.asarray(sparse_encode(images, atoms, gram=gram, algorithm="lasso_lars", alpha=penalty, n_jobs=jobs))


SOLVERS: dict[str, tuple[Solver, int]] = {
    "Lasso, Gram, processes": (coordinates, torch.get_num_threads()),
    "Lasso, Gram": (coordinates, 1),
    "Lasso": (coordinates_plain, 1),
    "sparse_encode lasso_lars": (least_angles, 1),
}
"""`sparse_encode(algorithm="lasso_cd")` is the same coordinate descent at a tolerance of 1e-8, so always slower."""


def compare(images: Tensor, dictionary: Tensor, penalty: float, rounds: int) -> dict[str, Any]:
    """Return times of FISTA and of scikit-learn's fastest solver, alternating, and the gaps that they reached."""
    x, atoms = images.numpy(), dictionary.numpy()
    squared = images.double().square().sum(1)

    def gaps(code: Tensor) -> dict[str, float]:
        found = duality_gap(images[: len(code)], dictionary, code, penalty) / squared[: len(code)]
        return {"max": float(found.max()), "mean": float(found.mean())}

    def peer(name: str, part: Array) -> Callable[[], Array]:
        solver, jobs = SOLVERS[name]
        return partial(solver, part, atoms, penalty, jobs)

    trial = {name: _seconds(peer(name, x[:TRIAL]))[0] for name in SOLVERS}
    # processes pay off on many images only, so those that are near are tried on all
    near = [name for name in SOLVERS if trial[name] <= FAR * min(trial.values())]
    whole = {name: _seconds(peer(name, x))[0] for name in near}
    fastest = min(whole, key=whole.__getitem__)
    sides: tuple[Callable[[], Any], ...] = (
        partial(fista, images, dictionary, penalty, gap=SHARE * TOLERANCE),
        peer(fastest, x),
    )
    times: tuple[list[float], list[float]] = ([], [])
    last: list[Any] = [None, None]
    for turn in range(rounds):
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            taken, last[side] = _seconds(sides[side])
            times[side].append(taken)
    solution, code = last[0], torch.from_numpy(np.ascontiguousarray(last[1]))
    ours, theirs = times
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return {
        "penalty": penalty,
        "active": solution.code.values().numel() / len(images),
        "fista_s": float(np.median(ours)),
        "fista_gap": gaps(solution.code),
        "peer": fastest,
        "peer_s": float(np.median(theirs)),
        "peer_gap": gaps(code),
        "trial_s": trial,
        "whole_s": whole,
        "speedup": float(np.median(ratios)),
        "speedup_least": min(ratios),
        "speedup_greatest": max(ratios),
        "rounds": rounds,
    }


def _seconds(action: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = action()
    return time.perf_counter() - begin, result


def main(words: Sequence[str] | None = None) -> int:
    """Print a line a penalty, and keep all of it."""
    parser = argparse.ArgumentParser(prog="fista_peer", description="Time FISTA beside scikit-learn's solvers.")
    parser.add_argument("--data", type=Path, help="folder with MNIST's files; without it the 5,000 offline digits")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True, help="a JSON file")
    asked = parser.parse_args(words)
    learned = digits(asked.data, "train").images[:20_000].numpy()
    model = MiniBatchDictionaryLearning(
        n_components=UNITS, alpha=0.6, batch_size=512, max_iter=1, fit_algorithm="cd", random_state=0
    )
    dictionary = torch.from_numpy(np.ascontiguousarray(model.fit(learned).components_.astype(np.float32)))
    images = digits(asked.data, "test").images[:IMAGES]
    set_threads(torch.get_num_threads())
    fista(images[:8], dictionary, 1.0)  # compiled before anything is timed
    coordinates(images[:8].numpy(), dictionary.numpy(), 1.0, SOLVERS["Lasso, Gram, processes"][1])  # workers started
    rows = []
    for penalty in PENALTIES:
        rows.append(compare(images, dictionary, penalty, asked.rounds))
        row = rows[-1]
        ours, theirs = (f"{row[f'{who}_s']:.3f} s, gap {row[f'{who}_gap']['max']:.1e}" for who in ("fista", "peer"))
        span = f"{row['speedup_least']:.1f} to {row['speedup_greatest']:.1f}"
        sys.stdout.write(
            f"λ = {penalty:g}, {row['active']:.1f} active: FISTA {ours}; {row['peer']} {theirs}; "
            f"{row['speedup']:.1f} times as fast ({span})\n"
        )
        sys.stdout.flush()
        about = {"units": UNITS, "images": IMAGES, "threads": torch.get_num_threads(), "rows": rows}
        asked.out.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
