"""Draw the one picture that a README shows: break-evens on a line a group, as an SVG of its own, light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from markupsafe import escape

from sparsebench.suites.report.breakeven import BreakEven, break_evens
from sparsebench.suites.report.colours import Look, looks
from sparsebench.suites.report.first.axis import TICKS, stretched
from sparsebench.suites.report.first.groups import Group, chapters_of, groups_of
from sparsebench.suites.report.journal import ReportError
from sparsebench.suites.text import bare_percent, count

ROWS = 30
"""Groups in the picture at most: the first ones of the report."""
LEFT, RIGHT, WIDTH = 270, 600, 830
"""Where the axis begins and ends, and the whole width, in pixels; labels stand to both sides."""
HEAD, ROW, FOOT = 64, 22, 26
LETTERS = 44
"""Of a label at most."""
STYLE = (
    "text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#57606a}.h{font-size:15px;font-weight:600;"
    "fill:#24292f}.t{font-size:11px}.b{fill:#24292f}.g{stroke:#8b949e;stroke-opacity:.3}.i{stroke-width:2;"
    "stroke-opacity:.6}@media(prefers-color-scheme:dark){text{fill:#9198a1}.h,.b{fill:#e6edf3}}"
)
"""Letters in one grey where the page is light and in another where it is dark; nothing is painted behind them."""


def overview_svg(frame: pd.DataFrame, about: str) -> str:
    """Return a standalone SVG: a line a group, with every answered break-even and the earliest one named.

    Groups of which nothing is answered are left out.

    Args:
        frame: `Run.frame`.
        about: what stands beneath the heading: processor and threads.

    Raises:
        ReportError: if no cell has both a sparsity and a speed-up.
    """
    every = [group for chapter in chapters_of(groups_of(break_evens(frame), frame)) for group in chapter.groups]
    if not every:
        raise ReportError("expected cells with a sparsity and a speed-up to draw, got none; run a suite first")
    told = [group for group in every if any(one.answer.settled for one in group.members)]
    shown = (told or every)[:ROWS]
    palette = looks(one.representation for group in shown for one in group.members)
    base = HEAD + ROW * len(shown)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{base + FOOT}" '
        f'viewBox="0 0 {WIDTH} {base + FOOT}" role="img" aria-label="{escape(_alternative(shown))}">',
        f"<style>{STYLE}</style>",
        '<text class="h" x="8" y="20">From which sparsity on is it faster than dense?</text>',
        f'<text class="t" x="8" y="38">{escape(about)}</text>',
    ]
    for tick in TICKS:
        at = _place(tick)
        parts.append(f'<line class="g" x1="{at}" x2="{at}" y1="{HEAD - 6}" y2="{base}"/>')
        parts.append(f'<text class="t" x="{at}" y="{HEAD - 10}" text-anchor="middle">{bare_percent(tick)} %</text>')
    for number, group in enumerate(shown):
        parts += _row(group, HEAD + ROW * number + ROW // 2, palette)
    left_out = f"{len(shown)} of {count(len(told), 'group')}. " if len(shown) < len(told) else ""
    parts.append(
        f'<text class="t" x="8" y="{base + 17}">{left_out}Large dot: the first to win, with its 95 % interval; small: '
        "the others. The axis is half sparsity, half log(density).</text>"
    )
    return "\n".join([*parts, "</svg>", ""])


def _place(sparsity: float) -> float:
    return round(LEFT + stretched(min(sparsity, TICKS[-1])) * (RIGHT - LEFT), 1)


def _row(group: Group, y: int, palette: Mapping[str, Look]) -> list[str]:
    best = _best(group.members)
    parts = [f'<text x="8" y="{y + 4}">{escape(_label(group))}</text>']
    parts.append(f'<line class="g" x1="{LEFT}" x2="{RIGHT}" y1="{y}" y2="{y}"/>')
    for one in group.members:
        if one is not best and one.answer.verdict in ("from the start", "crosses"):
            colour, at = palette[one.representation].colour, _place(one.answer.sparsity or 0.0)
            parts.append(
                f'<circle cx="{at}" cy="{y}" r="2.5" fill="{colour}" fill-opacity=".7">'
                f"<title>{escape(f'{one.label}: {one.answer.text}')}</title></circle>"
            )
    if best is None:
        still = any(one.answer.verdict == "open" for one in group.members)
        top = "open" if still else f"none up to {bare_percent(group.end)} %"
        return [*parts, f'<text x="{RIGHT + 14}" y="{y + 4}">{top}</text>']
    colour, found = palette[best.representation].colour, best.answer
    if found.verdict == "crosses":
        parts.append(
            f'<line class="i" stroke="{colour}" x1="{_place(found.low)}" x2="{_place(found.high)}" y1="{y}" y2="{y}"/>'
        )
    at = _place(found.sparsity or 0.0) if found.verdict == "crosses" else LEFT
    parts.append(f'<circle cx="{at}" cy="{y}" r="5" fill="{colour}"/>')
    told = f"{best.label} {found.text}"
    return [*parts, f'<text class="b" x="{RIGHT + 14}" y="{y + 4}">{escape(told)}</text>']


def _best(members: Sequence[BreakEven]) -> BreakEven | None:
    """Return who is faster than dense from the lowest sparsity on; None if nobody is known to be."""
    able = [one for one in members if one.answer.verdict in ("from the start", "crosses")]
    return min(able, key=lambda one: (one.answer.order, -(one.best or 0.0)), default=None)


def _label(group: Group) -> str:
    text = f"{group.title} · {group.size}"
    return text if len(text) <= LETTERS else text[: LETTERS - 1] + "…"


def _alternative(shown: Sequence[Group]) -> str:
    """Return the picture in words."""
    told = []
    for group in shown:
        best = _best(group.members)
        told.append(f"{_label(group)}: " + ("none" if best is None else f"{best.label} {best.answer.short}"))
    return "Break-even sparsity, the first to be faster than dense: " + "; ".join(told)
