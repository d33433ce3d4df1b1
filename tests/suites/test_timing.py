"""The arithmetic and the order of paired rounds; how long anything takes is no test's business."""

from __future__ import annotations

import dataclasses
import io
import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from sparsebench.kernels.common import gpu
from sparsebench.suites.measure import timing
from sparsebench.suites.measure.clocks import CpuClock, CudaClock, fastest
from sparsebench.suites.measure.timing import (
    EFFORTS,
    Effort,
    Samples,
    bootstrap_interval,
    calls_per_sample,
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

    def wall(self, action: Any, inner: int) -> float | None:
        return 2 * self.seconds[action]


def visit(times: list[float], reference_times: list[float], inner: int = 1) -> Samples:
    return Samples(
        times=tuple(times), reference_times=tuple(reference_times), disturbed=(False,) * len(times), inner=inner
    )


def test_speedup_is_the_median_of_the_rounds_ratios() -> None:
    found = summarise([visit([1.0, 2.0, 1.0, 4.0, 1.0], [3.0, 4.0, 3.0, 4.0, 2.0], inner=7)])
    assert found.speedup == 2.0  # of 3, 2, 3, 1, 2; the ratio of medians would be 3
    assert found.time_s == 1.0
    assert found.reference_time_s == 3.0
    assert 1.0 <= found.speedup_low <= 2.0 <= found.speedup_high <= 3.0
    assert found.spread == 1.0
    assert (found.rounds, found.inner_iterations) == (5, 7)


def test_interval_covers_the_true_ratio_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        found = summarise([visit(list(rng.lognormal(0.0, 0.1, 30)), list(2.0 * rng.lognormal(0.0, 0.1, 30)))])
        hits += found.speedup_low <= 2.0 <= found.speedup_high
    assert 180 <= hits <= 199


def test_a_machine_that_drifts_leaves_the_ratio_alone() -> None:
    drift = np.linspace(1.0, 3.0, 20)
    found = summarise([visit(list(drift), list(5.0 * drift))])
    assert found.speedup_low == pytest.approx(5.0)
    assert found.speedup_high == pytest.approx(5.0)


def test_the_interval_grows_by_what_differs_between_visits() -> None:
    steady = [visit([1.0] * 10, [2.0] * 10) for _ in range(3)]
    assert (summarise(steady).speedup_low, summarise(steady).speedup_high) == (2.0, 2.0)
    moody = [visit([1.0] * 10, [speedup] * 10) for speedup in (2.0, 2.2, 2.6)]
    found = summarise(moody)
    assert (found.speedup, found.speedup_low, found.speedup_high) == (2.2, 2.0, 2.6)
    assert found.rounds == 30


def test_visits_of_different_lengths_count_every_round_that_they_have_and_no_other() -> None:
    low, high = bootstrap_interval([np.full(2, 3.0), np.full(9, 5.0)], np.random.default_rng(0))
    assert (low, high) == (3.0, 5.0)  # padding would show as 0


def test_disturbed_rounds_are_left_out_while_enough_others_are_left() -> None:
    marks = (True, True, False, False, False, False, False)
    samples = Samples(times=(1.0,) * 7, reference_times=(90.0, 80.0, 3.0, 3.0, 3.0, 3.0, 3.0), disturbed=marks, inner=1)
    found = summarise([samples])
    assert (found.speedup, found.speedup_high, found.rounds, found.disturbed_rounds) == (3.0, 3.0, 5, 2)
    fewer = dataclasses.replace(samples, disturbed=(True,) * 3 + (False,) * 4)
    assert summarise([fewer]).rounds == 7
    assert summarise([fewer]).speedup_high > 3.0  # all count, and the interval says what that is worth
    nothing_calm = dataclasses.replace(samples, disturbed=(True,) * 7)
    assert nothing_calm.calm() is None
    assert summarise([nothing_calm, samples]).rounds == 5


def test_stolen_ticks_only_grow() -> None:
    before, after = stolen_ticks(), stolen_ticks()
    if before is not None:  # where /proc/stat has the column
        assert after is not None
        assert 0 <= before <= after


def test_rounds_are_not_called_calm_where_nobody_counts_stolen_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.open", lambda *_, **__: io.StringIO("cpu  1 2 3 4 5 6 7\n"))
    assert stolen_ticks() is None
    monkeypatch.undo()
    unknown = dataclasses.replace(visit([1.0] * 5, [2.0] * 5), disturbed=None)
    assert summarise([unknown]).disturbed_rounds is None
    assert summarise([unknown, visit([1.0] * 5, [2.0] * 5)]).disturbed_rounds is None
    assert summarise([unknown]).rounds == 5


def test_the_wall_clock_is_told_apart() -> None:
    one, two, none = (dataclasses.replace(visit([1.0], [2.0]), wall_times=(wall, 9.0)) for wall in (3.0, 5.0, None))
    assert (summarise([one, two, none]).wall_time_s, summarise([none]).reference_wall_time_s) == (4.0, 9.0)
    assert summarise([visit([1.0], [2.0])]).wall_time_s is None
    assert CpuClock().wall(lambda: None, 1) is None


class Device:
    """Stands in for torch.cuda, and writes down what is put into its queue."""

    def __init__(self) -> None:
        self.queue: list[str] = []
        self.spins: list[int] = []

    def synchronize(self) -> None:
        self.queue.append("wait")

    def _sleep(self, cycles: int) -> None:
        self.queue.append("spin")
        self.spins.append(cycles)

    def Event(self, *, enable_timing: bool) -> Device:  # noqa: N802 - torch's name
        return self

    def record(self) -> None:
        self.queue.append("event")

    def elapsed_time(self, _: Device) -> float:
        return 3.0

    def zero_(self) -> None:
        self.queue.append("flush")


def test_a_spin_on_the_device_hides_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device()
    monkeypatch.setattr(torch, "cuda", device)

    def action() -> None:
        time.sleep(0.001)
        device.queue.append("call")

    assert gpu.device_times(action, 2, device) == [0.003, 0.003]  # type: ignore[arg-type]
    assert device.queue == ["wait", "call", *["flush", "spin", "event", "call", "event"] * 2, "wait"]
    assert all(cycles >= 0.002 * 1e9 for cycles in device.spins)  # twice the host's millisecond, at 1 GHz or more
    device.queue.clear()
    clock = CudaClock.__new__(CudaClock)
    wall = clock.wall(action, 3)
    assert wall is not None
    assert wall >= 0.001
    assert device.queue == ["wait", *["call"] * 3, "wait"]


def test_samples_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="expected as many times, reference times and marks"):
        visit([1.0] * 3, [1.0] * 4)


@pytest.mark.parametrize("stolen", [0, None], ids=["counted", "not counted"])
def test_the_order_alternates_and_every_sample_follows_an_untimed_call(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, stolen: int | None
) -> None:
    monkeypatch.setattr(timing, "stolen_ticks", lambda: stolen)
    called: list[str] = []

    def candidate() -> None:
        called.append("c")

    def reference() -> None:
        called.append("r")

    clock = ScriptedClock({candidate: 1.0, reference: 4.0})
    samples = time_paired(benchmark, candidate, reference, clock, EFFORT)
    if samples is None:
        pytest.skip("pytest-benchmark is disabled here, so there are no rounds to look at")
    rounds = clock.sampled[4:]  # before the rounds each was sampled twice, to plan them
    assert rounds == [reference, candidate, candidate, reference] * 3
    assert called == ["r", "c", "c", "r"] * 3  # the clock calls nothing, so these are the untimed calls
    assert (samples.times, samples.reference_times) == ((1.0,) * 6, (4.0,) * 6)
    assert samples.disturbed == (None if stolen is None else (False,) * 6)
    assert samples.wall_times == (2.0, 8.0)
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
