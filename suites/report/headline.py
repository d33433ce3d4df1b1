"""Answer the question first: what beats dense, from which sparsity on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sparsebench.suites.report.breakeven import BreakEven
from sparsebench.suites.report.colours import order
from sparsebench.suites.report.table import Table, Value, words
from sparsebench.suites.search.answer import Answer
from sparsebench.suites.text import NONE, count, percent, ratio, times

HEAT: tuple[float, ...] = (0.6, 0.75, 0.85, 0.92, 0.97, 1.0)
"""Upper ends of the steps of colour: a break-even up to 0.6 is the greenest."""

APART = 0.01
"""Break-evens of several shapes that lie nearer than this are shown as one."""

Groups = dict[tuple[str, str, str], list[BreakEven]]


def by_operation(found: Sequence[BreakEven]) -> Groups:
    """Return break-evens by (operation, dtype, device), the largest group first."""
    groups: Groups = defaultdict(list)
    for one in found:
        groups[one.operation, one.dtype, one.device].append(one)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def sentences(found: Sequence[BreakEven]) -> tuple[str, ...]:
    """Return the answer for a newcomer: a sentence or two for each operation, type and device.

    Args:
        found: from `break_evens`.
    """
    # an operation that builds cannot beat dense, which has nothing to build: true, but no answer
    measured = [one for one in found if one.answer.verdict != "unmeasured" and not one.builds]
    if not measured:
        return ("No representation has a speed-up to judge yet, so there is no break-even to tell.",)
    return tuple(_sentence(keys, group) for keys, group in by_operation(measured).items())


def _sentence(keys: tuple[str, str, str], group: Sequence[BreakEven]) -> str:
    operation, dtype, device = keys
    wins, losses = [], []
    for pattern in dict.fromkeys(one.pattern for one in group):
        ranked = sorted((one for one in group if one.pattern == pattern), key=lambda one: one.answer.order)
        first = ranked[0]
        found = first.answer
        if found.verdict == "not up to" or found.order >= 1:
            losses.append(f"{pattern} ({percent(max(one.answer.low or one.answer.sparsity or 0.0 for one in ranked))})")
            continue
        doubt = "" if first.trust == "firm" or found.settled else f" ({first.trust})"
        wins.append(f"{pattern} – {first.representation} {_from(found)}{doubt}")
    shapes = len({one.shape for one in group})
    over = "" if shapes == 1 else f", best of {count(shapes, 'shape')}"
    parts = [f"{operation} ({dtype}, {device}{over})."]
    if wins:
        parts.append("The first to beat dense, by pattern: " + "; ".join(wins) + ".")
    if losses:
        parts.append("Nothing beats dense, up to the highest sparsity measured, for " + ", ".join(losses) + ".")
    return " ".join(parts)


def _from(found: Answer) -> str:
    """Return an answer as it stands in a sentence."""
    if found.verdict == "crosses":
        return f"from {percent(found.sparsity or 0.0)} on"
    if found.verdict == "open":
        return f"somewhere between {percent(found.low)} and {percent(found.high)}"
    return f"from {percent(0.0)} on"


def matrices(found: Sequence[BreakEven]) -> tuple[Table, ...]:
    """Return a table pattern × representation for each operation, type and device, coloured by the break-even.

    Where several shapes were measured the middle one is shown (of two the later; never counts as later than any
    sparsity), and beneath it the range.
    """
    return tuple(_matrix(keys, group) for keys, group in by_operation(found).items())


def _matrix(keys: tuple[str, str, str], group: Sequence[BreakEven]) -> Table:
    names = order(one.representation for one in group)
    rows = []
    for pattern in dict.fromkeys(one.pattern for one in group):
        mine = [[one for one in group if (one.pattern, one.representation) == (pattern, name)] for name in names]
        rows.append((words(pattern), *(_entry(some) for some in mine)))
    shapes = len({one.shape for one in group})
    note = "The sparsity from which on it is faster than dense."
    if shapes > 1:
        note += f" {count(shapes, 'shape')}: the middle one (of two the later), and in brackets the range."
    if any(one.builds for one in group):
        note += " Here storing is part of the operation, and dense has nothing to store: 1× is the best there can be."
    return Table(title=" · ".join(keys), head=("pattern", *names), rows=tuple(rows), note=note)


def _entry(some: Sequence[BreakEven]) -> Value:
    ranked = sorted((one for one in some if one.answer.verdict != "unmeasured"), key=lambda one: one.answer.order)
    if not ranked:
        return Value(text=NONE, style="number heat-none", hint="not measured")
    middle = ranked[len(ranked) // 2].answer
    first, last = ranked[0].answer, ranked[-1].answer
    text = middle.short
    if last.order - first.order >= APART and first.short != last.short:
        text += f" ({first.short} … {last.short})"
    hint = "\n".join(
        f"{times(one.shape)}: {one.answer.text}; best {ratio(one.best)}"
        + (f" at {percent(one.best_at)}" if one.best_at is not None else "")
        for one in ranked
    )
    return Value(text=text, sort=middle.order, style=f"number {heat(middle.verdict, middle.sparsity)}", hint=hint)


def heat(verdict: str, sparsity: float | None) -> str:
    """Return the CSS class of a break-even: heat-0 (early) to heat-5 (late), heat-never."""
    if sparsity is None or verdict in ("never", "not up to"):
        return "heat-never"
    if verdict == "from the start":
        return "heat-0"
    return f"heat-{next(step for step, end in enumerate(HEAT) if sparsity <= end or step == len(HEAT) - 1)}"
