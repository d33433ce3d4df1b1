"""Tell whether all numbers of a tensor are finite, at the price of one reading of it."""

from __future__ import annotations

import torch
from torch import Tensor


def all_finite(tensor: Tensor) -> bool:
    """Return whether no entry is NaN or infinite; true of no entries.

    NaN and infinity show in the extremes. torch.isfinite writes a mask and reads it again, which takes far longer on
    images, whose check is part of every encoding.
    """
    if tensor.numel() == 0:
        return True
    low, high = tensor.detach().aminmax()
    return bool(torch.isfinite(low) & torch.isfinite(high))
