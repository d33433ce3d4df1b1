"""Take the units of images and of atoms out, so that no solver and no model depends on them, and put them back.

All sizes here are powers of two: scaling by them is exact, so that the same numbers come out in any unit. What stays is
of a size near 1, where neither squares nor a constant against division by zero can go wrong.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def power_of(tensor: Tensor) -> int:
    """Return the least e with |x| ≤ 2^e for every entry of a finite tensor; 0 where nothing is but zeros."""
    largest = max((abs(float(end)) for end in tensor.detach().aminmax()), default=0.0) if tensor.numel() else 0.0
    mantissa, power = math.frexp(largest)
    return power - (mantissa == 0.5)


def power_of_mean(images: Tensor) -> int:
    """Return the e for which 2^e is nearest to the root of the mean square of images (n, d)."""
    power = power_of(images)
    mean = float(scaled(images.detach(), -power).double().square().mean())
    return power + round(0.5 * math.log2(mean)) if mean > 0 else 0


def power_of_atoms(dictionary: Tensor) -> int:
    """Return the e for which 2^e is nearest to the norm of the longest atom of a dictionary (N, d): 0 where it is 1."""
    power = power_of(dictionary)
    longest = float(scaled(dictionary.detach(), -power).norm(dim=1).max())
    return power + round(math.log2(longest)) if longest > 0 else 0


def scaled(tensor: Tensor, power: int) -> Tensor:
    """Return 2^power · x, strided or sparse_csr as x is; x itself if the power is 0."""
    if power and tensor.layout == torch.sparse_csr:
        return torch.sparse_csr_tensor(
            tensor.crow_indices(),
            tensor.col_indices(),
            scaled(tensor.values(), power),
            tensor.shape,
            check_invariants=False,
        )
    while power:  # the whole factor may be no number of this dtype, where x is one of its smallest
        step = max(-100, min(100, power))
        tensor, power = tensor * 2.0**step, power - step
    return tensor


def unit_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows (n, d) with a largest entry in [1, 2), and the powers of two that were taken out, (n, 1).

    Rows of zeros stay, with 1.
    """
    largest = rows.abs().amax(1, keepdim=True)
    units = torch.where(largest > 0, largest / (2.0 * torch.frexp(largest).mantissa), 1.0)
    return rows / units, units


def penalty_in(penalty: float, power: int) -> float:
    """Return λ ÷ 2^power, cut to [2^−500, 2^100], between which all is decided for operands of a size near 1."""
    return math.ldexp(penalty, min(max(-power, -500 - math.frexp(penalty)[1]), 100 - math.frexp(penalty)[1]))
