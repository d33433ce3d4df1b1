"""Shrink whole units of a weight towards zero: the proximal step of the group lasso."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsebench.suites.workloads.sparse_cnn.units import expand, norms, unit_size


def shrink(weight: Tensor, pattern: str, amount: float) -> None:
    """Replace every unit w of a weight (out, in, kh, kw) by w · max(0, 1 − amount·√size/‖w‖), in place.

    The proximal map of amount · Σ √size ‖w‖ (Yuan and Lin 2006, eq. 2.4; structured sparsity: Wen et al. 2016).

    Args:
        weight: changed.
        pattern: the units'.
        amount: step size × weight of the penalty, at least 0; a unit whose root mean square is below it becomes zero.
    """
    if amount < 0:
        raise ValueError(f"expected an amount of at least 0, got {amount}")
    shape = tuple(weight.shape)
    lengths = norms(weight, pattern)
    limit = amount * unit_size(shape, pattern) ** 0.5
    factors = torch.where(lengths > limit, 1.0 - limit / lengths.clamp(min=torch.finfo(weight.dtype).tiny), 0.0)
    with torch.no_grad():
        weight.mul_(expand(factors, shape, pattern))
