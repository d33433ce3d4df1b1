"""Show what was learned in sparse coding: curves, dictionary, reconstructions, and quality beside time."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from markupsafe import escape
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from sparsebench.suites.report.chapters import share
from sparsebench.suites.report.colours import INK, Look, order
from sparsebench.suites.report.figures import plain, positions, svg
from sparsebench.suites.report.pictures import Array, img, tiles
from sparsebench.suites.report.table import Picture, Section, Table, Value, figure, words
from sparsebench.suites.report.text import NONE, bare_percent, seconds, significant

FILES = "sparse_coding-*.npz"
LABELS: dict[str, str] = {
    "l1": "L1 an image, network as it ended",
    "l1_clipped": "the same, reconstruction cut to [0, 1]",
    "kl": "generalised KL divergence an image",
    "active_weak": "entries of a code above 0.01, mean",
    "active_strong": "entries of a code above 0.5, mean",
    "dead_units": "units above 0.01 in no image",
    "sum": "sum of a code, mean",
    "all_zero": "trivial: L1 of an empty image",
    "median_image": "trivial: L1 of the median image",
    "pca_100": "trivial: L1 of 100 principal components",
    "pca_100_clipped": "trivial: the same, cut to [0, 1]",
}
"""What the figures of a file are called; others are listed under their own name."""

NEAR = 1.1
"""Trivial figures whose ratio is less than this lie on one line of text."""

LAST = "L1 an image while learning, mean of the last five epochs"

TRIVIAL: tuple[str, ...] = ("all_zero", "median_image", "pca_100")
"""Figures that the learning curves are drawn against."""


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What one training run left.

    Attributes:
        name: of the file, without its lead and ending.
        arrays: by name; a file may lack any of them.
    """

    name: str
    arrays: dict[str, np.ndarray]

    def get(self, name: str, dimensions: int) -> Array | None:
        """Return an array of numbers with so many dimensions, or None."""
        found = self.arrays.get(name)
        if found is None or found.ndim != dimensions or not found.size or found.dtype.kind not in "fiub":
            return None
        return found.astype(np.float64)

    def figures(self) -> dict[str, Any]:
        """Return every single number and text, those inside the text "settings" first."""
        found = {name: array.item() for name, array in self.arrays.items() if array.ndim == 0}
        try:
            settings = json.loads(str(found.pop("settings", "{}")))
        except ValueError:
            settings = {}
        return (settings if isinstance(settings, dict) else {}) | found


def read_learned(folder: Path) -> tuple[list[Learned], list[str]]:
    """Return what training left in a run's folder, and a note for each file that cannot be read."""
    found: list[Learned] = []
    notes: list[str] = []
    for path in sorted(folder.glob(FILES)):
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: np.asarray(file[name]) for name in file.files}
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            notes.append(f"{path.name} cannot be read ({type(error).__name__}): left out")
            continue
        found.append(Learned(name=path.stem.removeprefix("sparse_coding-"), arrays=arrays))
    return found, notes


def coding_section(frame: pd.DataFrame, learned: list[Learned], looks: Mapping[str, Look]) -> Section | None:
    """Return the chapter, or None if the run has nothing of the kind.

    Args:
        frame: `Run.frame`.
        learned: from `read_learned`.
        looks: colours by representation.
    """
    judged = frame[(frame["status"] == "ok") & frame["quality"].notna()]
    if judged.empty and not learned:
        return None
    tables = [_facts(learned)] if learned else []
    drawn: list[Picture] = []
    curve = _learning(learned)
    if curve is not None:
        drawn.append(curve)
    for one in learned:
        drawn += _dictionary(one) + _examples(one)
    if not judged.empty:
        tables.append(_quality_table(judged))
        levelled = judged[judged["sparsity"].notna()]
        drawn += [
            _quality(rows, f"{workload}: {metric}", looks)
            for (workload, metric), rows in levelled.groupby(["workload", "quality_metric"], sort=False, dropna=False)
        ]
    return Section(
        anchor="sparse-coding",
        title="Sparse coding of digits",
        text=(
            "L1 is the sum of |image − reconstruction| over the pixels, a mean over images; lower is better. "
            "The trivial rows say what no learning at all would reach.",
        ),
        tables=tuple(tables),
        pictures=tuple(drawn),
        legend=not judged.empty,
        pictures_first=True,
    )


def _facts(learned: list[Learned]) -> Table:
    """List every single number and text of the files, one column a file."""
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


def _trivial(learned: list[Learned]) -> dict[str, float]:
    """Return the trivial figures, of the first file that has each; those too near to be told apart share a name."""
    found: dict[str, float] = {}
    for one in learned:
        for name, value in one.figures().items():
            if name in TRIVIAL and isinstance(value, (int, float)) and value > 0:
                found.setdefault(name.replace("_", " "), float(value))
    shared: dict[str, float] = {}
    for name, level in sorted(found.items(), key=lambda item: item[1]):
        last = next(reversed(shared), None)
        if last is not None and level < NEAR * shared[last]:
            name, level = f"{last}, {name}", shared.pop(last)
        shared[name] = level
    return shared


def _learning(learned: list[Learned]) -> Picture | None:
    lines = {one.name: curve for one in learned if (curve := one.get("curve", 1)) is not None}
    if not lines:
        return None
    drawing = Figure(figsize=(6.6, 3.4), layout="constrained")
    axes = drawing.subplots()
    for (name, curve), colour in zip(lines.items(), sns.husl_palette(len(lines), s=0.8, l=0.55).as_hex(), strict=True):
        epochs = np.arange(1, len(curve) + 1)
        sns.lineplot(x=epochs, y=curve, ax=axes, color=colour, marker="o", markersize=4, markeredgewidth=0, label=name)
    for name, level in _trivial(learned).items():
        axes.axhline(level, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), alpha=0.6)
        axes.annotate(
            name, (1.0, level), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points",
            fontsize=8, color=INK, va="center",
        )  # fmt: skip
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    ticks = [tick for tick in (5, 10, 20, 30, 50, 70, 100, 150, 200, 300, 500, 1000, 2000) if low <= tick <= high]
    axes.minorticks_off()
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch", color=INK, fontsize=9)
    axes.set_ylabel("L1 an image", color=INK, fontsize=9)
    plain(axes, INK)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return Picture(html=svg(drawing, "Learning curves"), caption="Learning curves; dashed: trivial reconstructions.")


def _dictionary(one: Learned) -> list[Picture]:
    atoms = one.get("dictionary", 2)
    if atoms is None:
        return []
    try:
        sheet = tiles(atoms[:100], 10, own_scale=True)
    except ValueError:
        return []
    caption = f"{one.name}: dictionary, {min(100, len(atoms))} of {len(atoms)} units, each on its own scale of grey."
    return [Picture(html=img(sheet, f"dictionary {escape(one.name)}"), caption=caption)]


def _examples(one: Learned) -> list[Picture]:
    images, copies = one.get("images", 2), one.get("reconstructions", 2)
    if images is None or copies is None or images.shape != copies.shape:
        return []
    try:
        pairs = [np.clip(rows[i : i + 8], 0.0, 1.0) for i in range(0, len(images), 8) for rows in (images, copies)]
        sheet = tiles(np.concatenate(pairs), min(8, len(images)), own_scale=False)
    except ValueError:
        return []
    l1 = float(np.abs(images - copies).sum(axis=1).mean())
    caption = (
        f"{one.name}: {len(images)} images and, under each row, their reconstructions (clipped to [0, 1] to be shown); "
        f"L1 an image {significant(l1)} before clipping."
    )
    return [Picture(html=img(sheet, f"reconstructions {escape(one.name)}"), caption=caption)]


def _quality_table(rows: pd.DataFrame) -> Table:
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


def _quality(rows: pd.DataFrame, title: str, looks: Mapping[str, Look]) -> Picture:
    """Draw quality over the code's sparsity, the same for every representation, and over time, where they differ."""
    drawing = Figure(figsize=(9.2, 3.4), layout="constrained")
    left, right = drawing.subplots(1, 2, sharey=True)
    places = positions(rows["sparsity"])
    once = rows.groupby("sparsity")["quality"].median()
    left.plot(
        [places[float(str(level))] for level in once.index], once, color=INK, marker="o", markersize=4, linewidth=1.3
    )
    left.set_xticks(list(places.values()), [bare_percent(level) for level in places])
    left.set_xlabel("share of the code's entries dropped, %", color=INK, fontsize=9)
    left.set_ylabel("L1 an image", color=INK, fontsize=9)
    right.set_xscale("log")
    for name in order(rows["representation"]):
        line, look = rows[rows["representation"] == name].sort_values("sparsity"), looks[name]
        right.plot(
            line["time_s"], line["quality"], color=look.colour, marker=look.marker, linestyle=look.dash,
            linewidth=1.2, markersize=5.5, markeredgewidth=0,
        )  # fmt: skip
    right.set_xlabel("time of one apply", color=INK, fontsize=9)
    right.minorticks_off()
    right.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 3.0), numticks=9))
    right.xaxis.set_major_formatter(lambda value, _: seconds(value, digits=1))
    for axes in (left, right):
        plain(axes, INK)
    return Picture(html=svg(drawing, title), caption=f"{title}, over the sparsity of the code and over time.")
