"""Say which representation wins at a sparsity, by how much, and over which range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from sparsebench.suites.cell import CONTROL
from sparsebench.suites.report.breakeven import BreakEven
from sparsebench.suites.report.first.groups import Group
from sparsebench.suites.report.first.lines import BEYOND_ONE
from sparsebench.suites.search.fit import depth

LEVELS: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95)
"""Sparsities at which the winner is told in figures."""
STEP = 0.01
SHORT = 0.025
"""A range narrower than this, or than the noise of a crossing, is no change of the winner worth telling."""
CLEAR = 1.05
"""Two that lie nearer than this are told as about equal."""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """One representation at a sparsity.

    Attributes:
        member: its break-even.
        speedup: over dense.
        measured: False if it is read off between levels.
    """

    member: BreakEven
    speedup: float
    measured: bool

    @property
    def name(self) -> str:
        """Return the representation."""
        return self.member.representation


@dataclass(frozen=True, kw_only=True)
class Range:
    """Sparsities over which one representation is the fastest.

    Attributes:
        low: where it begins.
        high: where it ends.
        name: "dense" where nothing beats it; "" where nothing was measured near enough.
    """

    low: float
    high: float
    name: str


def unseen(member: BreakEven, sparsity: float) -> bool:
    """Tell whether a sparsity lies far below all levels of a representation that was faster at each of them."""
    found = member.answer
    below = found.verdict == "open" and found.low == 0.0 and found.high < 1.0
    return below and depth(sparsity) < depth(found.high) - BEYOND_ONE - 1e-9


def faster(member: BreakEven, sparsity: float) -> bool:
    """Tell whether a representation beats dense at a sparsity, going by its break-even."""
    found = member.answer
    if found.verdict in ("not up to", "unmeasured") or found.sparsity is None:
        return False
    if found.verdict == "open" and found.high >= 1.0:  # every level measured was slower
        return False
    return found.verdict == "from the start" or (sparsity >= found.sparsity - 1e-9 and not unseen(member, sparsity))


@lru_cache(maxsize=8192)
def ranking(group: Group, sparsity: float) -> list[Placed]:
    """Return the representations with a speed-up known at a sparsity, the fastest first."""
    placed = []
    for member in group.members:
        estimate = group.lines[member.representation].at(sparsity)
        if estimate is not None:
            speedup = max(estimate.speedup, 1.0) if faster(member, sparsity) else min(estimate.speedup, 1.0)
            placed.append(Placed(member=member, speedup=speedup, measured=estimate.measured))
    return sorted(placed, key=lambda one: -one.speedup)


def winner(group: Group, sparsity: float) -> Placed | None:
    """Return the fastest that beats dense at a sparsity, None if nothing does."""
    ranked = ranking(group, sparsity)
    return ranked[0] if ranked and faster(ranked[0].member, sparsity) and _seen(group, sparsity) else None


@lru_cache(maxsize=512)
def ranges(group: Group) -> list[Range]:
    """Return who wins from 0 to 99 %, in order; neighbours differ."""
    found: list[Range] = []
    for step in (round(STEP * i, 4) for i in range(100)):
        before = found[-1].name if found else ""
        name, high = _name(group, step, before), min(round(step + STEP, 4), 0.99)
        if found and before == name:
            found[-1] = Range(low=found[-1].low, high=high, name=name)
        else:
            found.append(Range(low=step, high=high, name=name))
    return _joined(found)


def _name(group: Group, sparsity: float, before: str) -> str:
    """Return who wins at a sparsity; who won just before keeps the place against one that is hardly faster."""
    if not _seen(group, sparsity):
        return ""
    ranked = [one for one in ranking(group, sparsity) if faster(one.member, sparsity)]
    if not ranked:
        perhaps = (unseen(one, sparsity) and sparsity >= (one.answer.sparsity or 0.0) for one in group.members)
        return "" if any(perhaps) else CONTROL
    kept = next((one for one in ranked if one.name == before), ranked[0])
    return kept.name if ranked[0].speedup < CLEAR * kept.speedup else ranked[0].name


def _seen(group: Group, sparsity: float) -> bool:
    """Tell whether a sparsity is not far above all that was measured."""
    return depth(sparsity) <= depth(group.end) + BEYOND_ONE


def _joined(found: Sequence[Range]) -> list[Range]:
    """Give ranges that are too short to the one before them, or the first to the one behind it."""
    kept: list[Range] = []
    for one in found:
        if kept and (kept[-1].name == one.name or one.high - one.low < SHORT):
            kept[-1] = Range(low=kept[-1].low, high=one.high, name=kept[-1].name)
        elif kept and kept[-1].high - kept[-1].low < SHORT:
            kept[-1] = Range(low=kept[-1].low, high=one.high, name=one.name)
        else:
            kept.append(one)
    return kept
