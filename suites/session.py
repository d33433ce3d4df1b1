"""Measure the cells of one pytest session, each so that it costs no other: the worker of a run, or plain pytest."""

from __future__ import annotations

import dataclasses
import gc
import os
import resource
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sparsebench.representations.registry import load
from sparsebench.suites.cell import Case, Cell, blank
from sparsebench.suites.measure import machine, processes, roof, surroundings
from sparsebench.suites.measure.clocks import clock_for
from sparsebench.suites.measure.fidelity import fingerprints
from sparsebench.suites.measure.gauge import Gauge, ReferenceChoice
from sparsebench.suites.measure.memory import weigh
from sparsebench.suites.measure.one_cell import failed, measure
from sparsebench.suites.measure.roof import Roof
from sparsebench.suites.measure.timing import EFFORTS, Effort
from sparsebench.suites.plan import Planned
from sparsebench.suites.runner.journal import RunFolder, RunFolderError, finite
from sparsebench.suites.workloads.problem import Problem, Training, Workload

CHANGED, FULL = 4, 5
"""Exit statuses of a worker: a cell has changed what all share, its row is written; a row could not be written."""
TOLD = "changed global state"
"""What the reason of such a row holds."""
MOST_FILE_BYTES = 1 << 30
"""Of any file that a worker writes: a plug-in that prints without end meets an error, not a full disk."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of a session, checked.

    Attributes:
        representations: names.
        device: "cpu" or "cuda".
        profile: key of EFFORTS.
        data: folder with MNIST's files, or None for the digits that need no download.
        threads: for torch, numba and BLAS.
        only: text that a cell's id has to hold, or None.
        visit: how often a cell is to have been visited after this session.
        out: the run folder, or None if rows go only into pytest-benchmark's JSON.
        cells: a file of the cells to measure, or None for all of the workload's.
        until: seconds since the epoch after which no cell is begun, or None.
        lifeline: end of a pipe whose other end the runner holds, or None.
    """

    representations: list[str]
    device: str
    profile: str
    data: Path | None
    threads: int
    only: str | None
    visit: int
    out: RunFolder | None
    cells: Path | None = None
    until: float | None = None
    lifeline: int | None = None

    @property
    def effort(self) -> Effort:
        """Return how long a cell is timed."""
        return EFFORTS[self.profile]


def _end_with(pipe: int) -> None:
    """Wait until the other end of a pipe is closed, then end this process and all that it has started."""
    os.read(pipe, 1)
    os.killpg(os.getpgid(0), signal.SIGKILL)


def _told(left: list[str], changes: list[str]) -> str | None:
    """Return in one line what a cell did beside its work, or None."""
    parts = []
    if left:
        names = ", ".join(sorted(set(left)))
        parts.append(f"left {len(left)} process{'es' if len(left) > 1 else ''} running ({names}), ended now")
    if changes:
        parts.append(f"{TOLD}: {', '.join(changes)}")
    return "; ".join(parts) or None


def _roof(settings: Settings) -> Roof | None:
    """Return what the machine can do at the most, as the run noted it; None in a session without a run."""
    try:
        facts = settings.out.facts() if settings.out is not None else None
    except RunFolderError:
        return None
    return roof.known(facts, settings.device, settings.threads)


class Bench:
    """What one pytest session measures with: its settings, its clock, and the problem at hand."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        if settings.lifeline is not None:
            threading.Thread(target=_end_with, args=(settings.lifeline,), daemon=True).start()
            processes.first_to_go()
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            if soft == resource.RLIM_INFINITY or soft > MOST_FILE_BYTES:
                resource.setrlimit(resource.RLIMIT_FSIZE, (MOST_FILE_BYTES, hard))
        processes.adopt_orphans()
        self._process = os.getpid()
        self.planned: dict[str, Planned] = {}
        machine.set_threads(settings.threads)
        machine.exact_float32()
        clock = clock_for(settings.device)
        self._gauge = Gauge(
            clock=clock,
            effort=settings.effort,
            choice=ReferenceChoice(clock),
            keep=self._keep if settings.out is not None else None,
            roof=_roof(settings),
        )
        self._earlier = settings.out.earlier() if settings.out is not None else {}
        self._case: Case | None = None
        self._problem: Problem | Training | Exception | None = None
        self._prints: dict[str, int] = {}
        self._unweighed: list[tuple[Cell, dict[str, Any]]] = []
        self._running = processes.running()
        self._settle()

    def _settle(self) -> None:
        """Put what is there to stay out of the collector's sight, so that a collection before each cell is quick.

        Call it while no problem is held: what is frozen alive is never collected, should it become a cycle of garbage.
        """
        gc.collect()
        gc.freeze()

    def problem(self, workload: Workload, case: Case) -> Problem | Training | Exception:
        """Return the case made concrete, or why it cannot be; kept, as its cells come one after the other."""
        if self._case != case or self._problem is None:
            self._case, self._problem = case, None  # let go of the old one first: two large problems need not fit
            self._settle()
            try:
                self._problem = workload.problem(case, self.settings.device, self.settings.data)
            except Exception as error:  # costs the cells of that case, and no other
                self._problem = error
            self._prints = fingerprints(self._problem)
        return self._problem

    def run(self, workload: Workload, planned: Planned, benchmark: Any) -> Cell:
        """Measure one cell and write it down before anyone judges it.

        A cell that leaves processes running or changes what all cells share is wrong, whatever it computed. Where it
        has changed something this process ends, and the run goes on in a new one.
        """
        settings, out = self.settings, self.settings.out
        if self._case != planned.case:
            self.weigh()
        draft = blank(planned.case, planned.representation, settings.device, status="crashed", reason="in progress")
        if out is not None:
            with self._room():
                out.begin(draft, time.time())
        samples = None
        problem = self.problem(workload, planned.case)
        before = surroundings.noted()
        if isinstance(problem, Exception):
            cell = dataclasses.replace(failed(draft, problem), threads=settings.threads)
        else:
            earlier = self._earlier.get(draft.key)
            cell, samples = measure(
                problem, planned.representation, benchmark, self._gauge, earlier, weighed=planned.weigh
            )
            prints = fingerprints(problem)
            if changed := [name for name, was in self._prints.items() if prints.get(name, was) != was]:
                reason = f"changed its input: {', '.join(changed)}; a representation may read tensors, not write them"
                cell = dataclasses.replace(draft, status="wrong", reason=reason, threads=settings.threads)
                samples = None
                self._case = None  # others get the problem as it was
                self._unweighed.clear()  # they would be weighed on what it has become; a later visit does it
        if os.getpid() != self._process:
            os._exit(0)  # a plug-in forked, and this is the child: it measures nothing and writes nothing
        left = self._end_new()
        changes = surroundings.changed(before)
        if reason := _told(left, changes):
            cell, samples = dataclasses.replace(draft, status="wrong", reason=reason, threads=settings.threads), None
        ends = planned.level_range
        cell = dataclasses.replace(cell, profile=settings.profile, level_range=ends and list(ends))
        benchmark.extra_info.update(finite(cell.row()))
        if out is not None:
            with self._room():
                out.append(cell, samples)
                out.end()
            if changes and settings.lifeline is not None:
                os._exit(CHANGED)  # at once: what was changed may be what an orderly end needs
        if cell.status == "ok" and isinstance(problem, Problem) and planned.weigh and cell.workspace_bytes is None:
            self._unweighed.append((cell, benchmark.extra_info))
        return cell

    def weigh(self) -> None:
        """Weigh the cells that the problem at hand was timed on, after all of them, and write them down again."""
        cells, out = self._unweighed, self.settings.out
        self._unweighed = []
        if not cells or not isinstance(self._problem, Problem):
            return

        def begin(number: int) -> None:
            if out is not None:
                with self._room():
                    out.begin(cells[number][0], time.time())

        found = weigh(self._problem, [load(cell.representation) for cell, _ in cells], begin)
        self._end_new()  # what a class leaves running its cell has told already
        for (cell, told), weight in zip(cells, found, strict=True):
            if isinstance(weight, Exception):
                draft = blank(self._problem.case, cell.representation, cell.device, status="crashed", reason="weighing")
                weighed = dataclasses.replace(failed(draft, weight), threads=cell.threads, profile=cell.profile)
            else:
                weighed = dataclasses.replace(cell, **dataclasses.asdict(weight))
            told.update(finite(weighed.row()))
            if out is not None:
                with self._room():
                    out.append(weighed)
        if out is not None:
            out.end()

    def _end_new(self) -> list[str]:
        """End the processes that have begun since this session did, and return their names."""
        return processes.end(one for one in processes.running() if one not in self._running)

    def _keep(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Store what the report draws."""
        if self.settings.out is not None:
            with self._room():
                self.settings.out.keep(name, arrays)

    @contextmanager
    def _room(self) -> Iterator[None]:
        """End a run's worker that cannot write into the run's folder; the runner says why."""
        try:
            yield
        except OSError:
            if self.settings.lifeline is None:
                raise
            os._exit(FULL)  # what is printed here may meet the same full disk
