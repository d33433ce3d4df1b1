"""Keep what a training left, with the pictures and the plain figures to judge it by, in one .npz file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sparsebench.suites.workloads.data import Digits
from sparsebench.suites.workloads.sparse_coding import quality
from sparsebench.suites.workloads.sparse_coding.notebook.conserved_flow import FLOWS, Learned, Settings
from sparsebench.suites.workloads.sparse_coding.trained import TrainedCoder

EPOCHS: dict[str, int] = {"quick": 10, "full": 20}
"""Epochs of 3,000 images by profile. The notebook's 20 take about 3 s on one core."""
EXAMPLES = 16
"""Images that are kept with their codes and reconstructions: the first ones, of the notebook's those learned from."""
ATOMS = 100
"""Rows of a model's dictionary that are kept; of the others their norms."""
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


def codes(learned: Learned, images: np.ndarray) -> np.ndarray:
    """Return o = σ(W v − t), float64 (n, units), of images (n, 784)."""
    drives = images.astype(np.float64) @ learned.dictionary.T.astype(np.float64) - learned.thresholds
    with np.errstate(over="ignore"):  # e^−drive overflows to infinity, and the code to 0, as it should
        return np.asarray(1.0 / (1.0 + np.exp(-drives)))


def artifact(learned: Learned, digits: Digits) -> dict[str, np.ndarray]:
    """Return everything that a report draws, as plain arrays.

    Args:
        learned: the training.
        digits: the images that it learned from; the first `settings.images` of them are used.

    Returns:
        curve (epochs,), dictionary (units, 784), thresholds (units,); settings, a JSON text with seed and source;
        images, reconstructions (16, 784), codes (16, units) and labels (16,). Figures of shape (), of the final network
        on all images that it learned from: those of `quality.measure` and `quality.trivial_rows`, and faint_units, rows
        of the dictionary below FAINT throughout.
    """
    used = digits.first(learned.settings.images)
    images = used.images.numpy()
    code = codes(learned, images)
    reconstructions = code @ learned.dictionary
    shown = min(EXAMPLES, len(images))
    figures = {
        **quality.measure(used.images, torch.from_numpy(code), torch.from_numpy(reconstructions)),
        "faint_units": float((learned.dictionary.max(1) < FAINT).sum()),
        **quality.trivial_rows(used.images),
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


def model_name(trained: TrainedCoder) -> str:
    """Return the name that a run keeps a model under, without ".npz"."""
    return f"sparse_coding-{trained.plan.label}-seed{trained.seed}"


def model_artifact(trained: TrainedCoder, images: Tensor) -> dict[str, np.ndarray]:
    """Return everything that a report draws of a model, as plain arrays.

    Args:
        trained: the model.
        images: test images (n, d); the first EXAMPLES of them are shown.

    Returns:
        model, workload, data (texts); settings, a JSON text with seed, source and images learned from; level and seed,
        of shape (); curve (epochs,); dictionary, float16, the first ATOMS rows; norms (N,); images, reconstructions
        (16, d), codes (16, N); seconds of learning, encode_s and decode_s of an image, one thread, by the wall clock;
        and every figure of `TrainedCoder.figures`, NaN where it is not defined.
    """
    plan, coder = trained.plan, trained.coder
    shown = images[:EXAMPLES].to("cpu", torch.float32)
    code = coder.encode(shown).detach()
    dictionary = coder.dictionary.detach()
    about = dataclasses.asdict(coder.settings)
    about |= {"seed": trained.seed, "source": trained.source, "images": plan.images or "all"}
    level = float("nan") if plan.level is None else plan.level
    numbers = {"level": level, "seed": trained.seed, "seconds": trained.seconds}
    numbers |= {"encode_s": trained.encode_s, "decode_s": trained.decode_s}
    numbers |= {name: float("nan") if value is None else value for name, value in trained.figures.items()}
    return {
        "model": np.array(plan.short),
        "workload": np.array(plan.workload),
        "data": np.array(plan.data),
        "settings": np.array(json.dumps(about, default=str)),
        "curve": trained.curve,
        "dictionary": dictionary[:ATOMS].numpy().astype(np.float16),
        "norms": dictionary.norm(dim=1).numpy(),
        "images": shown.numpy(),
        "reconstructions": coder.decode(code).detach().numpy(),
        "codes": (code if code.layout == torch.strided else code.to_dense()).numpy(),
        **{name: np.array(value) for name, value in numbers.items()},
    }


def save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write what `artifact` returns to an .npz file, compressed, without pickles."""
    with path.open("wb") as file:  # given a name, NumPy would append .npz to one that ends otherwise
        np.savez_compressed(file, allow_pickle=False, **dict(arrays))
