"""Draw a group's line from 0 to 100 % sparsity, as an SVG that keeps its letters' size at any width."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from markupsafe import escape

from sparsebench.suites.cell import CONTROL
from sparsebench.suites.report.anchors import anchor, colour, mark_id
from sparsebench.suites.report.breakeven import GROUP, BreakEven
from sparsebench.suites.report.first.axis import RIGHT, TICKS, place
from sparsebench.suites.report.first.groups import Group
from sparsebench.suites.report.first.winners import LEVELS, Range, ranges, winner
from sparsebench.suites.text import bare_percent, percent, significant

LANE, TOP = 10, 7
"""Between lanes of dots, and above the first one, in pixels."""
LANES = 4
LEFT_ACROSS, RIGHT_ACROSS = 4, 5
"""Marks beside each other at the ends of the axis; further ones stand beneath."""
STRIP = 15
LETTER = 6.3
"""Width of a letter of 11 pixels, on average."""
NARROW, WIDE = 330, 560
"""Width of the chart on a phone, and the least on a desk."""


def break_even_anchor(one: BreakEven) -> str:
    """Return the address of a break-even's row."""
    return anchor("b", *(getattr(one, column) for column in GROUP), one.representation)


def chart(group: Group) -> str:
    """Return the line of a group: break-evens as dots with their intervals, beneath them who wins where."""
    rows = _lanes(group.members)
    left, right = _ends(group.members)
    lanes = max(
        max((lane for lane, _ in rows), default=0) + 1, ceil(len(left) / LEFT_ACROSS), ceil(len(right) / RIGHT_ACROSS)
    )
    strip = TOP + LANE * lanes
    height = strip + STRIP + 13
    parts = [
        f'<svg class="line" height="{height}" role="group" aria-label="{escape(_told(group))}">',
        *(f'<line class="tick" x1="{place(tick)}%" x2="{place(tick)}%" y2="{strip + STRIP}"/>' for tick in TICKS),
    ]
    for lane, one in rows:
        parts.append(_dot(one, TOP + LANE * lane))
    parts += _beside(left, "0", LEFT_ACROSS) + _beside(right, f"{RIGHT + 1.5}%", RIGHT_ACROSS)
    best = _best(group.members)
    if best is not None:
        parts.append(_label(best, group))
    parts += [_segment(part, strip) for part in ranges(group)]
    for level in LEVELS:
        if found := winner(group, level):
            about = "" if found.measured else "≈\N{THIN SPACE}"
            wide = ' class="wide"' if level == 0.9 else ""
            parts.append(
                f'<text{wide} x="{place(level)}%" y="{height - 2}" text-anchor="middle">'
                f"{about}{significant(found.speedup, 2)}×</text>"
            )
    return "".join([*parts, "</svg>"])


def axis() -> str:
    """Return the axis that stands above the lines."""
    ticks = "".join(
        f'<text x="{place(tick)}%" y="11" text-anchor="middle"{wide}>{bare_percent(tick)}</text>'
        for tick in TICKS
        for wide in (' class="wide"' if tick in (0.2, 0.9) else "",)
    )
    return (
        f'<svg class="axis" height="14" aria-hidden="true"><text class="wide" x="0" y="11">from 0</text>{ticks}'
        f'<text class="wide" x="{RIGHT + 2.6}%" y="11">not up to 99 %</text></svg>'
    )


def _inside(one: BreakEven) -> bool:
    """Tell whether a break-even stands on the axis, and not at one of its ends."""
    return one.answer.verdict == "crosses" or (one.answer.verdict == "open" and one.answer.high < 1.0)


def _best(members: Sequence[BreakEven]) -> BreakEven | None:
    """Return the earliest break-even that is answered, or the earliest of all that cross."""
    able = [one for one in members if _inside(one) or one.answer.verdict == "from the start"]
    return min(able, key=lambda one: (one.answer.order, -(one.best or 0.0)), default=None)


def _lanes(members: Sequence[BreakEven]) -> list[tuple[int, BreakEven]]:
    """Return the break-evens on the axis with a lane each: the best alone in the first, the others without touching."""
    inside = [one for one in members if _inside(one)]
    best = _best(members)
    busy: list[float] = []
    found = []
    for one in sorted(inside, key=lambda one: one.answer.sparsity or 0.0):
        if one is best:
            found.append((0, one))
            continue
        at = place(one.answer.sparsity or 0.0)
        free = next((i for i, end in enumerate(busy) if at - end >= 2.2), None)
        if free is None and len(busy) < LANES - 1:
            busy.append(at)
            free = len(busy) - 1
        elif free is None:
            free = busy.index(min(busy))
        busy[free] = at
        found.append((free + 1, one))
    return found


def _dot(one: BreakEven, y: int) -> str:
    found = one.answer
    low, high = place(found.low), place(found.high)
    at = place(found.sparsity or 0.0)
    bar = f'<line x1="{low}%" x2="{high}%" y1="{y}" y2="{y}" stroke="{colour(one.representation)}"/>'
    style = "dot" if found.settled else "dot open"
    return _link(one, style, bar + _mark(one.representation, f'x="{at}%" y="{y}"'))


def _ends(members: Sequence[BreakEven]) -> tuple[list[BreakEven], list[BreakEven]]:
    """Return who is faster from the start, and who was slower at every level measured."""
    never = [one for one in members if one.answer.verdict == "not up to"]
    unclear = [one for one in members if one.answer.verdict == "open" and not _inside(one)]
    return [one for one in members if one.answer.verdict == "from the start"], [*never, *unclear]


def _beside(some: Sequence[BreakEven], edge: str, across: int) -> list[str]:
    """Return marks in rows, at one end of the axis."""
    parts = []
    for i, one in enumerate(some):
        where = f'x="{edge}" y="{TOP + LANE * (i // across)}" transform="translate({6 + LANE * (i % across)})"'
        parts.append(_link(one, "dot" if one.answer.settled else "dot open", _mark(one.representation, where)))
    return parts


def _mark(name: str, where: str) -> str:
    return f'<use href="#{mark_id(name)}" {where}/>'


def _link(one: BreakEven, style: str, inside: str) -> str:
    text = f"{one.label}: {one.answer.text}"
    return (
        f'<a class="{style}" href="#{break_even_anchor(one)}" tabindex="-1" aria-label="{escape(text)}">'
        f"<title>{escape(text)}</title>{inside}</a>"
    )


def _label(best: BreakEven, group: Group) -> str:
    """Return the name of the best beside its dot."""
    found = best.answer
    ends = sum(one.answer.verdict == "from the start" for one in group.members)
    where = found.short if found.settled else f"about {percent(found.sparsity or 0.0)}"
    if not found.settled and found.low == 0.0:
        where = f"below {percent(found.high)}"
    text = f"{best.label} {where}"
    if found.verdict == "from the start":
        at, shift, side = 0.0, 6 + LANE * min(ends, LEFT_ACROSS), "start"
    elif place(found.sparsity or 0.0) < 46:
        at, shift, side = place(found.high if found.settled else found.sparsity or 0.0), 8, "start"
    else:
        at, shift, side = place(found.low if found.settled else found.sparsity or 0.0), -8, "end"
    return (
        f'<text class="best" x="{at}%" y="{TOP + 4}" text-anchor="{side}" transform="translate({shift})">'
        f"{escape(text)}</text>"
    )


def _segment(part: Range, top: int) -> str:
    """Return a piece of the strip that says who wins, with the name where it has room."""
    left, width = place(part.low), place(part.high) - place(part.low)
    name = part.name or "not measured"
    room = {end: width * end / 100 >= LETTER * len(name) + 6 for end in (NARROW, WIDE)}
    fill = "none" if part.name in ("", CONTROL) else colour(part.name)
    style = "win dense" if part.name in ("", CONTROL) else "win"
    text = (
        "" if not room[WIDE] else f'<text{"" if room[NARROW] else " class=wide"} x="4" y="11.5">{escape(name)}</text>'
    )
    told = f"{name}: {bare_percent(part.low)} to {percent(part.high)}"
    return (
        f'<svg class="{style}" x="{left}%" y="{top}" width="{width:.2f}%" height="{STRIP}">'
        f'<title>{escape(told)}</title><rect width="100%" height="{STRIP}" fill="{fill}"/>'
        + (f'<rect class="edge" width="2.5" height="{STRIP}" fill="{fill}"/>' if fill != "none" else "")
        + f"{text}</svg>"
    )


def _told(group: Group) -> str:
    """Return the line in words, for who cannot see it."""
    dots = "; ".join(f"{one.label} {one.answer.text}" for one in group.members)
    wins = "; ".join(f"{part.name or 'not measured'} {bare_percent(part.low)} to {percent(part.high)}"
                     for part in ranges(group))  # fmt: skip
    return f"{group.title}, {group.about}. Break-even: {dots}. Fastest: {wins}."
