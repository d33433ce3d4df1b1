"""Keep what a training left, with the pictures and the plain figures to judge it by, in one .npz file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sparsebench.suites.workloads.data import DataError, Digits, digits
from sparsebench.suites.workloads.sparse_coding.conserved_flow import FLOWS, Learned, Settings, learn

EPOCHS: dict[str, int] = {"quick": 10, "full": 20}
"""Epochs of 3,000 images by profile. The notebook's 20 take about 3 s on one core."""
EXAMPLES = 16
"""Images that are kept with their codes and reconstructions: the first ones that were learned from."""
COMPONENTS = 100
"""Of the principal component analysis: as many as the dictionary has rows."""
WEAK, STRONG = 0.01, 0.5
"""Thresholds above which an entry of a code counts as active."""
FAINT = 0.1
"""A row of the dictionary without any larger weight cannot be seen, whatever its unit's code is."""


def notebook_settings(profile: str) -> list[Settings]:
    """Return the notebook's two settings: f = 0.2 and f = 1e-4.

    Raises:
        ValueError: if the profile is unknown.
    """
    if profile not in EPOCHS:
        raise ValueError(f"expected a profile of {', '.join(EPOCHS)}, got {profile!r}")
    return [Settings(flow=flow, epochs=EPOCHS[profile]) for flow in FLOWS]


def reproduce(
    profile: str, data: Path | None, seed: int, progress: Callable[[Settings, int, float], None] | None = None
) -> list[Learned]:
    """Train with the notebook's two settings.

    Args:
        profile: "quick" or "full"; key of EPOCHS.
        data: folder with MNIST's files, or None for the digits that need no download.
        seed: of the first dictionary.
        progress: told the settings, the epoch from 1 and its L1 after every epoch.

    Raises:
        DataError: if the data are not as expected.
        DivergedError: if learning left the finite numbers.
    """
    images = digits(data)

    def train(settings: Settings) -> Learned:
        def tell(epoch: int, level: float) -> None:
            if progress is not None:
                progress(settings, epoch, level)

        return learn(images, settings, seed, progress=tell)

    return [train(settings) for settings in notebook_settings(profile)]


def codes(learned: Learned, images: np.ndarray) -> np.ndarray:
    """Return o = σ(W v − t), float64 (n, units), of images (n, 784)."""
    drives = images.astype(np.float64) @ learned.dictionary.T.astype(np.float64) - learned.thresholds
    with np.errstate(over="ignore"):  # e^−drive overflows to infinity, and the code to 0, as it should
        return np.asarray(1.0 / (1.0 + np.exp(-drives)))


def l1_per_image(images: np.ndarray, reconstructions: np.ndarray) -> float:
    """Return the mean over images of Σ|v − r|; both (n, 784), or one reconstruction (784,) for all."""
    return float(np.abs(images.astype(np.float64) - reconstructions).sum(1).mean())


def kl_per_image(images: np.ndarray, reconstructions: np.ndarray, epsilon: float) -> float:
    """Return the mean over images of the generalised Kullback-Leibler divergence Σ v ln(v/r) − v + r, r at least ε.

    It is what the dictionary's rule lowers for a fixed code (Lee and Seung 2001, non-negative matrix factorization).
    """
    v, r = images.astype(np.float64), np.maximum(reconstructions, epsilon)
    logs = np.where(v > 0, v * np.log(np.where(v > 0, v, 1.0) / r), 0.0)
    return float((logs - v + r).sum(1).mean())


def activity(code: np.ndarray) -> dict[str, float]:
    """Return how much of a code (n, units) is on.

    Returns:
        active_weak and active_strong: entries above WEAK and STRONG, mean per image; dead_units: units that are above
        WEAK in no image; sum: Σo, mean per image.
    """
    return {
        "active_weak": float((code > WEAK).sum(1).mean()),
        "active_strong": float((code > STRONG).sum(1).mean()),
        "dead_units": float((code <= WEAK).all(0).sum()),
        "sum": float(code.sum(1).mean()),
    }


def trivial_rows(digits: Digits) -> dict[str, float]:
    """Return the L1 per image of reconstructions that learn no code, each made from the very images it is judged on.

    Returns:
        all_zero: nothing; median_image: the median of every pixel, the best constant; pca_100: COMPONENTS principal
        components (or as many as there are images), the floor of a dense linear code of that width; pca_100_clipped:
        the same, cut to [0, 1].
    """
    from sklearn.decomposition import PCA  # imported late: half a second

    images = digits.images.numpy().astype(np.float64)
    pca = PCA(n_components=min(COMPONENTS, *images.shape), svd_solver="covariance_eigh")
    projected = pca.inverse_transform(pca.fit_transform(images))
    return {
        "all_zero": l1_per_image(images, np.zeros(images.shape[1])),
        "median_image": l1_per_image(images, np.median(images, axis=0)),
        "pca_100": l1_per_image(images, projected),
        "pca_100_clipped": l1_per_image(images, projected.clip(0.0, 1.0)),
    }


def artifact(learned: Learned, digits: Digits) -> dict[str, np.ndarray]:
    """Return everything that a report draws, as plain arrays.

    Args:
        learned: the training.
        digits: the images that it learned from; the first `settings.images` of them are used.

    Returns:
        curve (epochs,), dictionary (units, 784), thresholds (units,); settings, a JSON text with seed and source;
        images, reconstructions (16, 784), codes (16, units) and labels (16,). Figures of shape (), of the final network
        on all images: l1, l1_clipped (r cut to [0, 1]), kl; faint_units, rows of the dictionary below FAINT throughout;
        active_weak, active_strong, dead_units, sum (see `activity`); all_zero, median_image, pca_100, pca_100_clipped
        (see `trivial_rows`).
    """
    used = digits.first(learned.settings.images)
    images = used.images.numpy()
    code = codes(learned, images)
    reconstructions = code @ learned.dictionary
    shown = min(EXAMPLES, len(images))
    figures = {
        "l1": l1_per_image(images, reconstructions),
        "l1_clipped": l1_per_image(images, reconstructions.clip(0.0, 1.0)),
        "kl": kl_per_image(images, reconstructions, learned.settings.epsilon),
        "faint_units": float((learned.dictionary.max(1) < FAINT).sum()),
        **activity(code),
        **trivial_rows(used),
    }
    about = dataclasses.asdict(learned.settings) | {"seed": learned.seed, "source": learned.source}
    return {
        "curve": learned.curve,
        "dictionary": learned.dictionary,
        "thresholds": learned.thresholds,
        "settings": np.array(json.dumps(about)),
        "images": images[:shown],
        "reconstructions": reconstructions[:shown].astype(np.float32),
        "codes": code[:shown].astype(np.float32),
        "labels": used.labels[:shown].numpy(),
        **{name: np.array(value) for name, value in figures.items()},
    }


def save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write what `artifact` returns to an .npz file, compressed, without pickles."""
    with path.open("wb") as file:  # given a name, NumPy would append .npz to one that ends otherwise
        np.savez_compressed(file, allow_pickle=False, **dict(arrays))


def load(path: Path) -> tuple[Learned, dict[str, np.ndarray]]:
    """Read a file of `save`, or one that a run keeps: the training, and all arrays.

    Raises:
        DataError: if the file is missing, damaged, or holds something else.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about: dict[str, Any] = json.loads(str(arrays["settings"]))
        seed, source = int(about.pop("seed")), str(about.pop("source"))
        learned = Learned(
            curve=arrays["curve"],
            dictionary=arrays["dictionary"],
            thresholds=arrays["thresholds"],
            settings=Settings(**about),
            seed=seed,
            source=source,
        )
    except Exception as error:  # zipfile, NumPy, JSON and zlib each have their own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"expected a saved training at {path}, got {reason}; train again") from error
    return learned, arrays
