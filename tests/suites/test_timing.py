"""The arithmetic and the order of paired rounds; how long anything takes is no test's business."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from sparsebench.suites.measure.timing import (
    EFFORTS,
    CpuClock,
    Effort,
    Samples,
    bootstrap_interval,
    calls_per_sample,
    fastest,
    stolen_ticks,
    summarise,
    time_paired,
)

EFFORT = Effort(visits=1, budget_s=0.001, min_rounds=6, max_rounds=6, min_sample_s=1e-9)


class ScriptedClock:
    """Says how long each action took instead of looking: the arithmetic can be checked to the digit."""

    def __init__(self, seconds: dict[Any, float]) -> None:
        self.seconds = seconds
        self.sampled: list[Any] = []

    def sample(self, action: Any, inner: int) -> float:
        self.sampled.append(action)
        return self.seconds[action]


def visit(times: list[float], reference_times: list[float], inner: int = 1) -> Samples:
    return Samples(
        times=tuple(times), reference_times=tuple(reference_times), disturbed=(False,) * len(times), inner=inner
    )


def test_speedup_is_the_median_of_the_rounds_ratios() -> None:
    timing = summarise([visit([1.0, 2.0, 1.0, 4.0, 1.0], [3.0, 4.0, 3.0, 4.0, 2.0], inner=7)])
    assert timing.speedup == 2.0  # of 3, 2, 3, 1, 2; the ratio of medians would be 3
    assert timing.time_s == 1.0
    assert timing.reference_time_s == 3.0
    assert 1.0 <= timing.speedup_low <= 2.0 <= timing.speedup_high <= 3.0
    assert timing.spread == 1.0
    assert (timing.rounds, timing.inner_iterations) == (5, 7)


def test_interval_covers_the_true_ratio_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        timing = summarise([visit(list(rng.lognormal(0.0, 0.1, 30)), list(2.0 * rng.lognormal(0.0, 0.1, 30)))])
        hits += timing.speedup_low <= 2.0 <= timing.speedup_high
    assert 180 <= hits <= 199


def test_a_machine_that_drifts_leaves_the_ratio_alone() -> None:
    drift = np.linspace(1.0, 3.0, 20)
    timing = summarise([visit(list(drift), list(5.0 * drift))])
    assert timing.speedup_low == pytest.approx(5.0)
    assert timing.speedup_high == pytest.approx(5.0)


def test_the_interval_grows_by_what_differs_between_visits() -> None:
    steady = [visit([1.0] * 10, [2.0] * 10) for _ in range(3)]
    assert (summarise(steady).speedup_low, summarise(steady).speedup_high) == (2.0, 2.0)
    moody = [visit([1.0] * 10, [speedup] * 10) for speedup in (2.0, 2.2, 2.6)]
    timing = summarise(moody)
    assert (timing.speedup, timing.speedup_low, timing.speedup_high) == (2.2, 2.0, 2.6)
    assert timing.rounds == 30


def test_visits_of_different_lengths_count_every_round_that_they_have_and_no_other() -> None:
    low, high = bootstrap_interval([np.full(2, 3.0), np.full(9, 5.0)], np.random.default_rng(0))
    assert (low, high) == (3.0, 5.0)  # padding would show as 0


def test_disturbed_rounds_are_left_out_while_enough_others_are_left() -> None:
    marks = (True, True, False, False, False, False, False)
    samples = Samples(times=(1.0,) * 7, reference_times=(90.0, 80.0, 3.0, 3.0, 3.0, 3.0, 3.0), disturbed=marks, inner=1)
    timing = summarise([samples])
    assert (timing.speedup, timing.speedup_high, timing.rounds, timing.disturbed_rounds) == (3.0, 3.0, 5, 2)
    fewer = dataclasses.replace(samples, disturbed=(True,) * 3 + (False,) * 4)
    assert summarise([fewer]).rounds == 7
    assert summarise([fewer]).speedup_high > 3.0  # all count, and the interval says what that is worth
    nothing_calm = dataclasses.replace(samples, disturbed=(True,) * 7)
    assert nothing_calm.calm() is None
    assert summarise([nothing_calm, samples]).rounds == 5


def test_stolen_ticks_only_grow() -> None:
    before = stolen_ticks()
    assert 0 <= before <= stolen_ticks()


def test_samples_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="expected as many times, reference times and marks"):
        visit([1.0] * 3, [1.0] * 4)


def test_the_order_alternates_and_every_sample_follows_an_untimed_call(benchmark: Any) -> None:
    called: list[str] = []

    def candidate() -> None:
        called.append("c")

    def reference() -> None:
        called.append("r")

    clock = ScriptedClock({candidate: 1.0, reference: 4.0})
    samples = time_paired(benchmark, candidate, reference, clock, EFFORT)
    if samples is None:
        pytest.skip("pytest-benchmark is disabled here, so there are no rounds to look at")
    # before the rounds each was sampled twice, to plan them; behind them some may make up for disturbed ones
    rounds = clock.sampled[4:][:12]
    assert rounds == [reference, candidate, candidate, reference] * 3
    assert called[:12] == ["r", "c", "c", "r"] * 3  # the clock calls nothing, so these are the untimed calls
    assert (samples.times[:6], samples.reference_times[:6]) == ((1.0,) * 6, (4.0,) * 6)
    assert len(samples.times) - 6 == len(samples.disturbed) - 6 <= sum(samples.disturbed)
    assert len(benchmark.stats.stats.data) == 6


def test_short_actions_are_repeated_within_a_sample() -> None:
    assert calls_per_sample(1e-4, EFFORTS["quick"]) == 10
    assert calls_per_sample(1.0, EFFORTS["quick"]) == 1
    assert calls_per_sample(0.0, EFFORTS["quick"]) == 10_000


def test_the_cpu_clock_calls_as_often_as_it_says() -> None:
    calls: list[int] = []
    assert CpuClock().sample(lambda: calls.append(1), 5) > 0
    assert len(calls) == 5


def test_the_fastest_reference_is_chosen() -> None:
    def slow() -> None: ...
    def fast() -> None: ...

    assert fastest({"slow": slow, "fast": fast}, ScriptedClock({slow: 2.0, fast: 1.0})) == "fast"


def test_an_effort_without_rounds_is_refused() -> None:
    with pytest.raises(ValueError, match="min_rounds"):
        Effort(visits=1, budget_s=1, min_rounds=1, max_rounds=5, min_sample_s=1e-3)
    with pytest.raises(ValueError, match="at least 1 visit"):
        Effort(visits=0, budget_s=1, min_rounds=2, max_rounds=5, min_sample_s=1e-3)


def test_efforts_grow_with_the_profile() -> None:
    assert all(a.budget_s < b.budget_s for a, b in pairwise(EFFORTS.values()))
