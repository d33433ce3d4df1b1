"""Choose among ways to compute the same by measuring them here: once a machine and kind of problem, kept on disk.

What is kept with a choice is how sure it is: its margin over the second, the noise, and how unquiet the machine was.
A choice that was made on an unquiet machine is made again when a process finds it calmer, and one that loses to another
candidate later is dropped.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from functools import cache
from typing import Any, Generic, TypeVar

import torch

from sparsebench.kernels.common import choices, jit
from sparsebench.kernels.common.caches import cache_bytes
from sparsebench.kernels.common.race import Outcome, race
from sparsebench.kernels.common.unrest import unrest

Candidate = TypeVar("Candidate")

NOISY = 0.05
"""Spread of a call, as a share of its time, from which on a choice is made again on a calmer machine."""
LOST = 1.05
"""How much faster another candidate must be, by later evidence, for a choice to be dropped."""
_CALMER = 0.5
_lock = threading.RLock()
_changes = 0
_chosen: dict[tuple[str, str], tuple[dict[str, Any], Any]] = {}
"""What this process uses, by device and key: the choice as it is noted, and the candidate."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What any way of computing a problem has to do, for its roofline.

    Attributes:
        flops: operations.
        read: different bytes that are read.
        written: bytes that are written.
        near: bytes that are read again from a cache.
    """

    flops: float
    read: float
    written: float
    near: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Trial(Generic[Candidate]):
    """A problem to measure candidates on.

    Attributes:
        run: computes it by a candidate; called again and again.
        right: calls a candidate and tells whether its result is right; what is wrong is never timed.
        turn: called before each round, in which every candidate runs once: takes other copies of the operands, as where
            they lie in memory matters too.
        work: that has to be done, None if nobody asks.
    """

    run: Callable[[Candidate], object]
    right: Callable[[Candidate], bool]
    turn: Callable[[], object] = lambda: None
    work: Work | None = None


def choose(
    device: str,
    key: str,
    candidates: Sequence[Candidate],
    trial: Callable[[], Trial[Candidate]],
    *,
    family: str = "",
    bound_s: float = 1.0,
) -> Candidate:
    """Return the fastest candidate: known, kept on disk, or measured now.

    Args:
        device: a text that tells machines apart, and all that a choice depends on, as `processor.machine()`.
        key: the kind of problem: operation, sizes, density and dtype, each rounded so far as the choice is the same.
        candidates: dataclasses or texts, all different, those that promise most first.
        trial: makes a problem of that kind; called only if something is measured.
        family: the beginning of the keys of similar problems, whose choices are tried first; none if empty.
        bound_s: seconds that the measurement may take, the making of the problem not counted.

    Raises:
        RuntimeError: if no candidate is right.
        ValueError: if there is no candidate.
    """
    if not candidates:
        raise ValueError(f"expected a candidate for {key}, got none; name one")
    with _lock:
        known = _chosen.get((device, key))
        if known is not None and known[1] in candidates:
            found: Candidate = known[1]
            return found
        kept = choices.recall(device, key)
        if kept is not None and (again := _candidate(kept.get("choice"), candidates)) is not None and not _calmer(kept):
            _chosen[device, key] = (dict(kept["choice"]), again)
            return again
        return measure(device, key, _promising(device, family, candidates), trial, bound_s=bound_s).best


def knows(device: str, key: str) -> bool:
    """Tell whether something was chosen for a kind of problem, in this process or an earlier one."""
    with _lock:
        return (device, key) in _chosen or choices.recall(device, key) is not None


def measure(
    device: str,
    key: str,
    candidates: Sequence[Candidate],
    trial: Callable[[], Trial[Candidate]],
    *,
    bound_s: float = 1.0,
) -> Outcome[Candidate]:
    """Measure candidates, whatever is known of them, keep the fastest and return how it went; see `choose`."""
    made = trial()
    before = unrest()
    outcome = race(candidates, made.run, enter=made.right, between=other_work, turn=made.turn, bound_s=bound_s)
    if outcome is None:
        raise RuntimeError(f"expected one of {len(candidates)} candidates for {key} to be right, got none; report it")
    choice = described(outcome.best)
    note = {
        "choice": choice,
        "second": None if outcome.second is None else described(outcome.second),
        "margin": outcome.margin if math.isfinite(outcome.margin) else None,
        "noise": outcome.noise,
        "seconds": outcome.seconds,
        "rounds": outcome.rounds,
        "tried": outcome.tried,
        "decided": outcome.decided,
        "unrest": min(before, unrest()),
        "work": None if made.work is None else asdict(made.work),
    }
    with _lock:
        choices.remember(device, key, note)
        _chosen[device, key] = (choice, outcome.best)
        _note_change()
    return outcome


def lost(device: str, key: str, candidate: object, faster: float) -> bool:
    """Drop a choice if it is `candidate` and another one was seen to be `faster` times as fast; tell whether it was.

    What is dropped is measured anew when it is asked for next.
    """
    with _lock:
        kept = choices.recall(device, key)
        if faster < LOST or kept is None or kept.get("choice") != described(candidate):
            return False
        _chosen.pop((device, key), None)
        choices.forget(device, key)
        _note_change()
        return True


def changes() -> int:
    """Return how often a choice was measured, dropped or forgotten: what was looked up before may have changed."""
    return _changes


def _note_change() -> None:
    global _changes
    _changes += 1


def forget() -> None:
    """Forget what this process knows, not what is on disk."""
    with _lock:
        _note_change()
        _chosen.clear()
        _unrest_now.cache_clear()


def described(candidate: object) -> dict[str, Any]:
    """Return a candidate as JSON can hold it."""
    if is_dataclass(candidate) and not isinstance(candidate, type):
        return asdict(candidate)
    return {"name": str(candidate)}


def other_work() -> None:
    """Do what a program does between two calls: work on all threads, on other data, which fill the caches."""
    _filler().add_(1)


@cache
def _filler() -> torch.Tensor:
    return torch.zeros(2 * cache_bytes(2) * jit.threads() // 4, dtype=torch.int32)


def _candidate(noted: object, candidates: Sequence[Candidate]) -> Candidate | None:
    return next((candidate for candidate in candidates if described(candidate) == noted), None)


def _calmer(kept: Mapping[str, Any]) -> bool:
    """Tell whether a choice was made on an unquiet machine that is calm now."""
    try:
        noise, then = float(kept["noise"]), float(kept["unrest"])
    except (KeyError, TypeError, ValueError):
        return False
    return (noise > NOISY or kept.get("decided") is False) and _unrest_now() < _CALMER * then


@cache
def _unrest_now() -> float:
    """Return the unrest of this machine, looked at once a process, and only if a choice is in doubt."""
    return unrest()


def _promising(device: str, family: str, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the candidates with those in front that are in use for similar problems."""
    if not family:
        return list(candidates)
    used = [kept.get("choice") for key, kept in choices.kept(device).items() if key.startswith(family)]
    return sorted(candidates, key=lambda candidate: described(candidate) not in used)
