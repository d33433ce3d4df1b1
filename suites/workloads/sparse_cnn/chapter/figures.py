"""Draw trainings of the sparse CNN: accuracy over sparsity, activity, and which planes were kept."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import seaborn as sns
from markupsafe import escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparsebench.suites.report.colours import INK
from sparsebench.suites.report.figures import plain, positions, svg
from sparsebench.suites.report.pictures import Array, img
from sparsebench.suites.report.table import Picture
from sparsebench.suites.text import SPACE, bare_percent, count
from sparsebench.suites.workloads.sparse_cnn.chapter.runs import DENSE, NARROW, Setting, seeds

COLOURS: dict[str, str] = {
    "dense": "#7f8794", "narrow": "#a3702c", "magnitude": "#2f7fd0", "group-lasso": "#d83a68", "rigl": "#1f9e7a",
}  # fmt: skip
SHOWN = 40
"""Settings in a figure, and pictures of kept planes, at the most."""
GAP = 4
"""Pixels between the layers of a picture."""


def colours(names: Sequence[str]) -> dict[str, str]:
    """Return a colour for each name: its own, or one of a wheel."""
    wheel = sns.husl_palette(max(1, len(names)), s=0.8, l=0.55).as_hex()
    return {name: COLOURS.get(name, str(wheel[i])) for i, name in enumerate(names)}


def accuracy_figures(settings: Sequence[Setting]) -> list[Picture]:
    """Draw accuracy over sparsity, a panel a pattern and a line a method, once for each data set and length."""
    groups = dict.fromkeys((setting.one.data, setting.one.epochs) for setting in settings)
    drawn = []
    for data, epochs in groups:
        mine = [one for one in settings if (one.one.data, one.one.epochs) == (data, epochs) and one.plain]
        pruned = [one for one in mine if one.one.method != DENSE]
        if pruned:
            caption = f"Test accuracy over sparsity: {data}, {epochs:g} epochs; {seeds(mine)}"
            bars = any(len(one.runs) > 1 for one in mine)
            caption += "; bars and band: ± sd over the seeds." if bars else "."
            if any(one.one.method == NARROW for one in mine):
                caption += " narrow: a dense network of fewer maps, with as many parameters."
            drawn.append(Picture(html=svg(_accuracy(mine, pruned), "accuracy over sparsity"), caption=caption))
    return drawn


def _accuracy(mine: Sequence[Setting], pruned: Sequence[Setting]) -> Figure:
    patterns = list(dict.fromkeys(one.one.pattern for one in pruned))
    methods = colours(list(dict.fromkeys(one.one.method for one in pruned)))
    places = positions(one.one.sparsity for one in pruned)
    drawing = Figure(figsize=(max(4.6, 2.9 * len(patterns)), 3.1), layout="constrained")
    panels: list[Axes] = list(drawing.subplots(1, len(patterns), sharey=True, squeeze=False).flat)
    for axes, pattern in zip(panels, patterns, strict=True):
        for one in (one for one in mine if one.one.method == DENSE):
            level, spread = (100 * (value or 0.0) for value in _spread(one))
            axes.axhspan(level - spread, level + spread, color=COLOURS[DENSE], alpha=0.2, linewidth=0)
            axes.axhline(level, color=COLOURS[DENSE], linewidth=1.2, linestyle=(0, (4, 3)), label=DENSE)
        for method, colour in methods.items():
            line = [one for one in pruned if (one.one.pattern, one.one.method) == (pattern, method)]
            if not line:
                continue
            line.sort(key=lambda one: one.one.sparsity)
            axes.errorbar(
                [places[one.one.sparsity] for one in line], [100 * _spread(one)[0] for one in line],
                yerr=[100 * (_spread(one)[1] or 0.0) for one in line], color=colour, marker="o", markersize=4.5,
                linewidth=1.4, capsize=2.5, elinewidth=1, label=method,
            )  # fmt: skip
        axes.set_title(pattern, fontsize=10, fontweight="bold", color=INK, loc="left")
        axes.set_xticks(list(places.values()), [bare_percent(level) for level in places])
        axes.set_xlabel("sparsity, %", color=INK, fontsize=9)
        plain(axes, INK)
    panels[0].set_ylabel("test accuracy, %", color=INK, fontsize=9)
    handles = {name: h for axes in panels for h, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    drawing.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=6, frameon=False, fontsize=8,
                   labelcolor=INK)  # fmt: skip
    return drawing


def _spread(one: Setting) -> tuple[float, float | None]:
    return one.mean(lambda run: run.accuracy), one.deviation(lambda run: run.accuracy)


def penalty_figures(settings: Sequence[Setting]) -> list[Picture]:
    """Draw measured activity against the ρ that the KL penalty asks for, a line a hidden layer."""
    groups: dict[tuple[object, ...], list[Setting]] = {}
    for one in settings:
        if one.one.rho is not None and one.one.activity:
            about = (one.one.method, one.one.pattern, one.one.sparsity, one.one.winners)
            groups.setdefault((one.one.data, one.one.epochs, *about), []).append(one)
    drawn = []
    for mine in groups.values():
        mine.sort(key=lambda one: one.one.rho or 0.0)
        first = mine[0].one
        weights = first.method if first.method == DENSE else f"{first.method}, {first.pattern} {first.sparsity:.4g}"
        caption = (
            f"Activity against the ρ that was asked for: weights {weights}, {first.data}, {first.epochs:g} epochs; "
            f"{seeds(mine)}. Dashed: as asked. The penalty acts on a smooth stand-in for activity, so this is shown, "
            "not promised."
        )
        drawn.append(Picture(html=svg(penalty_figure(mine), "activity against rho"), caption=caption))
    return drawn


def penalty_figure(mine: Sequence[Setting]) -> Figure:
    """Draw the settings of one group, ascending in ρ."""
    drawing = Figure(figsize=(5.2, 3.4), layout="constrained")
    axes = drawing.subplots()
    asked = [one.one.rho or 0.0 for one in mine]
    hidden = list(dict.fromkeys(name for one in mine for name in one.one.activity))
    for name, colour in colours(hidden).items():
        of = [_of_layer(one, "activity", name) for one in mine]
        axes.errorbar(
            asked, [mean for mean, _ in of], yerr=[spread or 0.0 for _, spread in of], color=colour, marker="o",
            markersize=4.5, linewidth=1.4, capsize=2.5, elinewidth=1, label=name,
        )  # fmt: skip
    as_asked = np.geomspace(0.8 * min(asked), 1.25 * max(asked), 60)  # a straight line would be wrong on a log axis
    axes.plot(as_asked, as_asked, color=INK, linewidth=1, linestyle=(0, (4, 3)), alpha=0.6)
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks(sorted(set(asked)), [f"{rho:g}" for rho in sorted(set(asked))])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("ρ, the activity asked of every map", color=INK, fontsize=9)
    axes.set_ylabel("share of activations not 0", color=INK, fontsize=9)
    plain(axes, INK)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
    return drawing


def _of_layer(one: Setting, values: str, layer: str) -> tuple[float, float | None]:
    def of(run: object) -> float:
        found: dict[str, float] = getattr(run, values)
        return found.get(layer, math.nan)

    return one.mean(of), one.deviation(of)


def activity_figures(settings: Sequence[Setting]) -> list[Picture]:
    """Draw how much of each hidden layer is on: single activations, and whole planes."""
    known = [one for one in settings if one.one.activity]
    if not known:
        return []
    shown = known[:SHOWN]
    caption = f"Activity per hidden layer on the test images; {seeds(shown)}"
    caption += "; bars: ± sd." if any(len(one.runs) > 1 for one in shown) else "."
    if len(shown) < len(known):
        caption += f" The first {count(len(shown), 'setting')} of {len(known)}."
    drawing = Figure(figsize=(9.2, 0.27 * len(shown) + 1.3), layout="constrained")
    panels: list[Axes] = list(drawing.subplots(1, 2, sharey=True).flat)
    hidden = colours(list(dict.fromkeys(name for one in shown for name in one.one.activity)))
    titles = {"activity": "activations not 0, %", "plane_activity": "planes that hold anything, %"}
    for axes, (values, title) in zip(panels, titles.items(), strict=True):
        for name, colour in hidden.items():
            of = [_of_layer(one, values, name) for one in shown]
            axes.errorbar(
                [100 * mean for mean, _ in of], range(len(shown)), xerr=[100 * (spread or 0.0) for _, spread in of],
                color=colour, marker="o", markersize=5, linestyle="none", elinewidth=1, label=name,
            )  # fmt: skip
        axes.set_xlim(left=0)
        axes.set_xlabel(title, color=INK, fontsize=9)
        plain(axes, INK)
    panels[0].set_yticks(range(len(shown)), [_with_length(one, shown) for one in shown])
    panels[0].set_ylim(len(shown) - 0.5, -0.5)
    panels[1].legend(frameon=False, fontsize=8, labelcolor=INK, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return [Picture(html=svg(drawing, "activity per layer"), caption=caption)]


def _with_length(one: Setting, shown: Sequence[Setting]) -> str:
    """Return a label, with the epochs where another setting has the same one."""
    alone = sum(other.label == one.label for other in shown) == 1
    return one.label if alone else f"{one.label}, {one.one.epochs:g} epochs"


def plane_pictures(settings: Sequence[Setting]) -> list[Picture]:
    """Draw which planes of each layer were kept, for each setting that dropped any; the lowest seed stands for all."""
    pruned = [one for one in settings if any(not mask.all() for mask in one.one.masks.values())]
    drawn = []
    for one in pruned[:SHOWN]:
        layers = ", ".join(
            f"{name} {mask.shape[0]}{SPACE}×{SPACE}{mask.shape[1]} ({100 * mask.mean():.3g}{SPACE}%"
            + (": none left)" if not mask.any() else ")")
            for name, mask in one.one.masks.items()
        )
        caption = f"{_with_length(one, pruned)}, seed {one.one.seed}: kept planes are bright; rows are output maps, "
        caption += f"columns input maps. {layers}."
        sheet = side_by_side([mask.astype(np.float64) for mask in one.one.masks.values()])
        drawn.append(Picture(html=img(sheet, f"kept planes {escape(one.label)}", scale=3), caption=caption))
    return drawn


def side_by_side(images: Sequence[Array]) -> Array:
    """Return pictures (height, width) in one row, as shades with NaN between and beneath them."""
    height = max(image.shape[0] for image in images)
    width = sum(image.shape[1] for image in images) + GAP * (len(images) - 1)
    sheet = np.full((height, width), np.nan)
    left = 0
    for image in images:
        sheet[: image.shape[0], left : left + image.shape[1]] = 0.12 + 0.8 * image  # apart from black and white pages
        left += image.shape[1] + GAP
    return sheet
