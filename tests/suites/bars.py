"""Draw bars, the images whose parts are known: a learner is right if each of its units finds one."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

SIDE = 8
PROBABILITY = 1 / 8
"""Földiák's: 16 bars, two of them in an image on average (Foldiak 1990, Forming sparse representations by local
anti-Hebbian learning)."""


def every_bar(side: int = SIDE) -> Tensor:
    """Return each horizontal, then each vertical bar alone: float32 (2·side, side²) of zeros and ones."""
    bars = torch.zeros(2 * side, side, side)
    for place in range(side):
        bars[place, place, :] = 1.0
        bars[side + place, :, place] = 1.0
    return bars.reshape(2 * side, side * side)


def draw(
    count: int, seed: int, *, side: int = SIDE, probability: float = PROBABILITY, additive: bool = False
) -> tuple[Tensor, Tensor]:
    """Draw images in which each bar is there or not, independently.

    Args:
        count: n.
        seed: of the draw.
        side: height and width.
        probability: of each bar.
        additive: whether bars add up where they cross; otherwise a crossing is 1, as with Foldiak.

    Returns:
        images, float32 (n, side²); which bars are there, bool (n, 2·side), in the order of `every_bar`.

    Raises:
        ValueError: if count or side is below 1, or the probability outside (0, 1).
    """
    if min(count, side) < 1 or not 0 < probability < 1:
        raise ValueError(f"expected count and side ≥ 1 and 0 < probability < 1, got {count}, {side}, {probability}")
    there = torch.from_numpy(np.random.default_rng(seed).random((count, 2 * side)) < probability)
    images = there.float() @ every_bar(side)
    return (images if additive else images.clamp_max_(1.0)), there


def recovered(dictionary: Tensor, side: int = SIDE, similarity: float = 0.9) -> Tensor:
    """Tell which bars a dictionary (N, side²) holds: bool (2·side), each by a unit of its own.

    A bar is held if some unit's |cosine| with it is at least `similarity`; a unit counts for the bar it is nearest to.
    """
    bars = every_bar(side).double()
    norms = dictionary.double().norm(dim=1, keepdim=True).clamp_min(1e-12)
    cosines = ((dictionary.double() / norms) @ (bars / bars.norm(dim=1, keepdim=True)).t()).abs()
    best, nearest = cosines.max(1)
    found = torch.zeros(2 * side, dtype=torch.bool)
    found[nearest[best >= similarity]] = True
    return found
