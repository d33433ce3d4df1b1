"""Measure one cell: a case on one representation and one device, in the order that makes its number one to trust."""

from __future__ import annotations

import dataclasses
import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch

from sparsebench.representations.base import Representation
from sparsebench.representations.registry import (
    BrokenRepresentationError,
    first_line,
    load,
    missing_requirements,
)
from sparsebench.suites.cell import DTYPES, Cell, blank
from sparsebench.suites.measure.fidelity import TOLERANCES, worst_error
from sparsebench.suites.measure.memory import weigh
from sparsebench.suites.measure.timing import Clock, Effort, fastest, time_paired
from sparsebench.suites.workloads.problem import Action, Problem


class ReferenceChoice:
    """Remember which dense form of a problem is the fastest, so that every representation meets the same one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._problem: Problem | None = None
        self._chosen: tuple[str, Action] | None = None

    def of(self, problem: Problem) -> tuple[str, Action]:
        """Return the name and the action of the fastest dense form."""
        if self._chosen is None or self._problem is not problem:
            references = dict(problem.references())
            name = fastest(references, self._clock)
            self._problem, self._chosen = problem, (name, references[name])
        return self._chosen


Keeper = Callable[[str, Mapping[str, np.ndarray]], None]
"""Stores arrays under a name, beside the journal."""


def measure(
    problem: Problem,
    name: str,
    benchmark: Any,
    clock: Clock,
    effort: Effort,
    choice: ReferenceChoice,
    keep: Keeper | None = None,
) -> Cell:
    """Measure one cell; whatever goes wrong becomes a status with a reason, and costs no other cell.

    Args:
        problem: the case on its device.
        name: the representation's.
        benchmark: pytest-benchmark's fixture.
        clock: of the device.
        effort: how long to time.
        choice: the reference of the problem.
        keep: stores what the report draws, where there is a run folder.
    """
    start = blank(problem.case, name, problem.device, status="crashed", reason="not finished")
    try:
        if problem.once():
            cell = _train_once(start, problem, name, benchmark, keep)
        else:
            cell = _attempt(start, problem, name, benchmark, clock, effort, choice)
    except Exception as error:
        status = "oom" if is_out_of_memory(error) else "crashed"
        cell = dataclasses.replace(start, status=status, reason=f"{type(error).__name__}: {first_line(error)}")
    return dataclasses.replace(
        cell, threads=torch.get_num_threads(), finished_at=datetime.now(UTC).isoformat(timespec="seconds")
    )


def _attempt(
    start: Cell, problem: Problem, name: str, benchmark: Any, clock: Clock, effort: Effort, choice: ReferenceChoice
) -> Cell:
    try:
        cls = load(name)
    except BrokenRepresentationError as broken:
        return dataclasses.replace(start, reason=first_line(broken))
    if missing := missing_requirements(cls):
        reason = f"needs {', '.join(missing)}; install it beside sparsebench"
        return dataclasses.replace(start, status="not_installed", reason=reason)
    if refusal := cls.unsupported(problem.spec()):
        return dataclasses.replace(start, status="unsupported", reason=refusal)

    if problem.spec().operation == "train" and not cls.trains():
        return dataclasses.replace(start, status="unsupported", reason="gives no values or no sampled product")

    built = cls.build(problem.tensor, problem.case.pattern)
    action = problem.action(cls, built)
    outputs = problem.outputs(action())  # the first call: compiles what has to be compiled, and is judged
    tolerance = TOLERANCES[DTYPES[problem.case.dtype]]
    try:
        error = worst_error(outputs, problem.oracle())
    except ValueError as mismatch:
        return dataclasses.replace(start, status="wrong", reason=first_line(mismatch))
    facts = _facts(start, problem, cls, built, error, tolerance)
    if not error <= tolerance:
        reason = f"expected a relative error of at most {tolerance:g} against float64, got {error:.3g}"
        return dataclasses.replace(facts, status="wrong", reason=reason)

    quality = problem.quality(outputs)
    reference_name, reference = choice.of(problem)
    with no_garbage_collection():
        timing = time_paired(benchmark, action, reference, clock, effort)
        build_s = _time_build(problem, cls, effort)
    weight = weigh(problem, cls, action)
    facts = dataclasses.replace(
        facts,
        status="ok",
        reason=None,
        reference=reference_name,
        build_time_s=build_s,
        workspace_bytes=weight.workspace_bytes,
        build_peak_bytes=weight.build_peak_bytes,
        quality=quality.value if quality else None,
        quality_metric=quality.metric if quality else None,
    )
    if timing is None:
        return facts
    gain = timing.reference_time_s - timing.time_s
    return dataclasses.replace(
        facts,
        time_s=timing.time_s,
        time_spread=timing.spread,
        reference_time_s=timing.reference_time_s,
        speedup=timing.speedup,
        speedup_low=timing.speedup_low,
        speedup_high=timing.speedup_high,
        rounds=timing.rounds,
        inner_iterations=timing.inner_iterations,
        pays_off_after=build_s / gain if gain > 0 and not problem.builds_inside() else None,
        useful_gflops=problem.useful_flops() / timing.time_s * 1e-9,
    )


def _train_once(start: Cell, problem: Problem, name: str, benchmark: Any, keep: Keeper | None) -> Cell:
    """Run a whole training once: its quality is the result, its time a single sample without a reference."""
    cls = load(name)
    action = problem.action(cls, cls.build(problem.tensor))
    begin = time.perf_counter()
    result = benchmark.pedantic(action, rounds=1, iterations=1)
    seconds = time.perf_counter() - begin
    quality = problem.quality(problem.outputs(result))
    artifact = problem.artifact(result)
    if artifact is not None and keep is not None:
        keep(*artifact)
    return dataclasses.replace(
        start,
        status="ok",
        reason=None,
        time_s=seconds,
        rounds=1,
        inner_iterations=1,
        quality=quality.value if quality else None,
        quality_metric=quality.metric if quality else None,
    )


def _facts(
    start: Cell, problem: Problem, cls: type[Representation], built: Representation, error: float, tolerance: float
) -> Cell:
    """Return the cell with everything that needs no clock."""
    storage = built.storage()
    tensor = problem.tensor
    nonzeros = int(torch.count_nonzero(tensor))
    parts = problem.native_parts()
    origins = {cls.provenance(part) for part in parts}
    return dataclasses.replace(
        start,
        provenance="native" if origins <= {"native"} else "derived",
        kernel=" + ".join(dict.fromkeys(built.kernel(part) for part in parts)) or "build",
        achieved_sparsity=1.0 - nonzeros / tensor.numel(),
        stored_bytes=storage.stored_bytes,
        value_bytes=storage.value_bytes,
        index_bytes=storage.index_bytes,
        dense_bytes=tensor.numel() * tensor.element_size(),
        fill=storage.value_bytes / tensor.element_size() / nonzeros if nonzeros else None,
        relative_error=error,
        tolerance=tolerance,
    )


def _time_build(problem: Problem, cls: type[Representation], effort: Effort) -> float:
    """Return the median seconds of a build, over 3 builds or as many as the budget has room for."""
    samples: list[float] = []
    while len(samples) < 3 or (len(samples) < 15 and sum(samples) < effort.budget_s / 4):
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
