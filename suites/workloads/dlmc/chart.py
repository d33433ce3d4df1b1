"""Draw what a network loses in quality against what it gains in time and bytes, in every representation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from sparsebench.suites.report.anchors import cell_anchor
from sparsebench.suites.report.colours import Look
from sparsebench.suites.report.draw.plot import Dot, Series, plot
from sparsebench.suites.report.draw.scale import Scale, log_scale
from sparsebench.suites.report.table import Picture
from sparsebench.suites.text import count, percent, ratio, significant
from sparsebench.suites.workloads.dlmc.summary import Mean, means, networks

LEAST_SIZE, LARGEST_SIZE = 0.4, 1.6
"""Of a mark, so that it is seen, and covers no other."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One network in one representation.

    Attributes:
        method, level: of the network.
        quality: of the network.
        mean: over its matrices in the run.
        beaten: whether another network or representation is as good in quality, time and bytes, and better in one.
    """

    method: str
    level: float
    quality: float
    mean: Mean
    beaten: bool = False

    @property
    def told(self) -> str:
        """Return what it says in words."""
        mean = self.mean
        return (
            f"quality {significant(self.quality, 4)}, {ratio(mean.speedup)} as fast as dense, "
            f"{significant(mean.bytes_ratio)} of the bytes; {self.method} at {percent(self.level)}, "
            f"{count(mean.matrices, 'matrix', 'matrices')}" + (", beaten" if self.beaten else "")
        )


def offers(rows: pd.DataFrame) -> list[Offer]:
    """Return every network in every representation, each judged against all others.

    Args:
        rows: from `summary.told`, of one model at one kind of columns.
    """
    found = [
        Offer(method=method, level=level, quality=quality, mean=mean)
        for method, level, quality, some in networks(rows)
        for mean in means(some)
    ]
    points = [(-one.quality, 1 / one.mean.speedup, one.mean.bytes_ratio) for one in found]
    return [
        Offer(
            method=one.method,
            level=one.level,
            quality=one.quality,
            mean=one.mean,
            beaten=any(
                all(a <= b for a, b in zip(other, mine, strict=True)) and other != mine for other in points
            ),
        )
        for one, mine in zip(found, points, strict=True)
    ]  # fmt: skip


def picture(every: Sequence[Offer], title: str, metric: str, looks: Mapping[str, Look]) -> Picture:
    """Return the chart: time to the right, quality upwards, the area of a mark for the bytes.

    Args:
        every: at least one.
        title: above it.
        metric: what the quality is.
        looks: of the representations.
    """
    series = []
    for name in looks:
        mine = sorted((one for one in every if one.mean.representation == name), key=lambda one: not one.beaten)
        # the last dot gives a series its name beside the plot: one that is not beaten, where there is one
        dots = tuple(
            Dot(
                x=1 / one.mean.speedup,
                y=one.quality,
                told=one.told,
                href=cell_anchor(one.mean.key),
                faded=one.beaten,
                size=min(max(math.sqrt(one.mean.bytes_ratio), LEAST_SIZE), LARGEST_SIZE),
            )
            for one in sorted(mine, key=lambda one: (not one.beaten, one.quality))
        )
        series += [Series(name=name, dots=dots, joined=False)] if dots else []
    series.sort(key=lambda one: not one.dots[-1].faded)  # those that are beaten lie below
    x = log_scale("time ÷ dense", [1.0, *(1 / one.mean.speedup for one in every)], lambda tick: f"{tick:g}")
    y = even_scale(metric, [one.quality for one in every])
    return Picture(html=plot(title, series, x, y, looks, about=f"Quality over time, {title}"), caption=title)


def even_scale(label: str, values: Sequence[float], most: int = 6) -> Scale:
    """Return an axis with even steps around values, with ticks at round ones."""
    low, high = min(values), max(values)
    edge = 0.06 * (high - low) or 1.0
    low, high = low - edge, high + edge
    power = 10.0 ** math.floor(math.log10(high - low))
    step = next(
        step for step in (0.1 * power, 0.2 * power, 0.5 * power, power, 2 * power) if (high - low) / step < most
    )
    ticks = [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return Scale(
        label=label, ends=(low, high), ticks=tuple((tick, f"{tick:g}") for tick in ticks), along=lambda value: value
    )
