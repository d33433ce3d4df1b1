"""Define what one training of the small CNN is asked for, and how it is named."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

METHODS: tuple[str, ...] = ("dense", "narrow", "magnitude", "group-lasso", "rigl")
PATTERNS: tuple[str, ...] = ("element", "block", "plane", "channel")
BLOCK = 8
"""Maps on a side of a block: the weight's matrix (out, in·kh·kw) has blocks of (8, 8·kh·kw)."""

MAPS = (32, 64, 64)
"""Of the three convolutions, unless said otherwise."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What one training is asked for. Two trainings with equal settings, seed and data end with the same bits.

    Attributes:
        method: one of METHODS. "narrow" is a dense network with fewer maps that stores at least as many parameters as
            a network of `maps` with this pattern and sparsity would.
        pattern: one of PATTERNS, the unit in which weights are kept or dropped.
        sparsity: share of the units absent, in [0, 1), over all prunable layers together; 0 for "dense".
        winners: share of a hidden layer's planes that each sample keeps, in (0, 1]; 1 is plain ReLU.
        rho: activity that the KL penalty asks of every hidden map, in (0, 1); None for no penalty.
        beta: weight of that penalty.
        maps: of the three convolutions; of the wide network if the method is "narrow".
        images: how many training images are used, the first ones; None for all.
        epochs: over these images.
        batch: images a step.
        rate: the highest learning rate of the one-cycle schedule.
        decay: weight decay.
        shift: images are moved by up to so many pixels, a batch at a time.
    """

    method: str = "dense"
    pattern: str = "plane"
    sparsity: float = 0.0
    winners: float = 1.0
    rho: float | None = None
    beta: float = 1e-2
    maps: tuple[int, int, int] = MAPS
    images: int | None = None
    epochs: int = 6
    batch: int = 128
    rate: float = 0.1
    decay: float = 5e-4
    shift: int = 2

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"expected a method of {', '.join(METHODS)}, got {self.method!r}")
        if self.pattern not in PATTERNS:
            raise ValueError(f"expected a pattern of {', '.join(PATTERNS)}, got {self.pattern!r}")
        if not 0.0 <= self.sparsity < 1.0:
            raise ValueError(f"expected a sparsity in [0, 1), got {self.sparsity}; 0 keeps everything")
        if self.method == "dense" and self.sparsity:
            raise ValueError(f"expected sparsity 0 for method dense, got {self.sparsity}; choose another method")
        if not 0.0 < self.winners <= 1.0:
            raise ValueError(f"expected winners in (0, 1], got {self.winners}; 1 keeps every plane")
        if self.rho is not None and not 0.0 < self.rho < 1.0:
            raise ValueError(f"expected rho in (0, 1), got {self.rho}; None is no penalty")
        if len(self.maps) != 3 or min(self.maps) < 1:
            raise ValueError(f"expected maps of three convolutions, each at least 1, got {self.maps}")
        if self.pattern == "block" and any(count % BLOCK for count in self.maps):
            raise ValueError(f"expected maps that blocks of {BLOCK} divide, got {self.maps}; round them up")
        for name in ("epochs", "batch", "images"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"expected {name} of at least 1, got {value}")
        for name in ("beta", "rate", "decay", "shift"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"expected {name} of at least 0, got {value}")

    @property
    def sparse(self) -> bool:
        """Tell whether weights are masked."""
        return self.method not in ("dense", "narrow")

    @property
    def label(self) -> str:
        """Return a short name for files and tables; settings of the recipe are not in it."""
        parts = [self.method]
        if self.method != "dense":
            parts += [self.pattern, f"{self.sparsity:g}"]
        if self.winners < 1.0:
            parts.append(f"k{self.winners:g}")
        if self.rho is not None:
            parts.append(f"rho{self.rho:g}")
        if self.maps != MAPS:
            parts.append("maps" + "x".join(map(str, self.maps)))
        return "-".join(parts)

    @property
    def key(self) -> str:
        """Return a text that differs wherever two settings differ."""
        return " ".join(f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self))
