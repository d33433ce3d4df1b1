"""Write arrays into JSON and read them back: masks bit by bit, pictures as shades, a byte each."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

Packed = dict[str, Any]
SHADES = 31
"""Steps between a row's lowest and highest number: as many as a report's pictures have."""
DIGITS = 6
"""Significant digits of a figure."""


def bits(mask: NDArray[np.bool_]) -> Packed:
    """Return a mask of any shape as text, eight places a byte."""
    return {"shape": list(mask.shape), "bits": _text(np.packbits(mask))}


def shades(rows: np.ndarray) -> Packed:
    """Return rows (n, d) as text, each number rounded to one of SHADES steps from its row's lowest to its highest."""
    exact = rows.astype(np.float64)
    low, high = exact.min(1, keepdims=True), exact.max(1, keepdims=True)
    steps = np.rint((exact - low) / np.where(high > low, high - low, 1.0) * SHADES).astype(np.uint8)
    return {
        "shape": list(rows.shape), "low": figures(low.ravel()), "high": figures(high.ravel()), "shades": _text(steps),
    }  # fmt: skip


def figures(numbers: np.ndarray) -> list[float | None]:
    """Return numbers (n,) with DIGITS significant digits; one that is not finite is None."""
    return [float(f"{number:.{DIGITS}g}") if np.isfinite(number) else None for number in numbers.tolist()]


def unpacked(held: Packed) -> np.ndarray:
    """Return what `bits` (bool) or `shades` (float32) was given.

    Raises:
        ValueError: if it is neither.
    """
    shape = tuple(held["shape"])
    if "bits" in held:
        return np.unpackbits(_bytes(held["bits"]), count=int(np.prod(shape))).astype(bool).reshape(shape)
    if "shades" not in held:
        raise ValueError(f"expected bits or shades, got {', '.join(held)}")
    low, high = (np.array(held[name])[:, None] for name in ("low", "high"))
    exact: np.ndarray = low + _bytes(held["shades"]).reshape(shape) / SHADES * (high - low)
    return exact.astype(np.float32)


def _text(raw: np.ndarray) -> str:
    return base64.b64encode(raw.tobytes()).decode("ascii")


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(base64.b64decode(text), np.uint8)
