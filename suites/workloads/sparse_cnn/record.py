"""Turn a training into the arrays that the report draws."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from sparsebench.suites.workloads.sparse_cnn.network import CONVOLUTIONS, HIDDEN, densities, weight
from sparsebench.suites.workloads.sparse_cnn.training import Trained


def name(trained: Trained) -> str:
    """Return the artifact's name, which no other training of a run has: label, images × epochs, and seed."""
    settings = trained.settings
    length = f"{settings.images or 'all'}x{settings.epochs}"
    return f"sparse_cnn-{settings.label}-{length}-seed{trained.seed}"


def planes(trained: Trained) -> float:
    """Return the share of planes (kernels of one output and one input map) that are stored, over all convolutions."""
    masks = _masks(trained).values()
    return sum(int(mask.sum()) for mask in masks) / sum(mask.size for mask in masks)


def _masks(trained: Trained) -> dict[str, NDArray[np.bool_]]:
    """Return for every convolution which planes (out, in) are stored."""
    return {layer: (weight(trained.net, layer).detach() != 0).flatten(2).any(2).numpy() for layer in CONVOLUTIONS}


def empty_layers(trained: Trained) -> list[str]:
    """Return the convolutions that are left without any weight; they run, and hand on zeros and the bias."""
    return [layer for layer, mask in _masks(trained).items() if not mask.any()]


def artifact(trained: Trained) -> dict[str, np.ndarray]:
    """Return everything that a report draws, as plain arrays.

    Returns:
        method, pattern, data (text); sparsity, seed, epochs, images (0 for all there are), parameters, rho (NaN if
        there is none), winners, planes (see `planes`) and seconds, of shape (); maps (3,); accuracy (epochs,), on the
        test images, in [0, 1]; layers with weight_density and plane_density (the classifier's planes are its weights);
        hidden with activity and plane_activity, shares on the test images; empty, the layers without any weight; and
        for every convolution mask_<layer>, bool (out, in), the stored planes.
    """
    settings = trained.settings
    by_layer = densities(trained.net)
    figures = {
        "sparsity": settings.sparsity,
        "seed": trained.seed,
        "epochs": settings.epochs,
        "images": settings.images or 0,
        "parameters": trained.parameters,
        "rho": math.nan if settings.rho is None else settings.rho,
        "winners": settings.winners,
        "planes": planes(trained),
        "seconds": trained.seconds,
    }
    return {
        "method": np.array(settings.method),
        "pattern": np.array(settings.pattern),
        "data": np.array(trained.source),
        **{name: np.array(value) for name, value in figures.items()},
        "maps": np.array([len(weight(trained.net, layer)) for layer in CONVOLUTIONS]),
        "accuracy": np.array(trained.accuracy),
        "layers": np.array(list(by_layer)),
        "weight_density": np.array([weights for weights, _ in by_layer.values()]),
        "plane_density": np.array([kept for _, kept in by_layer.values()]),
        "hidden": np.array(HIDDEN),
        "activity": np.array(trained.activity),
        "plane_activity": np.array(trained.plane_activity),
        "empty": np.array(empty_layers(trained), dtype=str),
        **{f"mask_{layer}": mask for layer, mask in _masks(trained).items()},
    }
