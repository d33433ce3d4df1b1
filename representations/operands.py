"""Refuse operands that a representation cannot multiply by, in the same words for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sparsebench.representations.base import Representation


def check_operand(self: Representation, name: str, tensor: Tensor, sizes: tuple[int | None, ...]) -> None:
    """Raise ValueError unless a tensor is strided, of these sizes (None: any), and of self's dtype and device."""
    fits = tensor.dim() == len(sizes) and all(s in (None, got) for s, got in zip(sizes, tensor.shape, strict=True))
    if not fits or tensor.layout != torch.strided:
        want = ", ".join("any" if size is None else str(size) for size in sizes)
        raise ValueError(f"expected strided {name} ({want}), got {tensor.layout} {tuple(tensor.shape)}; reshape it")
    if tensor.dtype != self.dtype or tensor.device != self.device:
        raise ValueError(
            f"expected {name} in {self.dtype} on {self.device}, got {tensor.dtype} on {tensor.device}; convert it"
        )


def check_values(values: Tensor, like: Tensor) -> None:
    """Raise ValueError unless `values` can stand where the stored values `like` do: of their shape, on their device."""
    if values.shape != like.shape or values.device != like.device:
        raise ValueError(
            f"expected values of shape {tuple(like.shape)} on {like.device}, got {tuple(values.shape)} on "
            f"{values.device}; start from .values"
        )
