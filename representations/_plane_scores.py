"""Judge planes: which hold anything, and which are the strongest."""

from __future__ import annotations

import torch
from torch import Tensor

SCORES: tuple[str, ...] = ("max", "sum", "norm")
"""What `PlaneTensor.top_k` can rank planes by: max |x|, Σ |x|, or √Σ x²."""


def above(x: Tensor, tolerance: float) -> Tensor:
    """Return where a plane of x (d0, d1, h, w) has an |x| above the tolerance, or NaN: bool (d0, d1)."""
    if not x.numel():
        return torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
    return ~(x.detach().abs().amax((2, 3)) <= tolerance)


def score_of(x: Tensor, by: str) -> Tensor:
    """Return how good each plane is, (d0, d1), in at least float32; NaN is best."""
    size = x.detach().abs()
    size = size.float() if size.dtype in (torch.float16, torch.bfloat16) else size
    if by == "max":
        score = size.amax((2, 3))
    else:
        score = size.sum((2, 3)) if by == "sum" else torch.linalg.vector_norm(size, dim=(2, 3))
    return score.nan_to_num(nan=torch.inf, posinf=torch.inf)


def check_dense(x: Tensor) -> None:
    if x.dim() != 4 or x.layout != torch.strided or not x.is_floating_point():
        raise ValueError(
            f"expected a strided tensor (d0, d1, h, w) of floating point, got {tuple(x.shape)} {x.layout} {x.dtype}; "
            f"x[None] makes a batch of one sample"
        )


def checked(tolerance: float) -> float:
    if not tolerance >= 0.0:
        raise ValueError(f"expected a tolerance of at least 0, got {tolerance}; 0 keeps whatever is not 0")
    return tolerance
