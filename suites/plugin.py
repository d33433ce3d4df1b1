"""Give the suites their pytest options, their parameters and the fixture that measures a cell.

suites/conftest.py takes this in. It is no global pytest plugin on purpose: installing sparsebench leaves every other
pytest session as it was, option names included. A bench file elsewhere asks for it with `-p sparsebench.suites.plugin`.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparsebench.representations.registry import load
from sparsebench.suites.cell import Case, Cell, blank
from sparsebench.suites.measure import machine, roof
from sparsebench.suites.measure.clocks import clock_for
from sparsebench.suites.measure.fidelity import fingerprints
from sparsebench.suites.measure.gauge import Gauge, ReferenceChoice
from sparsebench.suites.measure.memory import weigh
from sparsebench.suites.measure.one_cell import failed, measure
from sparsebench.suites.measure.roof import Roof
from sparsebench.suites.measure.timing import EFFORTS, Effort
from sparsebench.suites.plan import (
    PlanError,
    Planned,
    check_profile,
    choose_representations,
    choose_suites,
    plan,
    workload_of,
)
from sparsebench.suites.runner.journal import RunFolder, RunFolderError, finite
from sparsebench.suites.search.handed import read_cells
from sparsebench.suites.workloads.data import DataError, check_folder, data_folder
from sparsebench.suites.workloads.problem import Problem, Training, Workload

OPTIONS: dict[str, dict[str, Any]] = {
    "--representation": {"action": "append", "help": "measure only this one (name or module:Class); may be repeated"},
    "--workload": {"default": None, "help": "the suite of another package that suites/outside.py measures"},
    "--device": {"default": "cpu", "help": "cpu or cuda"},
    "--profile": {"default": "quick", "help": "quick, full or gpu"},
    "--data": {"default": None, "help": "a folder that holds the four MNIST files; also SPARSEBENCH_DATA"},
    "--threads": {"default": None, "type": int, "help": "threads for torch, numba and BLAS alike"},
    "--visit": {"default": 1, "type": int, "help": "come back to cells that were visited less often than this"},
    "--cells": {"default": None, "help": "a file of the cells to measure, which a run writes; instead of all"},
    "--until": {"default": None, "type": float, "help": "seconds since the epoch after which no cell is begun"},
    "--lifeline": {"default": None, "type": int, "help": "end with whoever holds the other end of this pipe"},
    "--only": {"default": None, "help": "measure only cells whose id holds this text, as '|block-32x32|'"},
    "--out": {"default": None, "help": "a run folder: rows are appended to its cells.jsonl, finished cells skipped"},
}


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
        self.planned: dict[str, Planned] = {}
        machine.set_threads(settings.threads)
        machine.exact_float32()
        clock = clock_for(settings.device)
        keep = settings.out.keep if settings.out is not None else None
        self._gauge = Gauge(
            clock=clock, effort=settings.effort, choice=ReferenceChoice(clock), keep=keep, roof=_roof(settings)
        )
        self._earlier = settings.out.earlier() if settings.out is not None else {}
        self._case: Case | None = None
        self._problem: Problem | Training | Exception | None = None
        self._prints: dict[str, int] = {}
        self._unweighed: list[tuple[Cell, dict[str, Any]]] = []
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
        """Measure one cell and write it down before anyone judges it."""
        settings, out = self.settings, self.settings.out
        if self._case != planned.case:
            self.weigh()
        draft = blank(planned.case, planned.representation, settings.device, status="crashed", reason="in progress")
        if out is not None:
            out.begin(draft, time.time())
        samples = None
        problem = self.problem(workload, planned.case)
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
        ends = planned.level_range
        cell = dataclasses.replace(cell, profile=settings.profile, level_range=ends and list(ends))
        benchmark.extra_info.update(finite(cell.row()))
        if out is not None:
            out.append(cell, samples)
            out.end()
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
                out.begin(cells[number][0], time.time())

        found = weigh(self._problem, [load(cell.representation) for cell, _ in cells], begin)
        for (cell, told), weight in zip(cells, found, strict=True):
            if isinstance(weight, Exception):
                draft = blank(self._problem.case, cell.representation, cell.device, status="crashed", reason="weighing")
                weighed = dataclasses.replace(failed(draft, weight), threads=cell.threads, profile=cell.profile)
            else:
                weighed = dataclasses.replace(cell, **dataclasses.asdict(weight))
            told.update(finite(weighed.row()))
            if out is not None:
                out.append(weighed)
        if out is not None:
            out.end()


CellRunner = Callable[[Workload], None]
_BENCH = pytest.StashKey[Bench]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of `sparsebench run`."""
    group = parser.getgroup("sparsebench", "sparsebench")
    for name, arguments in OPTIONS.items():
        group.addoption(name, **arguments)


def bench_of(config: pytest.Config) -> Bench:
    """Return the session's Bench, made on first use, so that sessions without a cell pay nothing.

    Raises:
        pytest.UsageError: one clear line, if an option is wrong.
    """
    if _BENCH not in config.stash:
        config.stash[_BENCH] = Bench(_settings(config))
    return config.stash[_BENCH]


def _settings(config: pytest.Config) -> Settings:
    option = {name: config.getoption(name.removeprefix("--"), info.get("default")) for name, info in OPTIONS.items()}
    if reason := machine.device_problem(option["--device"]):
        raise pytest.UsageError(reason)
    try:
        return Settings(
            representations=choose_representations(option["--representation"]),
            device=option["--device"],
            profile=check_profile(option["--profile"]),
            data=check_folder(data_folder(option["--data"])),
            threads=machine.chosen_threads(option["--threads"]),
            only=option["--only"],
            visit=option["--visit"],
            out=RunFolder(path=Path(option["--out"]).resolve()) if option["--out"] else None,
            cells=Path(option["--cells"]) if option["--cells"] else None,
            until=option["--until"],
            lifeline=option["--lifeline"],
        )
    except (PlanError, DataError, ValueError) as error:
        raise pytest.UsageError(str(error)) from error


def named_workload(config: pytest.Config) -> Workload:
    """Return the workload that --workload names.

    Raises:
        pytest.UsageError: one clear line, if none is named or it is unknown.
    """
    try:
        (name,) = choose_suites([str(config.getoption("workload"))])
    except PlanError as error:
        raise pytest.UsageError(f"{error}; give --workload") from error
    return workload_of(name)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of every cell that the module's WORKLOAD plans and that the run folder's visits lack."""
    if "cell_runner" not in metafunc.fixturenames:
        return
    bench = bench_of(metafunc.config)
    settings = bench.settings
    done = settings.out.visits() if settings.out is not None else {}
    workload = getattr(metafunc.module, "WORKLOAD", None) or named_workload(metafunc.config)
    try:
        cells = _cells(workload, settings)
    except PlanError as error:
        raise pytest.UsageError(str(error)) from error
    todo = [planned for planned in cells if done.get(planned.key(settings.device), 0) < planned.visit]
    bench.planned.update({planned.id: planned for planned in todo})
    ids = [planned.id for planned in todo]  # strings only: pytest-benchmark's JSON holds the parameters too
    metafunc.parametrize("cell_id", ids, ids=ids)


def _cells(workload: Workload, settings: Settings) -> list[Planned]:
    """Return the cells that were handed to this session, or all of the workload's."""
    if settings.cells is not None:
        return read_cells(settings.cells, workload, settings.profile)
    every = plan(workload, settings.profile, settings.representations, settings.only)
    return [dataclasses.replace(planned, visit=settings.visit) for planned in every]


@pytest.fixture
def cell_runner(cell_id: str, benchmark: Any, request: pytest.FixtureRequest) -> CellRunner:
    """Return a function that measures this test's cell; the test's outcome is the cell's status."""
    bench = bench_of(request.config)

    def run(workload: Workload) -> None:
        if bench.settings.until is not None and time.time() > bench.settings.until:
            pytest.skip("time is up")  # no row is written: the cell was not begun, and a resumed run measures it
        cell = bench.run(workload, bench.planned[cell_id], benchmark)
        line = f"{cell.status}: {cell.reason}"
        if cell.status in ("unsupported", "not_installed"):
            pytest.skip(line)
        if cell.status != "ok":
            pytest.fail(line, pytrace=False)

    return run


@pytest.hookimpl(tryfirst=True)  # before pytest-benchmark writes its JSON
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Weigh the last problem's cells."""
    if _BENCH in session.config.stash:
        session.config.stash[_BENCH].weigh()


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: list[Any], output_json: dict[str, Any]) -> None:
    """Put the machine's facts into pytest-benchmark's JSON too."""
    if _BENCH in config.stash:
        settings = config.stash[_BENCH].settings
        output_json["sparsebench_machine"] = machine.describe(settings.device, settings.threads)
