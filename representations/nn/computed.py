"""Find what a dense layer computes with: weights made by hooks or parametrizations, and hooks that must not be lost."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

_HOOKS = (
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_backward_pre_hooks",
    "_backward_hooks",
)
"""Where torch keeps the hooks that a call of a module runs."""


def plain_type(layer: nn.Module) -> type[nn.Module]:
    """Return the class of a layer, and of one with a parametrization the class that it had before."""
    return type(layer).__bases__[0] if parametrize.is_parametrized(layer) else type(layer)


def computed(layer: nn.Linear | nn.Conv2d) -> tuple[Tensor, Tensor | None]:
    """Return weight and bias as the next forward pass would compute them; each requires a gradient if it trains.

    What torch.nn.utils prunes, normalises or parametrizes is a leftover of the last forward pass until then: loading a
    state dict or a step of an optimiser does not change it.

    Raises:
        ValueError: if something else than torch.nn.utils computes one of them, or the layer's forward was replaced.
    """
    if "forward" in vars(layer):
        raise ValueError("its forward was replaced, and a stored weight cannot follow; give it back its own")
    weight = _tensor(layer, "weight")
    if weight is None:
        raise ValueError("it has no weight; give it one")
    return weight, _tensor(layer, "bias")


def _tensor(layer: nn.Module, name: str) -> Tensor | None:
    with torch.enable_grad():  # whether it trains is read from the result
        if parametrize.is_parametrized(layer, name):
            # of a copy that is no longer training: a parametrization may then change its own buffers, as spectral_norm
            made = getattr(copy.deepcopy(layer, copied_leftovers(layer)).eval(), name)
        elif name in layer._parameters:
            return layer._parameters[name]
        else:
            hook = next((hook for hook in layer._forward_pre_hooks.values() if _makes(hook) == name), None)
            if hook is None:
                raise ValueError(f"its {name} is no parameter, and what computes it is unknown; make it a parameter")
            made = _made_by(hook, layer)
    if not isinstance(made, Tensor):
        raise ValueError(f"its {name} is computed as a {type(made).__name__}; make it a parameter")
    return made


def _makes(hook: object) -> str | None:
    """Return which tensor of its layer a hook of torch.nn.utils computes, or None if it is no such hook."""
    if isinstance(hook, prune.BasePruningMethod):
        return str(hook._tensor_name)
    return hook.name if isinstance(hook, (WeightNorm, SpectralNorm)) else None


def _made_by(hook: Any, layer: nn.Module) -> object:
    if isinstance(hook, prune.BasePruningMethod):
        return hook.apply_mask(layer)
    if isinstance(hook, SpectralNorm):
        return hook.compute_weight(layer, do_power_iteration=False)  # a step would change the given layer
    return hook.compute_weight(layer)


def take_hooks(made: nn.Module, source: nn.Module, memo: dict[int, Any] | None = None) -> None:
    """Copy a layer's hooks to what replaces it, but for those that computed its weight.

    Args:
        made: gets them.
        source: keeps its own.
        memo: of the deepcopy of the whole model: a hook bound to a part of it gets bound to the copy of that part. None
            shares the hooks.
    """
    for kind in _HOOKS:
        hooks = vars(source)[kind]
        others = ((key, hook) for key, hook in hooks.items() if _makes(hook) is None)
        vars(made)[kind] = type(hooks)(
            (key, hook if memo is None else copy.deepcopy(hook, memo)) for key, hook in others
        )
    made._is_full_backward_hook = source._is_full_backward_hook


def copied_leftovers(model: nn.Module) -> dict[int, Any]:
    """Return copies of tensors that deepcopy refuses, by their id: what a hook left from the last forward pass."""
    found: dict[int, Any] = {}
    for part in model.modules():
        for value in vars(part).values():
            held = value if isinstance(value, (list, tuple)) else (value,)
            found |= {id(one): one.detach().clone() for one in held if isinstance(one, Tensor) and not one.is_leaf}
    return found
