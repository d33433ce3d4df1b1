"""Put the chapters of a report in order, those that workloads bring among them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from sparsebench.representations.registry import first_line
from sparsebench.suites import plan
from sparsebench.suites.report.artifacts import read_artifacts
from sparsebench.suites.report.breakeven import break_evens
from sparsebench.suites.report.chapters import break_even_section, build_section
from sparsebench.suites.report.colours import Look, looks
from sparsebench.suites.report.curves import speedup_section
from sparsebench.suites.report.facts import error_section, kernels_section
from sparsebench.suites.report.first.groups import chapters_of, groups_of, reading_order
from sparsebench.suites.report.first.screen import Screen, first_screen
from sparsebench.suites.report.first.self_test import error_rates
from sparsebench.suites.report.inventory import cells_section, coverage_section, machine_section
from sparsebench.suites.report.journal import Run
from sparsebench.suites.report.memory import memory_section
from sparsebench.suites.report.pareto import pareto_section
from sparsebench.suites.report.table import Section
from sparsebench.suites.report.trust import DEMANDS, mark_row
from sparsebench.suites.text import count


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a report says.

    Attributes:
        first: the first screen; None where no representation was judged.
        chapters: behind it, in order.
        notes: of everything that was read.
        looks: of the representations.
    """

    first: Screen | None
    chapters: tuple[Section, ...]
    notes: tuple[str, ...]
    looks: Mapping[str, Look]

    @property
    def sections(self) -> tuple[Section, ...]:
        """Return the chapters as text and tables, the answer among them."""
        return (*([self.first.section] if self.first else []), *self.chapters)


def contents(run: Run) -> Contents:
    """Return what the report of a run says."""
    frame, palette = run.frame, looks(run.frame["representation"])
    told, notes = told_by_workloads(run, palette)
    breaks = break_evens(frame)
    groups = chapters_of(groups_of(breaks, frame))
    order = reading_order(groups)
    first = first_screen(frame, breaks, groups, palette, error_rates(run.machine))
    measured = [
        break_even_section(breaks),
        speedup_section(frame, palette, order),
        pareto_section(frame, palette, order),
        memory_section(frame, palette, order),
        build_section(frame),
        error_section(frame),
        kernels_section(frame),
    ]
    chapters = [
        *([first] if isinstance(first, Section) else []),
        *(measured if len(frame) else []),
        *told,
        coverage_section(frame),
        *([cells_section(frame), trust_section(frame)] if len(frame) else []),
        machine_section(run.machine),
    ]
    return Contents(
        first=first if isinstance(first, Screen) else None,
        chapters=tuple(chapters),
        notes=(*run.notes, *notes),
        looks=palette,
    )


def told_by_workloads(run: Run, palette: Mapping[str, Look]) -> tuple[list[Section], list[str]]:
    """Return the chapters that the workloads of a run bring, in the order of `plan.suites`, and their notes.

    Asked is every workload that the run has cells of, or files that a training of it left. It is anybody's code: one
    that fails costs a note, and one that is not installed here tells nothing.
    """
    found: list[Section] = []
    notes: list[str] = []
    for suite in plan.suites():
        kept = next(read_artifacts(run.folder, f"{suite}-*.npz"), None)
        if kept is None and suite not in set(run.frame["suite"]):
            continue
        try:
            chapter = getattr(plan.workload_of(suite), "chapter", None)
            if chapter is None:
                continue
            mine = dataclasses.replace(run, frame=run.frame[run.frame["suite"] == suite])
            section, said = chapter(mine, palette)
        except Exception as error:
            notes.append(f"the chapter of {suite} is left out: {type(error).__name__}: {first_line(error)}")
            continue
        found += [] if section is None else [section]
        notes += said
    return found, notes


def trust_section(frame: pd.DataFrame) -> Section:
    """Say what the trust marks mean, and how many numbers have each."""
    marks = Counter(mark_row(row) for row in frame.to_dict("records"))
    told = [
        f"{name}: the 95 % interval stays within ±{100 * demand.width:g} % of the speed-up, from at least "
        f"{demand.rounds} rounds, and the interquartile range of the times is at most {100 * demand.spread:g} % "
        f"of their median ({count(marks[name], 'cell')})."
        for name, demand in DEMANDS.items()
    ]
    return Section(
        anchor="trust",
        title="Trust",
        text=(
            *told,
            f"loose: anything wider ({count(marks['loose'], 'cell')}). Measure again on a quiet machine, or longer, "
            "before you build on it.",
            "A break-even has the weakest mark of the levels that it stands on.",
        ),
    )
