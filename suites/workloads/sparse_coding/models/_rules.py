"""Share what the models with a rule of their own have in common: the dictionary's step, activity, and checks."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from sparsebench.representations import registry
from sparsebench.representations.base import Representation
from sparsebench.suites.workloads.sparse_coding.models.coder import SparseCoder

_load = cache(registry.load)
"""Looking a name up reads the entry points of all that is installed: 3 ms, more than a step takes."""


def scaled_step(
    code: Representation, images: Tensor, dictionary: Tensor, *, rate: float, epsilon: float
) -> tuple[Tensor, float]:
    """Return W + ξ/n · W ⊙ [Oᵀ (e ÷ max(r, ε))], the mean of the rule of one image, and the mean of Σ|e|.

    It is a step up the gradient of the Poisson likelihood Σ v ln r − r for fixed codes, scaled by W (Lee and Seung
    2001). With codes of at most 1 and ξ ≤ 1, W stays positive, and no entry grows by more than ξ times its pixel.

    Args:
        code: O (n, N), held.
        images: V (n, d).
        dictionary: W (N, d), not changed.
        rate: ξ.
        epsilon: ε, the smallest reconstruction that an error is divided by.

    Returns:
        (N, d); the mean over the images of Σ|v − r|, r = O W.
    """
    reconstruction = code.matmul(dictionary)
    error = images - reconstruction
    ratio = error / reconstruction.clamp_min(epsilon)
    step = code.rmatmul(ratio)
    return torch.addcmul(dictionary, dictionary, step, value=rate / len(images)), float(error.abs().sum(1).mean())


def sound(level: float, dictionary: Tensor, rate: float) -> float:
    """Return the level, or infinity if a rate above 1 made W negative: the base class then tells the epoch.

    A negative row silences its unit for good, so that the error alone would look like that of reconstructing nothing.
    """
    return level if rate <= 1 or bool((dictionary >= 0).all()) else math.inf


def held(coder: SparseCoder, code: Tensor) -> Representation:
    """Return a code as learning multiplies it: by the model's representation, else dense, or csr if it is sparse."""
    return _load(coder.holder or ("dense" if code.layout == torch.strided else "csr")).build(code)


def uniform(units: int, pixels: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Draw a matrix (units, pixels) ~ U(low, high), float64 on the CPU."""
    return torch.rand(units, pixels, dtype=torch.float64, generator=generator) * (high - low) + low


def check_rates(settings: object, *names: str) -> None:
    """Raise ValueError unless the named attributes are finite and not negative."""
    for name in names:
        value = getattr(settings, name)
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"expected a finite {name} ≥ 0, got {value}")


def check_positive(settings: object, *names: str) -> None:
    """Raise ValueError unless the named attributes are finite and above 0."""
    for name in names:
        value = getattr(settings, name)
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"expected a finite {name} > 0, got {value}")


def check_share(settings: object, *names: str) -> None:
    """Raise ValueError unless the named attributes lie between 0 and 1, both left out."""
    for name in names:
        value = getattr(settings, name)
        if not 0 < value < 1:
            raise ValueError(f"expected 0 < {name} < 1, got {value}")
