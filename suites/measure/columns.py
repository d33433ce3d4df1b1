"""Fill a cell's columns, step by step: what needs no clock, figures of merit, build, times."""

from __future__ import annotations

import dataclasses
import math
import time

import numpy as np
import torch

from sparsebench.representations.base import Representation
from sparsebench.suites.cell import Cell
from sparsebench.suites.measure.gauge import Earlier, Gauge
from sparsebench.suites.measure.timing import Effort, Timing
from sparsebench.suites.workloads.problem import Problem, Quality


def facts(
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


def judged(cell: Cell, quality: Quality | None) -> Cell:
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


def build_timed(
    facts: Cell, problem: Problem, cls: type[Representation], gauge: Gauge, earlier: Earlier | None, *, weighed: bool
) -> Cell:
    """Return the cell with what an earlier visit found of build and bytes, which do not drift, or the build timed."""
    known = earlier.cell if earlier is not None else facts
    build_s = known.build_time_s
    if build_s is None and weighed:
        build_s = _time_build(problem, cls, gauge.effort)
    return dataclasses.replace(
        facts, build_time_s=build_s, workspace_bytes=known.workspace_bytes, build_peak_bytes=known.build_peak_bytes
    )


def timed(facts: Cell, problem: Problem, timing: Timing, visits: int) -> Cell:
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
        visit_speedups=list(timing.visit_speedups),
        visit_errors=list(timing.visit_errors),
        rounds=timing.rounds,
        disturbed_rounds=timing.disturbed_rounds,
        inner_iterations=timing.inner_iterations,
        pays_off_after=(facts.build_time_s or 0.0) / gain if pays_off else None,
        useful_gflops=problem.useful_flops() / timing.time_s * 1e-9,
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
