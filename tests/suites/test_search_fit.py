"""Break-evens found on curves whose crossing is known: right, and in their intervals as often as these say."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from sparsebench.suites.search.answer import Answer, answer, guess, noise_of, points_of
from sparsebench.suites.search.fit import Noise, Point, depth, fit, level
from sparsebench.suites.search.levels import BEGIN, NARROW, nearest, next_level

LEVELS = tuple(percent / 100 for percent in range(5, 100))
ROUNDS_ERROR = 0.01


def curve(crossing: float, fixed: float, power: float = 1.0) -> Callable[[float], float]:
    """Return sparsity -> log(speed-up) of costs c₀ + c₁·d^power that are those of dense at the crossing."""
    return lambda sparsity: -math.log(fixed + (1 - fixed) * ((1 - sparsity) / (1 - crossing)) ** power)


def visit(rng: np.random.Generator, value: float, spread: float, kind: str) -> float:
    """Return what a visit finds: the value, what differs between visits, and what is left of the rounds."""
    between = {
        "normal": lambda: rng.normal(0, spread),
        "heavy-tailed": lambda: rng.standard_t(3) * spread / math.sqrt(3),
        "skew": lambda: rng.exponential(spread) - spread,
    }[kind]()
    return value + float(between) + float(rng.normal(0, ROUNDS_ERROR))


def search(
    rng: np.random.Generator,
    of: Callable[[float], float],
    spread: float,
    kind: str,
    most: int = 12,
    *,
    narrow: bool = False,
) -> tuple[Answer, int]:
    """Measure a curve where the search wants it, until it is answered, or narrow as well."""
    points: list[Point] = []
    noise = Noise(spread=spread)
    while len(points) < most and (sparsity := next_level(points, noise, LEVELS, narrow=narrow)) is not None:
        found = visit(rng, of(sparsity), spread, kind)
        points.append(Point(sparsity=sparsity, value=found, error=ROUNDS_ERROR))
    return answer(points, noise, LEVELS[0], LEVELS[-1]), len(points)


@pytest.mark.parametrize("kind", ["normal", "heavy-tailed", "skew"])
def test_intervals_hold_the_crossing_as_often_as_they_say(kind: str) -> None:
    """A whole search each, stopped when it is answered, which by itself favours intervals that came out too narrow."""
    rng = np.random.default_rng(7)
    held = []
    visits = []
    for number in range(600):
        crossing, spread = rng.uniform(0.1, 0.97), (0.01, 0.02, 0.04)[number % 3]
        of = curve(crossing, rng.uniform(0, 0.6), 1.5 if number % 4 == 0 else 1.0)
        found, count = search(rng, of, spread, kind)
        visits.append(count)
        if found.verdict == "crosses":
            assert found.high - found.low <= 0.0801
            held.append(found.low <= crossing <= found.high)
    assert len(held) > 500  # most are answered
    assert 0.92 <= np.mean(held) <= 0.985  # 95 % ± 3 standard errors of 500 trials
    assert np.mean(visits) < 4.5


def test_intervals_that_are_made_narrower_still_hold_the_crossing() -> None:
    rng = np.random.default_rng(3)
    held, widths, visits = [], [], []
    for crossing in np.linspace(0.3, 0.9, 150):
        found, first = search(rng, curve(crossing, 0.2), 0.04, "normal", 24)
        again, more = search(rng, curve(crossing, 0.2), 0.04, "normal", 24, narrow=True)
        if found.verdict == again.verdict == "crosses":
            held.append(again.low <= crossing <= again.high)
            widths.append(again.half_width)
            visits.append(more - first)
    assert len(held) > 130
    assert np.mean(np.array(widths) <= NARROW) > 0.9
    assert np.mean(visits) > 1
    assert 0.9 <= np.mean(held) <= 0.99


@pytest.mark.parametrize("kind", ["normal", "heavy-tailed", "skew"])
def test_curves_that_never_cross_are_told_from_those_that_do(kind: str) -> None:
    rng = np.random.default_rng(8)
    found: Counter[tuple[str, str]] = Counter()
    for _ in range(150):
        worse, better = rng.uniform(0.2, 3), rng.uniform(0.2, 3)
        found["slower", search(rng, lambda _, w=worse: -w, 0.03, kind)[0].verdict] += 1
        found["faster", search(rng, lambda s, b=better: b + depth(s), 0.03, kind)[0].verdict] += 1
    assert found["slower", "not up to"] >= 147
    assert found["faster", "from the start"] >= 147
    assert found["slower", "crosses"] + found["faster", "crosses"] == 0


def test_a_flat_line_below_1_does_not_cross_however_far_it_is_drawn() -> None:
    points = [Point(sparsity=sparsity, value=-0.6, error=0.01) for sparsity in (0.85, 0.9, 0.94)]
    assert answer(points, Noise(spread=0.02), 0.05, 0.99).verdict == "open"
    assert next_level(points, Noise(spread=0.02), LEVELS) == 0.99


def test_the_fit_is_the_line_where_there_is_no_noise() -> None:
    straight = curve(0.7, 0.0)
    points = [Point(sparsity=s, value=straight(s), error=0.001) for s in (0.5, 0.66, 0.72, 0.9)]
    found = fit(points, Noise(spread=0.001), guess(points))
    assert found.sparsity == pytest.approx(0.7, abs=0.004)
    assert found.low < 0.7 < found.high
    assert level(depth(0.37)) == pytest.approx(0.37)


def test_first_levels() -> None:
    assert next_level([], Noise(), LEVELS) == nearest(LEVELS, BEGIN)
    assert next_level([], Noise(), (0.25, 0.5, 0.75)) == 0.75  # levels that n:4 can have
    slow = [Point(sparsity=0.85, value=-3.0, error=0.01)]
    assert next_level(slow, Noise(), LEVELS) == 0.99
    fast = [Point(sparsity=0.85, value=3.0, error=0.01)]
    assert next_level(fast, Noise(), LEVELS) == 0.05
    near = [Point(sparsity=0.86, value=0.3, error=0.01)]
    assert 0.6 < (next_level(near, Noise(), LEVELS) or 0) < 0.86


def test_what_is_told() -> None:
    def plain(found: Answer) -> str:
        return found.text.replace("\N{NO-BREAK SPACE}", " ")

    assert plain(Answer(verdict="crosses", sparsity=0.52, low=0.5, high=0.54)) == "52 % [50, 54]"
    assert plain(Answer(verdict="from the start", sparsity=0.03)) == "from 0 %"
    assert plain(Answer(verdict="not up to", sparsity=0.99)) == "not up to 99 %"
    assert plain(Answer(verdict="open", sparsity=0.6, low=0.45, high=0.8)) == "open: 45 to 80 %"
    assert plain(Answer(verdict="open", sparsity=0.6, low=0.9)) == "open: above 90 %"
    assert plain(Answer(verdict="open", sparsity=0.3, high=0.5)) == "open: below 50 %"
    assert plain(answer([], Noise(), 0.05, 0.99)) == "–"


def test_points_of_rows_of_any_version() -> None:
    row = {"status": "ok", "sparsity": 0.5, "speedup": 2.0, "speedup_low": 1.8, "speedup_high": 2.2}
    [old] = points_of(row)
    assert (old.sparsity, old.value) == (0.5, pytest.approx(math.log(2)))
    assert old.error == pytest.approx(math.log(2.2 / 1.8) / 3.92)
    visits = {"visit_speedups": [1.9, 2.1], "visit_errors": [0.01, 0.0]}
    listed, written = (
        points_of(row | visits),
        points_of(row | {"visit_speedups": "1.9x2.1", "visit_errors": "0.01x0.0"}),
    )
    assert [point.value for point in listed] == pytest.approx([math.log(1.9), math.log(2.1)])
    assert written == listed
    assert all(point.error > 0 for point in listed)
    assert points_of(row | {"status": "wrong"}) == points_of(row | {"speedup": None}) == []


def test_noise_is_learnt_from_cells_that_were_visited_several_times() -> None:
    rng = np.random.default_rng(1)
    cells = [[Point(sparsity=0.5, value=v, error=0.001) for v in rng.normal(0, 0.05, 2)] for _ in range(400)]
    assert noise_of(cells).spread == pytest.approx(0.05, rel=0.25)
    assert noise_of(cells[:3]) == Noise()
    assert noise_of([[Point(sparsity=0.5, value=0.0, error=0.01)] * 3] * 50).spread == 0.01
