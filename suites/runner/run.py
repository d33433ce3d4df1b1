"""Drive a run: plan it, give each suite a worker, bury the dead ones, resume."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sparsebench.suites.cell import FAILURES, blank, cell_key
from sparsebench.suites.measure import machine
from sparsebench.suites.measure.timing import EFFORTS
from sparsebench.suites.plan import OUTSIDE, PlanError, Planned, plan, suites, workload_of
from sparsebench.suites.runner.journal import JournalTail, RunFolder, RunFolderError
from sparsebench.suites.runner.worker import how_it_died, run_worker

MARKED = ("profile", "threads", "data")
"""Settings that all cells of a run folder must share, or its rows could not be compared."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to run.

    Attributes:
        suites: names.
        representations: names, or module:Class.
        device: "cpu" or "cuda".
        profile: "quick", "full" or "gpu".
        data: folder with MNIST's files, or None.
        threads: for torch, numba and BLAS.
        cell_timeout_s: seconds for one cell.
        out: the run folder.
        only: text that a cell's id has to hold, or None.
    """

    suites: list[str]
    representations: list[str]
    device: str
    profile: str
    data: Path | None
    threads: int
    cell_timeout_s: float
    out: RunFolder
    only: str | None = None

    def __post_init__(self) -> None:
        if self.cell_timeout_s <= 0:
            raise ValueError(f"expected a cell timeout > 0 s, got {self.cell_timeout_s}")

    def arguments(self) -> list[str]:
        """Return the suites' pytest options."""
        given = [f"--device={self.device}", f"--profile={self.profile}", f"--threads={self.threads}"]
        given += [f"--out={self.out.path}", *(f"--representation={name}" for name in self.representations)]
        given += [f"--data={self.data}"] if self.data is not None else []
        return given + ([f"--only={self.only}"] if self.only is not None else [])


DEATHS = 3
"""After so many workers died on one representation in a suite, its other cells are not tried: each costs a restart."""

Progress = Callable[[int, int, str], None]
"""Told how many cells are done, how many there are in all, and which one is being measured."""


def run(order: Order, progress: Progress) -> Counter[str]:
    """Measure every cell that the run folder does not hold yet, coming back to each as often as the profile says.

    All suites are visited once before any is visited again, each visit in a new process: what a process or a few noisy
    minutes do to a number then shows in its interval.

    Returns:
        how many cells of this order have each status.

    Raises:
        PlanError: if there is nothing to run.
        RunFolderError: if the folder holds a run with other settings.
    """
    planned = {
        suite: plan(workload_of(suite), order.profile, order.representations, order.only) for suite in order.suites
    }
    if not any(planned.values()):
        raise PlanError(f"expected --only to name cells, got {order.only!r}, which none of them holds")
    with order.out.locked():
        return _run(order, planned, progress)


def _run(order: Order, planned: dict[str, list[Planned]], progress: Progress) -> Counter[str]:
    """Measure what is planned into a folder that is this run's alone; see `run`."""
    _mark(order)
    keys = {cell.key(order.device): cell for cells in planned.values() for cell in cells}

    last = EFFORTS[order.profile].visits
    tail = JournalTail(order.out)

    def tick() -> None:
        current = order.out.in_progress()
        label = "" if current is None else f"{current[1].representation}: {current[1].workload}"
        visits = tail.visits()
        progress(sum(min(visits.get(key, 0), last) for key in keys), len(keys) * last, label)

    for visit in range(1, last + 1):
        for suite, cells in planned.items():
            _visit(order, suite, cells, visit, tick)
    return Counter(row["status"] for row in order.out.rows() if cell_key(row) in keys)


def _visit(order: Order, suite: str, cells: list[Planned], visit: int, tick: Callable[[], None]) -> None:
    """Have workers measure a suite's cells until none is left that was visited less often than `visit`."""
    attempt = 0
    deaths: Counter[str] = Counter()
    while pending := _pending(cells, order, visit):
        attempt = _next_attempt(order.out, suite, attempt)
        order.out.end()
        path = suites()[suite]
        verdict = run_worker(
            suite,
            path,
            [*order.arguments(), f"--visit={visit}", *([f"--workload={suite}"] if path == OUTSIDE else [])],
            order.out,
            attempt=attempt,
            cell_timeout_s=order.cell_timeout_s,
            on_tick=tick,
        )
        status, reason = how_it_died(verdict, order.cell_timeout_s)
        victim = _bury(order, pending, visit, status, reason)
        if victim is not None:
            deaths[victim] += 1
            if deaths[victim] == DEATHS:
                reason = f"not tried: {DEATHS} workers died on {victim} in this suite"
                _give_up(order, [cell for cell in cells if cell.representation == victim], visit, "crashed", reason)
        tick()


def exit_status(statuses: Counter[str]) -> int:
    """Return 1 if any cell failed, else 0."""
    return int(any(statuses[status] for status in FAILURES))


def _pending(cells: list[Planned], order: Order, visit: int) -> list[Planned]:
    done = order.out.finished(visit)
    return [cell for cell in cells if cell.key(order.device) not in done]


def _bury(order: Order, before: list[Planned], visit: int, status: str, reason: str) -> str | None:
    """Write down the cell that a worker died on, and return its representation.

    If it died on none and finished none, all that it left is given up, or the run would never end.
    """
    current = order.out.in_progress()
    if current is not None:
        order.out.append(dataclasses.replace(current[1], status=status, reason=reason, **_stamp(order)))
        order.out.end()
        return current[1].representation
    if len(_pending(before, order, visit)) == len(before):
        _give_up(order, before, visit, status, reason)
    return None


def _give_up(order: Order, cells: list[Planned], visit: int, status: str, reason: str) -> None:
    """Write down that the pending ones of these cells were not measured, and why."""
    for cell in _pending(cells, order, visit):
        ghost = blank(cell.case, cell.representation, order.device, status=status, reason=reason)
        order.out.append(dataclasses.replace(ghost, **_stamp(order)))


def _stamp(order: Order) -> dict[str, Any]:
    return {"profile": order.profile, "threads": order.threads, "finished_at": _now()}


def _next_attempt(out: RunFolder, suite: str, attempt: int) -> int:
    attempt += 1
    while (out.path / f"worker-{suite}-{attempt}.log").exists():
        attempt += 1
    return attempt


def _mark(order: Order) -> None:
    """Write the machine's facts and the settings, or see that they are those of the run being resumed."""
    settings = {"profile": order.profile, "threads": order.threads, "data": order.data is not None}
    facts = machine.describe(order.device, order.threads) | {"settings": settings, "started_at": _now()}
    known = order.out.facts()
    if known is not None:
        for name in MARKED:
            if (was := known["settings"].get(name)) != settings[name]:
                raise RunFolderError(
                    f"expected {name}={was!r} to resume {order.out.path}, got {settings[name]!r}; choose another --out"
                )
        if known["cpu"] != facts["cpu"]:
            raise RunFolderError(f"expected {order.out.path} to be resumed on {known['cpu']}; choose another --out")
        facts["started_at"] = known["started_at"]
    order.out.machine.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
