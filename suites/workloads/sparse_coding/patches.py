"""Cut natural-image patches out of scikit-learn's two sample pictures, whitened: real data that need no network."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

PARTS = ("train", "test")
TRAIN_SHARE = 0.75
"""Of every picture's width, from the left; the rest is for testing, so that no test pixel was ever learned from."""
CUTOFF = 0.4
"""f₀ in cycles a pixel: Olshausen and Field's 200 cycles over 512 pixels."""
LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""


def patches(count: int, seed: int, *, side: int = 12, part: str = "train") -> Tensor:
    """Draw patches at random places of both pictures, whitened.

    Args:
        count: n.
        seed: of the places.
        side: height and width in pixels.
        part: "train" or "test", the left or the right area of each picture.

    Returns:
        float32 (n, side²). The training area as a whole has mean 0 and variance 1 in either picture, test patches are
        in the same unit. A patch is not centred or scaled by itself, so one of constant grey stays near zero.

    Raises:
        ValueError: if count or side is below 1, the part is another, or no patch that large fits.
    """
    if min(count, side) < 1 or part not in PARTS:
        raise ValueError(f"expected count and side ≥ 1 and a part of {', '.join(PARTS)}, got {count}, {side}, {part!r}")
    areas = [_areas(picture)[PARTS.index(part)] for picture in _pictures()]
    least = min(min(area.shape) for area in areas)
    if side > least:
        raise ValueError(f"expected a side of at most {least}, as large as the {part} area is, got {side}")
    rng = np.random.default_rng([seed, PARTS.index(part)])
    which = rng.integers(len(areas), size=count)
    out = np.empty((count, side, side), np.float32)
    for number, picture in enumerate(which):
        area = areas[picture]
        top, left = (rng.integers(size - side + 1) for size in area.shape)
        out[number] = area[top : top + side, left : left + side]
    return torch.from_numpy(out.reshape(count, side * side))


def whiten(picture: np.ndarray, cutoff: float = CUTOFF) -> np.ndarray:
    """Flatten the spectrum of a picture (h, w) without moving anything: multiply it by R(f) = f exp(−(f ÷ f₀)⁴).

    Natural images have amplitudes near 1/f, so f makes them white; the exponential takes out the corners, where only
    noise is left. R is real: zero phase. R and f₀ are those of Olshausen and Field 1996 and 1997 (Sparse coding with an
    overcomplete basis set); Bell and Sejnowski 1997 whiten patches with zero phase, too. The picture is mirrored at its
    borders first, so that opposite ones do not meet.

    Args:
        picture: float64 (h, w).
        cutoff: f₀ in cycles a pixel.

    Returns:
        float64 (h, w), in no particular unit; zeros for constant grey.
    """
    height, width = picture.shape
    mirrored = np.pad(picture - picture.mean(), ((0, height), (0, width)), mode="symmetric")
    rows, columns = np.fft.fftfreq(2 * height)[:, None], np.fft.rfftfreq(2 * width)[None]
    f = np.hypot(rows, columns)
    spectrum = np.fft.rfft2(mirrored) * f * np.exp(-((f / cutoff) ** 4))
    return np.fft.irfft2(spectrum, s=mirrored.shape)[:height, :width]


@cache
def _pictures() -> tuple[np.ndarray, ...]:
    """Return both pictures in grey, float64 (427, 640), 0 to 1."""
    from sklearn.datasets import load_sample_images  # imported late: half a second

    return tuple(picture @ np.array(LUMINANCE) / 255 for picture in load_sample_images().images)


def _areas(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the training and the test area, each whitened alone, both in the unit of the training area."""
    border = round(TRAIN_SHARE * picture.shape[1])
    train, test = whiten(picture[:, :border]), whiten(picture[:, border:])
    return train / train.std(), test / train.std()
