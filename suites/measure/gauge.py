"""Hold what cells are measured with, and what earlier visits found out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from sparsebench.suites.cell import Cell
from sparsebench.suites.measure.clocks import Clock, fastest
from sparsebench.suites.measure.roof import Roof
from sparsebench.suites.measure.timing import Effort, Samples
from sparsebench.suites.workloads.problem import Action, Problem


class ReferenceChoice:
    """Remember which dense form of a case is the fastest, so that every representation meets the same one.

    Dense does as much at any sparsity: the form that is chosen at one level stays at the others.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._chosen: dict[str, str] = {}

    def of(self, problem: Problem, earlier: str | None) -> tuple[str, Action]:
        """Return the name and the action of the fastest dense form; the one of an earlier visit stays."""
        references = dict(problem.references())
        if earlier in references:
            return earlier, references[earlier]
        key = f"{problem.case.suite}|{problem.case.any_key}|{problem.device}"
        if self._chosen.get(key) not in references:
            self._chosen[key] = fastest(references, self._clock)
        return self._chosen[key], references[self._chosen[key]]


Keeper = Callable[[str, Mapping[str, np.ndarray]], None]
"""Stores arrays under a name, beside the journal."""


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """What earlier visits found out about a cell.

    Attributes:
        cell: its row so far.
        visits: the rounds of each visit.
    """

    cell: Cell
    visits: tuple[Samples, ...]


@dataclass(frozen=True, kw_only=True)
class Gauge:
    """What cells are measured with.

    Attributes:
        clock: of the device.
        effort: how long to time.
        choice: which dense form is the reference.
        keep: stores what the report draws, where there is a run folder.
        roof: what this machine can do at the most; None where nobody asks whether a time is possible.
    """

    clock: Clock
    effort: Effort
    choice: ReferenceChoice
    keep: Keeper | None = None
    roof: Roof | None = None
