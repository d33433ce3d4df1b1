"""Put the first screen together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import escape

from sparsebench.suites.report.breakeven import BreakEven
from sparsebench.suites.report.colours import Look
from sparsebench.suites.report.first.chart import axis, chart
from sparsebench.suites.report.first.groups import Chapter, Group
from sparsebench.suites.report.first.picker import picker_data
from sparsebench.suites.report.first.sentences import html, plain, sentence, short, told
from sparsebench.suites.report.first.trust_line import trust_line
from sparsebench.suites.report.first.winners import LEVELS
from sparsebench.suites.report.table import Section, Table, words
from sparsebench.suites.text import count, percent

NOTHING = "Nothing is measured yet: the journal holds no cells."
UNJUDGED = "No representation has a speed-up to judge yet, so there is no break-even to tell."
HOW = (
    "Each line goes from 0 to 99 % sparsity, stretched towards its end. A dot is the sparsity from which on that "
    "representation is faster than dense, the bar its 95 % interval; faded: not settled, the bar says between which "
    "levels it lies. At the left edge: faster from the start; at the right one: slower at all levels measured. The "
    "strip names the fastest, the figures beneath it say how many times as fast as dense it is at 50, 80, 90 and "
    "95 %; ≈ is read off between or beside the levels measured."
)


@dataclass(frozen=True, kw_only=True)
class Screen:
    """The first screen, ready for the page.

    Attributes:
        shown: HTML of the lines shown at once.
        folded: pairs (what stands on it, HTML of its lines).
        names: representations in the legend.
        trust: one line.
        how: how to read the lines.
        picker: JSON for the form.
        section: the same as text and a table, for Markdown and for who wants the numbers.
    """

    shown: str
    folded: tuple[tuple[str, str], ...]
    names: tuple[str, ...]
    trust: str
    how: str
    picker: str
    section: Section


def first_screen(
    frame: pd.DataFrame,
    found: Sequence[BreakEven],
    chapters: Sequence[Chapter],
    looks: Mapping[str, Look],
    error_rates: str | None = None,
) -> Screen | Section:
    """Return the first screen, or a section that says why there is none.

    Args:
        frame: `Run.frame`.
        found: from `break_evens`.
        chapters: of their groups.
        looks: of the representations.
        error_rates: of the machine, for the line of trust.
    """
    if not chapters:
        return Section(anchor="answer", title="The answer", text=(UNJUDGED if len(frame) else NOTHING,))
    groups = [group for chapter in chapters for group in chapter.groups]
    names = {one.representation for group in groups for one in group.members}
    trust = trust_line(frame, found, error_rates)
    return Screen(
        shown="".join(_lines(chapter) for chapter in chapters if chapter.open),
        folded=tuple((_summary(chapter), _lines(chapter)) for chapter in chapters if not chapter.open),
        names=tuple(name for name in looks if name in names),
        trust=trust,
        how=HOW,
        picker=picker_data(chapters),
        section=Section(
            anchor="answer",
            title="The answer",
            text=(*(f"{group.title} ({group.about}): {plain(sentence(group))}" for group in groups), trust),
            tables=(_table(groups),),
        ),
    )


def _summary(chapter: Chapter) -> str:
    told = "; ".join(short(group) for group in chapter.groups)
    return f"{chapter.title} ({count(len(chapter.groups), 'line')}). Fastest at {percent(0.8)} – {told}"


def _lines(chapter: Chapter) -> str:
    lines = "".join(
        f'<li><p class="what"><b>{escape(group.title)}</b> <span>{escape(group.size)}</span></p>'
        f'{chart(group)}<p class="say">{html(sentence(group))}</p></li>'
        for group in chapter.groups
    )
    return f'<ol class="lines"><li class="head"><h3>{escape(chapter.title)}</h3>{axis()}</li>{lines}</ol>'


def _table(groups: Sequence[Group]) -> Table:
    rows = tuple(
        (words(group.title), words(group.about), *(words(told(group, level)) for level in LEVELS)) for group in groups
    )
    head = ("what", "operation", *(f"fastest at {percent(level)}" for level in LEVELS))
    return Table(title="Who wins, and by how much", head=head, rows=rows, note=NOTE)


NOTE = "Times as fast as dense, and as the next best; ≈ is read off between or beside the levels measured."
