"""What goes wrong in a cell becomes its status, and nothing wrong is ever timed."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sparsebench.representations.pattern import Pattern
from sparsebench.representations.registry import load
from sparsebench.suites.cell import Case, Cell, blank
from sparsebench.suites.measure.clocks import CpuClock
from sparsebench.suites.measure.gauge import Earlier, Gauge, ReferenceChoice
from sparsebench.suites.measure.memory import Weight, weigh
from sparsebench.suites.measure.one_cell import measure
from sparsebench.suites.measure.timing import Effort, Samples
from sparsebench.suites.workloads import matmul

EFFORT = Effort(visits=2, budget_s=0.01, min_rounds=2, max_rounds=4, min_sample_s=1e-5)
CASE = Case(
    suite="matmul",
    workload="small",
    operation="matmul",
    shape=(64, 48, 8),
    pattern=Pattern(kind="block", block=(16, 16)),
    sparsity=0.75,
)


@pytest.fixture(autouse=True)
def _bad_representations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    yield  # type: ignore[misc]
    sys.modules.pop("bad_representations", None)


def gauge() -> Gauge:
    clock = CpuClock()
    return Gauge(clock=clock, effort=EFFORT, choice=ReferenceChoice(clock))


def measured(name: str, benchmark: Any, operation: str = "matmul") -> Cell:
    case = Case(**(vars(CASE) | {"operation": operation}))
    return measure(matmul.problem(case, "cpu", None), name, benchmark, gauge())[0]


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("Wrong", "wrong", "expected a relative error of at most 1e-05 against float64, got 0.001"),
        ("NotANumber", "wrong", "got inf"),
        ("WrongShape", "wrong", "expected a result of shape (64, 8), got (63, 8)"),
        ("Raises", "crashed", "KeyError: 'lost the index'"),
        ("Hungry", "oom", "RuntimeError"),
        ("Refuses", "unsupported", "never on a Sunday"),
        ("NeedsMore", "not_installed", "needs a_module_that_nobody_has"),
        ("Missing", "crashed", "expected bad_representations:Missing to import, got AttributeError"),
    ],
)
def test_failures_are_statuses_and_never_numbers(name: str, status: str, reason: str, benchmark: Any) -> None:
    cell = measured(f"bad_representations:{name}", benchmark)
    assert cell.status == status
    assert reason in (cell.reason or "")
    assert cell.time_s is None
    assert cell.speedup is None
    if not benchmark.disabled:
        assert benchmark.stats is None  # the harness never saw it
    benchmark.pedantic(lambda: None)  # pytest-benchmark warns of a fixture that nobody used


@pytest.mark.parametrize("operation", ["matmul", "matmul_backward"])
@pytest.mark.parametrize("name", ["dense", "torch-csr", "block-sparse"])
def test_a_good_cell_has_every_number(name: str, operation: str, benchmark: Any) -> None:
    cell = measured(name, benchmark, operation)
    assert (cell.status, cell.reason) == ("ok", None)
    assert cell.achieved_sparsity == 0.75
    assert cell.dense_bytes == 64 * 48 * 4
    assert cell.fill is not None
    assert cell.fill == pytest.approx(4.0 if name == "dense" else 1.0)
    assert cell.relative_error is not None
    assert cell.relative_error < 1e-5
    assert cell.stored_bytes == (cell.value_bytes or 0) + (cell.index_bytes or 0)
    assert cell.threads == torch.get_num_threads()
    assert (cell.build_time_s or 0) > 0
    if not benchmark.disabled:
        assert cell.speedup is not None
        assert (cell.speedup_low or 0) <= cell.speedup <= (cell.speedup_high or 0)
        assert (cell.time_s or 0) > 0
        assert cell.useful_gflops == pytest.approx(
            (3 if operation == "matmul_backward" else 1) * 2 * 64 * 48 * 0.25 * 8 / (cell.time_s or 1) * 1e-9
        )


def test_bytes_are_weighed_in_a_row_and_an_error_is_its_own() -> None:
    problem = matmul.problem(Case(**(vars(CASE) | {"shape": (512, 512, 64)})), "cpu", None)
    turns: list[int] = []
    names = ["dense", "bad_representations:Raises", "torch-csr", "block-sparse"]
    dense, raises, csr, blocks = weigh(problem, [load(name) for name in names], turns.append)
    assert turns == [0, 1, 2, 3]
    assert isinstance(raises, KeyError)
    assert isinstance(dense, Weight)
    assert isinstance(csr, Weight)
    assert isinstance(blocks, Weight)
    # dense keeps what it is given; the blocks are copied at least once; no product asks for as much as dense values
    assert blocks.build_peak_bytes >= 512 * 512
    assert csr.build_peak_bytes >= 512 * 512 // 4 * (4 + 4)
    assert max(dense.workspace_bytes, csr.workspace_bytes, blocks.workspace_bytes) < 512 * 512 * 4


@pytest.mark.parametrize("weighed", [True, False])
def test_a_second_visit_counts_the_first_ones_rounds_along(benchmark: Any, weighed: bool) -> None:
    problem = matmul.problem(CASE, "cpu", None)
    first = Samples(times=(1.0,) * 50, reference_times=(7.0,) * 50, disturbed=(False,) * 50, inner=1)
    known = blank(CASE, "dense", "cpu", status="ok")
    known = dataclasses.replace(known, reference="dense column-major", build_time_s=3.0, workspace_bytes=11,
                                build_peak_bytes=12, visits=1)  # fmt: skip
    cell, second = measure(problem, "dense", benchmark, gauge(), Earlier(cell=known, visits=(first,)),
                           weighed=weighed)  # fmt: skip
    if second is None:
        pytest.skip("pytest-benchmark is disabled here, so there are no rounds to look at")
    assert (cell.status, cell.visits, cell.rounds) == ("ok", 2, 50 + len(second.times))
    assert cell.speedup == 7.0  # fifty rounds of the first visit outweigh the few of this one
    assert cell.reference == "dense column-major"
    assert (cell.build_time_s, cell.workspace_bytes, cell.build_peak_bytes) == (3.0, 11, 12)


def test_what_does_not_train_is_unsupported_for_training(benchmark: Any) -> None:
    cell = measured("bad_representations:Smallest", benchmark, "matmul_backward")
    assert cell.status == "unsupported"
    assert "does not train: needs values" in (cell.reason or "")
    benchmark.pedantic(lambda: None)  # pytest-benchmark warns of a fixture that nobody used
