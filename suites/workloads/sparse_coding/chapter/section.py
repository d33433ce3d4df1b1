"""Show what was learned in sparse coding: models beside each other, curves, dictionaries, and quality beside time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from markupsafe import escape
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from sparsebench.suites.report.colours import INK, Look, order
from sparsebench.suites.report.figures import plain, positions, svg
from sparsebench.suites.report.journal import Run
from sparsebench.suites.report.pictures import img, tiles
from sparsebench.suites.report.table import Picture, Section
from sparsebench.suites.text import bare_percent, count, seconds, significant
from sparsebench.suites.workloads.sparse_coding.chapter.figures import (
    activity_figures,
    cost_figures,
    learning_figure,
    model_pictures,
)
from sparsebench.suites.workloads.sparse_coding.chapter.runs import (
    Learned,
    kept_flows,
    kept_models,
    models,
    read_learned,
    representatives,
)
from sparsebench.suites.workloads.sparse_coding.chapter.tables import learned_table, models_table, quality_table
from sparsebench.suites.workloads.sparse_coding.coding_cases import kept_name, kept_plans
from sparsebench.suites.workloads.studies import read
from sparsebench.suites.workloads.studies.check import OPERATION, told, warned

NEAR = 1.1
"""Trivial figures whose ratio is less than this lie on one line of text."""

KEPT = (
    "Reconstruction hardly depends on the machine: this run trained nothing of its own, and shows the kept study {}, "
    "one seed a model. Codes with as many active units as its TopK autoencoders have are decoded here, so their times "
    "are this run's; times in brackets are the study's. `sparsebench run --train` learns anew."
)
NONE_TIMED = (
    "No kept codes were timed in this run, so reconstruction stands alone; time them with: sparsebench run --suite "
    "sparse_coding"
)
TRIVIAL: tuple[str, ...] = ("all_zero", "median_image", "pca_100")
"""Figures that the learning curves are drawn against."""


def chapter(run: Run, looks: Mapping[str, Look]) -> tuple[Section | None, list[str]]:
    """Return the chapter, None if nothing was learned or judged, and a note for each file that cannot be read."""
    frame = run.frame
    learned, notes = read_learned(run.folder)
    rows = frame.to_dict("records")
    judged = frame[(frame["status"] == "ok") & frame["quality"].notna() & (frame["operation"] != OPERATION)]
    trained = models(frame, learned)
    kept = not learned and not trained and any(row["operation"] == OPERATION for row in rows)
    if judged.empty and not learned and not kept:
        return None, notes
    notes += warned(rows)
    family = kept_models() if kept else trained
    notebook = kept_flows() if kept else [one for one in learned if one.workload is None]
    shown = representatives(family)
    drawn = [*activity_figures(family), *learning_figure(shown), *cost_figures(frame, looks)]
    curve = _learning(notebook)
    drawn += [curve] if curve is not None else []
    for one in notebook:
        drawn += _dictionary(one) + _examples(one)
    drawn += model_pictures(shown)
    held = judged[~judged["workload"].isin({one.workload for one in family})]
    tables = [models_table(family)] if family else []
    tables += [learned_table(notebook)] if notebook and not kept else []
    if not held.empty:
        tables.append(quality_table(held))
        decoded = held[held["sparsity"].notna() & (held["operation"] == "decode")]
        joined = [
            _quality(rows, f"{workload}: {metric}", looks)
            for (workload, metric), rows in decoded.groupby(["workload", "quality_metric"], sort=False, dropna=False)
            if rows["sparsity"].nunique() > 1
        ]
        drawn = [*joined, *drawn] if kept else [*drawn, *joined]
    text = [
        "L1 is the sum of |image − reconstruction| over the pixels, a mean over images; lower is better. "
        "The trivial rows say what no learning at all would reach."
    ]
    if kept:
        lines = (KEPT.format(read.source("sparse_coding").text), told(rows), _untimed(frame))
        text = [*text, *(line for line in lines if line is not None)]
    section = Section(
        anchor="sparse-coding",
        title="Sparse coding of digits",
        text=(*text, *_failed(frame)),
        tables=tuple(tables),
        pictures=tuple(drawn),
        legend=not judged.empty,
        pictures_first=not family,
    )
    return section, notes


def _untimed(frame: pd.DataFrame) -> str | None:
    """Say in one line which representations have no time of decoding kept codes here, and why; None if all have."""
    mine = frame[frame["workload"].isin([kept_name(plan) for plan in kept_plans()])]
    timed = mine[(mine["status"] == "ok") & (mine["time_s"] > 0)]
    if timed.empty:
        return NONE_TIMED
    reasons = mine.groupby("representation", sort=False)["reason"].first()
    lacking = [name for name in order(mine["representation"]) if name not in set(timed["representation"])]
    told_of = "; ".join(f"{name} ({reasons[name]})" for name in lacking)
    return f"Without a time of decoding kept codes here: {told_of}." if lacking else None


def _failed(frame: pd.DataFrame) -> list[str]:
    """Return a line that names the models that could not be trained, with their reasons; they enter no mean."""
    lost = frame[
        (frame["operation"] == "encode") & (frame["status"] == "crashed")
        & frame["sparsity"].isna()
    ]  # fmt: skip
    if lost.empty:
        return []
    told = "; ".join(f"{row['workload']}: {row['reason']}" for row in lost.to_dict("records"))
    return [f"{count(len(lost), 'model')} not trained, and in no table or figure: {told}."]


def _trivial(learned: Sequence[Learned]) -> dict[str, float]:
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


def _learning(learned: Sequence[Learned]) -> Picture | None:
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
