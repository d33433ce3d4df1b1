"""Train any representation: one autograd Function over three products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sparsebench.representations.base import Representation


class _Matmul(torch.autograd.Function):
    """y = S(values) @ x, with dx = Sᵀ @ g and dvalues = (g @ xᵀ) at the stored positions."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, x: Tensor, representation: Representation) -> Tensor:
        holder = representation.with_values(values.detach())
        ctx.holder = holder
        ctx.save_for_backward(x)
        return holder.matmul(x.detach())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (g,) = gradients
        (x,) = ctx.saved_tensors
        wants_values, wants_x, _ = ctx.needs_input_grad
        values_gradient = ctx.holder.sampled_matmul(g, x.t()) if wants_values else None
        x_gradient = ctx.holder.rmatmul(g) if wants_x else None
        return values_gradient, x_gradient, None


def matmul(representation: Representation, x: Tensor, values: Tensor | None = None) -> Tensor:
    """Return representation @ x so that gradients flow to `values` and to x; no gradient is ever dense-shaped.

    Args:
        representation: gives the places, and the values if none are given.
        x: (k, n).
        values: shaped as `representation.values`, usually a leaf that requires a gradient; None stands for the
            representation's own values.

    Returns:
        (m, n), strided.

    Raises:
        NotImplementedError: if the representation does not train.
        ValueError: if shapes do not match.
    """
    leaf = representation.values if values is None else values
    if leaf.shape != representation.values.shape:
        raise ValueError(f"expected values of shape {tuple(representation.values.shape)}, got {tuple(leaf.shape)}")
    columns = representation.matrix_shape[1]
    if x.dim() != 2 or x.shape[0] != columns:
        raise ValueError(f"expected x of shape ({columns}, n), got {tuple(x.shape)}")
    result = _Matmul.apply(leaf, x, representation)  # type: ignore[no-untyped-call]  # torch leaves it without types
    if not isinstance(result, Tensor):
        raise TypeError(f"expected a tensor from {representation.name}.matmul, got {type(result).__name__}")
    return result
