"""A run says of each cell whether what it timed keeps the plainer promises."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sparsebench.representations.pattern import Pattern
from sparsebench.representations.registry import load, names
from sparsebench.suites.cell import Case, Cell, blank
from sparsebench.suites.measure.checked import checked
from sparsebench.suites.measure.columns import facts
from sparsebench.suites.workloads import matmul

CASE = Case(suite="matmul", workload="small", operation="matmul", shape=(64, 48, 8),
            pattern=Pattern(kind="block", block=(16, 16)), sparsity=0.75)  # fmt: skip


@pytest.fixture(autouse=True)
def _bad_representations(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    yield
    sys.modules.pop("bad_representations", None)


def cell_of(name: str, known: Cell | None = None) -> Cell:
    problem, cls = matmul.problem(CASE, "cpu", None), load(name)
    built = cls.build(problem.tensor, CASE.pattern)
    outputs = problem.outputs(problem.action(cls, built)())
    start = blank(CASE, name, "cpu", status="ok")
    return checked(facts(start, problem, cls, built, 0.0, 1e-5), problem, built, outputs, known)


@pytest.mark.parametrize("name", [name for name in names() if name != "torch-semi-structured"])
def test_ours_keep_them(name: str) -> None:
    cell = cell_of(name)
    assert cell.checked == "ok"
    assert cell.stored_bytes


def test_bytes_that_are_told_wrongly_are_said_and_left_out() -> None:
    cell = cell_of("bad_representations:LiesAboutItsBytes")
    assert cell.checked == (
        "expected storage() to give the 12288 bytes held after its first use, got 122 of values + 0 of indices = 122"
    )
    assert (cell.stored_bytes, cell.value_bytes, cell.index_bytes, cell.fill) == (None,) * 4
    assert cell.dense_bytes == 12288


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("LosesAnElement", "expected to_dense to be "),
        ("InDoubles", "expected results of torch.float32, got torch.float64"),
        ("CannotGoBack", "not checked: MemoryError: no room"),
    ],
)
def test_a_broken_promise_is_one_line(name: str, said: str) -> None:
    cell = cell_of(f"bad_representations:{name}")
    assert (cell.checked or "").startswith(said)
    assert "\n" not in (cell.checked or "")


def test_what_an_earlier_visit_found_holds_and_a_row_that_was_never_checked_is_checked_now() -> None:
    liar = cell_of("bad_representations:LiesAboutItsBytes")
    again = cell_of("dense", liar)
    assert (again.checked, again.stored_bytes) == (liar.checked, None)
    older = dataclasses.replace(liar, checked=None)
    assert cell_of("dense", older).checked == "ok"
