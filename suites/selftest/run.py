"""Measure representations and their copies, and keep what was found for the runs of this machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from sparsebench.suites.plan import Planned
from sparsebench.suites.report.verdict import CELL, REPRESENTATION
from sparsebench.suites.runner.journal import RunFolder
from sparsebench.suites.runner.progress import Progress
from sparsebench.suites.runner.run import Order, run
from sparsebench.suites.search.curves import Agenda
from sparsebench.suites.selftest.copies import SLOWER, SUBJECTS, name_of
from sparsebench.suites.selftest.kept import keep
from sparsebench.suites.selftest.rates import Found, reckon
from sparsebench.suites.text import count
from sparsebench.suites.workloads import matmul_cases as listed

LEVEL = 0.8
"""Where most of what is tried takes about as long as dense."""
LAYERS: tuple[listed.Layer, ...] = (
    *(listed.columns(listed.ATTENTION, n) for n in (1, 16, 128)),
    *(listed.square(2048, n) for n in (1, 16)),
)
PATTERNS = (listed.BLOCK, listed.ELEMENT)
MANY = 1000
"""Visits of a cell at the most: time ends a self-test."""


def cells() -> tuple[Planned, ...]:
    """Return what a self-test visits in each pass: every case on each representation and its copies."""
    return tuple(
        Planned(case=dataclasses.replace(case, sparsity=LEVEL), representation=name, weigh=False)
        for case in dict.fromkeys(
            dataclasses.replace(case, sparsity=LEVEL)
            for case in listed.cases("quick")
            if case.operation == listed.FORWARD
            and case.pattern in PATTERNS
            and (case.workload, case.shape) in {(layer.name, layer.shape) for layer in LAYERS}
        )
        for subject in SUBJECTS
        for name in (subject, *(name_of(subject, percent) for percent in (0, *SLOWER)))
    )


def selftest(
    out: Path,
    threads: int,
    time_s: float,
    progress: Progress,
    planned: tuple[Planned, ...] | None = None,
    visits: int = MANY,
) -> Found:
    """Measure for a given time, and return how often verdicts are right on this machine.

    Args:
        out: a run folder for the journal.
        threads: for torch, numba and BLAS.
        time_s: seconds.
        progress: told how far it is.
        planned: what is visited, by default `cells()`.
        visits: of each cell, after which it ends before its time.

    Raises:
        ValueError: if too little was measured to say anything.
    """
    folder = RunFolder(path=out)
    order = Order(
        suites=[listed.SUITE],
        representations=list(SUBJECTS),
        device="cpu",
        profile="quick",
        data=None,
        threads=threads,
        cell_timeout_s=120.0,
        out=folder,
        time_s=time_s,
        visits=visits,
    )
    run(order, progress, {listed.SUITE: Agenda(fixed=planned or cells(), curves=())})
    found = reckon(folder.rows())
    keep(found, threads)
    return found


def told(found: Found) -> list[str]:
    """Return what a self-test found, a line each."""
    lines = [f"{count(found.cells, 'cell')}; visits of one cell lie {100 * found.noise:.1f} % apart"]
    for level in (CELL, REPRESENTATION):
        for visits in sorted({rate.visits for rate in found.rates}):
            false, *slower = (found.rate(level, percent, visits) for percent in (0, *SLOWER))
            lines.append(
                f"a {level}, {count(visits, 'visit')} a side (a difference is {false.factor:g} standard errors): "
                f"{100 * false.found:.1f} % of {false.tried} false verdicts; found "
                + ", ".join(f"{100 * rate.found:.1f} % of those {rate.percent} % slower" for rate in slower)
            )
    return lines
