"""Measure one cell: a case on one representation and one device, in the order that makes its number one to trust."""

from __future__ import annotations

import dataclasses
import gc
import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import torch

from sparsebench.kernels.common.gpu import device_is_lost
from sparsebench.representations.base import Representation
from sparsebench.representations.operations import lacking
from sparsebench.representations.registry import (
    BrokenRepresentationError,
    first_line,
    load,
    missing_requirements,
)
from sparsebench.suites.cell import DTYPES, Cell, blank
from sparsebench.suites.measure.fidelity import TOLERANCES, worst_error
from sparsebench.suites.measure.memory import weigh
from sparsebench.suites.measure.timing import Clock, Effort, Samples, Timing, fastest, summarise, time_paired
from sparsebench.suites.workloads.problem import Action, Problem, Quality

LOST = 3
"""Exit status of a worker whose device is lost."""


class ReferenceChoice:
    """Remember which dense form of a problem is the fastest, so that every representation meets the same one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._problem: Problem | None = None
        self._name = ""

    def of(self, problem: Problem, earlier: str | None) -> tuple[str, Action]:
        """Return the name and the action of the fastest dense form; the one of an earlier visit stays."""
        references = dict(problem.references())
        if earlier in references:
            return earlier, references[earlier]
        if self._problem is not problem:
            self._problem, self._name = problem, fastest(references, self._clock)
        return self._name, references[self._name]


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
    """

    clock: Clock
    effort: Effort
    choice: ReferenceChoice
    keep: Keeper | None = None


def measure(
    problem: Problem, name: str, benchmark: Any, gauge: Gauge, earlier: Earlier | None = None
) -> tuple[Cell, Samples | None]:
    """Visit one cell; whatever goes wrong becomes a status with a reason, and costs no other cell.

    Args:
        problem: the case on its device.
        name: the representation's.
        benchmark: pytest-benchmark's fixture.
        gauge: what to measure with.
        earlier: what earlier visits found; their rounds count along, and what they weighed is not weighed again.

    Returns:
        the cell with all visits in it, and the rounds of this one.

    Raises:
        pytest.exit.Exception: if an error has cost this process its device; the session ends with status LOST.
    """
    start = blank(problem.case, name, problem.device, status="crashed", reason="not finished")
    samples: Samples | None = None
    try:
        if problem.once():
            cell = _train_once(start, problem, name, benchmark, gauge.keep)
        else:
            cell, samples = _attempt(start, problem, name, benchmark, gauge, earlier)
    except Exception as error:
        if device_is_lost(problem.device):
            # every further cell of this process would fail too: the runner buries this one and starts a new worker
            pytest.exit(f"{type(error).__name__}: {first_line(error)}", returncode=LOST)
        cell = failed(start, error)
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    return dataclasses.replace(cell, threads=torch.get_num_threads(), finished_at=stamp), samples


def failed(start: Cell, error: Exception) -> Cell:
    """Return the cell of an error, which a row tells in one line; its traceback goes into the worker's log."""
    traceback.print_exception(error)
    status = "oom" if is_out_of_memory(error) else "crashed"
    return dataclasses.replace(start, status=status, reason=f"{type(error).__name__}: {first_line(error)}")


def _attempt(
    start: Cell, problem: Problem, name: str, benchmark: Any, gauge: Gauge, earlier: Earlier | None
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
        _keep(problem, first, gauge.keep)
    outputs = problem.outputs(first)
    del first
    tolerance = TOLERANCES[DTYPES[problem.case.dtype]]
    try:
        error = worst_error(outputs, problem.oracle())
    except ValueError as mismatch:
        return dataclasses.replace(start, status="wrong", reason=first_line(mismatch)), None
    facts = _facts(start, problem, cls, built, error, tolerance)
    if not error <= tolerance:
        reason = f"expected a relative error of at most {tolerance:g} against float64, got {error:.3g}"
        return dataclasses.replace(facts, status="wrong", reason=reason), None

    reference_name, reference = gauge.choice.of(problem, earlier.cell.reference if earlier else None)
    facts = _judged(
        dataclasses.replace(facts, status="ok", reason=None, reference=reference_name), problem.quality(outputs)
    )
    with no_garbage_collection():
        samples = time_paired(benchmark, action, reference, gauge.clock, gauge.effort)
        facts = _builds(facts, problem, cls, action, gauge, earlier)
    if samples is None:
        return facts, None
    visits = (*(earlier.visits if earlier else ()), samples)
    return _timed(facts, problem, summarise(visits), len(visits)), samples


def _builds(
    facts: Cell, problem: Problem, cls: type[Representation], action: Action, gauge: Gauge, earlier: Earlier | None
) -> Cell:
    """Return the cell with the build timed and everything weighed; once is enough, as bytes do not drift."""
    if earlier is not None:
        known = earlier.cell
        build_s, workspace, build_peak = known.build_time_s, known.workspace_bytes, known.build_peak_bytes
    else:
        build_s = _time_build(problem, cls, gauge.effort)
        weight = weigh(problem, cls, action)
        workspace, build_peak = weight.workspace_bytes, weight.build_peak_bytes
    return dataclasses.replace(facts, build_time_s=build_s, workspace_bytes=workspace, build_peak_bytes=build_peak)


def _timed(facts: Cell, problem: Problem, timing: Timing, visits: int) -> Cell:
    """Return the cell with what the rounds of all visits gave."""
    gain = timing.reference_time_s - timing.time_s
    pays_off = gain > 0 and facts.build_time_s is not None and not problem.builds_inside()
    density = None if facts.achieved_sparsity is None else 1.0 - facts.achieved_sparsity
    return dataclasses.replace(
        facts,
        time_s=timing.time_s,
        time_spread=timing.spread,
        reference_time_s=timing.reference_time_s,
        wall_time_s=timing.wall_time_s,
        reference_wall_time_s=timing.reference_wall_time_s,
        speedup=timing.speedup,
        speedup_low=timing.speedup_low,
        speedup_high=timing.speedup_high,
        efficiency=None if density is None else timing.speedup * density,
        visits=visits,
        rounds=timing.rounds,
        disturbed_rounds=timing.disturbed_rounds,
        inner_iterations=timing.inner_iterations,
        pays_off_after=(facts.build_time_s or 0.0) / gain if pays_off else None,
        useful_gflops=problem.useful_flops() / timing.time_s * 1e-9,
    )


def _train_once(start: Cell, problem: Problem, name: str, benchmark: Any, keep: Keeper | None) -> Cell:
    """Run a whole training once: its quality is the result, its time a single sample without a reference."""
    cls = load(name)
    action = problem.action(cls, cls.build(problem.tensor))
    begin = time.perf_counter()
    result = benchmark.pedantic(action, rounds=1, iterations=1)
    elapsed = time.perf_counter() - begin
    fetched = problem.seconds(result)
    _keep(problem, result, keep)
    cell = dataclasses.replace(
        start,
        status="ok",
        reason=None,
        time_s=elapsed if fetched is None else fetched,
        rounds=1,
        inner_iterations=1,
    )
    return _judged(cell, problem.quality(problem.outputs(result)))


def _keep(problem: Problem, result: Any, keep: Keeper | None) -> None:
    """Store what the report draws, if there is something and somewhere to store it."""
    artifact = problem.artifact(result) if keep is not None else None
    if artifact is not None and keep is not None:
        keep(*artifact)


def _judged(cell: Cell, quality: Quality | None) -> Cell:
    """Return the cell with its figures of merit; NaN and infinity are no measurement, and no JSON."""
    if quality is None:
        return cell
    figures = quality.figures and {
        name: value if value is not None and math.isfinite(value) else None for name, value in quality.figures.items()
    }
    return dataclasses.replace(
        cell,
        quality=quality.value,
        quality_metric=quality.metric,
        qualities=dict(figures) if figures else None,
    )


def _facts(
    start: Cell, problem: Problem, cls: type[Representation], built: Representation, error: float, tolerance: float
) -> Cell:
    """Return the cell with everything that needs no clock."""
    storage = problem.storage(cls, built)
    size = problem.tensor.element_size()
    nonzeros, elements = problem.counts()
    parts = problem.native_parts()
    origins = {built.origin(part) for part in parts}
    return dataclasses.replace(
        start,
        provenance="native" if origins <= {"native"} else "derived",
        kernel=" + ".join(dict.fromkeys(built.kernel(part) for part in parts)) or "build",
        achieved_sparsity=1.0 - nonzeros / elements,
        stored_bytes=storage.stored_bytes,
        value_bytes=storage.value_bytes,
        index_bytes=storage.index_bytes,
        dense_bytes=elements * size,
        fill=storage.value_bytes / size / nonzeros if nonzeros else None,
        relative_error=error,
        tolerance=tolerance,
    )


def _time_build(problem: Problem, cls: type[Representation], effort: Effort) -> float:
    """Return the median seconds of a build, over 3 builds or as many as the budget has room for."""
    samples: list[float] = []
    while len(samples) < 3 or (len(samples) < 15 and sum(samples) < effort.budget_s / 2):
        _synchronise(problem.device)
        start = time.perf_counter()
        cls.build(problem.tensor, problem.case.pattern)
        _synchronise(problem.device)
        samples.append(time.perf_counter() - start)
        if sum(samples) > 4 * effort.budget_s:
            break
    return float(np.median(samples))


def _synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


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
