"""Put break-evens together that answer one question: an operation on a pattern, a shape and a number of columns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from sparsebench.suites.report.breakeven import GROUP, BreakEven
from sparsebench.suites.report.first.lines import Line, line_of
from sparsebench.suites.report.first.plain_words import operation_words, pattern_words
from sparsebench.suites.text import SPACE, times

Keys = tuple[str, ...]
PRODUCTS: tuple[str, ...] = ("matmul", "rmatmul", "sampled_matmul", "matmul_backward")
"""Operations whose shape is (m, k, n): the last is the number of columns."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """What one line of the chart shows.

    Attributes:
        keys: of the columns GROUP.
        members: break-evens of its representations, early ones first.
        lines: speed-up over sparsity by representation.
        title: the pattern, and the number of columns where there is one.
        operation: in words.
        size: its shape, or the layer that it comes from; type and device where a run has several.
    """

    keys: Mapping[str, str]
    members: tuple[BreakEven, ...]
    lines: Mapping[str, Line]
    title: str
    operation: str
    size: str

    @property
    def about(self) -> str:
        """Return the operation and its size."""
        return f"{self.operation}, {self.size}"

    @property
    def columns(self) -> int | None:
        """Return the number of columns of a product."""
        return int(self.keys["shape"].split("x")[-1]) if self.keys["operation"] in PRODUCTS else None

    @property
    def end(self) -> float:
        """Return the highest sparsity that was measured."""
        return max((level for line in self.lines.values() for level, _ in line.levels), default=0.0)


def groups_of(found: Sequence[BreakEven], frame: pd.DataFrame) -> list[Group]:
    """Return the groups that have a speed-up, in the order in which a reader wants them.

    Args:
        found: from `break_evens`; operations that build are left out, as dense has nothing to build.
        frame: `Run.frame`.
    """
    timed = frame[(frame["status"] == "ok") & (frame["speedup"] > 0) & frame["sparsity"].notna()]
    medians: dict[tuple[Keys, str], list[tuple[float, float]]] = defaultdict(list)
    columns = [*GROUP, "representation", "sparsity"]
    for row in timed.groupby(columns, sort=False)["speedup"].median().reset_index().to_dict("records"):
        keys = tuple(str(row[column]) for column in GROUP)
        medians[keys, str(row["representation"])].append((float(row["sparsity"]), float(row["speedup"])))
    members: dict[Keys, list[BreakEven]] = defaultdict(list)
    for one in found:
        if one.answer.verdict != "unmeasured" and not one.builds:
            members[tuple(getattr(one, column) for column in GROUP)].append(one)
    several = {column for i, column in enumerate(GROUP) if len({keys[i] for keys in members}) > 1}
    return [
        Group(
            keys=dict(zip(GROUP, keys, strict=True)),
            members=tuple(sorted(some, key=lambda one: one.answer.order)),
            lines={one.representation: line_of(medians[keys, one.representation]) for one in some},
            **_named(dict(zip(GROUP, keys, strict=True)), several),
        )
        for keys, some in members.items()
    ]


def _named(keys: Mapping[str, str], several: set[str]) -> dict[str, str]:
    operation, sizes = keys["operation"], keys["shape"].split("x")
    title = pattern_words(keys["pattern"])
    if operation in PRODUCTS and len(sizes) == 3:
        title += f", N{SPACE}={SPACE}{sizes[2]}"
        size = times("x".join(sizes[:2]))
    else:
        size = keys["workload"]
    also = [keys[column] for column in ("dtype", "device") if column in several]
    return {"title": title, "operation": operation_words(operation), "size": ", ".join([size, *also])}


@dataclass(frozen=True, kw_only=True)
class Chapter:
    """Groups that stand together in the chart.

    Attributes:
        title: what they have in common.
        groups: in order.
        open: True if it is shown at once, False if it is folded.
    """

    title: str
    groups: tuple[Group, ...]
    open: bool


def chapters_of(groups: Sequence[Group], most: int = 12) -> list[Chapter]:
    """Return the groups by operation, the largest first, of which the first `most` are shown at once.

    Within an operation come first the patterns that were asked at the most sizes, and of these the early winners.

    Args:
        groups: from `groups_of`.
        most: groups that are not folded.
    """
    by_operation: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        by_operation[group.keys["operation"]].append(group)
    found: list[Chapter] = []
    for operation, some in sorted(by_operation.items(), key=lambda item: -len(item[1])):
        ranked = _ranked(some)
        title = operation_words(operation).capitalize()
        if found:
            found.append(Chapter(title=title, groups=tuple(ranked), open=False))
            continue
        shown = _cut(ranked, most)
        found.append(Chapter(title=title, groups=tuple(ranked[:shown]), open=True))
        if ranked[shown:]:
            found.append(Chapter(title=f"{title}: more patterns", groups=tuple(ranked[shown:]), open=False))
    return found


def reading_order(chapters: Sequence[Chapter]) -> dict[Keys, int]:
    """Return the place of each group on the first screen, by its values of GROUP."""
    groups = (group for chapter in chapters for group in chapter.groups)
    return {tuple(group.keys[column] for column in GROUP): place for place, group in enumerate(groups)}


def in_order(frame: pd.DataFrame, order: Mapping[Keys, int]) -> list[pd.DataFrame]:
    """Return the rows of each group, those on the first screen in its order and the others behind them."""
    parts = [
        (order.get(tuple(map(str, keys)), len(order)), rows)
        for keys, rows in frame.groupby(list(GROUP), sort=False, dropna=False)
    ]
    return [rows for _, rows in sorted(parts, key=lambda part: part[0])]


def _ranked(groups: Sequence[Group]) -> list[Group]:
    by_pattern: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        by_pattern[group.keys["pattern"]].append(group)
    ranked = sorted(
        by_pattern.values(), key=lambda some: (-len(some), min(one.members[0].answer.order for one in some))
    )
    return [one for some in ranked for one in sorted(some, key=_size)]


def _size(group: Group) -> tuple[int, int, str]:
    sizes = [int(part) for part in group.keys["shape"].split("x") if part.isdigit()]
    tensor = sizes[0] * sizes[1] if len(sizes) > 1 else sum(sizes)
    return tensor, group.columns or 0, group.keys["shape"]


def _cut(ranked: Sequence[Group], most: int) -> int:
    """Return how many groups are shown at once: whole patterns, unless the first one alone is too many."""
    if len(ranked) <= most:
        return len(ranked)
    shown = most
    while shown > 1 and ranked[shown].keys["pattern"] == ranked[shown - 1].keys["pattern"]:
        shown -= 1
    return shown if shown > 1 else most
