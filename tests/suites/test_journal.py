"""The journal loses nothing that was finished."""

from __future__ import annotations

import dataclasses
import json
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sparsebench.representations.pattern import Pattern
from sparsebench.suites.cell import COLUMNS, Case, Cell, blank, cell_key
from sparsebench.suites.measure.timing import Samples
from sparsebench.suites.runner.journal import JournalTail, RunFolder, RunFolderError

CASE = Case(
    suite="matmul", workload="w", operation="matmul", shape=(4, 4, 4), pattern=Pattern(kind="element"), sparsity=0.5
)


def cell(name: str) -> Cell:
    return blank(CASE, name, "cpu", status="unsupported", reason="for the test")


def test_rows_come_back_with_every_column(tmp_path: Path) -> None:
    folder = RunFolder(path=tmp_path / "new")
    folder.append(cell("dense"))
    (row,) = folder.rows()
    assert tuple(row) == COLUMNS
    assert cell_key(row) == cell("dense").key
    assert Cell(**row) == cell("dense")


def test_a_row_that_was_cut_short_costs_only_itself(tmp_path: Path) -> None:
    folder = RunFolder(path=tmp_path)
    folder.append(cell("dense"))
    with folder.cells.open("a", encoding="utf-8") as journal:
        journal.write(json.dumps(cell("planes").row())[:40])
    folder.append(cell("torch-csr"))
    assert [row["representation"] for row in folder.rows()] == ["dense", "torch-csr"]
    assert folder.finished() == {cell("dense").key, cell("torch-csr").key}


def test_what_is_no_number_becomes_null(tmp_path: Path) -> None:
    folder = RunFolder(path=tmp_path)
    folder.append(Cell(**(cell("dense").row() | {"relative_error": float("inf"), "fill": float("nan")})))
    (row,) = folder.rows()
    assert row["relative_error"] is None
    assert row["fill"] is None


def test_the_cell_in_progress_is_known_until_it_ends(tmp_path: Path) -> None:
    folder = RunFolder(path=tmp_path)
    assert folder.in_progress() is None
    folder.begin(cell("dense"), 12.5)
    assert folder.in_progress() == (12.5, cell("dense"))
    folder.end()
    assert folder.in_progress() is None


def test_pictures_are_kept_beside_the_journal(tmp_path: Path) -> None:
    folder = RunFolder(path=tmp_path)
    folder.keep("curve", {"curve": np.arange(3.0)})
    with np.load(tmp_path / "curve.npz") as kept:
        assert kept["curve"].tolist() == [0.0, 1.0, 2.0]


def test_cells_of_different_blocks_or_groups_have_different_keys() -> None:
    patterns = (Pattern(kind="block", block=(8, 8)), Pattern(kind="block", block=(16, 16)), Pattern(kind="n:m", m=4))
    cases = [Case(**(vars(CASE) | {"pattern": pattern})) for pattern in patterns]
    assert len({blank(case, "dense", "cpu", status="ok").key for case in cases}) == 3
    assert len({case.key for case in cases}) == 3


def ok(name: str, visits: int | None) -> Cell:
    return dataclasses.replace(blank(CASE, name, "cpu", status="ok"), visits=visits)


def test_a_cell_is_finished_when_it_was_visited_often_enough(tmp_path: Path) -> None:
    folder = RunFolder(path=tmp_path)
    for row in (ok("dense", 1), ok("planes", 1), ok("planes", 2), ok("torch-csr", None), cell("torch-coo")):
        folder.append(row)
    assert folder.finished(1) == {ok(name, 1).key for name in ("dense", "planes", "torch-csr", "torch-coo")}
    assert folder.finished(2) == {ok(name, 1).key for name in ("planes", "torch-csr", "torch-coo")}
    assert folder.finished(3) == {ok(name, 1).key for name in ("torch-csr", "torch-coo")}  # no visit adds to these


def test_rounds_come_back_visit_by_visit(tmp_path: Path) -> None:
    folder = RunFolder(path=tmp_path)
    first = Samples(times=(1.0, 2.0), reference_times=(3.0, 4.0), disturbed=(True, False), inner=5)
    second = Samples(times=(6.0, 7.0), reference_times=(8.0, 9.0), disturbed=(False, False), inner=5)
    folder.append(ok("dense", 1), first)
    folder.append(ok("dense", 2), second)
    folder.append(cell("planes"))
    with folder.samples.open("a", encoding="utf-8") as lines:
        lines.write('{"cell": "cut sho')
    (key,) = folder.earlier()
    assert key == ok("dense", 1).key
    assert folder.earlier()[key].visits == (first, second)
    assert folder.earlier()[key].cell.visits == 2


def test_the_tail_reads_whole_lines_once(tmp_path: Path) -> None:
    folder = RunFolder(path=tmp_path / "later")
    tail = JournalTail(folder)
    assert tail.visits() == {}
    folder.append(ok("dense", 1))
    assert tail.visits() == {ok("dense", 1).key: 1}
    line = json.dumps(ok("dense", 2).row())
    with folder.cells.open("a", encoding="utf-8") as journal:
        journal.write(line[:50])
    assert tail.visits() == {ok("dense", 1).key: 1}
    with folder.cells.open("a", encoding="utf-8") as journal:
        journal.write(line[50:] + "\n")
    assert tail.visits() == {ok("dense", 1).key: 2}


# What other versions wrote


def test_a_journal_of_another_version_is_gone_on_with(tmp_path: Path) -> None:
    folder = RunFolder(path=tmp_path)
    done = dataclasses.replace(cell("dense"), status="ok", reason=None, visits=1)
    samples = Samples(times=(1.0,), reference_times=(2.0,), disturbed=None, inner=1)
    folder.append(done, samples)
    newer = {**folder.rows()[0], "energy_joules": 1.5}
    older = {name: value for name, value in newer.items() if name not in ("efficiency", "reference", "qualities")}
    for row, expected in ((newer, done), (older, dataclasses.replace(done, reference=None))):
        folder.cells.write_text(json.dumps(row) + "\n", encoding="utf-8")
        noted = json.loads(folder.samples.read_text(encoding="utf-8").splitlines()[0])
        folder.samples.write_text(json.dumps({**noted, "temperature": 3}) + "\n", encoding="utf-8")
        (earlier,) = folder.earlier().values()
        assert (earlier.cell, earlier.visits) == (expected, (samples,))
        folder.current.write_text(json.dumps({"started_at": 1.0, "cell": row}), encoding="utf-8")
        assert folder.in_progress() == (1.0, expected)
    folder.cells.write_text(
        json.dumps({name: older[name] for name in older if name != "block"}) + "\n", encoding="utf-8"
    )
    assert folder.earlier() == {}  # too far from this version: measured anew


@pytest.mark.parametrize(
    "text", ["{}", '{"started_at": 1.0, "cell": {"su', '{"started_at": 1.0, "cell": {"suite": 3}}', "3"]
)
def test_a_damaged_note_of_the_cell_in_progress_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "current.json").write_text(text, encoding="utf-8")
    assert RunFolder(path=tmp_path).in_progress() is None


@pytest.mark.parametrize("text", [None, "", '{"cpu": "AM', "[]", "3", '{"cpu": "x"}', '{"cpu": "x", "settings": []}'])
def test_settings_that_cannot_be_read_are_those_of_the_rows(text: str | None, tmp_path: Path) -> None:
    folder = RunFolder(path=tmp_path)
    if text is not None:
        folder.machine.write_text(text, encoding="utf-8")
    assert folder.facts() is None  # nothing was measured yet: nothing to be true to
    folder.append(cell("dense"))
    with pytest.raises(
        RunFolderError,
        match=r"expected the settings of a run to resume in .*machine\.json, got none there and none in ",
    ) as no:
        folder.facts()
    assert "\n" not in str(no.value)
    folder.append(dataclasses.replace(cell("planes"), profile="full", threads=7))
    facts = folder.facts()
    assert facts is not None
    assert facts["settings"] == {"profile": "full", "threads": 7}


def test_a_visit_whose_row_was_never_written_does_not_count_and_is_replaced(tmp_path: Path) -> None:
    folder = RunFolder(path=tmp_path)
    timed = dataclasses.replace(cell("dense"), status="ok", reason=None, visits=1)
    first, lost, again = (Samples(times=(t,), reference_times=(1.0,), disturbed=None, inner=1) for t in (1.0, 2.0, 3.0))
    folder.append(timed, first)
    before = folder.cells.read_bytes()
    folder.append(dataclasses.replace(timed, visits=2), lost)
    folder.cells.write_bytes(before)  # as a kill between the two writes leaves them
    assert folder.earlier()[timed.key].visits == (first,)
    folder.append(dataclasses.replace(timed, visits=2), again)
    assert folder.earlier()[timed.key].visits == (first, again)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = RunFolder(path=tmp_path)
    folder.write("a.json", "the old one")
    folder.keep("b", {"x": np.ones(3)})
    with pytest.raises(OSError, match="File too large"):
        _with_room(10, lambda: folder.write("a.json", "x" * 100))
    assert (tmp_path / "a.json").read_text() == "the old one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.npz"]
    assert np.load(tmp_path / "b.npz")["x"].sum() == 3


def _with_room(size: int, action: Callable[[], object]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        action()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
