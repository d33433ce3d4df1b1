"""Tell what the sparse CNN learned, what stays of it, and what that is worth in time and bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from sparsebench.suites.report.colours import Look
from sparsebench.suites.report.journal import Run
from sparsebench.suites.report.table import Section
from sparsebench.suites.text import count
from sparsebench.suites.workloads.sparse_cnn.chapter.figures import (
    accuracy_figures,
    activity_figures,
    penalty_figures,
    plane_pictures,
)
from sparsebench.suites.workloads.sparse_cnn.chapter.joined import joined_figures, joined_text
from sparsebench.suites.workloads.sparse_cnn.chapter.pareto import pareto_figures, pareto_table, timed_cells
from sparsebench.suites.workloads.sparse_cnn.chapter.runs import Setting, kept_trained, read_trained, seeds
from sparsebench.suites.workloads.sparse_cnn.chapter.step import step_table, step_text
from sparsebench.suites.workloads.sparse_cnn.chapter.tables import accuracy_table, contest_table, contest_text, contests
from sparsebench.suites.workloads.studies import read
from sparsebench.suites.workloads.studies.check import told, warned

KEPT = (
    "Accuracy hardly depends on the machine: this run trained nothing of its own, and shows the kept study {}. "
    "`sparsebench run --train` learns anew."
)
EMPTY = "A layer without any plane still runs, and hands on its bias alone: {}."


def chapter(run: Run, looks: Mapping[str, Look]) -> tuple[Section | None, list[str]]:
    """Return the chapter, None if nothing was trained or timed, and a note for each file that cannot be read."""
    frame = run.frame
    settings, notes = read_trained(run.folder)
    kept = [] if settings else kept_trained()
    settings = settings or kept
    timed = timed_cells(frame)
    rows = frame.to_dict("records")
    if kept and not rows:
        return None, notes
    notes += warned(rows)
    text, tables, pictures = [], [], []
    if kept:
        text.append(KEPT.format(read.source("sparse_cnn").text))
        text += [line for line in (told(rows), joined_text(frame)) if line is not None]
        pictures += joined_figures(frame, kept, looks)
    if settings:
        against = contests(settings)
        text += [
            f"One small CNN, trained in {len(settings)} ways ({seeds(settings)}); accuracy is that of the test images "
            "after the last epoch, never the best one.",
            contest_text(against),
            *_empty_layers(settings),
        ]
        tables += [accuracy_table(settings), *([contest_table(against)] if against else [])]
        pictures += [*accuracy_figures(settings), *penalty_figures(settings), *activity_figures(settings)]
    if (sentence := step_text(frame)) is not None:
        text.append(sentence)
    if (where := step_table(frame)) is not None:
        tables.append(where)
    if not timed.empty:
        tables.append(pareto_table(timed))
        pictures += pareto_figures(timed, looks)
    pictures += plane_pictures(settings)
    section = Section(
        anchor="sparse-cnn",
        title="Sparse CNN",
        text=tuple(text),
        tables=tuple(tables),
        pictures=tuple(pictures),
        legend=not timed.empty,
    )
    return section, notes


def _empty_layers(settings: Sequence[Setting]) -> list[str]:
    """Return a line that names the layers that were left without any plane, if there are some."""
    found = []
    for setting in settings:
        empty = Counter(name for run in setting.runs for name, mask in run.masks.items() if not mask.any())
        found += [
            f"{name} of {setting.label} ({number} of {count(len(setting.runs), 'seed')})"
            for name, number in empty.items()
        ]
    return [EMPTY.format("; ".join(found[:8]) + (" …" if len(found) > 8 else ""))] if found else []
