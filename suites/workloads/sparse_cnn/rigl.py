"""Move a fixed number of units to where the gradient asks for them, as RigL does."""

from __future__ import annotations

import math

import torch
from torch import Tensor

END = 0.75
"""Share of the training after which units stay where they are."""
FRACTION = 0.3
"""Share of a layer's units that the first exchange moves."""


def fraction(progress: float) -> float:
    """Return the share of units to move: α/2 · (1 + cos(π·progress/END)), and 0 from END on.

    Evci et al. 2020, Rigging the Lottery, section 3.

    Args:
        progress: share of the training that is over.
    """
    return 0.0 if progress >= END else FRACTION / 2 * (1.0 + math.cos(math.pi * progress / END))


def exchange(kept: Tensor, sizes: Tensor, gradients: Tensor, share: float) -> Tensor:
    """Drop the smallest stored units and store instead those with the largest gradients among all that were absent.

    Args:
        kept: bool, which units are stored.
        sizes: norms of the units' weights, of the same shape.
        gradients: norms of the units' gradients, of the same shape.
        share: of the stored units that are moved, rounded; never more than there are absent ones.

    Returns:
        the new choice, of the same number.
    """
    flat = kept.flatten()
    moved = min(round(share * int(flat.sum())), int((~flat).sum()))
    by_size = torch.where(flat, sizes.flatten(), torch.inf).argsort(stable=True)
    by_gradient = torch.where(flat, -torch.inf, gradients.flatten()).argsort(descending=True, stable=True)
    changed = flat.clone()
    changed[by_size[:moved]] = False
    changed[by_gradient[:moved]] = True
    return changed.reshape(kept.shape)
