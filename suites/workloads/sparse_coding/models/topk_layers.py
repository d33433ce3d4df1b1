"""Decode the k entries of each row with gradients, pull dead units back, and measure an error as pixels are shown."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sparsebench.kernels.sparse_codes import products
from sparsebench.kernels.sparse_codes.layout import CodeIndex
from sparsebench.representations.base import Representation


class _Decode(torch.autograd.Function):
    """r = code @ W, with dvalues = (g @ Wᵀ) at the places and dW = codeᵀ @ g, which is 0 but for units in use."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, dictionary: Tensor, index: CodeIndex, held: Representation | None) -> Tensor:
        ctx.save_for_backward(values, dictionary)
        ctx.index, ctx.held = index, held
        return products.decode(values, index, dictionary) if held is None else held.matmul(dictionary).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        values, dictionary = ctx.saved_tensors
        g = g.contiguous()
        by_values = products.decode_values(ctx.index, g, dictionary) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            by_dictionary = None
        elif ctx.held is None:
            by_dictionary = products.decode_dictionary(values, ctx.index, g, len(dictionary))
        else:
            by_dictionary = ctx.held.rmatmul(g)
        return by_values, by_dictionary, None, None


def decode(values: Tensor, dictionary: Tensor, index: CodeIndex, held: Representation | None = None) -> Tensor:
    """Return code @ dictionary (n, d), differentiable once in the values and in the dictionary.

    Args:
        values: (n, k), contiguous.
        dictionary: W (N, d), contiguous.
        index: where the values stand.
        held: the same code in a representation, which then does both products with it; None stands for the kernels of
            sparse codes, without a conversion.
    """
    # autograd's call has no types
    result: Tensor = _Decode.apply(values, dictionary, index, held)  # type: ignore[no-untyped-call]
    return result


def shown(images: Tensor, leak: float) -> Tensor:
    """Return r cut to [0, 1], as pixels are shown, plus `leak` times what was cut off, so that it has a gradient."""
    cut = images.clamp(0.0, 1.0)
    return cut if leak == 0 else cut + leak * (images - cut)


def auxiliary(drive: Tensor, dead: Tensor, dictionary: Tensor, residual: Tensor, chosen: int) -> Tensor:
    """Return the auxiliary loss on dead units: how far they are from explaining what the living ones left over.

    As AuxK (Gao et al. 2024, Scaling and evaluating sparse autoencoders, A.2), the mean over images of
    ‖residual − â @ W‖² ÷ ‖residual‖², where â holds the `chosen` largest drives of the dead units. Unlike there drives
    are not cut at 0: a unit that is below 0 for every image would have no gradient, and stay dead.

    Args:
        drive: z (n, N), before anything is chosen.
        dead: int64 (m,), m ≥ 1, numbers of the units.
        dictionary: W (N, d).
        residual: v − r (n, d); no gradient flows into it.
        chosen: how many dead units an image may use; at most m are.
    """
    left = residual.detach()
    own = drive[:, dead]
    values, places = own.topk(min(chosen, len(dead)), dim=1)
    code = torch.zeros_like(own).scatter(1, places, values)
    return (left - code @ dictionary[dead]).square().sum() / left.square().sum().clamp_min(1e-12)
