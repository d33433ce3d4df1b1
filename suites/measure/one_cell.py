"""Measure one cell: a case on one representation and one device, in the order that makes its number one to trust."""

from __future__ import annotations

import dataclasses
import gc
import statistics
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import torch

from sparsebench.kernels.common.gpu import device_is_lost
from sparsebench.representations.operations import lacking
from sparsebench.representations.registry import (
    BrokenRepresentationError,
    first_line,
    load,
    missing_requirements,
)
from sparsebench.suites.cell import DTYPES, Cell, blank
from sparsebench.suites.measure import roof
from sparsebench.suites.measure.checked import checked
from sparsebench.suites.measure.columns import build_timed, facts, judged, timed
from sparsebench.suites.measure.fidelity import TOLERANCES, worst_error
from sparsebench.suites.measure.gauge import Earlier, Gauge
from sparsebench.suites.measure.roof import Roof
from sparsebench.suites.measure.timing import Samples, summarise, time_paired
from sparsebench.suites.workloads.problem import Action, Artifact, Problem, Training

LOST = 3
"""Exit status of a worker whose device is lost."""


def measure(
    problem: Problem | Training,
    name: str,
    benchmark: Any,
    gauge: Gauge,
    earlier: Earlier | None = None,
    *,
    weighed: bool = True,
) -> tuple[Cell, Samples | None]:
    """Visit one cell; whatever goes wrong becomes a status with a reason, and costs no other cell.

    Args:
        problem: the case on its device.
        name: the representation's.
        benchmark: pytest-benchmark's fixture.
        gauge: what to measure with.
        earlier: what earlier visits found; their rounds count along, and what they weighed is not weighed again.
        weighed: whether to time the build, too; memory is weighed in a pass of its own.

    Returns:
        the cell with all visits in it, and the rounds of this one.

    Raises:
        pytest.exit.Exception: if an error has cost this process its device; the session ends with status LOST.
    """
    start = blank(problem.case, name, problem.device, status="crashed", reason="not finished")
    samples: Samples | None = None
    try:
        if isinstance(problem, Training):
            cell = _train(start, problem, benchmark, gauge)
        else:
            cell, samples = _attempt(start, problem, name, benchmark, gauge, earlier, weighed=weighed)
    except (Exception, SystemExit) as error:
        cell = failed(start, error)
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    return dataclasses.replace(cell, threads=torch.get_num_threads(), finished_at=stamp), samples


def failed(start: Cell, error: Exception | SystemExit) -> Cell:
    """Return the cell of an error, which a row tells in one line; its traceback goes into the worker's log.

    Raises:
        pytest.exit.Exception: if the error has cost this process its device; the session ends with status LOST.
    """
    if device_is_lost(start.device):
        # every further cell of this process would fail too: the runner buries this one and starts a new worker
        pytest.exit(f"{type(error).__name__}: {first_line(error)}", returncode=LOST)
    traceback.print_exception(error)
    status = "oom" if is_out_of_memory(error) else "crashed"
    return dataclasses.replace(start, status=status, reason=f"{type(error).__name__}: {first_line(error)}")


def _attempt(
    start: Cell,
    problem: Problem,
    name: str,
    benchmark: Any,
    gauge: Gauge,
    earlier: Earlier | None,
    *,
    weighed: bool,
) -> tuple[Cell, Samples | None]:
    try:
        cls = load(name)
    except BrokenRepresentationError as broken:
        return dataclasses.replace(start, reason=first_line(broken)), None
    if missing := missing_requirements(cls):
        reason = f"needs {', '.join(missing)}; install it beside sparsebench"
        return dataclasses.replace(start, status="not_installed", reason=reason), None
    refusal = cls.unsupported(problem.spec()) or lacking(cls, problem.spec().operation)
    if refusal:
        return dataclasses.replace(start, status="unsupported", reason=refusal), None

    built = cls.build(problem.tensor, problem.case.pattern)
    action = problem.action(cls, built)
    first = action()  # compiles what has to be compiled, and is judged
    if earlier is None:
        _keep(problem.artifact(first), gauge)
    outputs = problem.outputs(first)
    del first
    tolerance = TOLERANCES[DTYPES[problem.case.dtype]]
    try:
        error = worst_error(outputs, problem.oracle())
    except ValueError as mismatch:
        return dataclasses.replace(start, status="wrong", reason=first_line(mismatch)), None
    cell = facts(start, problem, cls, built, error, tolerance)
    if not error <= tolerance:
        reason = f"expected a relative error of at most {tolerance:g} against float64, got {error:.3g}"
        return dataclasses.replace(cell, status="wrong", reason=reason), None
    cell = checked(cell, problem, built, outputs, earlier.cell if earlier else None)

    reference_name, reference = gauge.choice.of(problem, earlier.cell.reference if earlier else None)
    cell = judged(
        dataclasses.replace(cell, status="ok", reason=None, reference=reference_name), problem.quality(outputs)
    )
    with no_garbage_collection():
        samples = time_paired(benchmark, action, reference, gauge.clock, gauge.effort)
        cell = build_timed(cell, problem, cls, gauge, earlier, weighed=weighed)
    error, work = judged_again(problem, action)
    if not error <= tolerance:
        reason = f"expected the same result after it was timed as before, got a relative error of {error:.3g}"
        return dataclasses.replace(start, status="wrong", reason=reason), None
    if samples is None:
        return cell, None
    if (reason := _too_fast(samples, work, gauge.roof)) is not None:
        return dataclasses.replace(start, status="wrong", reason=reason), None
    visits = (*(earlier.visits if earlier else ()), samples)
    return timed(cell, problem, summarise(visits), len(visits)), samples


def judged_again(problem: Problem, action: Action) -> tuple[float, tuple[float, float]]:
    """Return the error of a further call, with an operand turned: what was timed has to be what was judged.

    The least work that its result stands for comes along, as `Problem.least_work` tells it.
    """
    signs = problem.turned()
    try:
        expected = problem.exact() if signs == () else problem.oracle()
        if signs:
            expected = tuple(sign * one for sign, one in zip(signs, expected, strict=True))
        result = action()
        return worst_error(problem.outputs(result), expected), problem.least_work(result)
    finally:
        if signs is not None:
            problem.turned()


def _too_fast(samples: Samples, work: tuple[float, float], known: Roof | None) -> str | None:
    """Return why this machine cannot have been so fast, in one line, or None."""
    if known is None:
        return None
    taken = statistics.median(samples.times)
    if known.impossible(taken, *work) is None:
        return None
    # something may have disturbed the first look at the machine: nobody is accused without a second
    return known.higher(roof.measure(known.device, known.threads)).impossible(taken, *work)


def _train(start: Cell, training: Training, benchmark: Any, gauge: Gauge) -> Cell:
    """Run a whole training once: its quality is the result, its time a single sample without a reference."""
    begin = time.perf_counter()
    result = benchmark.pedantic(training.train, rounds=1, iterations=1)
    elapsed = time.perf_counter() - begin
    fetched = training.seconds(result)
    _keep(training.artifact(result), gauge)
    time_s = elapsed if fetched is None else fetched
    cell = dataclasses.replace(start, status="ok", reason=None, time_s=time_s, rounds=1, inner_iterations=1)
    return judged(cell, training.quality(result))


def _keep(artifact: Artifact | None, gauge: Gauge) -> None:
    """Store what the report draws, if there is something and somewhere to store it."""
    if artifact is not None and gauge.keep is not None:
        gauge.keep(*artifact)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, on the host or on the device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Keep Python's cycle collector out of what is timed."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
