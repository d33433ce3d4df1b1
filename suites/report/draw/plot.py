"""Draw lines and dots on two axes, each line named at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import escape

from sparsebench.suites.report.anchors import colour, mark_id
from sparsebench.suites.report.colours import Look
from sparsebench.suites.report.draw.scale import Scale

WIDTH, HEIGHT = 400, 236
LEFT, RIGHT, TOP, BOTTOM = 46, 268, 24, 202
"""Edges of the plot inside the picture; names stand at its right."""
NAMES = 276
GAP = 11
"""Between names, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One measured point.

    Attributes:
        x, y: its values.
        told: what it says, in words.
        href: the address of its row inside the page.
        low, high: of its interval along y, None for none.
        faded: True if it is shown in the background.
        size: of its mark, 1 for the usual one.
    """

    x: float
    y: float
    told: str
    href: str = ""
    low: float | None = None
    high: float | None = None
    faded: bool = False
    size: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Series:
    """The dots of one representation.

    Attributes:
        name: of the representation.
        dots: ascending in x.
        joined: True if a line joins them.
    """

    name: str
    dots: tuple[Dot, ...]
    joined: bool = True


def plot(title: str, series: Sequence[Series], x: Scale, y: Scale, looks: Mapping[str, Look], about: str = "") -> str:
    """Return a plot as an SVG element, with what it shows in words for who cannot see it.

    Args:
        title: above it.
        series: at least one, each with a dot.
        x: axis to the right.
        y: axis upwards; a dashed line marks 1 if it lies inside.
        looks: of the representations.
        about: what it shows, for the words; the title by default.
    """
    parts = [
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="group" '
        f'aria-label="{escape(_words(about or title, series))}">',
        f'<text y="12" font-weight="600">{escape(title)}</text>',
        *_axes(x, y),
    ]
    for one in series:
        parts += _line(one, x, y, looks[one.name])
    return "".join([*parts, *_names(series, x, y), "</svg>"])


def _words(about: str, series: Sequence[Series]) -> str:
    told = "; ".join(
        f"{one.name}: {one.dots[0].told}" + (f" … {one.dots[-1].told}" if len(one.dots) > 1 else "") for one in series
    )
    return f"{about}. {told}."


def _axes(x: Scale, y: Scale) -> list[str]:
    parts = [f'<text class="quiet" x="{RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{escape(x.label)}</text>']
    if y.label:
        parts.append(f'<text class="quiet" y="{HEIGHT - 4}">{escape(y.label)}</text>')
    for value, name in y.ticks:
        at = _short(y.at(value, BOTTOM, TOP))
        parts.append(f'<path class="{"one" if value == 1.0 else "grid"}" d="M{LEFT} {at}H{RIGHT}"/>')
        parts.append(
            f'<text class="quiet" x="{LEFT - 5}" y="{_short(float(at) + 4)}" text-anchor="end">{escape(name)}</text>'
        )
    parts.append(f'<path class="grid" d="M{LEFT} {BOTTOM}H{RIGHT}"/>')
    for value, name in x.ticks:
        at = _short(x.at(value, LEFT, RIGHT))
        parts.append(f'<path class="grid" d="M{at} {BOTTOM}v4"/>')
        parts.append(f'<text class="quiet" x="{at}" y="{BOTTOM + 15}" text-anchor="middle">{escape(name)}</text>')
    return parts


def _line(one: Series, x: Scale, y: Scale, look: Look) -> list[str]:
    parts = []
    places = [(_short(x.at(dot.x, LEFT, RIGHT)), _short(y.at(dot.y, BOTTOM, TOP))) for dot in one.dots]
    band = [(dot, place[0]) for dot, place in zip(one.dots, places, strict=True) if dot.low and dot.high]
    if len(band) > 1:
        upper = [f"{at} {_short(y.at(dot.high or dot.y, BOTTOM, TOP))}" for dot, at in band]
        lower = [f"{at} {_short(y.at(dot.low or dot.y, BOTTOM, TOP))}" for dot, at in reversed(band)]
        parts.append(f'<path class="band" fill="{colour(one.name)}" d="M{"L".join([*upper, *lower])}Z"/>')
    if one.joined and len(places) > 1:
        dash = "" if look.dash == "-" else ' stroke-dasharray="5 3"'
        points = " ".join(",".join(place) for place in places)
        parts.append(f'<polyline stroke="{colour(one.name)}"{dash} points="{points}"/>')
    for dot, (across, down) in zip(one.dots, places, strict=True):
        faded = ' class="faded"' if dot.faded else ""
        place = f'x="{across}" y="{down}"'
        if dot.size != 1.0:
            place = f'transform="translate({across} {down}) scale({dot.size:.2f})"'
        mark = f'<use{faded} href="#{mark_id(one.name)}" {place}/>'
        told = f"<title>{escape(one.name)}: {escape(dot.told)}</title>"
        link = f'<a href="#{dot.href}" tabindex="-1">{told}{mark}</a>' if dot.href else f"<g>{told}{mark}</g>"
        parts.append(link)
    return parts


def _names(series: Sequence[Series], x: Scale, y: Scale) -> list[str]:
    """Return the names at the right, each at the height of its last dot where there is room; faded ones have none."""
    ends = sorted(
        ((y.at(one.dots[-1].y, BOTTOM, TOP), one) for one in series if not one.dots[-1].faded), key=lambda end: end[0]
    )
    places: list[float] = []
    for at, _one in ends:
        places.append(max(at, places[-1] + GAP) if places else at)
    over = max(0.0, places[-1] - BOTTOM) if places else 0.0
    last = float(BOTTOM + GAP)
    for i in reversed(range(len(places))) if over else ():
        last = places[i] = min(places[i], last - GAP)
    parts = []
    for place, (at, one) in zip(places, ends, strict=True):
        end = x.at(one.dots[-1].x, LEFT, RIGHT)
        way = f"M{_short(end + 5)} {_short(at)}L{_short(max(end + 6, RIGHT))} {_short(at)}L{NAMES} {_short(place)}"
        parts.append(
            f'<path class="lead" stroke="{colour(one.name)}" d="{way}"/>'
            f'<text x="{NAMES + 3}" y="{_short(place + 3.5)}">{escape(one.name)}</text>'
        )
    return parts


def _short(value: float) -> str:
    """Return a coordinate in short."""
    return f"{value:.1f}".removesuffix(".0")
