"""Time a candidate against its reference, paired round by round."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import scipy.stats
import torch

from sparsebench.suites.workloads.problem import Action


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much work one cell may be.

    Attributes:
        budget_s: seconds that the paired rounds of a cell should take.
        min_rounds: rounds even if the budget is passed.
        max_rounds: rounds at the most.
        min_sample_s: an action is repeated within a sample until the sample is at least this long.
    """

    budget_s: float
    min_rounds: int
    max_rounds: int
    min_sample_s: float

    def __post_init__(self) -> None:
        if not 2 <= self.min_rounds <= self.max_rounds:
            raise ValueError(f"expected 2 ≤ min_rounds ≤ max_rounds, got {self.min_rounds} and {self.max_rounds}")


EFFORTS: dict[str, Effort] = {
    "quick": Effort(budget_s=0.30, min_rounds=8, max_rounds=40, min_sample_s=0.001),
    "full": Effort(budget_s=2.0, min_rounds=16, max_rounds=100, min_sample_s=0.002),
}


class Clock(Protocol):
    """A way to time an action on a device."""

    def sample(self, action: Action, inner: int) -> float:
        """Return seconds per call, over `inner` calls."""


class CpuClock:
    """Time on the CPU: the wall clock around `inner` calls."""

    def sample(self, action: Action, inner: int) -> float:
        """Return seconds per call, over `inner` calls."""
        calls = range(inner)
        start = time.perf_counter_ns()
        for _ in calls:
            action()
        return (time.perf_counter_ns() - start) * 1e-9 / inner


class CudaClock:
    """Time on a GPU: device events around each call, with the L2 cache emptied before it."""

    def __init__(self) -> None:
        cache_bytes = torch.cuda.get_device_properties(0).L2_cache_size
        self._scratch = torch.empty(max(4 * cache_bytes, 1 << 26), dtype=torch.int8, device="cuda")

    def sample(self, action: Action, inner: int) -> float:
        """Return the median seconds of `inner` calls, each on a cold cache."""
        pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(inner)]
        for start, end in pairs:
            self._scratch.zero_()
            start.record()
            action()
            end.record()
        torch.cuda.synchronize()
        return float(np.median([start.elapsed_time(end) for start, end in pairs])) * 1e-3


def clock_for(device: str) -> Clock:
    """Return the clock of a device."""
    return CudaClock() if device == "cuda" else CpuClock()


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What paired rounds gave.

    Attributes:
        time_s: median seconds per call of the candidate.
        reference_time_s: the same of the reference.
        speedup: median over rounds of reference ÷ candidate.
        speedup_low: lower end of its 95 % bootstrap interval.
        speedup_high: upper end.
        spread: interquartile range ÷ median of the candidate's samples.
        rounds: how many.
        inner_iterations: calls of the candidate within one sample.
    """

    time_s: float
    reference_time_s: float
    speedup: float
    speedup_low: float
    speedup_high: float
    spread: float
    rounds: int
    inner_iterations: int


def time_paired(benchmark: Any, candidate: Action, reference: Action, clock: Clock, effort: Effort) -> Timing | None:
    """Time two actions in turn, the order alternating from round to round, inside pytest-benchmark's pedantic mode.

    pytest-benchmark sees the candidate's samples (its JSON then holds seconds per sample, `inner_iterations` calls
    each); the reference's are taken in setup on even rounds and in teardown on odd ones. Both actions must have run
    before, so that no compilation is left. Each sample follows one call that is not timed: the other action has just
    had the caches and its own threads, which may still be spinning, and neither should be charged for that.

    Returns:
        None where pytest-benchmark is disabled and nothing was timed.
    """
    first, second = clock.sample(candidate, 1), clock.sample(reference, 1)
    inner = calls_per_sample(min(first, clock.sample(candidate, 1)), effort)
    reference_inner = calls_per_sample(min(second, clock.sample(reference, 1)), effort)
    round_s = (inner + 1) * first + (reference_inner + 1) * second
    rounds = min(max(effort.min_rounds, math.ceil(effort.budget_s / max(round_s, 1e-9))), effort.max_rounds)
    times: list[float] = []
    reference_times: list[float] = []

    def time_reference() -> None:
        reference()
        reference_times.append(clock.sample(reference, reference_inner))

    def setup() -> None:
        if len(times) % 2 == 0:
            time_reference()
        candidate()

    def target() -> None:
        times.append(clock.sample(candidate, inner))

    def teardown() -> None:
        if len(times) % 2 == 0:
            time_reference()

    benchmark.pedantic(target, setup=setup, teardown=teardown, rounds=rounds, iterations=1)
    if benchmark.disabled:
        return None
    return summarise(np.array(times), np.array(reference_times), inner)


def calls_per_sample(call_s: float, effort: Effort) -> int:
    """Return how many calls make a sample long enough for the clock, at most 10,000."""
    return min(max(1, math.ceil(effort.min_sample_s / max(call_s, 1e-9))), 10_000)


def summarise(times: np.ndarray, reference_times: np.ndarray, inner: int) -> Timing:
    """Return medians, and the speed-up with its 95 % percentile-bootstrap interval over the rounds' ratios.

    Args:
        times: seconds per call of the candidate, one a round.
        reference_times: seconds per call of the reference in the same rounds.
        inner: calls within a candidate's sample.

    Raises:
        ValueError: if the two do not pair up.
    """
    if times.shape != reference_times.shape or times.size < 2:
        raise ValueError(f"expected as many samples of both, at least 2; got {times.size} and {reference_times.size}")
    ratios = reference_times / times
    low, high = scipy.stats.bootstrap(
        (ratios,), np.median, method="percentile", n_resamples=999, rng=np.random.default_rng(0)
    ).confidence_interval
    lower, upper = np.percentile(times, [25, 75])
    middle = float(np.median(times))
    return Timing(
        time_s=middle,
        reference_time_s=float(np.median(reference_times)),
        speedup=float(np.median(ratios)),
        speedup_low=float(low),
        speedup_high=float(high),
        spread=float(upper - lower) / middle,
        rounds=int(times.size),
        inner_iterations=inner,
    )


def fastest(references: dict[str, Action], clock: Clock, rounds: int = 5) -> str:
    """Return the name of the action with the smallest median time, all of them timed in turn."""
    if len(references) == 1:
        return next(iter(references))
    for action in references.values():
        action()
    samples = {name: [clock.sample(action, 1)] for name, action in references.items()}
    for _ in range(rounds - 1):
        for name, action in references.items():
            samples[name].append(clock.sample(action, 1))
    return min(samples, key=lambda name: float(np.median(samples[name])))
