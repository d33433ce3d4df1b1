"""Keep count of a run: what is answered, what is left, and what comes next."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sparsebench.suites.cell import cell_key
from sparsebench.suites.measure.timing import EFFORTS
from sparsebench.suites.plan import Planned
from sparsebench.suites.runner.journal import FINAL, JournalTail
from sparsebench.suites.runner.progress import Count, Progress
from sparsebench.suites.search.answer import Answer
from sparsebench.suites.search.curves import Agenda, State, curve_key, state, together

if TYPE_CHECKING:
    from sparsebench.suites.runner.run import Order

MOST_VISITS: dict[str, int] = {"quick": 24, "full": 40, "gpu": 12}
"""Of a curve, by profile: one that is still open then stays so."""
BEGUN_S = 0.5
"""What a visit costs before any has been made."""


class Tally:
    """What a run has measured and what it has still to measure."""

    def __init__(self, order: Order, agendas: Mapping[str, Agenda], until: float | None, progress: Progress) -> None:
        """Begin to count.

        Args:
            order: what to run.
            agendas: of each suite.
            until: seconds since the epoch at which the run is to end, or None.
            progress: told about it.
        """
        self._order, self._agendas, self._until, self._progress = order, agendas, until, progress
        self._cells = {cell.key(order.device) for one in agendas.values() for cell in one.fixed}
        self._curves = {curve.key(order.device): curve for one in agendas.values() for curve in one.curves}
        self._last = order.visits or EFFORTS[order.profile].visits
        self._tail = JournalTail(order.out)
        self._pass, self._begun = 1, (time.time(), self._made())
        self.answers: dict[str, Answer] = {}
        self._refused: set[str] = set()

    def ours(self, row: dict[str, Any]) -> bool:
        """Tell whether a journal's row is of this order."""
        return cell_key(row) in self._cells or curve_key(row) in self._curves

    def count(self) -> None:
        """Work out what is answered."""
        self._states(self._order.out.rows())

    def _states(self, rows: list[dict[str, Any]]) -> dict[str, State]:
        most = MOST_VISITS[self._order.profile]
        found = {name: state(one.curves, rows, self._order.device, most) for name, one in self._agendas.items()}
        for known in found.values():
            self.answers |= {key: one for key, one in known.answers.items() if key not in known.refused}
            self._refused |= known.refused & self._curves.keys()
        return found

    def plan(self, number: int) -> dict[str, list[Planned]]:
        """Return what each suite measures in a pass, the cells of one case next to each other.

        In the first, everything once. Where time is limited, later ones belong to the curves that are open, in the
        order of `State.following`; once none is left, to cells of a given level, as often as the profile visits them;
        and then to intervals that can become narrower. As much is planned as there is time for.

        Args:
            number: of the pass, from 1.
        """
        states, done, visit_s = self._states(self._order.out.rows()), self._tail.visits(), self._visit_s()
        if number != self._pass:
            self._pass, self._begun = number, (time.time(), self._made())
        limited = self._until is not None and number > 1
        again = {
            name: [
                dataclasses.replace(cell, visit=made + 1)
                for cell in one.fixed
                if (made := done.get(cell.key(self._order.device), 0)) < min(number, self._last)
            ]
            for name, one in self._agendas.items()
        }
        following = {name: list(known.following) for name, known in states.items()}
        if not limited:
            return {name: [*again[name], *together(following[name])] for name in self._agendas}
        narrowing = {name: list(known.narrowing) for name, known in states.items()}
        for cells in (following, again, narrowing):
            if any(cells.values()):
                return {name: together(some) for name, some in self._fitting(cells, visit_s).items()}
        return {name: [] for name in self._agendas}

    def _fitting(self, cells: Mapping[str, list[Planned]], visit_s: float) -> dict[str, list[Planned]]:
        """Return the first cells of each suite, as many as there is time for."""
        room = max(1, int(((self._until or 0.0) - time.time()) / visit_s))
        share = min(1.0, room / max(1, sum(map(len, cells.values()))))
        return {name: some[: math.ceil(share * len(some))] for name, some in cells.items()}

    def _made(self) -> int:
        """Return how many visits the journal holds; of a cell that needs no further one, it counts as one."""
        return sum(1 if visits == FINAL else visits for visits in self._tail.visits().values())

    def _visit_s(self) -> float:
        """Return what a visit of the pass before has cost, its workers' start included."""
        begun, earlier = self._begun
        made = self._made() - earlier
        return (time.time() - begun) / made if made > 0 else BEGUN_S

    def tick(self) -> None:
        """Tell how far the run is."""
        current, done = self._order.out.in_progress(), self._tail.visits()
        self._progress(
            Count(
                answered=sum(one.settled for one in self.answers.values()),
                curves=len(self._curves) - len(self._refused),
                done=sum(done.get(key, 0) > 0 for key in self._cells),
                cells=len(self._cells),
                visits=self._made(),
                left_s=None if self._until is None else max(0.0, self._until - time.time()),
                label="" if current is None else f"{current[1].representation}: {current[1].workload}",
            )
        )
