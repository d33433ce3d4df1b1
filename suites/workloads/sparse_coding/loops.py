"""Run one epoch of the conserved-flow network, image by image: plain NumPy, and the same compiled by numba."""

from __future__ import annotations

from typing import Protocol

import numba
import numpy as np


class Loop(Protocol):
    """One epoch: changes the dictionary and the thresholds in place and returns the mean L1 per image."""

    def __call__(
        self,
        dictionary: np.ndarray,
        thresholds: np.ndarray,
        images: np.ndarray,
        rate: float,
        gamma: float,
        flow: float,
        epsilon: float,
    ) -> float:
        """Learn from every image once.

        Args:
            dictionary: W, float64 (units, pixels), changed in place.
            thresholds: t, float64 (units,), changed in place.
            images: v, float64 (n, pixels).
            rate: ξ.
            gamma: γ.
            flow: f.
            epsilon: the smallest reconstruction that an error is divided by.

        Returns:
            the mean over the images of Σ|v − r|, each taken before the image changed anything.
        """


def epoch_numpy(
    dictionary: np.ndarray,
    thresholds: np.ndarray,
    images: np.ndarray,
    rate: float,
    gamma: float,
    flow: float,
    epsilon: float,
) -> float:
    """Learn from every image once, as the rules are written; see Loop. Slow: the compiled one is held to it."""
    total = 0.0
    with np.errstate(over="ignore", invalid="ignore"):  # a network that diverges is told from its result
        for v in images:
            o = 1.0 / (1.0 + np.exp(-(dictionary @ v - thresholds)))
            r = o @ dictionary
            e = v - r
            total += float(np.abs(e).sum())
            dictionary += rate * dictionary * np.outer(o, e / np.maximum(r, epsilon))
            thresholds += gamma * (o.sum() - flow * v.sum()) * o
    return total / len(images)


@numba.njit
def epoch_compiled(
    dictionary: np.ndarray,
    thresholds: np.ndarray,
    images: np.ndarray,
    rate: float,
    gamma: float,
    flow: float,
    epsilon: float,
) -> float:
    """Learn from every image once; see Loop. Four fifths of an image are zero, and cost the encoder nothing here."""
    units, pixels = dictionary.shape
    o = np.empty(units)
    r = np.empty(pixels)
    gain = np.empty(pixels)
    inked = np.empty(pixels, np.int64)
    total = 0.0
    for image in range(images.shape[0]):
        v = images[image]
        count = 0
        ink = 0.0
        for pixel in range(pixels):
            r[pixel] = 0.0
            if v[pixel] != 0.0:
                inked[count] = pixel
                count += 1
                ink += v[pixel]
        sent = 0.0
        for unit in range(units):
            drive = -thresholds[unit]
            for place in range(count):
                drive += dictionary[unit, inked[place]] * v[inked[place]]
            o[unit] = 1.0 / (1.0 + np.exp(-drive))
            sent += o[unit]
            for pixel in range(pixels):
                r[pixel] += dictionary[unit, pixel] * o[unit]
        for pixel in range(pixels):
            e = v[pixel] - r[pixel]
            total += abs(e)
            gain[pixel] = rate * e / max(r[pixel], epsilon)
        for unit in range(units):
            for pixel in range(pixels):
                dictionary[unit, pixel] += dictionary[unit, pixel] * o[unit] * gain[pixel]
            thresholds[unit] += gamma * (sent - flow * ink) * o[unit]
    return float(total / images.shape[0])
