"""Answer in a sentence or two which representation to use, for a reader who knows nothing of the project."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import escape

from sparsebench.suites.cell import CONTROL
from sparsebench.suites.report.first.chart import break_even_anchor
from sparsebench.suites.report.first.groups import Group
from sparsebench.suites.report.first.winners import CLEAR, LEVELS, Placed, Range, faster, ranges, ranking, winner
from sparsebench.suites.text import bare_percent, percent, significant

MOST = 3
"""Ranges that a sentence tells; the strip shows the rest."""

Words = list[tuple[str, str]]
"""Pieces of a sentence: a text, and where it leads to, "" for nowhere."""


def sentence(group: Group) -> Words:
    """Return which representation to use in a group, from which sparsity on, and how much faster it is."""
    found = ranges(group)
    wins = [part for part in found if part.name not in ("", CONTROL)]
    if not wins:
        close = [one for one in group.members if one.answer.verdict == "open"]
        rest = " – as far as it was measured; longer runs tell more" if close else ""
        return [(f"Stay dense: nothing is faster up to {percent(group.end)}{rest}.", "")]
    words: Words = [("Use ", "")]
    for number, part in enumerate(wins[:MOST]):
        words += [(", ", "")] if number else []
        words += [
            _named(group, part.name),
            *(_begin(group, part) if number == 0 else [(f" from {percent(part.low)}", "")]),
        ]
    words.append((_below(found, wins[0]), ""))
    level = next((level for level in (0.8, *LEVELS) if winner(group, level)), None)
    return words if level is None else [*words, *_much(group, level)]


def _named(group: Group, name: str) -> tuple[str, str]:
    member = next(one for one in group.members if one.representation == name)
    return member.label, break_even_anchor(member)


def _begin(group: Group, part: Range) -> Words:
    member = next(one for one in group.members if one.representation == part.name)
    found = member.answer
    if part.low == 0.0 and found.verdict == "from the start":
        return [(" at any sparsity", "")]
    if found.verdict == "crosses" and abs((found.sparsity or 0.0) - part.low) < 0.02:
        return [(f" from {percent(found.sparsity or 0.0)} on", "")]
    if found.verdict == "open":
        between = f"between {bare_percent(found.low)} and {percent(found.high)}" if found.low else found.text[6:]
        return [(f" from about {percent(part.low)} on ({between})", "")]
    return [(f" from about {percent(part.low)} on", "")]


def _below(found: Sequence[Range], first: Range) -> str:
    if found[0].name == CONTROL and first.low > 0:
        return "; below that stay dense. "
    return ". "


def _much(group: Group, level: float) -> Words:
    ranked = [one for one in ranking(group, level) if faster(one.member, level)]
    first, others = ranked[0], ranked[1:]
    words: Words = [
        (f"At {percent(level)} ", ""), _named(group, first.name),
        (f" is {_about(first)}{bare(first.speedup)} as fast as dense", ""),
    ]  # fmt: skip
    if first.speedup < CLEAR:
        return [*words[:2], (" is no more than level with dense.", "")]
    if not others:
        return [*words, ("; nothing else beats dense there.", "")]
    ratio = first.speedup / others[0].speedup
    if ratio < CLEAR:
        return [*words, (", level with ", ""), _named(group, others[0].name), (".", "")]
    much = f", {bare(ratio)} the next, "
    return [*words, (much, ""), _named(group, others[0].name), (".", "")]


def _about(one: Placed) -> str:
    return "" if one.measured else "about "


def plain(words: Words) -> str:
    """Return a sentence as text."""
    return "".join(text for text, _ in words)


def html(words: Words) -> str:
    """Return a sentence with its links."""
    return "".join(f'<a href="#{to}">{escape(text)}</a>' if to else str(escape(text)) for text, to in words)


def short(group: Group) -> str:
    """Return who wins at 80 % in a few words, as what stands on a folded chapter."""
    found = winner(group, 0.8)
    return f"{group.title}: {found.member.label if found else CONTROL}"


def told(group: Group, level: float) -> str:
    """Return who wins at a level with both ratios, as a table shows it: "csr ≈ 2.4×, next ell 1.1×"."""
    ranked = [one for one in ranking(group, level) if faster(one.member, level)]
    if winner(group, level) is None or not ranked:
        return CONTROL if level <= group.end else ""
    about = "" if ranked[0].measured else "≈ "
    rest = f", next {ranked[1].member.label} {bare(ranked[0].speedup / ranked[1].speedup)}" if len(ranked) > 1 else ""
    return f"{ranked[0].member.label} {about}{bare(ranked[0].speedup)}{rest}"


def bare(ratio: float) -> str:
    """Return a ratio with two digits, as "2.4×"."""
    return f"{significant(ratio, 2)}×"
