"""List the trainings: what a quick run shows, what ten seeds are spent on, and which networks are timed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from sparsebench.suites.workloads.sparse_cnn.settings import PATTERNS, Settings

SEEDS: dict[str, int] = {"quick": 1, "full": 10}
LEAST_EPOCHS = 5
"""So many at least: where fewer images would be seen, fewer are used."""
QUICK, MEDIUM, LONG = 20_000, 60_000, 360_000
"""Images seen in a training, by kind; LONG is six epochs of MNIST's 60,000."""
QUICK_SPARSITY = 0.9
BUDGETS: tuple[float, ...] = (0.75, 0.9, 0.9375)
"""Sparsities of the comparison with narrower networks."""
LEVELS: tuple[float, ...] = (0.75, 0.9)
"""Sparsities at which the patterns are compared."""
RHOS: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.4)
BEST = "group-lasso"
"""The method that stands for plane-sparse training in the targets."""
BOTH = Settings(method=BEST, sparsity=BUDGETS[0], rho=0.055, beta=6e-3, maps=(64, 96, 128))
"""Sparse in planes and in activations. Where few activations are on, more maps help more than more epochs: with one
seed each, ten epochs of 32, 64 and 64 maps gave 98.99 % at 8.5 % of the activations, six of these 99.08 % at 8.0 %."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One training to come, before the data are known.

    Attributes:
        settings: with `images` and `epochs` still open.
        seen: how many images it sees, all epochs together.
    """

    settings: Settings
    seen: int = QUICK

    @property
    def workload(self) -> str:
        """Return the name that a case has for it; pattern and sparsity stand beside it."""
        extra = "" if self.settings.rho is None else f", ρ={self.settings.rho:g}"
        if self.settings.winners < 1.0:
            extra += f", k={self.settings.winners:g}"
        return f"digits CNN, {self.settings.method}{extra}, {self.seen:,} seen"

    def fitted(self, images: int) -> Settings:
        """Return the settings for so many training images: all of them, unless that makes too few epochs."""
        used = min(images, max(1, self.seen // LEAST_EPOCHS))
        return dataclasses.replace(self.settings, images=used, epochs=round(self.seen / used))


def quick() -> list[Plan]:
    """Return one training of every kind, a few seconds each."""
    s = QUICK_SPARSITY
    return [
        Plan(settings=Settings()),
        *(Plan(settings=Settings(method="magnitude", pattern=pattern, sparsity=s)) for pattern in PATTERNS),
        *(Plan(settings=Settings(method=method, sparsity=s)) for method in ("group-lasso", "rigl", "narrow")),
        Plan(settings=Settings(rho=RHOS[1])),
        Plan(settings=Settings(winners=0.5)),
    ]


def targets() -> list[Plan]:
    """Return the trainings behind the two questions: sparse in both, and sparse against narrow."""
    wanted = [
        BOTH,
        *(Settings(method=method, sparsity=s) for s in BUDGETS for method in (BEST, "narrow")),
        Settings(),
    ]
    return [Plan(settings=settings, seen=LONG) for settings in wanted]


def comparison() -> list[Plan]:
    """Return the trainings that compare patterns, methods, and penalties, at a sixth of the length."""
    wanted = [
        Settings(),
        *(Settings(method="magnitude", pattern=pattern, sparsity=s) for s in LEVELS for pattern in PATTERNS),
        *(Settings(method=method, sparsity=LEVELS[-1]) for method in ("group-lasso", "rigl", "narrow")),
        *(Settings(rho=rho) for rho in RHOS),
        Settings(winners=0.5),
    ]
    return [Plan(settings=settings, seen=MEDIUM) for settings in wanted]


def plans(profile: str) -> list[Plan]:
    """Return the trainings of a profile.

    Raises:
        ValueError: if the profile is unknown.
    """
    if profile not in SEEDS:
        raise ValueError(f"expected a profile of {', '.join(SEEDS)}, got {profile!r}")
    return quick() if profile == "quick" else targets() + comparison()


def timed(profile: str) -> list[Plan]:
    """Return the trainings whose networks are timed on every representation.

    Raises:
        ValueError: if the profile is unknown.
    """
    return [plan for plan in plans(profile) if plan.settings.method == "magnitude"]
