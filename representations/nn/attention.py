"""Keep modules of torch from reading the weights of stored layers, where they would run a dense product instead."""

from __future__ import annotations

from torch import nn

from sparsebench.representations.nn.base import SparseModule

READS_WEIGHTS: tuple[type[nn.Module], ...] = tuple(
    getattr(nn, name) for name in ("LinearCrossEntropyLoss",) if hasattr(nn, name)
)
"""Modules of torch that read the weight of a layer in them at every call; not every release has them."""


def decline_fast_paths(model: nn.Module) -> None:
    """Let encoder layers that hold stored ones run them in evaluation too.

    Otherwise torch takes `weight` of linear1 and linear2, copies that are made for it in every call, and multiplies
    densely (`torch._transformer_encoder_layer_fwd`); an encoder hands nested tensors to its layers for the same end.
    """
    for part in model.modules():
        if isinstance(part, nn.TransformerEncoderLayer) and _holds_stored(part):
            part.activation_relu_or_gelu = 0  # what torch sets for an activation that the fast path does not know
        elif isinstance(part, nn.TransformerEncoder) and _holds_stored(part):
            part.use_nested_tensor = False


def _holds_stored(part: nn.Module) -> bool:
    return any(isinstance(child, SparseModule) for child in part.modules())
