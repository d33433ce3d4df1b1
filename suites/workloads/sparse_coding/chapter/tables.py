"""Write the tables of sparse coding: what was learned, models beside each other, and quality beside time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from sparsebench.suites.report.chapters import share
from sparsebench.suites.report.table import Table, Value, figure, without_constants, words
from sparsebench.suites.text import NONE, seconds, significant
from sparsebench.suites.workloads.sparse_coding.chapter.runs import Learned, ModelFacts

LABELS: dict[str, str] = {
    "l1": "L1 an image, network as it ended",
    "l1_clipped": "the same, reconstruction cut to [0, 1]",
    "squared": "squared error an image",
    "r2": "R²",
    "kl": "generalised KL divergence an image",
    "l0_weak": "entries of a code above 0.01, mean",
    "l0_strong": "entries of a code above 0.5, mean",
    "active_weak": "entries of a code above 0.01, mean",
    "active_strong": "entries of a code above 0.5, mean",
    "dead_units": "units above 0.01 in no image",
    "code_sum": "sum of a code, mean",
    "sum": "sum of a code, mean",
    "all_zero": "trivial: L1 of an empty image",
    "median_image": "trivial: L1 of the median image",
    "pca_100": "trivial: L1 of 100 principal components",
    "pca_100_clipped": "trivial: the same, cut to [0, 1]",
}
"""What the figures of a file are called, in kept runs of any age; others are listed under their own name."""

LAST = "L1 an image while learning, mean of the last five epochs"
COLUMNS: dict[str, str] = {
    "l1_clipped": "L1 cut to [0, 1]",
    "l1": "L1",
    "squared": "squared",
    "r2": "R²",
    "kl": "KL",
    "l0_weak": "above 0.01",
    "l0_strong": "above 0.5",
    "code_sum": "Σ|o|",
    "dead_units": "dead units",
    "multiply_adds": "multiply-adds",
}
"""Figures of a model in its table, with their headings."""
TRIVIAL_ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "all_zero": ("nothing at all", ("l1", "l1_clipped")),
    "median_image": ("the median image", ("l1", "l1_clipped")),
    "pca_100": ("100 principal components", ("l1",)),
    "pca_100_clipped": ("100 principal components, cut", ("l1_clipped",)),
}
"""Trivial answers: what they are called, and the columns of their figure: the first two lie in [0, 1] as pixels do."""


def learned_table(learned: Sequence[Learned]) -> Table:
    """List every single number and text of the notebook's files, one column a file."""
    facts: dict[str, dict[str, Value]] = {}
    for one in learned:
        for name, value in one.figures().items():
            facts.setdefault(LABELS.get(name, name.replace("_", " ")), {})[one.name] = _scalar(value)
        curve = one.get("curve", 1)
        if curve is not None:
            facts.setdefault(LAST, {})[one.name] = _scalar(float(np.mean(curve[-5:])))
    rows = tuple(
        (words(name), *(found.get(one.name, figure(NONE, None)) for one in learned)) for name, found in facts.items()
    )
    return Table(title="What was learned", head=("fact", *(one.name for one in learned)), rows=rows)


def _scalar(value: Any) -> Value:
    if isinstance(value, (int, float)):
        return figure(f"{value:.4g}", value)
    return words(value, style="number")


def models_table(found: Sequence[ModelFacts]) -> Table:
    """Return every model with its figures and times, the trivial answers beneath those of the same images."""
    rows: list[tuple[Value, ...]] = []
    for data in dict.fromkeys(one.data for one in found):
        mine = [one for one in found if one.data == data]
        mine.sort(key=lambda one: (one.model, one.units, one.get("l0_weak")))
        rows += [_model(one) for one in mine]
        trivial = {name: one.get(name) for one in mine for name in TRIVIAL_ROWS if name in one.figures}
        rows += [_trivial(data, name, trivial[name]) for name in TRIVIAL_ROWS if name in trivial]
    head = ("images", "model", "seeds", *COLUMNS.values(), "encode", "decode", "end to end", "learning")
    table = Table(
        title="Models beside each other",
        head=head,
        rows=tuple(rows),
        note="Figures are of all test images, a mean an image (dead units: how many of N; multiply-adds: of encoding "
        "one, iterations counted to their limit). Times are an image's: storing the code is part of encoding. Those in "
        "brackets were taken once while the models were judged, on one thread, against nothing.",
    )
    return without_constants(table, ("images", "seeds"))


def _model(one: ModelFacts) -> tuple[Value, ...]:
    return (
        words(one.data),
        words(one.workload.removesuffix(", patches")),
        figure(str(one.seeds or 1), one.seeds or 1),
        *(_figure(one, name) for name in COLUMNS),
        _time(one, "encode", one.get("encode_s")),
        _time(one, "decode", one.get("decode_s")),
        _time(one, "reconstruct", one.get("encode_s") + one.get("decode_s")),
        figure(seconds(one.learning_s) if math.isfinite(one.learning_s) else NONE, one.learning_s),
    )


def _figure(one: ModelFacts, name: str) -> Value:
    value = one.get(name)
    if not math.isfinite(value):
        return figure(NONE, None)
    if name == "multiply_adds":
        return figure(f"{value / 1e6:.3g} M" if value >= 1e5 else f"{value / 1e3:.3g} k", value)
    text = f"{value:.3f}" if name == "r2" else f"{value:.0f}" if name == "dead_units" else significant(value)
    if name == "l1_clipped" and math.isfinite(one.spread):
        text += f" ± {one.spread:.2f}"
    return figure(text, value)


def _time(one: ModelFacts, operation: str, judged: float) -> Value:
    timed = one.times.get(operation)
    if timed is not None:
        return figure(seconds(timed), timed)
    return figure(f"[{seconds(judged)}]" if math.isfinite(judged) else NONE, judged)


def _trivial(data: str, name: str, value: float) -> tuple[Value, ...]:
    label, columns = TRIVIAL_ROWS[name]
    held = [key in columns and (key != "l1_clipped" or data == "digits") for key in COLUMNS]
    cells = (figure(significant(value), value) if holds else figure(NONE, None) for holds in held)
    return (
        words(data), words(f"trivial: {label}"), figure(NONE, None), *cells, *(figure(NONE, None) for _ in range(4)),
    )  # fmt: skip


def quality_table(rows: pd.DataFrame) -> Table:
    """Return quality beside time of the codes that were timed in every representation, and of trainings."""
    body = tuple(
        (
            words(row["workload"]), words(row["operation"]), words(row["representation"]),
            share(row["achieved_sparsity"]),
            figure(significant(row["quality"], 4), row["quality"]), words(row["quality_metric"]),
            figure(seconds(row["time_s"]), row["time_s"]),
        )
        for row in rows.to_dict("records")
    )  # fmt: skip
    head = ("workload", "operation", "representation", "sparsity of the code", "quality", "metric", "time")
    return Table(title="Quality beside time", head=head, rows=body, brief=30)
