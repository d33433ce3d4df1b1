"""Write down where a layer stores something, for its state dict and its pickle, and read it again."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsebench.representations.base import Representation
from sparsebench.representations.nn.store import gives_values, stored_places
from sparsebench.representations.pattern import Pattern

COMPARED = ("representation", "shape", "values", "places")
"""What must be equal for values to fit: name, shape, shape of the values, SHA-256 of the stored places."""


def pack(mask: Tensor) -> bytes:
    """Return a bool weight (m, k) or (out, in, kh, kw) as compressed bits.

    The places of the kernel come first: so whole planes are the same bits over and over, and cost next to nothing.
    """
    bits = np.packbits(mask.reshape(*mask.shape[:2], -1).movedim(2, 0).cpu().numpy())
    return zlib.compress(bits.tobytes())


def unpack(packed: bytes, shape: tuple[int, ...]) -> Tensor:
    """Return the bool weight of this shape that was packed."""
    bits = np.unpackbits(np.frombuffer(zlib.decompress(packed), np.uint8), count=math.prod(shape))
    mask = torch.from_numpy(bits).bool()
    return mask.reshape(math.prod(shape[2:]), *shape[:2]).movedim(0, 2).reshape(shape)


def facts_of(held: Representation, kept: Tensor | None, pattern: Pattern | None = None) -> dict[str, Any]:
    """Return how a layer is stored, for JSON: what COMPARED names, and the hint that it was built with."""
    return {
        "representation": held.name,
        "shape": _text(held.shape),
        "values": _text(held.values.shape) if gives_values(type(held)) else "none",
        "places": _digest(stored_places(held, kept)),
        "pattern": None if pattern is None else asdict(pattern),
    }


def write(held: Representation, kept: Tensor | None, pattern: Pattern | None) -> Tensor:
    """Return bytes (uint8) that say how a layer is stored: JSON, a zero, and the places as `pack` writes them.

    Args:
        held: the weight. Of a class without values the places are left out, since its weight goes along.
        kept: which values are no fill, or None.
        pattern: the hint that it was built with.
    """
    places = pack(stored_places(held, kept)) if gives_values(type(held)) else b""
    content = json.dumps(facts_of(held, kept, pattern)).encode() + b"\0" + places
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def read(written: Tensor) -> tuple[dict[str, Any], bytes]:
    """Return what `write` wrote: the facts, and the packed places, none if an earlier version wrote it.

    State dicts that were averaged hold floats; if all of them had the same bytes, those are found again.

    Raises:
        ValueError: if these are no such bytes, as after averaging different ones.
    """
    numbers = written.detach().cpu().double()
    rounded = numbers.round()
    same = bool(((numbers - rounded).abs() < 0.05).all())  # moving averages in float32 drift by some hundredths
    text, _, packed = rounded.to(torch.uint8).numpy().tobytes().partition(b"\0")
    try:
        facts = json.loads(text) if same else None
    except ValueError:  # json's and Unicode's errors are such
        facts = None
    if not isinstance(facts, dict) or not facts.keys() >= set(COMPARED):
        raise ValueError(
            f"expected the bytes of one pattern, got {written.dtype} of which they cannot be read; average only models "
            f"of the same pattern, and take this key from one of them"
        )
    return facts, packed


def read_mask(facts: dict[str, Any], packed: bytes) -> Tensor:
    """Return the stored places, bool, of what `read` returned.

    Raises:
        ValueError: if there are none, or not those that were written.
    """
    if not packed:
        raise ValueError("expected places in it, got none, as it was saved by an earlier version; convert and load")
    try:
        mask = unpack(packed, read_shape(facts))
    except zlib.error as error:
        raise ValueError(f"expected packed places in it, got other bytes: {error}; save it again") from error
    if _digest(mask) != facts["places"]:
        raise ValueError("expected the places that were saved, got others; save it again")
    return mask


def read_shape(facts: dict[str, Any]) -> tuple[int, ...]:
    """Return the shape of the weight."""
    return tuple(map(int, facts["shape"].split("x")))


def read_pattern(facts: dict[str, Any]) -> Pattern | None:
    """Return the hint that the layer was built with."""
    found = facts.get("pattern")
    return None if found is None else Pattern(**{**found, "block": tuple(found["block"])})


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _digest(mask: Tensor) -> str:
    return hashlib.sha256(mask.cpu().contiguous().numpy().tobytes()).hexdigest()
