"""Reckon how often verdicts are right, from the visits of representations and of their copies."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np

from sparsebench.suites.report.verdict import CELL, FACTOR, REPRESENTATION, Change, mean, pooled
from sparsebench.suites.search.answer import noise_of, points_of
from sparsebench.suites.search.fit import Noise, Point
from sparsebench.suites.selftest.copies import SLOWER, SUBJECTS, name_of

SPLITS = 40
"""Ways in which the passes are dealt to two sides, as if they were two runs."""
FALSE = 0.01
"""Share of false verdicts that is aimed at."""
ENOUGH = 3
"""False verdicts that are expected among so many comparisons at that share: with fewer it cannot be told."""
STEPS = tuple(round(2.6 + 0.1 * i, 1) for i in range(45))
"""Factors that are tried, the least first."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How often copies that are slower by so much are told to be.

    Attributes:
        level: CELL, or REPRESENTATION: all its cells together.
        percent: by which they take longer; 0: as long.
        visits: on either side.
        factor: standard errors that make a difference, the least with which false verdicts are rare enough.
        found: share told "slower"; at 0 %, told "slower" or "faster", which is false.
        tried: how many comparisons.
    """

    level: str
    percent: int
    visits: int
    factor: float
    found: float
    tried: int


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a self-test has found on a machine.

    Attributes:
        noise: how far visits of one cell lie apart, a standard deviation of log(speed-up).
        cells: that were measured.
        rates: for each level, share by which copies are slower, and several numbers of visits.
    """

    noise: float
    cells: int
    rates: tuple[Rate, ...]

    def rate(self, level: str, percent: int, visits: int | None = None) -> Rate:
        """Return the rate of a share at so many visits, by default the most."""
        most = max(rate.visits for rate in self.rates) if visits is None else visits
        return next(rate for rate in self.rates if (rate.level, rate.percent, rate.visits) == (level, percent, most))


Cells = Mapping[str, Mapping[str, Sequence[Point]]]
"""By what they measure, and by representation: the visits, in the order of passes."""


def cells_of(rows: Iterable[Mapping[str, Any]]) -> Cells:
    """Return the visits of a self-test's rows."""
    found: dict[str, dict[str, Sequence[Point]]] = defaultdict(dict)
    for row in rows:
        if points := points_of(row):
            key = f"{row['workload']}|{row['shape']}|{row['pattern']}|{row['sparsity']}"
            found[key][row["representation"]] = points
    return found


def reckon(rows: Sequence[Mapping[str, Any]]) -> Found:
    """Return how often verdicts are right.

    Two sides never share a pass, as two runs do not. The factor is the least with which false verdicts are as rare as
    they are meant to be, and at least FACTOR where too little was compared to tell.

    Raises:
        ValueError: if a cell was not visited twice.
    """
    cells = cells_of(rows)
    passes = min((len(points) for one in cells.values() for points in one.values()), default=0)
    if passes < 2:
        raise ValueError(f"expected at least 2 visits of every cell, got {passes}; give --time more")
    noise = noise_of(points for one in cells.values() for points in one.values())
    rates: list[Rate] = []
    for size in sorted({1, min(3, passes // 2), passes // 2}):
        changes = {percent: _changes(cells, noise, passes, size, percent) for percent in (0, *SLOWER)}
        for level, flat in ((CELL, chain.from_iterable), (REPRESENTATION, partial(map, pooled))):
            told = {percent: list(flat(some)) for percent, some in changes.items()}
            factor = _factor(told[0])
            rates += [
                Rate(
                    level=level, percent=percent, visits=size, factor=factor, tried=len(some),
                    found=_share(some, factor, percent),
                )
                for percent, some in told.items()
            ]  # fmt: skip
    return Found(noise=noise.spread, cells=sum(map(len, cells.values())), rates=tuple(rates))


def _factor(equal: Sequence[Change]) -> float:
    found = next((step for step in STEPS if _share(equal, step, 0) <= FALSE), STEPS[-1])
    return max(found, FACTOR) if len(equal) * FALSE < ENOUGH else found


def _share(changes: Sequence[Change], factor: float, percent: int) -> float:
    wanted = ("slower",) if percent else ("slower", "faster")
    return sum(one.verdict(factor) in wanted for one in changes) / len(changes) if changes else math.nan


def _changes(cells: Cells, noise: Noise, passes: int, size: int, percent: int) -> list[list[Change]]:
    """Return, for splits of the passes and each representation, the change of its cells to its copy's, or its own."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(SPLITS):
        dealt = rng.permutation(passes)
        sides = dealt[:size], dealt[size : 2 * size]
        for subject in SUBJECTS:
            for other in [name_of(subject, percent)] + ([subject] if percent == 0 else []):
                some = []
                for one in cells.values():
                    if subject in one and other in one:
                        (first, a), (second, b) = (
                            mean([one[name][number] for number in side], noise)
                            for name, side in zip((subject, other), sides, strict=True)
                        )
                        some.append(Change(log=second - first, error=math.sqrt(a + b)))
                found += [some] if some else []
    return found
