"""Tabulate trainings of the sparse CNN: accuracy beside sparsity, and sparse against narrower networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparsebench.suites.report.table import Table, Value, figure, without_constants, words
from sparsebench.suites.text import NONE, SPACE, count, known, percent
from sparsebench.suites.workloads.sparse_cnn.chapter.runs import DENSE, NARROW, Setting

TEST_SEEDS = 3
"""Fewer seeds than this are no test: with two, the test has a single degree of freedom."""
LEVEL = 0.05
"""A difference is called one where its p lies below."""


def share(value: float) -> Value:
    """Return a share in percent with a decimal."""
    return figure(f"{100 * value:.1f}{SPACE}%" if known(value) else NONE, value)


def points(value: float, deviation: float | None) -> str:
    """Return a mean in percent with its sd: "99.12 ± 0.05 %"; without the sd if there is none."""
    spread = "" if deviation is None else f" ± {100 * deviation:.2f}"
    return f"{100 * value:.2f}{spread}{SPACE}%"


def accuracy_table(settings: Sequence[Setting]) -> Table:
    """Return a row for each setting: the table that is usual in the field, with what is stored and what is on."""
    rows = []
    for setting in settings:
        one = setting.one
        accuracy, deviation = setting.mean(lambda run: run.accuracy), setting.deviation(lambda run: run.accuracy)
        parameters = setting.mean(lambda run: run.parameters)
        rows.append((
            words(setting.method), words(one.pattern if one.method != DENSE else NONE),
            figure(percent(one.sparsity), one.sparsity), figure(points(accuracy, deviation), accuracy),
            share(setting.mean(lambda run: run.planes)), share(1.0 - setting.mean(lambda run: run.weights)),
            share(1.0 - setting.mean(lambda run: _middle(run.activity))),
            figure(f"{parameters:,.0f}".replace(",", SPACE) if known(parameters) else NONE, parameters),
            figure(str(len(setting.runs)), len(setting.runs)),
            figure(f"{one.epochs:g}" if known(one.epochs) else NONE, one.epochs), words(one.data),
        ))  # fmt: skip
    head = (
        "method", "pattern", "sparsity asked", "test accuracy", "planes stored", "weight sparsity",
        "activation sparsity", "parameters", "seeds", "epochs", "data",
    )  # fmt: skip
    note = (
        "Accuracy after the last epoch, mean ± sd over the seeds. Planes and weights: of all convolutions together. "
        "Activation sparsity: share of zeros on the test images, a mean over the hidden layers."
    )
    if any(len(setting.runs) == 1 for setting in settings):
        note += " Where there is one seed, there is no sd."
    table = Table(title="Accuracy, and what is stored and on", head=head, rows=tuple(rows), note=note, brief=40)
    return without_constants(table, ("seeds", "epochs", "data"))


def _middle(by_layer: dict[str, float]) -> float:
    return float(np.mean(list(by_layer.values()))) if by_layer else math.nan


@dataclass(frozen=True, kw_only=True)
class Contest:
    """A sparse network against a narrower dense one over the seeds that both have.

    Attributes:
        sparse, narrow: the settings.
        differences: sparse − narrow accuracy, one a common seed.
        p: of the paired t-test, two-sided; None where there is no test.
    """

    sparse: Setting
    narrow: Setting
    differences: tuple[float, ...]
    p: float | None

    @property
    def verdict(self) -> str:
        """Return in a few words what may be said."""
        if len(self.differences) < TEST_SEEDS:
            return f"too few seeds for a test ({len(self.differences)} of {TEST_SEEDS})"
        if self.p is None:
            return "no test: all differences are alike"
        if self.p >= LEVEL:
            return "not better: no difference shown"
        return "better" if np.mean(self.differences) > 0 else "not better: worse"


def contests(settings: Sequence[Setting]) -> list[Contest]:
    """Return every sparse setting beside the narrower dense one of the same pattern, sparsity, data and epochs."""
    return [
        _contest(sparse, narrow)
        for narrow in settings
        for sparse in settings
        if narrow.one.method == NARROW
        and sparse.one.method not in (DENSE, NARROW)
        and _budget(sparse) == _budget(narrow)
    ]


def _budget(setting: Setting) -> tuple[object, ...]:
    one = setting.one
    return one.data, one.pattern, one.sparsity, one.rho, one.winners, one.epochs


def _contest(sparse: Setting, narrow: Setting) -> Contest:
    first, second = ({run.seed: run.accuracy for run in setting.runs} for setting in (sparse, narrow))
    common = sorted(first.keys() & second.keys())
    one, other = (np.array([accuracy[seed] for seed in common]) for accuracy in (first, second))
    differences = one - other
    p = None
    if len(differences) >= TEST_SEEDS and np.ptp(differences) > 0:  # the test divides by their spread
        from scipy.stats import ttest_rel  # imported late: a third of a second

        p = float(ttest_rel(one, other).pvalue)
    return Contest(sparse=sparse, narrow=narrow, differences=tuple(map(float, differences)), p=p)


def contest_table(found: Sequence[Contest]) -> Table:
    """Return the table of sparse networks against narrower dense ones."""
    rows = []
    for one in found:
        mean = float(np.mean(one.differences)) if one.differences else math.nan
        deviation = float(np.std(one.differences, ddof=1)) if len(one.differences) > 1 else None
        told = f"{'+' if mean >= 0 else '−'}{points(abs(mean), deviation)}" if known(mean) else NONE
        sizes = [setting.mean(lambda run: run.parameters) for setting in (one.sparse, one.narrow)]
        rows.append((
            words(one.sparse.method), words(one.sparse.one.pattern),
            figure(percent(one.sparse.one.sparsity), one.sparse.one.sparsity), figure(told, mean),
            figure(NONE if one.p is None else f"{one.p:.2g}", one.p), words(one.verdict),
            figure(str(len(one.differences)), len(one.differences)),
            *(figure(f"{size:,.0f}".replace(",", SPACE) if known(size) else NONE, size) for size in sizes),
            figure(f"{one.sparse.one.epochs:g}", one.sparse.one.epochs), words(one.sparse.one.data),
        ))  # fmt: skip
    head = (
        "sparse network", "pattern", "sparsity", "difference", "p", "sparse is", "seeds", "parameters",
        "of the narrower", "epochs", "data",
    )  # fmt: skip
    note = (
        "Difference: accuracy of the sparse network − that of the narrower one, mean ± sd over the seeds that both "
        "have; p: paired two-sided t-test, not corrected for the number of rows."
    )
    table = Table(title="Against a narrower dense network with as many parameters", head=head, rows=tuple(rows),
                  note=note)  # fmt: skip
    return without_constants(table, ("epochs", "data"))


def contest_text(found: Sequence[Contest]) -> str:
    """Say plainly whether sparse networks are better than narrower dense ones."""
    if not found:
        return "No sparse network here has a narrower dense one of as many parameters to be compared with."
    tested = [one for one in found if one.p is not None]
    if not tested:
        return (
            "Sparse against a narrower dense network of as many parameters: no pair has seeds enough for a test, so "
            "nothing can be said about which is better."
        )
    better = [one for one in tested if one.verdict == "better"]
    said = (
        f"Sparse against a narrower dense network of as many parameters: better in {len(better)} of "
        f"{count(len(tested), 'tested pair')}."
    )
    worse = [one.sparse.label for one in tested if one.verdict != "better"]
    return said + (f" Not better: {'; '.join(worse)}." if worse else "")
