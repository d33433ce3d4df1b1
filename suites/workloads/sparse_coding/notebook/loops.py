"""Run one epoch of the conserved-flow network, image by image: plain NumPy, and the same compiled by numba."""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np

Loop = Callable[[np.ndarray, np.ndarray, np.ndarray, float, float, float, float], float]
"""One epoch, given W (units, pixels), t (units,), images v (n, pixels), ξ, γ, f and ε, all of it float64.

It learns from every image once, changing W and t in place, and returns the mean over the images of Σ|v − r|, each taken
before the image changed anything. ε is the smallest reconstruction that an error is divided by.
"""


def epoch_numpy(
    dictionary: np.ndarray,
    thresholds: np.ndarray,
    images: np.ndarray,
    rate: float,
    gamma: float,
    flow: float,
    epsilon: float,
    decode: Callable[[np.ndarray], np.ndarray] | None = None,
) -> float:
    """Learn from every image once, as the rules are written; see Loop. Slow: the compiled one is held to it.

    `decode` may compute r (pixels,) from o (units,) in another way than o @ W.
    """
    total = 0.0
    with np.errstate(over="ignore", invalid="ignore"):  # a network that diverges is told from its result
        for v in images:
            o = 1.0 / (1.0 + np.exp(-(dictionary @ v - thresholds)))
            r = o @ dictionary if decode is None else decode(o)
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
    """Learn from every image once; see Loop. Equal to `epoch_numpy` but for the order of its sums.

    The dictionary passes through the cache once an image instead of four times: what the last image changes in a row,
    this image's drive of the unit, and the unit's share of the reconstruction are done while the row is at hand. That
    is possible since a unit's code needs its own row and threshold only. Four fifths of an image are zero, and cost the
    encoder nothing.
    """
    units, pixels = dictionary.shape
    o = np.zeros(units)
    r = np.empty(pixels)
    gain = np.zeros(pixels)
    inked = np.empty(pixels, np.int64)
    ink = np.empty(pixels)
    surplus = 0.0
    total = 0.0
    for image in range(images.shape[0]):
        v = images[image]
        count = 0
        received = 0.0
        for pixel in range(pixels):
            r[pixel] = 0.0
            if v[pixel] != 0.0:
                inked[count] = pixel
                ink[count] = v[pixel]
                received += v[pixel]
                count += 1
        sent = 0.0
        whole = count - count % 4
        for unit in range(units):
            row = dictionary[unit]
            last = o[unit]
            for pixel in range(pixels):
                row[pixel] += row[pixel] * last * gain[pixel]
            thresholds[unit] += surplus * last
            a, b, c, d = 0.0, 0.0, 0.0, 0.0  # four sums side by side: one alone would wait for each addition
            for place in range(0, whole, 4):
                a += row[inked[place]] * ink[place]
                b += row[inked[place + 1]] * ink[place + 1]
                c += row[inked[place + 2]] * ink[place + 2]
                d += row[inked[place + 3]] * ink[place + 3]
            for place in range(whole, count):
                a += row[inked[place]] * ink[place]
            now = 1.0 / (1.0 + np.exp(thresholds[unit] - ((a + b) + (c + d))))
            o[unit] = now
            sent += now
            for pixel in range(pixels):
                r[pixel] += row[pixel] * now
        for pixel in range(pixels):
            e = v[pixel] - r[pixel]
            total += abs(e)
            gain[pixel] = rate * e / max(r[pixel], epsilon)
        surplus = gamma * (sent - flow * received)
    for unit in range(units):  # what the last image changes
        row = dictionary[unit]
        for pixel in range(pixels):
            row[pixel] += row[pixel] * o[unit] * gain[pixel]
        thresholds[unit] += surplus * o[unit]
    return float(total / images.shape[0])
