"""Draw the one picture that a README shows: break-evens on a line a group, as an SVG of its own, light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from markupsafe import escape

from sparsebench.suites.report.breakeven import BreakEven, break_evens
from sparsebench.suites.report.colours import Look, looks
from sparsebench.suites.report.journal import ReportError
from sparsebench.suites.text import bare_percent, count, times

ROWS = 30
"""Groups in the picture at most: those with the most answers."""
TICKS: tuple[float, ...] = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99)
TOP = TICKS[-1]
LEFT, RIGHT, WIDTH = 330, 600, 830
"""Where the axis begins and ends, and the whole width, in pixels; labels stand to both sides."""
HEAD, ROW, FOOT = 64, 22, 26
LETTERS = 50
"""Of a label at most."""
STYLE = (
    "text{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#57606a}.h{font-size:15px;font-weight:600;"
    "fill:#24292f}.t{font-size:11px}.b{fill:#24292f}.g{stroke:#8b949e;stroke-opacity:.3}.i{stroke-width:2;"
    "stroke-opacity:.6}@media(prefers-color-scheme:dark){text{fill:#9198a1}.h,.b{fill:#e6edf3}}"
)
"""Letters in one grey where the page is light and in another where it is dark; nothing is painted behind them."""

Group = tuple[str, str, str, str, str, str]
"""operation, workload, shape, dtype, device and pattern of a line."""


def overview_svg(frame: pd.DataFrame, about: str) -> str:
    """Return a standalone SVG: a line a group, with every answered break-even and the earliest one named.

    Args:
        frame: `Run.frame`.
        about: what stands beneath the heading: processor and threads.

    Raises:
        ReportError: if no cell has both a sparsity and a speed-up.
    """
    groups: dict[Group, list[BreakEven]] = {}
    for one in break_evens(frame):
        if one.levels:
            key = (one.operation, one.workload, one.shape, one.dtype, one.device, one.pattern)
            groups.setdefault(key, []).append(one)
    if not groups:
        raise ReportError("expected cells with a sparsity and a speed-up to draw, got none; run a suite first")
    answered = {key: sum(one.answer.settled for one in members) for key, members in groups.items()}
    chosen = set(sorted(groups, key=lambda key: -answered[key])[:ROWS])
    shown = {key: members for key, members in groups.items() if key in chosen}
    palette = looks(one.representation for members in shown.values() for one in members)
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
    for number, (key, members) in enumerate(shown.items()):
        parts += _row(key, members, HEAD + ROW * number + ROW // 2, palette)
    left_out = f"{len(shown)} of {count(len(groups), 'group')}. " if len(shown) < len(groups) else ""
    parts.append(
        f'<text class="t" x="8" y="{base + 17}">{left_out}Large dot: the first to win, with its 95 % interval; small: '
        "the others; sparsity on a scale of log(density).</text>"
    )
    return "\n".join([*parts, "</svg>", ""])


def _place(sparsity: float) -> float:
    share = math.log10(1 - min(max(sparsity, 0.0), TOP)) / math.log10(1 - TOP)
    return round(LEFT + share * (RIGHT - LEFT), 1)


def _row(key: Group, members: Sequence[BreakEven], y: int, palette: Mapping[str, Look]) -> list[str]:
    best = _best(members)
    parts = [f'<text x="8" y="{y + 4}">{escape(_label(key))}</text>']
    parts.append(f'<line class="g" x1="{LEFT}" x2="{RIGHT}" y1="{y}" y2="{y}"/>')
    for one in members:
        if one is not best and one.answer.verdict in ("from the start", "crosses"):
            colour, at = palette[one.representation].colour, _place(one.answer.sparsity or 0.0)
            parts.append(
                f'<circle cx="{at}" cy="{y}" r="2.5" fill="{colour}" fill-opacity=".7">'
                f"<title>{escape(f'{one.representation}: {one.answer.text}')}</title></circle>"
            )
    if best is None:
        still = any(one.answer.verdict == "open" for one in members)
        tops = [one.answer.sparsity or 0.0 for one in members if one.answer.verdict == "not up to"]
        top = "open" if still or not tops else f"none up to {bare_percent(max(tops))} %"
        return [*parts, f'<text x="{RIGHT + 14}" y="{y + 4}">{top}</text>']
    colour, found = palette[best.representation].colour, best.answer
    if found.verdict == "crosses":
        parts.append(
            f'<line class="i" stroke="{colour}" x1="{_place(found.low)}" x2="{_place(found.high)}" y1="{y}" y2="{y}"/>'
        )
    at = _place(found.sparsity or 0.0) if found.verdict == "crosses" else LEFT
    parts.append(f'<circle cx="{at}" cy="{y}" r="5" fill="{colour}"/>')
    told = f"{best.representation} {found.text}"
    return [*parts, f'<text class="b" x="{RIGHT + 14}" y="{y + 4}">{escape(told)}</text>']


def _best(members: Sequence[BreakEven]) -> BreakEven | None:
    """Return who is faster than dense from the lowest sparsity on; None if nobody is known to be."""
    able = [one for one in members if one.answer.verdict in ("from the start", "crosses")]
    return min(able, key=lambda one: (one.answer.order, -(one.best or 0.0)), default=None)


def _label(key: Group) -> str:
    operation, _, shape, dtype, device, pattern = key
    extra = "".join(f" {word}" for word, usual in ((dtype, "float32"), (device, "cpu")) if word != usual)
    text = f"{operation} {times(shape)} · {pattern}{extra}"
    return text if len(text) <= LETTERS else text[: LETTERS - 1] + "…"


def _alternative(shown: Mapping[Group, Sequence[BreakEven]]) -> str:
    """Return the picture in words."""
    told = []
    for key, members in shown.items():
        best = _best(members)
        told.append(f"{_label(key)}: " + ("none" if best is None else f"{best.representation} {best.answer.short}"))
    return "Break-even sparsity, the first to be faster than dense: " + "; ".join(told)
