"""Time candidates for the same result against each other until the fastest is known, in a bounded time.

A machine that others share is never still: it is slow for a while, and single calls are slower by chance. So
candidates run in turn, and two of them are compared by the median of their differences in the same rounds: what slows a
whole round cancels, and what hits a call here and there moves no median. Who is behind by far more than the spread of
these differences leaves the race, so that those close to each other get most of the time; before the end everybody who
left after a few calls is looked at again. Successive halving, with halves that the noise decides (Jamieson and
Talwalkar, https://arxiv.org/abs/1502.07943).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

Candidate = TypeVar("Candidate")

NEAR = 0.02
"""Share of the time by which two candidates may differ and be called equally fast."""
_ENTRY, _LEAST = 0.6, 3
"""Share of the bound in which candidates may enter, and how many may in any case."""
_SOONEST = 0.3
"""Share of the bound before which nothing ends: what else runs may hit some candidates more for a moment."""
_LAST_LOOK = 0.85
"""Share of the bound after which those who left early are looked at again."""
_FAR = {2: 0.7, 3: 0.4, 4: 0.25}
"""By how much, as a logarithm, the best of so many calls must be behind the leader's for a candidate to leave."""
_FEW, _SURE = 6, 12
"""Rounds before which nobody leaves for a small difference, and in which everybody who is left has run at the end."""
_STRIDE = 4
"""Rounds between two looks at who is behind, after the first few."""
_LOOKS, _CLOSE = 3, 0.05
"""Looks at who left early, and by how much at the most it may be behind in one of them to come back."""
_HOPELESS = 2.3
"""Logarithm of how much slower than the leader who left must have been not to be looked at again."""
_SHORT_S = 3e-4
"""Of a call that is repeated until it takes as long, since the clock and what wakes threads have a grain."""
_DEVIATIONS = 4.0
"""Of the mean that a difference must have to be believed: with 30 candidates and 100 looks few errors are left."""


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[Candidate]):
    """How a race ended.

    Attributes:
        best: the fastest.
        second: the next one, None if nobody else ran.
        seconds: of a call of the best, the median.
        margin: by what share of the best's time the second is slower; infinite without a second.
        noise: the spread of a call of the best, one standard deviation as a share of its time.
        rounds: in which the best ran.
        tried: how many candidates ran.
        decided: whether the bound left time to tell the best from all that are slower by more than NEAR.
    """

    best: Candidate
    second: Candidate | None
    seconds: float
    margin: float
    noise: float
    rounds: int
    tried: int
    decided: bool


class _Runner(Generic[Candidate]):
    """One candidate's times, as logarithms of seconds by round; NaN where it did not run."""

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate
        self.returned = False
        self._logs = np.full(64, math.nan)

    def note(self, number: int, seconds: float) -> None:
        while number >= self._logs.size:
            self._logs = np.concatenate([self._logs, np.full_like(self._logs, math.nan)])
        self._logs[number] = math.log(max(seconds, 1e-9))

    def at(self, number: int) -> float:
        return float(self._logs[number])

    @property
    def logs(self) -> Any:
        return self._logs[~np.isnan(self._logs)]

    @property
    def least(self) -> float:
        return float(self.logs.min(initial=math.inf))

    @property
    def median(self) -> float:
        logs = self.logs
        return float(np.median(logs)) if logs.size else math.inf

    @property
    def most(self) -> float:
        """Return the median and its error: who ran a few times only may look fast by chance."""
        return self.median + _error(self.logs, self.median) if self.logs.size else math.inf

    def _differences(self, other: _Runner[Candidate]) -> Any:
        size = min(self._logs.size, other._logs.size)
        differences = self._logs[:size] - other._logs[:size]
        return differences[~np.isnan(differences)]

    def least_behind(self, other: _Runner[Candidate]) -> float:
        """Return by how much this one is slower in the round that is the best for it."""
        return float(self._differences(other).min(initial=math.inf))

    def behind(self, other: _Runner[Candidate]) -> tuple[float, float]:
        """Return by how much this one is slower, the median over common rounds, and the standard error of that."""
        differences = self._differences(other)
        if not differences.size:
            return self.median - other.median, math.inf
        middle = float(np.median(differences))
        return middle, _error(differences, middle)


def _error(values: Any, middle: float) -> float:
    """Return the standard error of a median, from the median deviation, which a few outliers do not move."""
    spread = 1.4826 * float(np.median(np.abs(values - middle)))
    # of a few values the median deviation may be tiny by chance: a hundredth is left in any case
    return float(1.2533 * (1 + 4 / values.size) * max(spread, 0.01) / math.sqrt(values.size))


def race(
    candidates: Sequence[Candidate],
    run: Callable[[Candidate], object],
    *,
    enter: Callable[[Candidate], bool] = lambda candidate: True,
    between: Callable[[], object] = lambda: None,
    turn: Callable[[], object] = lambda: None,
    bound_s: float = 1.0,
    clock: Callable[[], float] = time.perf_counter,
) -> Outcome[Candidate] | None:
    """Return the fastest of those candidates that may enter, or None if none may.

    Args:
        candidates: those that promise most first: later ones are left out if the time is short.
        run: calls a candidate once.
        enter: tells whether a candidate may run; it is called before the first run, which nobody times, and calls it.
        between: what happens before each timed call, as what empties caches.
        turn: what happens before each round, as taking other copies of the operands.
        bound_s: seconds that all of it may take once the first has entered, which loads what all of them need; the call
            that is going on when they are over is ended.
        clock: returns seconds.
    """
    start = clock()

    def spent() -> float:
        return (clock() - start) / bound_s

    runners: list[_Runner[Candidate]] = []
    for candidate in candidates:
        if len(runners) >= _LEAST and spent() > _ENTRY:
            break
        if enter(candidate):
            runners.append(_Runner(candidate))
            start = clock() if len(runners) == 1 else start
    if not runners:
        return None
    calls = 1

    def take(runner: _Runner[Candidate], number: int) -> None:
        between()
        begin = clock()
        for _ in range(calls):
            run(runner.candidate)
        runner.note(number, (clock() - begin) / calls)

    take(runners[0], 0)
    calls = max(1, min(20, math.ceil(_SHORT_S / math.exp(runners[0].median))))
    alive, left, number = list(runners), [], 0
    while True:
        number += 1
        turn()
        for place in range(len(alive)):  # nobody always follows the same one
            take(alive[(place + number) % len(alive)], number)
            if number > 1 and spent() > 1.0:
                break
        over = spent() > _LAST_LOOK
        if number > _FEW and number % _STRIDE and not over:
            continue  # looking at all differences takes time too
        alive, gone = _split(alive, number)
        left += gone
        if over or (spent() > _SOONEST and _decided(alive)):
            back, number = _returning(left, _leader(alive), number, take, spent)
            left = [runner for runner in left if runner not in back]
            alive += back
            if not back or spent() > 1.0:
                break
    ran = [runner for runner in runners if runner.logs.size]
    return _outcome(_leader(alive), ran, decided=len(ran) == len(runners) and _decided(alive))


def duel(
    first: Candidate,
    second: Candidate,
    run: Callable[[Candidate], object],
    *,
    between: Callable[[], object] = lambda: None,
    turn: Callable[[], object] = lambda: None,
    error: float = NEAR / 2,
    bound_s: float = 4.0,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[float, float]:
    """Return the time of the first ÷ that of the second, and the standard error of that ratio.

    They run in turn until the error is small enough; the other arguments are those of `race`.
    """
    start, calls, number = clock(), 1, 0
    ours, theirs = _Runner(first), _Runner(second)
    while True:
        number += 1
        turn()
        for runner in (ours, theirs)[:: 1 if number % 2 else -1]:
            between()
            begin = clock()
            for _ in range(calls):
                run(runner.candidate)
            runner.note(number, (clock() - begin) / calls)
        if number == 1:
            calls = max(1, min(20, math.ceil(_SHORT_S / math.exp(ours.least))))
        if number % _STRIDE == 0 or clock() - start > bound_s:
            behind, uncertain = ours.behind(theirs)
            if clock() - start > bound_s or (number >= _SURE and uncertain <= error):
                return math.exp(behind), math.exp(behind) * uncertain


def _leader(alive: list[_Runner[Candidate]]) -> _Runner[Candidate]:
    """Return who is not behind anybody: the least median and error of it, unless the same rounds say otherwise."""
    best = min(alive, key=lambda runner: runner.most)
    for runner in alive:
        behind, error = runner.behind(best) if runner is not best else (0.0, 0.0)
        if behind < -error:
            best = runner
    return best


def _split(alive: list[_Runner[Candidate]], rounds: int) -> tuple[list[_Runner[Candidate]], list[_Runner[Candidate]]]:
    """Return who stays and who leaves."""
    if rounds < 2:
        return alive, []
    best = _leader(alive)
    far = _FAR.get(rounds, min(_FAR.values()))
    stays: list[_Runner[Candidate]] = []
    leaves: list[_Runner[Candidate]] = []
    for runner in alive:
        behind, error = runner.behind(best)
        slow = min(runner.least - best.least, runner.least_behind(best)) > far
        if rounds >= _FEW:
            slow = slow or behind > max(_DEVIATIONS * error, NEAR)
        (leaves if runner is not best and slow else stays).append(runner)
    return stays, leaves


def _decided(alive: list[_Runner[Candidate]]) -> bool:
    """Tell whether whoever is left is as fast as the leader, within NEAR, and that is known well."""
    best = _leader(alive)
    if best.logs.size < _SURE:
        return False
    others = [runner.behind(best) for runner in alive if runner is not best]
    return all(error <= NEAR and behind - error <= NEAR for behind, error in others)


def _returning(
    left: list[_Runner[Candidate]],
    best: _Runner[Candidate],
    number: int,
    take: Callable[[_Runner[Candidate], int], None],
    spent: Callable[[], float],
) -> tuple[list[_Runner[Candidate]], int]:
    """Look again at those who left after a few calls, side by side with the leader.

    Returns:
        who was as fast as the leader in one of the looks, and the number of the last round.
    """
    back = []
    for runner in sorted(left, key=lambda runner: runner.least):
        if runner.returned or runner.logs.size > _FEW or runner.least > best.median + _HOPELESS or spent() > 1.0:
            continue
        runner.returned = True
        for _ in range(_LOOKS):
            if spent() > 1.0:
                break
            number += 1
            take(best, number)
            take(runner, number)
            if runner.at(number) - best.at(number) < _CLOSE:
                back.append(runner)
                break
    return back, number


def _outcome(best: _Runner[Candidate], runners: list[_Runner[Candidate]], *, decided: bool) -> Outcome[Candidate]:
    behind = [(runner.behind(best)[0], place) for place, runner in enumerate(runners) if runner is not best]
    margin, second = min(behind, default=(math.inf, -1))
    logs = best.logs
    return Outcome(
        best=best.candidate,
        second=runners[second].candidate if behind else None,
        seconds=math.exp(best.median),
        margin=math.expm1(max(margin, 0.0)) if math.isfinite(margin) else math.inf,
        noise=1.4826 * float(np.median(np.abs(logs - best.median))),
        rounds=len(logs),
        tried=len(runners),
        decided=decided,
    )
