"""A run in which nothing came out right, wholly or in a curve, is reported all the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import sparsebench

from sparsebench.representations.pattern import Pattern
from sparsebench.suites.cell import STATUSES, Case, Cell, blank
from sparsebench.suites.report import compare, write_report
from sparsebench.suites.runner.journal import RunFolder

REASON = 'impossible: <b>1 µs</b> & "less"'


def row(representation: str, sparsity: float, status: str) -> Cell:
    case = Case(suite="matmul", workload="w", operation="matmul", shape=(64, 48, 8),
                pattern=Pattern(kind="element"), sparsity=sparsity)  # fmt: skip
    return blank(case, representation, "cpu", status=status, reason=REASON)


def test_a_report_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    RunFolder(path=tmp_path).append(row("mine", 0.5, "wrong"))
    (tmp_path / "report.html").mkdir()
    done = sparsebench("report", tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        f"sparsebench: expected to write {tmp_path / 'report.html'}, got Is a directory; "
        "make room, or copy the run elsewhere\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.jsonl", "report.html"]


@pytest.mark.parametrize("statuses", [STATUSES[1:], ("wrong",), ("unsupported",)])
def test_statuses_alone_make_a_report(statuses: tuple[str, ...], tmp_path: Path) -> None:
    folder = RunFolder(path=tmp_path)
    for number, status in enumerate(statuses):
        for level in (0.5, 0.9):
            folder.append(row(f"mine-{number}", level, status))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    told = (tmp_path / "report.md").read_text(encoding="utf-8").replace("\\_", "_")
    for status in statuses:
        assert status in page
        assert status in told
    assert "<b>1 µs" not in page  # what a plug-in says is text, not markup
    assert not any(compare(tmp_path, tmp_path).counts.values())
