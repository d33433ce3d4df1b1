"""Store a weight at chosen places, and say which places those are."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsebench.representations.base import Representation, Spec
from sparsebench.representations.pattern import Pattern
from sparsebench.representations.registry import load, missing_requirements


def gives_values(cls: type[Representation]) -> bool:
    """Tell whether values of a class can be exchanged."""
    return cls.native("values") and cls.native("with_values")


def usable_class(representation: str | type[Representation]) -> type[Representation]:
    """Return the class of a name, or the class itself.

    Raises:
        UnknownRepresentationError: if nothing has this name.
        BrokenRepresentationError: if its class cannot be loaded.
        ValueError: if a module is missing that it requires.
    """
    cls = load(representation) if isinstance(representation, str) else representation
    missing = missing_requirements(cls)
    if missing:
        raise ValueError(f"expected {', '.join(missing)} to be installed for {cls.name}, got nothing; install it first")
    return cls


def refusal(cls: type[Representation], weight: Tensor, pattern: Pattern | None) -> str | None:
    """Return why a class cannot store a weight and multiply or convolve with it, or None."""
    for operation in ("build", "matmul", *(("conv2d",) if weight.dim() == 4 else ())):
        spec = Spec(
            operation=operation,
            shape=tuple(weight.shape),
            dtype=weight.dtype,
            device=weight.device.type,
            pattern=pattern,
        )
        reason = cls.unsupported(spec)
        if reason is not None:
            return reason
    return None


def store_at(
    cls: type[Representation], weight: Tensor, mask: Tensor | None, pattern: Pattern | None
) -> tuple[Representation, Tensor | None]:
    """Store a weight at the places of a mask, also where it is 0, so that a weight of zeros can be trained there.

    Args:
        cls: the representation.
        weight: (m, k) or (out, in, kh, kw), strided.
        mask: bool of the same shape; None for wherever the weight is not 0.
        pattern: a hint for `build`.

    Returns:
        The representation; and of the values which ones stand in the mask (bool, shaped as they are), or None if all
        do, none is given, or the class gives no values. The others are fill: 0, as training must leave them.
    """
    weight = weight.detach()
    if mask is None:
        return cls.build(weight, pattern), None
    kept = torch.where(mask, weight, torch.zeros_like(weight))
    if not gives_values(cls):
        return cls.build(kept, pattern), None
    # only `build` knows its order of values: where the mask has a zero, build with a 1, then find it by a 2 in a twin
    zero = mask & (kept == 0)
    held = cls.build(kept.masked_fill(zero, 1.0), pattern)
    marks = cls.build(mask.to(weight.dtype).masked_fill(zero, 2.0), pattern).values
    held.values.masked_fill_(marks == 2, 0.0)
    inside = marks != 0
    return held, None if bool(inside.all()) else inside


def stored_places(held: Representation, kept: Tensor | None) -> Tensor:
    """Return where a representation stores something, or where `kept` says so: bool, shaped as the tensor."""
    if not gives_values(type(held)):
        return held.to_dense() != 0
    ones = torch.ones_like(held.values) if kept is None else kept.to(held.dtype)
    return held.with_values(ones).to_dense().reshape(held.shape) != 0
