"""Choose the level at which a curve is measured next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sparsebench.suites.search.answer import Answer, answer, fitted, guess, level_means
from sparsebench.suites.search.fit import Noise, Point, depth, level

BEGIN = 0.85
"""Where a curve is begun of which nothing is known."""
SECOND: tuple[float, ...] = (0.05, 0.2, 0.35, 0.5, 0.65, 0.75, 0.82, 0.9, 0.94, 0.97, 0.99)
"""Where a curve is measured the second time: few, so that representations share what a case costs to draw."""
APART = 0.2
"""How far from the crossing in u = −log(density) levels are put in turn, to see the slope."""


NARROW = 0.02
"""A crossing that is known within so much to either side needs no further visit, even if there is time."""


def next_level(
    points: Sequence[Point], noise: Noise, levels: Sequence[float], expected: float = BEGIN, *, narrow: bool = False
) -> float | None:
    """Return the level to measure next, None if the curve is answered.

    Args:
        points: of all levels and visits so far.
        noise: between visits.
        levels: that the pattern can have, ascending.
        expected: where the crossing is expected as long as nothing is measured.
        narrow: go on with an answered crossing until its interval is within ± NARROW.
    """
    if not points:
        return nearest(levels, expected)
    known: Answer = answer(points, noise, levels[0], levels[-1])
    if known.settled and not (narrow and known.verdict == "crosses" and known.half_width > NARROW):
        return None
    found, means = fitted(points, noise), level_means(points)
    # before a second level is measured the fit stands on what is believed of the slope: look where it points
    aim = guess(points) if len(means) == 1 else found.sparsity
    if aim >= levels[-1]:
        return levels[-1]
    if aim <= levels[0]:
        return levels[0]
    if len(means) == 1:
        beyond = [one for one in SECOND if (one - means[0][0]) * (aim - means[0][0]) > 0] or SECOND
        return nearest(levels, min(beyond, key=lambda one: abs(one - aim)))
    if all(value < 0 for _, value in means) and (len(points) > 2 or _ahead(means, levels[-1]) < 0):
        return levels[-1]  # where it was to be faster it is not
    if all(value >= 0 for _, value in means) and (len(points) > 2 or means[0][0] <= aim + 0.02):
        return levels[0]
    sides = Counter(point.sparsity > aim for point in points)
    if sides[True] and sides[False] and len(points) % 3 == 0:
        return nearest(levels, aim)
    step = APART if sides[True] <= sides[False] else -APART
    return nearest(levels, level(depth(aim) + step))


def _ahead(means: Sequence[tuple[float, float]], sparsity: float) -> float:
    """Return the value at a sparsity on the line through the last two levels, whatever slope was believed in."""
    (first, low), (second, high) = means[-2:]
    slope = (high - low) / (depth(second) - depth(first))
    return high + slope * (depth(sparsity) - depth(second))


def nearest(levels: Sequence[float], wanted: float) -> float:
    """Return the level nearest to a sparsity, in steps of 2 % below 90 % where there are so many, so that they meet."""
    coarse = [one for one in levels if one >= 0.9 or round(100 * one, 6) % 2 == 0] or list(levels)
    coarse = coarse if min(abs(one - wanted) for one in coarse) < 0.02 else list(levels)
    return min(coarse, key=lambda one: abs(one - wanted))
