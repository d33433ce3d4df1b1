"""The journal loses nothing that was finished."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from sparsebench.representations.pattern import Pattern
from sparsebench.suites.cell import COLUMNS, Case, Cell, blank, cell_key
from sparsebench.suites.runner.journal import RunFolder

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
