"""Draw curves over sparsity as small multiples, on matplotlib Figures that touch no global state."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter, NullLocator

from sparsebench.suites.report.colours import INK, Look
from sparsebench.suites.text import bare_percent

COLUMNS = 3
"""Panels in a row at most."""

TICKS: tuple[tuple[float, ...], ...] = (
    (1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0),
    tuple(round(1 + 0.1 * i, 1) for i in range(90)),
)  # fmt: skip
"""Ticks of a decade, from few to many; the first that gives four of them is taken. Each holds 1, where dense stands."""


@dataclass(frozen=True, kw_only=True)
class Curves:
    """What a figure of curves shows.

    Attributes:
        value: column drawn upwards, on a log axis.
        low: column of the band's lower edge, "" for no band.
        high: column of its upper edge.
        label: of the upward axis.
        unit: written behind its ticks.
    """

    value: str
    label: str
    low: str = ""
    high: str = ""
    unit: str = "×"


SPEEDUP = Curves(value="speedup", low="speedup_low", high="speedup_high", label="speed-up over dense")


def positions(levels: Iterable[float]) -> dict[float, float]:
    """Return where sparsities stand on the axis: evenly in log(density), as 90, 99 and 99.9 % are equal steps.

    A sparsity of 1 has no logarithm; it stands one step (half the density) behind the highest other level.
    """
    ordered = sorted(set(levels))
    places = {level: -math.log2(1.0 - level) for level in ordered if level < 1.0}
    end = max(places.values(), default=0.0) + 1.0
    return places | {level: end for level in ordered if level >= 1.0}


def curves(frame: pd.DataFrame, what: Curves, looks: Mapping[str, Look], ink: str = INK) -> Figure:
    """Draw one panel a pattern, one line a representation, with a line at 1.

    Args:
        frame: rows of one operation and shape, also those without a value: a line is broken at a level that
            others have and it has not.
        what: which columns.
        looks: colours by representation.
        ink: colour of text and axes.
    """
    rows = frame[frame["sparsity"].notna()]
    rows = rows.assign(**{what.value: rows[what.value].where(rows[what.value] > 0)})
    patterns = list(dict.fromkeys(rows.loc[rows[what.value].notna(), "pattern"]))
    across = min(COLUMNS, max(1, len(patterns)))
    down = math.ceil(max(1, len(patterns)) / across)
    figure = Figure(figsize=(max(4.6, 3.55 * across), 2.75 * down + 0.35), layout="constrained")
    panels: list[Axes] = list(figure.subplots(down, across, sharey=True, squeeze=False).flat)
    places = positions(rows["sparsity"])
    for number, (axes, pattern) in enumerate(zip(panels, patterns, strict=False)):
        _panel(axes, rows[rows["pattern"] == pattern], what, looks, places, ink)
        axes.set_title(pattern, fontsize=10, fontweight="bold", color=ink, loc="left")
        axes.set_ylabel(what.label if number % across == 0 else "", color=ink, fontsize=9)
        below = number + across >= len(patterns)
        axes.set_xlabel("sparsity, %" if below else "", color=ink, fontsize=9)
    for axes in panels[len(patterns) :]:
        axes.set_visible(False)
    if patterns:
        _log_axis(panels[0], what.unit, ink)
    return figure


def _panel(
    axes: Axes, rows: pd.DataFrame, what: Curves, looks: Mapping[str, Look], places: Mapping[float, float], ink: str
) -> None:
    rows = rows.assign(_x=rows["sparsity"].map(places)).sort_values("_x")
    every = sorted(set(rows["_x"]))
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.axhline(1.0, color=ink, linewidth=1.0, linestyle=(0, (4, 3)), alpha=0.7, zorder=1)
    for name in (name for name in looks if name in set(rows["representation"])):
        look, line = looks[name], rows[rows["representation"] == name]
        if line[what.value].isna().all():
            continue
        if what.low and line[what.low].notna().any():
            band = line.groupby("_x").agg({what.low: "min", what.high: "max"}).reindex(every)
            axes.fill_between(band.index, band[what.low], band[what.high], color=look.colour, alpha=0.18, linewidth=0)
        middle = line.groupby("_x")[what.value].median().reindex(every)
        axes.plot(
            middle.index, middle, color=look.colour, marker=look.marker, linestyle=look.dash, linewidth=1.5,
            markersize=5.5, markeredgewidth=0, zorder=2 if name == "dense" else 3,
        )  # fmt: skip
    plain(axes, ink)
    drawn = {level: place for level, place in places.items() if level in set(rows["sparsity"])}
    span = max(places.values()) - min(places.values())
    axes.set_xlim(min(places.values()) - 0.04 * span - 0.1, max(places.values()) + 0.04 * span + 0.1)
    axes.xaxis.set_major_locator(FixedLocator(list(drawn.values())))
    axes.xaxis.set_minor_locator(NullLocator())
    shown = thinned(sorted(drawn.items(), key=lambda item: item[1]), gap=0.1 * span)
    axes.set_xticks(list(drawn.values()), [bare_percent(level) if level in shown else "" for level in drawn])


def thinned(levels: Sequence[tuple[float, float]], gap: float) -> set[float]:
    """Return the levels whose labels have room, `gap` apart on the axis; the highest comes first, then the lowest.

    Args:
        levels: pairs (sparsity, place), sorted by place.
        gap: in units of the axis.
    """
    kept: list[tuple[float, float]] = []
    for level, place in [*levels[-1:], *levels[:1], *levels[1:-1]]:
        if all(abs(place - other) >= gap for _, other in kept):
            kept.append((level, place))
    return {level for level, _ in kept}


def plain(axes: Axes, ink: str) -> None:
    """Take away what a figure does not need, and draw the rest in one colour."""
    axes.patch.set_alpha(0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(ink)
        axes.spines[side].set_alpha(0.4)
    axes.tick_params(which="both", colors=ink, labelsize=8, length=3)
    axes.grid(axis="y", which="major", color=ink, alpha=0.12, linewidth=0.8)
    axes.set_axisbelow(True)


def _log_axis(axes: Axes, unit: str, ink: str) -> None:
    """Set ticks that can be read whether the curves span a factor of two or of ten thousand."""
    low, high = axes.get_ylim()
    ticks: list[float] = []
    for subs in TICKS:
        candidates = LogLocator(base=10, subs=subs, numticks=99).tick_values(low, high)
        ticks = [tick for tick in candidates if low <= tick <= high]
        if len(ticks) >= 4:
            break
    if len(ticks) > 9:
        step = math.ceil(len(ticks) / 8)
        start = min(range(len(ticks)), key=lambda i: abs(ticks[i] - 1.0)) % step  # so that 1 keeps its tick
        ticks = ticks[start::step]
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_yticks(ticks, [f"{tick:g}{unit}" for tick in ticks])
    axes.tick_params(colors=ink)


def svg(figure: Figure, title: str) -> str:
    """Return a figure as an SVG element to stand inside a page: text as text, in the page's own colour and font.

    Args:
        figure: drawn in INK.
        title: what a screen reader says.
    """
    buffer = io.StringIO()
    # the context puts the reader's own settings back; both are read at saving time only, and have no other way in
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "sparsebench"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", text)
    text = text.replace(INK, "currentColor")
    text = re.sub(r"-?\d+\.\d{2,}", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), text)
    text = re.sub(r">\s+<", "><", text)
    label = re.sub(r'[<>&"]', " ", title)
    return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
