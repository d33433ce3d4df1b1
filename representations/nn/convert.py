"""Convert whole models: a copy in which every linear and convolutional layer is stored in a representation."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from sparsebench.representations.base import Representation
from sparsebench.representations.nn.attention import READS_WEIGHTS, decline_fast_paths
from sparsebench.representations.nn.base import SparseModule
from sparsebench.representations.nn.computed import computed, copied_leftovers, plain_type, take_hooks
from sparsebench.representations.nn.groups import expand_groups
from sparsebench.representations.nn.layers import SparseConv2d, SparseLinear, stored_layer
from sparsebench.representations.nn.prune import layer_pattern, magnitude_mask
from sparsebench.representations.nn.store import stored_places, usable_class
from sparsebench.representations.pattern import Pattern

_NO_PRODUCT = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm, nn.RMSNorm)
"""Layers of torch whose parameters may have rows and columns, but which look up or scale, and multiply no matrix."""
_NO_LAYERS = ("torch.nn.modules.module", "torch.nn.modules.container")
"""Modules of classes that everybody derives from; what else derives from a layer of torch does that layer's product."""


def convert(
    model: nn.Module,
    representation: str | type[Representation],
    pattern: Pattern | str | None = None,
    sparsity: float = 0.0,
    *,
    seed: int = 0,
    skip: Collection[str] = (),
) -> nn.Module:
    """Return a copy of a model in which every nn.Linear and nn.Conv2d is stored in a representation.

    Units of the pattern are kept by magnitude, their sum of squares, layer by layer; how many is exact, as in
    `Pattern`. Of a grouped convolution only the units that hold something count. Kept units are stored even where they
    are 0. A layer left with nothing stored runs, giving its bias, and a warning names it. Parameters that belong to no
    layer of torch stay as they are. A weight that torch.nn.utils prunes, normalises or parametrizes is stored as the
    layer would compute it next, and is a plain one from then on; other hooks of a layer go with it.

    Args:
        model: any module; it is not changed. A layer that stands in several places is converted once.
        representation: a name of the registry, "module:Class", or a class.
        pattern: what is pruned. A kind ("element", "plane", "channel", "filter-channel", "block:32", "n:4") makes each
            layer's own pattern, with planes of its kernel's size; a Pattern is the same for all layers. None stores the
            weights as they are.
        sparsity: the share of units that go, in [0, 1); for filter-channel, of output and of input maps alike.
        seed: decides among units of equal magnitude.
        skip: names of modules, as in `named_modules`, that stay as they are with all that is in them.

    Raises:
        ValueError: if the sparsity lies outside [0, 1), or is given without a pattern; if a name to skip is not there;
            if a layer cannot be converted, which is named.
        UnknownRepresentationError: if nothing has the representation's name.
    """
    if not 0.0 <= sparsity < 1.0:
        raise ValueError(f"expected a sparsity in [0, 1), got {sparsity}; 0 keeps everything")
    if pattern is None and sparsity:
        raise ValueError(f"expected a pattern to prune by for sparsity {sparsity}, got None; name one")
    cls = usable_class(representation)
    names = dict(model.named_modules(remove_duplicate=False))
    unknown = sorted(set(skip) - set(names))
    if unknown:
        raise ValueError(f"expected names of modules to skip, got {', '.join(unknown)}; named_modules() lists them")
    skipped = {id(part) for name in skip for part in names[name].modules()}
    _check_shared(names, skipped)
    made: dict[int, nn.Module] = {}
    for name, layer in names.items():
        if id(layer) in skipped:
            continue
        try:
            converted = _layer(layer, cls, pattern, sparsity, seed)
        except (ValueError, RuntimeError) as error:  # NotImplementedError is a RuntimeError
            called = f"layer {name!r} ({type(layer).__name__})" if name else f"the model ({type(layer).__name__})"
            raise ValueError(f"expected to convert {called}, got: {error}; or name it in skip") from error
        if converted is None:
            continue
        made[id(layer)] = converted
        skipped |= {id(part) for part in layer.modules()}  # a parametrization is computed with, and gone from then on
        if not bool(stored_places(converted.representation, converted.kept).any()):
            called = repr(name) if name else "the model"
            warnings.warn(f"nothing is stored of {called}: it gives its bias or zeros from now on", stacklevel=2)
    return replaced(model, made)


def replaced(model: nn.Module, made: Mapping[int, nn.Module]) -> nn.Module:
    """Return a copy of a model with other layers wherever the ones of these ids stood, whose hooks they take."""
    # deepcopy takes what its memo holds for a copy
    memo: dict[int, Any] = {**copied_leftovers(model), **made}
    result: nn.Module = copy.deepcopy(model, memo)
    for layer in model.modules():
        if id(layer) in made:
            take_hooks(made[id(layer)], layer, memo)
    decline_fast_paths(result)
    return result


def _layer(
    layer: nn.Module, cls: type[Representation], pattern: Pattern | str | None, sparsity: float, seed: int
) -> SparseModule | None:
    """Return the converted layer, or None if there is nothing to convert in it (its children come by themselves).

    Raises:
        ValueError: if it holds a weight that cannot be converted.
    """
    if plain_type(layer) not in (nn.Linear, nn.Conv2d):
        own = [key for key, parameter in layer.named_parameters(recurse=False) if _is_weight(parameter)]
        if isinstance(made_by := getattr(layer, "parametrizations", None), nn.ModuleDict):
            own += list(made_by)
        if isinstance(layer, SparseModule):
            raise ValueError("it is converted already; convert the dense model")
        if any(isinstance(parameter, nn.UninitializedParameter) for parameter in layer.parameters(recurse=False)):
            raise ValueError("it has no shape before its first input; run the model once")
        if isinstance(layer, READS_WEIGHTS):
            raise ValueError("it multiplies with the weight of its layer, and would never run the stored one's product")
        if isinstance(layer, (nn.Linear, nn.Conv2d)) or (own and _multiplies(layer)):
            raise ValueError(
                f"only nn.Linear and nn.Conv2d themselves are known, and it has {', '.join(own) or 'more'}"
            )
        return None
    assert isinstance(layer, (nn.Linear, nn.Conv2d))  # noqa: S101  # mypy does not follow `plain_type`
    stored = SparseConv2d if isinstance(layer, nn.Conv2d) else SparseLinear
    if pattern is None:
        return stored_layer(stored, layer, cls, None, None)
    groups = getattr(layer, "groups", 1)
    weight = expand_groups(computed(layer)[0].detach(), groups)
    own_pattern = layer_pattern(pattern, tuple(weight.shape))
    return stored_layer(stored, layer, cls, magnitude_mask(weight, own_pattern, sparsity, seed, groups), own_pattern)


def _multiplies(layer: nn.Module) -> bool:
    """Tell whether a layer is one of torch's, or made from one, that multiplies; of others nothing is known."""
    bases = [base.__module__ for base in type(layer).__mro__ if base.__module__ not in _NO_LAYERS]
    return any(base.startswith("torch.nn.modules.") for base in bases) and not isinstance(layer, _NO_PRODUCT)


def _is_weight(parameter: nn.Parameter) -> bool:
    return isinstance(parameter, nn.parameter.UninitializedParameter) or parameter.dim() >= 2


def _check_shared(names: dict[str, nn.Module], skipped: set[int]) -> None:
    """Raise ValueError if two layers hold one weight or bias: each would have its own from then on."""
    owners: dict[int, tuple[str, int]] = {}
    for name, layer in names.items():
        known = plain_type(layer) in (nn.Linear, nn.Conv2d)
        for key, parameter in layer.named_parameters(recurse=False):
            if not (known or _is_weight(parameter)):
                continue
            other, owner = owners.setdefault(id(parameter), (name, id(layer)))
            if owner != id(layer) and not {owner, id(layer)} <= skipped:
                raise ValueError(
                    f"expected a {'bias' if key == 'bias' else 'weight'} of its own in layer {name!r}, got that of "
                    f"{other!r}; name both in skip"
                )
