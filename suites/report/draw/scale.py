"""Turn values into places along an axis, and choose its ticks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sparsebench.suites.report.first.axis import TICKS, stretched
from sparsebench.suites.text import bare_percent

SUBS: tuple[tuple[float, ...], ...] = (
    (1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0),
    (1.0, 1.2, 1.5, 1.8, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0), tuple(1 + 0.1 * i for i in range(90)),
)  # fmt: skip
"""Ticks of a decade, from few to many; the first that gives enough of them is taken."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """One axis.

    Attributes:
        label: what it shows.
        ends: lowest and highest value.
        ticks: values with their labels.
        along: turns a value into what is even along the axis.
    """

    label: str
    ends: tuple[float, float]
    ticks: tuple[tuple[float, str], ...]
    along: Callable[[float], float]

    def at(self, value: float, start: float, end: float) -> float:
        """Return where a value stands between two places."""
        low, high = (self.along(one) for one in self.ends)
        share = (self.along(value) - low) / (high - low) if high > low else 0.5
        return start + (end - start) * min(max(share, 0.0), 1.0)


def sparsity_scale(levels: Iterable[float]) -> Scale:
    """Return the axis of sparsity, from a little below the lowest level to a little above the highest."""
    known = sorted(levels)
    low, high = (known[0], known[-1]) if known else (0.0, 0.99)
    low, high = (0.0 if low < 0.3 else max(0.0, low - 0.08)), min(0.9999, high + 0.2 * (1 - high))
    ticks = [tick for tick in TICKS if low <= tick <= high and tick != 0.2]
    named = tuple((tick, bare_percent(tick)) for tick in ticks)
    return Scale(label="sparsity, %", ends=(low, high), ticks=named, along=stretched)


def digits(value: float) -> int:
    """Return how many significant digits a tick needs: 1 for 3, 2 for 1.5."""
    return len(f"{value:.3e}".partition("e")[0].replace(".", "").rstrip("0")) or 1


def log_scale(label: str, values: Sequence[float], shown: Callable[[float], str], most: int = 7) -> Scale:
    """Return a logarithmic axis around values above 0, with ticks at round ones.

    Args:
        label: what it shows.
        values: at least one.
        shown: writes a tick.
        most: ticks.
    """
    low, high = min(values), max(values)
    low, high = (low / 1.3, high * 1.3) if high < 1.05 * low else (low / 1.08, high * 1.08)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for subs in SUBS:
        ticks = [sub * 10.0**decade for decade in decades for sub in subs]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) >= 3:
            break
    step = math.ceil(len(ticks) / most)
    start = min(range(len(ticks)), key=lambda i: abs(math.log(ticks[i]))) % step if ticks else 0
    named = tuple((tick, shown(tick)) for tick in ticks[start::step])
    return Scale(label=label, ends=(low, high), ticks=named, along=math.log)


def doubling_scale(label: str, values: Sequence[float], shown: Callable[[float], str], most: int = 5) -> Scale:
    """Return a logarithmic axis with ticks at powers of two, as bytes have."""
    low, high = min(values) / 1.15, max(values) * 1.15
    powers = list(range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1))
    step = math.ceil(len(powers) / most) if powers else 1
    ticks = [2.0**power for power in powers[::step]] or [min(values)]
    return Scale(label=label, ends=(low, high), ticks=tuple((tick, shown(tick)) for tick in ticks), along=math.log)
