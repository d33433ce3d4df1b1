"""The race never ends with what is a tenth slower than another candidate, on simulated machines never still."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sparsebench.kernels.common.race import Outcome, duel, race


class Machine:
    """A clock, and candidates that take their times on it: each call a little off, some far off, all for a while."""

    def __init__(self, seed: int, candidates: int, *, spread: float, spikes: float, bursts: float) -> None:
        self._rng = np.random.default_rng(seed)
        self.spread, self.spikes, self.bursts = spread, spikes, bursts
        base = 10 ** self._rng.uniform(-4, -2.5)
        self.seconds = base * (1 + self._rng.exponential(0.4, candidates) * (self._rng.random(candidates) < 0.8))
        self.now = 0.0
        self._until, self._slow = 0.0, 1.0
        self.calls = 0

    def clock(self) -> float:
        return self.now

    def enter(self, candidate: int) -> bool:
        self.now += 0.004 + self.seconds[candidate]
        return True

    def run(self, candidate: int) -> None:
        self.calls += 1
        if self.now > self._until:  # the neighbours change what they do
            self._until = self.now + self._rng.exponential(0.03)
            self._slow = self._rng.uniform(1.5, 5.0) if self._rng.random() < self.bursts else 1.0
        taken = self.seconds[candidate] * self._slow * np.exp(self._rng.normal(0.0, self.spread))
        if self._rng.random() < self.spikes:
            taken *= self._rng.uniform(2.0, 10.0)
        self.now += taken


def raced(machine: Machine, enter: Callable[[int], bool] | None = None) -> Outcome[int]:
    found = race(
        range(len(machine.seconds)), machine.run, enter=enter or machine.enter, clock=machine.clock, bound_s=1.0
    )
    assert found is not None
    return found


@pytest.mark.parametrize("candidates", [2, 5, 28])
@pytest.mark.parametrize(
    ("spread", "spikes", "bursts"), [(0.01, 0.0, 0.0), (0.05, 0.02, 0.0), (0.1, 0.05, 0.0), (0.03, 0.05, 0.3)]
)
def test_what_is_a_tenth_slower_is_never_kept(candidates: int, spread: float, spikes: float, bursts: float) -> None:
    for seed in range(25):
        machine = Machine(seed, candidates, spread=spread, spikes=spikes, bursts=bursts)
        found = raced(machine)
        assert machine.seconds[found.best] < 1.1 * machine.seconds.min(), seed
        assert found.tried == candidates
        assert machine.now < 1.3


def test_the_margin_is_how_much_slower_the_second_is() -> None:
    machine = Machine(0, 4, spread=0.01, spikes=0.0, bursts=0.0)
    machine.seconds = np.array([2.0, 1.0, 1.3, 5.0]) * 1e-3
    found = raced(machine)
    assert (found.best, found.second, found.decided) == (1, 2, True)
    assert found.margin == pytest.approx(0.3, abs=0.03)
    assert found.seconds == pytest.approx(1e-3, rel=0.03)
    assert found.noise == pytest.approx(0.01, abs=0.008)
    assert 0.3 < machine.now < 0.45  # a still machine needs no whole second


def test_a_candidate_that_may_not_enter_is_never_run() -> None:
    machine = Machine(0, 4, spread=0.01, spikes=0.0, bursts=0.0)
    machine.seconds = np.array([1e-3, 1e-9, 2e-3, 1e-9])
    assert raced(machine, lambda candidate: candidate % 2 == 0).best == 0
    assert race([1, 3], machine.run, enter=lambda candidate: False) is None


def test_the_bound_holds_where_a_call_takes_long_and_the_first_are_tried() -> None:
    machine = Machine(0, 40, spread=0.02, spikes=0.0, bursts=0.0)
    machine.seconds = np.linspace(0.08, 0.12, 40)[::-1].copy()
    found = raced(machine)
    assert machine.now < 1.6
    assert 2 <= found.tried < 12
    assert not found.decided
    assert machine.seconds[found.best] <= 1.1 * machine.seconds[: found.tried].min()


def test_what_the_first_loads_takes_nothing_from_the_race() -> None:
    machine = Machine(0, 6, spread=0.05, spikes=0.0, bursts=0.0)
    machine.seconds = np.array([1.3, 1.2, 1.0, 1.2, 1.3, 1.4]) * 1e-3

    def enter(candidate: int) -> bool:
        machine.now += 5.0 if candidate == 0 else 0.05
        return True

    found = raced(machine, enter)
    assert (found.best, found.tried) == (2, 6)
    assert found.rounds >= 12


def test_a_lone_candidate_has_no_second() -> None:
    found = raced(Machine(3, 1, spread=0.05, spikes=0.0, bursts=0.0))
    assert (found.best, found.second, found.margin) == (0, None, float("inf"))


def test_who_was_unlucky_in_the_first_rounds_comes_back() -> None:
    machine = Machine(1, 3, spread=0.01, spikes=0.0, bursts=0.0)
    machine.seconds = np.array([1.2, 1.0, 1.4]) * 1e-3
    usual, calls = machine.run, [0]

    def run(candidate: int) -> None:
        usual(candidate)
        if candidate == 1:
            calls[0] += 1
            if calls[0] <= 3:
                machine.now += 0.01

    found = race(range(3), run, enter=machine.enter, clock=machine.clock)
    assert found is not None
    assert found.best == 1


def test_a_duel_tells_the_ratio_of_two_times_as_well_as_it_was_asked_to() -> None:
    for seed in range(10):
        machine = Machine(seed, 2, spread=0.05, spikes=0.02, bursts=0.2)
        machine.seconds = np.array([1.3e-3, 1e-3])
        ratio, error = duel(0, 1, machine.run, error=0.01, clock=machine.clock)
        assert error <= 0.015
        assert ratio == pytest.approx(1.3, abs=0.07)
    machine.seconds = np.array([1.3, 1.0])
    begin = machine.now
    duel(0, 1, machine.run, error=0.01, bound_s=5.0, clock=machine.clock)
    assert machine.now - begin < 40.0
