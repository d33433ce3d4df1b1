"""Drive a run: plan it, give each suite a worker, bury the dead ones, resume."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sparsebench.suites.cell import FAILURES, blank, cell_key
from sparsebench.suites.measure import machine, processes, roof
from sparsebench.suites.measure.timing import EFFORTS
from sparsebench.suites.plan import OUTSIDE, PlanError, Planned, suites, workload_of
from sparsebench.suites.runner.journal import RunFolder, RunFolderError
from sparsebench.suites.runner.progress import Progress
from sparsebench.suites.runner.tally import Tally
from sparsebench.suites.runner.worker import how_it_died, run_worker
from sparsebench.suites.search.curves import Agenda, agenda
from sparsebench.suites.search.handed import write_cells
from sparsebench.suites.selftest.kept import known as known_selftest
from sparsebench.suites.session import CHANGED, FULL, TOLD

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
        levels: sparsities to measure every curve at, or None to search for its break-even.
        time_s: seconds that the run may take, or None for as long as the search wants.
        cell_memory_bytes: that a worker may hold, or None for SHARE of what is free when the run begins.
        visits: of a cell of a given level; None for as many as the profile says.
        train: whether workloads train anew in the run what a short profile leaves to the kept studies.
        dlmc: folder with the Deep Learning Matrix Collection, or None.
        dlmc_sample: how many matrices of it, or None for as many as the profile says.
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
    levels: tuple[float, ...] | None = None
    time_s: float | None = None
    cell_memory_bytes: int | None = None
    visits: int | None = None
    train: bool = False
    dlmc: Path | None = None
    dlmc_sample: int | None = None

    def __post_init__(self) -> None:
        if self.time_s is not None and self.time_s < LEAST_S:
            raise ValueError(f"expected a time of at least {LEAST_S:g} s, got {self.time_s:g} s; give --time more")
        if bad := [level for level in self.levels or () if not 0 <= level < 1]:
            raise ValueError(
                f"expected levels of at least 0 and below 1, got {', '.join(map(str, bad))}; mend --levels"
            )
        if self.cell_memory_bytes is not None and self.cell_memory_bytes < LEAST_BYTES:
            raise ValueError(
                f"expected a cell memory of at least {LEAST_BYTES >> 20} MiB, got {self.cell_memory_bytes >> 20} MiB; "
                "give --cell-memory more"
            )
        if self.cell_timeout_s <= 0:
            raise ValueError(f"expected a cell timeout > 0 s, got {self.cell_timeout_s}")

    def arguments(self) -> list[str]:
        """Return the suites' pytest options."""
        given = [f"--device={self.device}", f"--profile={self.profile}", f"--threads={self.threads}"]
        given += [f"--out={self.out.path}", *(f"--representation={name}" for name in self.representations)]
        given += [f"--dlmc={self.dlmc}"] if self.dlmc is not None else []
        given += [f"--dlmc-sample={self.dlmc_sample}"] if self.dlmc_sample is not None else []
        return given + ([f"--data={self.data}"] if self.data is not None else [])


DEATHS = 3
"""After so many workers died on one representation in a suite, its other cells are not tried: each costs a restart."""

WORTH_S = 5.0
"""With less time left no pass is begun: a worker takes as long to start."""
SHARE = 0.8
"""Of the memory that is free when a run begins, for a worker: the rest is for this process and for the machine."""
LEAST_BYTES = 1 << 30
"""A worker's libraries alone take half of it."""
LEAST_S = 20.0
"""A worker takes seconds to start, and compiles."""


def agendas_of(order: Order) -> dict[str, Agenda]:
    """Return what each suite of an order is to measure.

    Raises:
        PlanError: if that is nothing.
    """
    asked = (order.profile, order.representations, order.only, order.levels)
    found = {suite: agenda(workload_of(suite), *asked, train=order.train) for suite in order.suites}
    if not any(one.fixed or one.curves for one in found.values()):
        raise PlanError(f"expected --only to name cells, got {order.only!r}, which none of them holds")
    return found


def run(order: Order, progress: Progress, agendas: dict[str, Agenda]) -> Counter[str]:
    """Measure every cell of the order as often as the profile says, and search every curve for its break-even.

    A pass goes over all suites, each in a new process, before any is visited again: what a process or a few noisy
    minutes do to a number then shows in its interval. What the next pass measures follows from the journal alone, so
    that a run that is resumed goes on as if nothing had happened.

    Args:
        order: what to run.
        progress: told how far it is.
        agendas: what each suite is to measure, as from `agendas_of`.

    Returns:
        how many cells of this order have each status.

    Raises:
        RunFolderError: if the folder holds a run with other settings, or takes no more files.
    """
    with order.out.locked():
        try:
            return _run(order, agendas, progress)
        except OSError as error:
            raise RunFolderError(
                f"expected room to write into {order.out.path}, got {error.strerror or error}; "
                f"free some and resume with --out {order.out.path}; every finished cell is kept"
            ) from error


def _run(order: Order, agendas: dict[str, Agenda], progress: Progress) -> Counter[str]:
    """Measure what is planned into a folder that is this run's alone; see `run`."""
    _mark(order)
    until = None if order.time_s is None else time.time() + order.time_s
    tally = Tally(order, agendas, until, progress)
    passes = 0
    while until is None or time.time() < until - WORTH_S:
        passes += 1
        planned = tally.plan(passes)
        if not any(_pending(cells, order) for cells in planned.values()):
            if passes < (order.visits or EFFORTS[order.profile].visits):
                continue  # a resumed run has this pass behind it, and not the next
            break  # nothing is planned, or only what a visit adds nothing to
        for suite in agendas:
            # the first time a suite learns where to begin from those before it
            if cells := tally.plan(passes)[suite] if passes == 1 else planned[suite]:
                _visit(order, suite, cells, until, tally.tick)
    tally.count()
    tally.tick()
    return Counter(row["status"] for row in order.out.rows() if tally.ours(row))


def _visit(order: Order, suite: str, cells: list[Planned], until: float | None, tick: Callable[[], None]) -> None:
    """Have workers measure cells of a suite until none is left that was visited less often than it is to be."""
    attempt = 0
    deaths: Counter[str] = Counter()
    most = order.cell_memory_bytes or int(SHARE * processes.free_bytes())
    while (pending := _pending(cells, order)) and (until is None or time.time() < until):
        attempt = _next_attempt(order.out, suite, attempt)
        order.out.end()
        path, handed = suites()[suite], order.out.path / "next.json"
        write_cells(handed, pending)
        given = [*order.arguments(), f"--cells={handed}", *([f"--until={until}"] if until is not None else [])]
        verdict = run_worker(
            suite,
            path,
            [*given, *([f"--workload={suite}"] if path == OUTSIDE else [])],
            order.out,
            attempt=attempt,
            cell_timeout_s=order.cell_timeout_s,
            cell_memory_bytes=most,
            on_tick=tick,
        )
        handed.unlink(missing_ok=True)
        if verdict.returncode == FULL:
            order.out.probe()  # raises what the worker met, unless there is room again
            raise OSError(errno.ENOSPC, "no room for a row, a moment ago")
        if until is not None and time.time() > until and order.out.in_progress() is None:
            break  # what is left was not begun: nobody is to blame
        status, reason = how_it_died(verdict, order.cell_timeout_s, most)
        victim = _bury(order, pending, status, reason)
        if verdict.returncode == CHANGED:
            victim = _changer(order, pending)
        if victim is not None:
            deaths[victim] += 1
            if deaths[victim] == DEATHS:
                reason = f"not tried: {DEATHS} workers died on {victim} in this suite"
                _give_up(order, [cell for cell in cells if cell.representation == victim], "crashed", reason)
        tick()


def exit_status(statuses: Counter[str]) -> int:
    """Return 1 if any cell failed, else 0."""
    return int(any(statuses[status] for status in FAILURES))


def _pending(cells: list[Planned], order: Order) -> list[Planned]:
    done = order.out.visits()
    return [cell for cell in cells if done.get(cell.key(order.device), 0) < cell.visit]


def _bury(order: Order, before: list[Planned], status: str, reason: str) -> str | None:
    """Write down the cell that a worker died on, and return its representation.

    If it died on none and finished none, all that it left is given up, or the run would never end.
    """
    current, done = order.out.in_progress(), order.out.visits()
    visits = {cell.key(order.device): cell.visit for cell in before}
    written = current is not None and done.get(current[1].key, 0) >= visits.get(current[1].key, math.inf)
    if current is not None and written and current[1].status != "ok":
        order.out.end()  # its row was written, and the worker ended before it said so; "ok" is one that is weighed
    elif current is not None:
        order.out.append(dataclasses.replace(current[1], status=status, reason=reason, **_stamp(order)))
        order.out.end()
        return current[1].representation
    if len(_pending(before, order)) == len(before):
        _give_up(order, before, status, reason)
    return None


def _changer(order: Order, before: list[Planned]) -> str | None:
    """Return the representation whose cell a worker ended after, since it had changed what all cells share."""
    wrong = {cell_key(row) for row in order.out.rows() if row["status"] == "wrong" and TOLD in str(row.get("reason"))}
    return next((cell.representation for cell in before if cell.key(order.device) in wrong), None)


def _give_up(order: Order, cells: list[Planned], status: str, reason: str) -> None:
    """Write down that the pending ones of these cells were not measured, and why."""
    for cell in _pending(cells, order):
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
            if name in known["settings"] and (was := known["settings"][name]) != settings[name]:
                raise RunFolderError(
                    f"expected {name}={was!r} to resume {order.out.path}, got {settings[name]!r}; choose another --out"
                )
        if (was := known.get("cpu")) not in (None, facts["cpu"]):
            raise RunFolderError(f"expected {order.out.path} to be resumed on {was}; choose another --out")
        facts["started_at"] = known.get("started_at") or facts["started_at"]
    facts["selftest"] = known_selftest(order.threads)
    facts["roof"] = (
        roof.known(known, order.device, order.threads) or roof.measure(order.device, order.threads)
    ).noted()
    order.out.write(order.out.machine.name, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
