"""Time an action on a device: on the CPU by the wall clock, on a GPU by the device's own."""

from __future__ import annotations

import time
from typing import Protocol

import numpy as np
import torch

from sparsebench.kernels.common.gpu import cold_cache, device_times
from sparsebench.suites.workloads.problem import Action


class Clock(Protocol):
    """A way to time an action on a device."""

    def sample(self, action: Action, inner: int) -> float:
        """Return seconds per call, over `inner` calls."""

    def wall(self, action: Action, inner: int) -> float | None:
        """Return seconds per call as a user's loop sees them, where that differs from `sample`, else None."""


class CpuClock:
    """Time on the CPU: the wall clock around `inner` calls."""

    def sample(self, action: Action, inner: int) -> float:
        """Return seconds per call, over `inner` calls."""
        calls = range(inner)
        start = time.perf_counter_ns()
        for _ in calls:
            action()
        return (time.perf_counter_ns() - start) * 1e-9 / inner

    def wall(self, action: Action, inner: int) -> float | None:
        """Return None: a sample is on the wall clock."""
        return None


class CudaClock:
    """Time on a GPU: the device's own time of each call, with the L2 cache emptied before it and the host hidden."""

    def __init__(self) -> None:
        self._scratch = cold_cache()

    def sample(self, action: Action, inner: int) -> float:
        """Return the median seconds of `inner` calls, each on a cold cache."""
        return float(np.median(device_times(action, inner, self._scratch)))

    def wall(self, action: Action, inner: int) -> float | None:
        """Return seconds per call of `inner` calls in a row, until the last is done: what launching costs is in it."""
        torch.cuda.synchronize()
        start = time.perf_counter_ns()
        for _ in range(inner):
            action()
        torch.cuda.synchronize()
        return (time.perf_counter_ns() - start) * 1e-9 / inner


def clock_for(device: str) -> Clock:
    """Return the clock of a device."""
    return CudaClock() if device == "cuda" else CpuClock()


def fastest(references: dict[str, Action], clock: Clock, rounds: int = 5) -> str:
    """Return the name of the quickest action, by the least of its times: what disturbs only ever adds."""
    if len(references) == 1:
        return next(iter(references))
    for action in references.values():
        action()
    samples = {name: [clock.sample(action, 1)] for name, action in references.items()}
    for _ in range(rounds - 1):
        for name, action in references.items():
            samples[name].append(clock.sample(action, 1))
    return min(samples, key=lambda name: min(samples[name]))
