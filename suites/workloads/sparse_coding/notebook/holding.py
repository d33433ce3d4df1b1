"""Run the conserved-flow network image by image with each code held and decoded by a representation of one's choice."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sparsebench.representations import registry
from sparsebench.representations.base import Representation, Spec
from sparsebench.suites.workloads.sparse_coding.notebook.loops import Loop, epoch_numpy

Decode = Callable[[Tensor, Tensor], Tensor]
"""(code (1, units), dictionary (units, pixels)) -> code @ dictionary (1, pixels)."""


def why_not(name: str, units: int) -> str | None:
    """Return why a representation cannot decode a float64 code (1, units) on the CPU, in one line, or None."""
    cls = registry.load(name)
    missing = registry.missing_requirements(cls)
    if missing:
        return f"{name} needs {', '.join(missing)}, not installed here"
    return cls.unsupported(Spec(operation="matmul", shape=(1, units), dtype=torch.float64, device="cpu"))


def decoder(name: str, units: int) -> tuple[Decode, str]:
    """Return how a representation decodes one image's code, and how it comes by that code.

    Every entry of a logistic code is stored, so all codes have the same places. Where a representation can put other
    values in its places (`values`, `with_values`), it is built once and each image gives it new values: the places of
    the values are read off a code that holds 1, 2, 3 … Otherwise it is built anew for each image.

    Args:
        name: of the representation.
        units: N.

    Returns:
        the function; "values" or "build".

    Raises:
        ValueError: if the representation is unknown or cannot multiply on the CPU in float64.
    """
    reason = why_not(name, units)
    if reason is not None:
        raise ValueError(f"expected a representation that multiplies float64 on the CPU, got {name}: {reason}")
    cls = registry.load(name)
    if cls.native("values") and cls.native("with_values"):
        return _by_values(cls, units), "values"
    return lambda code, dictionary: cls.build(code).matmul(dictionary), "build"


def _by_values(cls: type[Representation], units: int) -> Decode:
    held = cls.build(torch.arange(1, units + 1, dtype=torch.float64)[None])
    numbers = held.values.round().long()  # 0 where a block holds fill
    if not torch.equal(numbers[numbers > 0].sort().values, torch.arange(1, units + 1)):
        raise ValueError(
            f"expected {cls.name} to store each of {units} entries once, got others; build it anew instead"
        )
    padded = torch.zeros(units + 1, dtype=torch.float64)

    def decode(code: Tensor, dictionary: Tensor) -> Tensor:
        padded[1:] = code[0]
        return held.with_values(padded[numbers]).matmul(dictionary)

    return decode


def loop_holding(name: str, units: int) -> Loop:
    """Return one epoch, as `loops.epoch_numpy`, in which r = o @ W is computed by a representation's matmul.

    Raises:
        ValueError: as `decoder`.
    """
    decode, _ = decoder(name, units)

    def epoch(
        dictionary: np.ndarray,
        thresholds: np.ndarray,
        images: np.ndarray,
        rate: float,
        gamma: float,
        flow: float,
        epsilon: float,
    ) -> float:
        weights = torch.from_numpy(dictionary)  # the same memory: the representation sees every change

        def decoded(code: np.ndarray) -> np.ndarray:
            found: np.ndarray = decode(torch.from_numpy(code)[None], weights).numpy()[0]
            return found

        return epoch_numpy(dictionary, thresholds, images, rate, gamma, flow, epsilon, decoded)

    return epoch
