"""Draw sparse coding: quality against activity, what representations cost, learning curves, dictionaries and codes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from sparsebench.suites.report.colours import INK, Look, order
from sparsebench.suites.report.figures import plain, positions, svg, thinned
from sparsebench.suites.report.pictures import Array, img, tiles
from sparsebench.suites.report.table import Picture
from sparsebench.suites.text import bare_percent, seconds, significant, size
from sparsebench.suites.workloads.sparse_coding.chapter.runs import ModelFacts

MAIN: dict[str, tuple[str, str]] = {
    "digits": ("l1_clipped", "L1 an image, cut to [0, 1]"),
    "patches": ("r2", "R² of the test patches"),
}
"""The figure that models are compared by, by kind of images, and its axis."""
TRIVIAL: dict[str, str] = {
    "all_zero": "nothing", "median_image": "median image", "pca_100_clipped": "PCA, 100 components",
}  # fmt: skip
"""Trivial answers that are drawn beside l1_clipped; the first two lie in [0, 1] anyway."""
MARKERS = "osD^v<>Phd8pX*"
SHADES = 31
"""Steps of grey of a dictionary's picture: enough for the eye, and half the bytes."""
ATOMS = 50
LARGEST = 1_024
"""Units of a code that is drawn as a picture."""
NAMES = 14
"""Curves in a figure at most."""


def model_colours(found: Sequence[ModelFacts]) -> dict[str, str]:
    """Return a colour for each model, the same in all figures of the chapter."""
    names = list(dict.fromkeys(one.model for one in found))
    return dict(zip(names, sns.husl_palette(max(1, len(names)), s=0.85, l=0.55).as_hex(), strict=False))


def activity_figures(found: Sequence[ModelFacts]) -> list[Picture]:
    """Draw quality over active units and over multiply-adds, a line a model and N, once for each kind of images."""
    colours = model_colours(found)
    drawn = []
    for data, (metric, label) in MAIN.items():
        mine = [one for one in found if one.data == data and math.isfinite(one.get(metric))]
        if not mine:
            continue
        drawing = Figure(figsize=(9.2, 4.6), layout="constrained")
        left, right = drawing.subplots(1, 2, sharey=True)
        lines = dict.fromkeys((one.model, one.units) for one in mine)
        sizes = sorted({units for _, units in lines})
        for number, (model, units) in enumerate(lines):
            points = [one for one in mine if (one.model, one.units) == (model, units)]
            points.sort(key=lambda one: one.get("l0_weak"))
            look = {
                "color": colours[model], "marker": MARKERS[number % len(MARKERS)], "markersize": 5, "linewidth": 1.3,
                "linestyle": ("-", "--", ":", "-.")[sizes.index(units) % 4], "markeredgewidth": 0,
                "label": f"{model} N={units:g}",
            }  # fmt: skip
            left.plot([one.get("l0_weak") for one in points], [one.get(metric) for one in points], **look)
            right.plot([one.get("multiply_adds") for one in points], [one.get(metric) for one in points], **look)
        if metric == "l1_clipped":
            _dashed(left, mine[0])
        for axes, text in ((left, "active units (above 0.01) an image"), (right, "multiply-adds of encoding an image")):
            axes.set_xscale("log")
            axes.set_xlabel(text, color=INK, fontsize=9)
            plain(axes, INK)
        left.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=12))
        left.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        left.xaxis.set_minor_locator(NullLocator())
        right.xaxis.set_minor_locator(NullLocator())
        left.set_ylabel(label, color=INK, fontsize=9)
        handles, names = left.get_legend_handles_labels()
        drawing.legend(handles, names, loc="outside lower center", ncols=4, frameon=False, fontsize=8, labelcolor=INK)
        better = "lower" if metric == "l1_clipped" else "higher"
        caption = f"Quality of {data} against activity, and against the work of encoding: {better} is better."
        caption += " Dashed, grey: trivial answers." if metric == "l1_clipped" else ""
        drawn.append(Picture(html=svg(drawing, f"quality of {data} against activity"), caption=caption))
    return drawn


def _dashed(axes: Axes, one: ModelFacts) -> None:
    low, high = axes.get_ylim()
    for name, text in TRIVIAL.items():
        level = one.get(name)
        if math.isfinite(level):
            axes.axhline(level, color=INK, linewidth=0.8, linestyle=(0, (4, 3)), alpha=0.6, zorder=1)
            axes.annotate(
                text, (0.0, level), xycoords=("axes fraction", "data"), xytext=(3, 2), textcoords="offset points",
                fontsize=7.5, color=INK,
            )  # fmt: skip
            low, high = min(low, 0.95 * level), max(high, 1.05 * level)
    axes.set_ylim(low, high)


def cost_figures(frame: pd.DataFrame, looks: Mapping[str, Look]) -> list[Picture]:
    """Draw time of each operation and stored bytes over the sparsity of codes, a line a representation."""
    rows = frame[(frame["status"] == "ok") & frame["sparsity"].notna() & (frame["time_s"] > 0)]
    drawn = []
    for workload, mine in rows.groupby("workload", sort=False):
        operations = [name for name in dict.fromkeys(mine["operation"]) if name != "encode"]
        if mine["sparsity"].nunique() < 2 or not operations:
            continue
        panels = len(operations) + 1
        drawing = Figure(figsize=(max(4.6, 3.3 * panels), 3.3), layout="constrained")
        every: list[Axes] = list(drawing.subplots(1, panels, squeeze=False).flat)
        places = positions(mine["sparsity"])
        for axes, operation in zip(every, operations, strict=False):
            _lines(axes, mine[mine["operation"] == operation], "time_s", looks, places)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: seconds(value, digits=1)))
            axes.set_title(f"{operation}: time", fontsize=10, color=INK, loc="left")
        _lines(every[-1], mine.drop_duplicates(["representation", "sparsity"]), "stored_bytes", looks, places)
        every[-1].yaxis.set_major_locator(LogLocator(base=2, numticks=9))  # its sizes are told in KiB and MiB
        every[-1].yaxis.set_major_formatter(FuncFormatter(lambda value, _: size(value)))
        every[-1].set_title("stored bytes", fontsize=10, color=INK, loc="left")
        drawn.append(
            Picture(
                html=svg(drawing, f"time and bytes of {workload}"),
                caption=f"{workload}: time and bytes of every representation over the sparsity of the code.",
            )
        )
    return drawn


def _lines(
    axes: Axes, rows: pd.DataFrame, column: str, looks: Mapping[str, Look], places: Mapping[float, float]
) -> None:
    for name in order(rows["representation"]):
        line, look = rows[rows["representation"] == name].groupby("sparsity")[column].median(), looks[name]
        axes.plot(
            [places[float(str(level))] for level in line.index], line, color=look.colour, marker=look.marker,
            linestyle=look.dash, linewidth=1.2, markersize=5, markeredgewidth=0,
        )  # fmt: skip
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 3.0), numticks=9))
    axes.yaxis.set_minor_locator(NullLocator())
    shown = thinned(sorted(places.items(), key=lambda item: item[1]), gap=0.12 * (max(places.values()) or 1.0))
    axes.set_xticks(list(places.values()), [bare_percent(level) if level in shown else "" for level in places])
    axes.set_xlabel("sparsity of the code, %", color=INK, fontsize=9)
    plain(axes, INK)


def learning_figure(found: Sequence[ModelFacts]) -> list[Picture]:
    """Draw the learning curves of some models of digits, those of at least two epochs."""
    colours = model_colours(found)
    curves = {one.workload: (one, one.shown[0].get("curve", 1)) for one in found if one.data == "digits" and one.shown}
    long = [(one, curve) for one, curve in curves.values() if curve is not None and len(curve) > 1][:NAMES]
    if not long:
        return []
    drawing = Figure(figsize=(9.2, 3.6), layout="constrained")
    axes = drawing.subplots()
    for number, (one, curve) in enumerate(long):
        epochs = np.arange(1, len(curve) + 1)
        axes.plot(
            epochs, curve, color=colours[one.model], marker=MARKERS[number % len(MARKERS)], markersize=4,
            markeredgewidth=0, linewidth=1.2, label=one.workload,
        )  # fmt: skip
    axes.set_xscale("log" if max(len(curve) for _, curve in long) > 25 else "linear")
    axes.set_yscale("log")
    axes.minorticks_off()
    low, high = axes.get_ylim()
    ticks = [tick for tick in (10, 20, 30, 40, 50, 60, 80, 100, 150, 200, 400, 800, 2000) if low <= tick <= high]
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    if axes.get_xscale() == "linear":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("epoch", color=INK, fontsize=9)
    axes.set_ylabel("L1 an image", color=INK, fontsize=9)
    plain(axes, INK)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    caption = "Learning curves of models: mean L1 of the training images before each step; models may learn by another "
    return [Picture(html=svg(drawing, "learning curves of models"), caption=caption + "figure than L1.")]


def model_pictures(found: Sequence[ModelFacts]) -> list[Picture]:
    """Draw each model's dictionary, and test images with their reconstructions and codes."""
    drawn = []
    for one in found:
        if not one.shown:
            continue
        file = one.shown[0]
        name = str(escape(one.workload))
        parts: list[str] = []
        beside: list[str] = []
        words = []
        if (sheet := _sheet(file.get("dictionary", 2), ATOMS, 10)) is not None:
            parts.append(img(np.round(sheet * SHADES) / SHADES, f"dictionary of {name}"))
            words.append(f"{min(ATOMS, len(file.arrays['dictionary']))} of {one.units:g} units, each on its own scale")
        pairs = _pairs(file.get("images", 2), file.get("reconstructions", 2), clipped=one.data == "digits")
        if pairs is not None:
            beside.append(img(np.round(pairs * SHADES) / SHADES, f"images and reconstructions of {name}"))
            words.append("test images above their reconstructions")
        codes = file.get("codes", 2)
        if codes is not None and codes.shape[1] <= LARGEST and (sheet := _codes(codes[:8])) is not None:
            beside.append(img(np.round(sheet * SHADES) / SHADES, f"codes of {name}", scale=5))
            words.append("the codes of the first eight, a square a unit (zero is dark)")
        if beside:
            parts.append(f'<span style="display:inline-block;vertical-align:top">{"<br>".join(beside)}</span>')
        if parts:
            caption = f"{one.workload}: {'; '.join(words)}. L1 cut to [0, 1]: {significant(one.get('l1_clipped'))}, "
            caption += f"R² {one.get('r2'):.3f}, {significant(one.get('l0_weak'))} units active."
            caption = caption.replace("L1 cut to [0, 1]: –, ", "")
            drawn.append(Picture(html="\n".join(parts), caption=caption))
    return drawn


def _sheet(atoms: Array | None, count: int, columns: int) -> Array | None:
    try:
        return None if atoms is None else tiles(atoms[:count], columns, own_scale=True)
    except ValueError:
        return None


def _pairs(images: Array | None, copies: Array | None, *, clipped: bool) -> Array | None:
    if images is None or copies is None or images.shape != copies.shape:
        return None
    pairs = np.concatenate([images[:8], copies[:8]])
    try:
        return tiles(np.clip(pairs, 0.0, 1.0) if clipped else pairs, min(8, len(images)), own_scale=False)
    except ValueError:
        return None


def _codes(codes: Array) -> Array | None:
    """Return codes as squares of magnitudes, a tile an image."""
    side = math.ceil(math.sqrt(codes.shape[1]))
    squares = np.zeros((len(codes), side * side))
    squares[:, : codes.shape[1]] = np.abs(codes)
    top = squares.max(axis=1, keepdims=True)
    return tiles(squares / np.where(top > 0, top, 1.0), 8, own_scale=False) * 0.9 + 0.1
