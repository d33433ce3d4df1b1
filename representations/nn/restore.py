"""Restore a converted model from its state dict alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sparsebench.representations import registry
from sparsebench.representations.nn.base import SparseModule
from sparsebench.representations.nn.computed import plain_type
from sparsebench.representations.nn.convert import replaced
from sparsebench.representations.nn.layers import SparseConv2d, SparseLinear, stored_layer
from sparsebench.representations.nn.places import read, read_mask, read_pattern, read_shape


def restore(model: nn.Module, state_dict: Mapping[str, Any]) -> nn.Module:
    """Return a copy of a dense network with the stored layers, the weights and all else of a converted one.

    Layers are stored in the representation, the pattern and the places that the state dict names. Parameters and
    buffers get its dtypes and devices too, so that the network may stand on the meta device. It shares no memory with
    the state dict.

    Args:
        model: the network as it was before `convert`, of any weights; it is not changed.
        state_dict: of the converted model; `torch.load(path, weights_only=True)` reads one that was saved. A class
            outside of the registry has to be registered before (`registry.register`).

    Raises:
        ValueError: if no layer of the state dict is stored, or a stored one does not fit its layer, which is named.
        RuntimeError: as `load_state_dict` raises it, if keys are missing, unexpected, or of another shape.
    """
    made: dict[int, nn.Module] = {}
    for name, layer in model.named_modules(remove_duplicate=False):
        pattern, values, weight = (
            state_dict.get(f"{name}.{key}" if name else key) for key in ("pattern", "values", "weight")
        )
        if pattern is None or id(layer) in made or plain_type(layer) not in (nn.Linear, nn.Conv2d):
            continue
        try:
            made[id(layer)] = _layer(layer, pattern, values, weight)
        except (ValueError, RuntimeError) as error:  # a class that is broken raises the latter
            called = f"layer {name!r} ({type(layer).__name__})" if name else f"the model ({type(layer).__name__})"
            raise ValueError(f"expected to restore {called}, got: {error}") from error
    if not made:
        raise ValueError("expected the state dict of a converted model, got no stored layer; use load_state_dict")
    result = replaced(model, made)
    shared: dict[int, Tensor] = {}  # what was one parameter stays one
    parameters = dict(result.named_parameters(remove_duplicate=False))
    state = OrderedDict(
        (key, value.detach().clone() if isinstance(value, Tensor) else value) for key, value in state_dict.items()
    )
    for key in parameters.keys() & state.keys():
        state[key] = shared.setdefault(id(parameters[key]), nn.Parameter(state[key], requires_grad=False))
    state._metadata = getattr(state_dict, "_metadata", None)  # type: ignore[attr-defined]  # torch keeps versions there
    result.load_state_dict(state, assign=True)
    return result


def _layer(layer: Any, pattern: Tensor, values: Tensor | None, weight: Tensor | None) -> SparseModule:
    facts, packed = read(pattern)
    if facts["representation"] not in registry.names():  # never "module:Class": no file may choose what is imported
        raise ValueError(f"expected a registered representation, got {facts['representation']!r}; register its class")
    mask = None
    if values is not None:
        mask = read_mask(facts, packed).to(values.device)
        weight = torch.zeros(read_shape(facts), dtype=values.dtype, device=values.device)
    if weight is None:
        raise ValueError("expected its values or its weight, got neither; save the whole state dict")
    stored = SparseConv2d if isinstance(layer, nn.Conv2d) else SparseLinear
    return stored_layer(stored, layer, facts["representation"], mask, read_pattern(facts), weight)
