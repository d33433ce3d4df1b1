"""Hold who wins at every whole percent, for the small form that asks a reader what he has."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sparsebench.suites.report.first.chart import break_even_anchor
from sparsebench.suites.report.first.groups import Chapter, Group
from sparsebench.suites.report.first.plain_words import operation_words
from sparsebench.suites.report.first.winners import faster, ranking, winner


def picker_data(chapters: Sequence[Chapter]) -> str:
    """Return JSON: by operation its name and groups, each with [place, speed-up, measured] of the two fastest.

    It stands inside a script element, so "<" is written as an escape.
    """
    operations: dict[str, dict[str, object]] = {}
    for operation in dict.fromkeys(group.keys["operation"] for chapter in chapters for group in chapter.groups):
        mine = [
            _group(group) for chapter in chapters for group in chapter.groups if group.keys["operation"] == operation
        ]
        operations[operation] = {"title": operation_words(operation), "groups": mine}
    return json.dumps(operations, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _group(group: Group) -> dict[str, object]:
    names = [one.representation for one in group.members]
    steps = []
    for level in (i / 100 for i in range(100)):
        ranked = [one for one in ranking(group, level) if faster(one.member, level)] if winner(group, level) else []
        steps.append([[names.index(one.name), float(f"{one.speedup:.2g}"), int(one.measured)] for one in ranked[:2]])
    return {
        "title": f"{group.title} ({group.size})",
        "names": [one.label for one in group.members],
        "links": [break_even_anchor(one) for one in group.members],
        "end": group.end,
        "steps": steps,
    }
