"""Time a candidate against its reference, paired round by round."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sparsebench.suites.measure.clocks import Clock
from sparsebench.suites.workloads.problem import Action


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much work one cell may be.

    Attributes:
        visits: how often the run comes back to a cell, each time in a new process and some minutes later.
        budget_s: seconds that the paired rounds of one visit should take.
        min_rounds: rounds of a visit even if the budget is passed.
        max_rounds: rounds of a visit at the most.
        min_sample_s: an action is repeated within a sample until the sample is at least this long.
    """

    visits: int
    budget_s: float
    min_rounds: int
    max_rounds: int
    min_sample_s: float

    def __post_init__(self) -> None:
        if self.visits < 1:
            raise ValueError(f"expected at least 1 visit, got {self.visits}")
        if not 2 <= self.min_rounds <= self.max_rounds:
            raise ValueError(f"expected 2 ≤ min_rounds ≤ max_rounds, got {self.min_rounds} and {self.max_rounds}")


EFFORTS: dict[str, Effort] = {
    "gpu": Effort(visits=1, budget_s=0.04, min_rounds=5, max_rounds=12, min_sample_s=0.0005),
    "quick": Effort(visits=3, budget_s=0.06, min_rounds=5, max_rounds=16, min_sample_s=0.001),
    "full": Effort(visits=5, budget_s=0.5, min_rounds=8, max_rounds=40, min_sample_s=0.002),
}
"""By profile, the least first. gpu has one visit: each new process loads or compiles every kernel again."""

ENOUGH = 5
"""Calm rounds over all visits that a speed-up needs."""
RESAMPLES = 1000
"""Bootstrap draws: enough for the 2.5 % and 97.5 % quantiles."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Paired rounds of one visit.

    Attributes:
        times: seconds per call of the candidate, one a round.
        reference_times: seconds per call of the reference in the same rounds.
        disturbed: whether the hypervisor took a processor away during the round; None where nobody counts that.
        inner: calls of the candidate within one sample.
        wall_times: seconds per call on the wall clock, of the candidate and of the reference; None as in `Clock.wall`.
    """

    times: tuple[float, ...]
    reference_times: tuple[float, ...]
    disturbed: tuple[bool, ...] | None
    inner: int
    wall_times: tuple[float | None, float | None] = (None, None)

    def __post_init__(self) -> None:
        counts = len(self.times), len(self.reference_times), len(self.disturbed or self.times)
        if len(set(counts)) > 1 or not self.times:
            raise ValueError(f"expected as many times, reference times and marks, at least 1; got {counts}")

    def calm(self) -> Samples | None:
        """Return the rounds that nothing disturbed, or None if there is none; all where nobody counts that."""
        if self.disturbed is None:
            return self
        kept = [number for number, disturbed in enumerate(self.disturbed) if not disturbed]
        if not kept:
            return None
        return replace(
            self,
            times=tuple(self.times[number] for number in kept),
            reference_times=tuple(self.reference_times[number] for number in kept),
            disturbed=(False,) * len(kept),
        )

    @property
    def ratios(self) -> np.ndarray:
        """Return reference ÷ candidate of each round."""
        return np.divide(self.reference_times, self.times)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What the paired rounds of all visits gave.

    Attributes:
        time_s: median seconds per call of the candidate.
        reference_time_s: the same of the reference.
        wall_time_s: seconds per call of the candidate on the wall clock, the median of the visits; None as in
            `Clock.wall`.
        reference_wall_time_s: the same of the reference.
        speedup: median over all rounds of reference ÷ candidate.
        speedup_low: lower end of its 95 % bootstrap interval.
        speedup_high: upper end.
        spread: interquartile range ÷ median of the candidate's samples.
        rounds: how many count.
        disturbed_rounds: how many the hypervisor disturbed; None where nobody counts that.
        inner_iterations: calls of the candidate within one sample.
        visit_speedups: median of each visit alone, over its calm rounds if there are any.
        visit_errors: standard error of the logarithm of each, from its rounds.
    """

    time_s: float
    reference_time_s: float
    wall_time_s: float | None
    reference_wall_time_s: float | None
    speedup: float
    speedup_low: float
    speedup_high: float
    spread: float
    rounds: int
    disturbed_rounds: int | None
    inner_iterations: int
    visit_speedups: tuple[float, ...]
    visit_errors: tuple[float, ...]


def time_paired(benchmark: Any, candidate: Action, reference: Action, clock: Clock, effort: Effort) -> Samples | None:
    """Time two actions in turn, the order alternating from round to round, inside pytest-benchmark's pedantic mode.

    pytest-benchmark sees the candidate's samples (its JSON then holds seconds per sample, `inner` calls each); the
    reference's are taken in setup on even rounds and in teardown on odd ones. Both actions must have run before, so
    that no compilation is left. Each sample follows one call that is not timed: the other action has just had the
    caches and its own threads, which may still be spinning, and neither should be charged for that.

    Rounds that the hypervisor disturbed are made up for by further ones, outside of pytest-benchmark's statistics, as
    long as twice the budget lasts.

    Returns:
        None where pytest-benchmark is disabled and nothing was timed.
    """
    first, second = (min(clock.sample(action, 1) for _ in range(2)) for action in (candidate, reference))
    inner, reference_inner = calls_per_sample(first, effort), calls_per_sample(second, effort)
    round_s = (inner + 1) * first + (reference_inner + 1) * second
    rounds = min(max(effort.min_rounds, math.ceil(effort.budget_s / max(round_s, 1e-9))), effort.max_rounds)
    times: list[float] = []
    reference_times: list[float] = []
    disturbed: list[bool] = []
    stolen_before: int | None = None

    def time_reference() -> None:
        reference()
        reference_times.append(clock.sample(reference, reference_inner))

    def setup() -> None:
        nonlocal stolen_before
        stolen_before = stolen_ticks()
        if len(times) % 2 == 0:
            time_reference()
        candidate()

    def target() -> None:
        times.append(clock.sample(candidate, inner))

    def teardown() -> None:
        if len(times) % 2 == 0:
            time_reference()
        stolen = stolen_ticks()
        if stolen is not None and stolen_before is not None:
            disturbed.append(stolen > stolen_before)

    benchmark.pedantic(target, setup=setup, teardown=teardown, rounds=rounds, iterations=1)
    if benchmark.disabled:
        return None
    deadline = time.perf_counter() + 2 * effort.budget_s
    while sum(disturbed) > max(0, len(disturbed) - rounds) and time.perf_counter() < deadline:
        setup()
        target()
        teardown()
    return Samples(
        times=tuple(times),
        reference_times=tuple(reference_times),
        disturbed=tuple(disturbed) or None,
        inner=inner,
        wall_times=(clock.wall(candidate, inner), clock.wall(reference, reference_inner)),
    )


def stolen_ticks() -> int | None:
    """Return for how many ticks (10 ms each) the hypervisor has kept this machine's processors to itself since start.

    It is the "steal" column of /proc/stat (man 5 proc), summed over all processors; None where there is none.
    """
    try:
        with open("/proc/stat", encoding="ascii") as facts:
            return int(facts.readline().split()[8])
    except (OSError, IndexError, ValueError):
        return None


def calls_per_sample(call_s: float, effort: Effort) -> int:
    """Return how many calls make a sample long enough for the clock, at most 10,000."""
    return min(max(1, math.ceil(effort.min_sample_s / max(call_s, 1e-9))), 10_000)


def summarise(visits: Sequence[Samples]) -> Timing:
    """Return medians over the rounds of all visits, and the speed-up with its 95 % interval.

    Rounds in which the hypervisor took a processor away are left out, unless fewer than ENOUGH would be left; then all
    of them count, and the interval shows it.
    """
    marks = [visit.disturbed for visit in visits]
    calm = [kept for visit in visits if (kept := visit.calm()) is not None]
    used = calm if sum(len(visit.times) for visit in calm) >= ENOUGH else list(visits)
    times = np.concatenate([visit.times for visit in used])
    ratios = [visit.ratios for visit in used]
    alone = [(visit.calm() or visit).ratios for visit in visits]
    low, high = bootstrap_interval(ratios, np.random.default_rng(0))
    lower, upper = np.percentile(times, [25, 75])
    middle = float(np.median(times))
    return Timing(
        time_s=middle,
        reference_time_s=float(np.median(np.concatenate([visit.reference_times for visit in used]))),
        wall_time_s=_median(visit.wall_times[0] for visit in visits),
        reference_wall_time_s=_median(visit.wall_times[1] for visit in visits),
        speedup=float(np.median(np.concatenate(ratios))),
        speedup_low=low,
        speedup_high=high,
        spread=float(upper - lower) / middle,
        rounds=times.size,
        disturbed_rounds=None if None in marks else sum(sum(mark) for mark in marks if mark),
        inner_iterations=visits[-1].inner,
        visit_speedups=tuple(float(np.median(one)) for one in alone),
        visit_errors=tuple(_error(np.log(one)) for one in alone),
    )


def _error(values: np.ndarray) -> float:
    """Return the standard error of a median, by the bootstrap."""
    rng = np.random.default_rng(0)
    return float(np.median(rng.choice(values, size=(200, values.size)), axis=1).std())


def _median(found: Iterable[float | None]) -> float | None:
    known = [one for one in found if one is not None]
    return float(np.median(known)) if known else None


def bootstrap_interval(ratios: Sequence[np.ndarray], rng: np.random.Generator) -> tuple[float, float]:
    """Return the 95 % percentile interval of the median by a hierarchical bootstrap: visits first, rounds within them.

    Rounds of one visit resemble each other more than those of another process, minutes later. Drawing rounds alone
    would give an interval that the next run does not keep; drawing visits first lets it grow by what differs between
    them (Kalibera and Jones, Rigorous Benchmarking in Reasonable Time, ISMM 2013).

    Args:
        ratios: one array a visit, in any lengths.
        rng: NumPy's seeded generator.
    """
    lengths = np.array([len(visit) for visit in ratios])
    padded = np.zeros((len(ratios), lengths.max()))
    for row, visit in zip(padded, ratios, strict=True):
        row[: len(visit)] = visit
    visits = rng.integers(len(ratios), size=(RESAMPLES, len(ratios)))
    rounds = (rng.random((*visits.shape, lengths.max())) * lengths[visits][..., None]).astype(np.int64)
    medians = np.median(padded[visits[..., None], rounds].reshape(RESAMPLES, -1), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(low), float(high)
