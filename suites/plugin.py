"""Give the suites their pytest options, their parameters and the fixture that measures a cell.

suites/conftest.py takes this in. It is no global pytest plugin on purpose: installing sparsebench leaves every other
pytest session as it was, option names included. A bench file elsewhere asks for it with `-p sparsebench.suites.plugin`.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sparsebench.suites.measure import machine
from sparsebench.suites.plan import (
    PlanError,
    Planned,
    check_profile,
    choose_representations,
    choose_suites,
    plan,
    workload_of,
)
from sparsebench.suites.runner.journal import RunFolder
from sparsebench.suites.search.handed import read_cells
from sparsebench.suites.session import Bench, Settings
from sparsebench.suites.workloads.data import DataError, check_folder, data_folder
from sparsebench.suites.workloads.dlmc import collection
from sparsebench.suites.workloads.problem import Workload

OPTIONS: dict[str, dict[str, Any]] = {
    "--representation": {"action": "append", "help": "measure only this one (name or module:Class); may be repeated"},
    "--workload": {"default": None, "help": "the suite of another package that suites/outside.py measures"},
    "--device": {"default": "cpu", "help": "cpu or cuda"},
    "--profile": {"default": "quick", "help": "quick, full or gpu"},
    "--data": {"default": None, "help": "a folder that holds the four MNIST files; also SPARSEBENCH_DATA"},
    "--dlmc": {"default": None, "help": "a folder with the Deep Learning Matrix Collection, for bench_dlmc.py"},
    "--dlmc-sample": {"default": None, "type": int, "help": "matrices of it to draw; default: 24 for quick"},
    "--threads": {"default": None, "type": int, "help": "threads for torch, numba and BLAS alike"},
    "--visit": {"default": 1, "type": int, "help": "come back to cells that were visited less often than this"},
    "--cells": {"default": None, "help": "a file of the cells to measure, which a run writes; instead of all"},
    "--until": {"default": None, "type": float, "help": "seconds since the epoch after which no cell is begun"},
    "--lifeline": {"default": None, "type": int, "help": "end with whoever holds the other end of this pipe"},
    "--only": {"default": None, "help": "measure only cells whose id holds this text, as '|block-32x32|'"},
    "--out": {"default": None, "help": "a run folder: rows are appended to its cells.jsonl, finished cells skipped"},
}


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
    option = {
        name: config.getoption(name.removeprefix("--").replace("-", "_"), info.get("default"))
        for name, info in OPTIONS.items()
    }
    if reason := machine.device_problem(option["--device"]):
        raise pytest.UsageError(reason)
    try:
        notes = collection.choose(
            Path(option["--dlmc"]) if option["--dlmc"] else None,
            option["--dlmc-sample"],
            profile=check_profile(option["--profile"]),
            whole=option["--cells"] is None,  # a run has read every file, and told what is wrong
        )
        for note in notes if option["--cells"] is None else ():
            sys.stderr.write(f"{note}\n")
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
    except DataError as error:  # a folder that nobody named: the other files' cells are measured
        skipped = pytest.param("", marks=pytest.mark.skip(reason=str(error)), id="left-out")
        metafunc.parametrize("cell_id", [skipped])
        return
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
