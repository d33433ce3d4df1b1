"""Write a README's answers from a kept run: `python -m sparsebench.suites.report.readme README.md`.

Between `<!-- answers: FOLDER -->` and `<!-- end of answers -->` stands what the run in that folder says, and in the
folder `overview.svg`, the picture. Nobody copies a figure by hand.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from sparsebench.suites.report.breakeven import break_evens
from sparsebench.suites.report.first.groups import Group, chapters_of, groups_of
from sparsebench.suites.report.first.sentences import told
from sparsebench.suites.report.first.trust_line import trust_line
from sparsebench.suites.report.journal import ReportError, Run, read_run
from sparsebench.suites.report.overview import overview_svg
from sparsebench.suites.report.table import escape
from sparsebench.suites.text import bare_percent, count

PICTURE = "overview.svg"
LEVELS: tuple[float, ...] = (0.5, 0.8, 0.9)
OPERATIONS: tuple[str, ...] = ("matmul", "conv2d")
"""What a newcomer asks about first; training and the rest stand in the report."""
PATTERNS: tuple[str, ...] = ("element", "block 32×32")
"""Of the products in the table."""
MARKS = re.compile(r"(<!-- answers: (\S+) -->\n).*?(<!-- end of answers -->)", flags=re.S)


def renewed(text: str, root: Path) -> tuple[str, dict[Path, str]]:
    """Return a README with its answers as its kept runs give them, and the pictures beside these.

    Args:
        text: of the README, with the marks.
        root: what the folders in the marks are relative to.

    Raises:
        ReportError: if there is no mark, or a folder is no run.
    """
    if not MARKS.search(text):
        raise ReportError("expected <!-- answers: FOLDER --> … <!-- end of answers --> in the README, got none; add it")
    pictures: dict[Path, str] = {}

    def renew(found: re.Match[str]) -> str:
        run = read_run(root / found[2])
        pictures[root / found[2] / PICTURE] = overview_svg(run.frame, about(run))
        return found[1] + answers(run, found[2]) + found[3]

    return MARKS.sub(renew, text), pictures


def about(run: Run) -> str:
    """Return where and when a run was made: processor, threads, version, date."""
    facts = run.machine
    libraries = facts.get("libraries") or {}
    parts = [
        str(facts.get("cpu", "an unknown processor")),
        count(int(facts["threads"]), "thread") if facts.get("threads") else "",
        f"torch {libraries['torch']}" if libraries.get("torch") else "",
        str(facts.get("started_at") or facts.get("described_at") or "")[:10],
    ]
    return ", ".join(part for part in parts if part)


def answers(run: Run, folder: str) -> str:
    """Return the picture, who wins where, and how far that can be trusted, in Markdown."""
    found = break_evens(run.frame)
    groups = [group for chapter in chapters_of(groups_of(found, run.frame)) for group in chapter.groups]
    shown = [group for group in groups if _asked_first(group)]
    largest = max((_elements(group) for group in shown if group.columns), default=0)
    shown = [group for group in shown if not group.columns or _elements(group) == largest]
    head = ["what is absent", "of", "first to beat dense", *(f"at {bare_percent(level)} %" for level in LEVELS)]
    lines = [f"![From which sparsity on it is faster than dense]({folder}/{PICTURE})", ""]
    lines += [f"{escape(about(run))}; {escape(trust_line(run.frame, found))}", ""]
    lines += [_row(head), _row(["---"] * len(head))]
    lines += [
        _row([
            escape(group.title), escape(group.size), _first(group),
            *(escape(told(group, level).partition(", next")[0]) or "–" for level in LEVELS),
        ])
        for group in shown
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _asked_first(group: Group) -> bool:
    operation, pattern = group.keys["operation"], group.keys["pattern"]
    return operation in OPERATIONS and (operation != "matmul" or pattern in PATTERNS)


def _elements(group: Group) -> int:
    """Return how large the weight of a product is: the README shows the largest."""
    rows, columns, _ = map(int, group.keys["shape"].split("x"))
    return rows * columns


def _first(group: Group) -> str:
    first = group.members[0]
    if first.answer.verdict == "not up to":
        return "–"
    return f"{escape(first.label)} {escape(first.answer.text)}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Renew a README in place; return 2 if it cannot be done, else 0."""
    parser = argparse.ArgumentParser(prog="python -m sparsebench.suites.report.readme", description=main.__doc__)
    parser.add_argument("readme", type=Path, help="with the marks; folders in them are relative to it")
    given = parser.parse_args(arguments)
    try:
        text, pictures = renewed(given.readme.read_text(encoding="utf-8"), given.readme.parent)
    except (OSError, ReportError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    given.readme.write_text(text, encoding="utf-8")
    for path, picture in pictures.items():
        path.write_text(picture, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
