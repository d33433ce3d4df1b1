"""The self-test: copies that are slower by a known share, and how often verdicts on them are right."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import sparsebench

from sparsebench.representations.pattern import Pattern
from sparsebench.representations.registry import load
from sparsebench.suites.cell import Case, blank
from sparsebench.suites.measure import machine
from sparsebench.suites.selftest import copies, kept
from sparsebench.suites.selftest.rates import reckon
from sparsebench.suites.selftest.run import cells, selftest, told


def rows_of(noise: float, passes: int, cases: int = 10, seed: int = 0) -> list[dict[str, Any]]:
    """Return the rows of a self-test on a machine whose noise is known."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(cases):
        case = Case(suite="matmul", workload=f"layer {number}", operation="matmul", shape=(8, 8, 8),
                    pattern=Pattern(kind="element"), sparsity=0.8)  # fmt: skip
        for subject in copies.SUBJECTS:
            for name, percent in [(subject, 0), *((copies.name_of(subject, one), one) for one in (0, *copies.SLOWER))]:
                logs = math.log(1 / (1 + percent / 100)) + noise * rng.standard_normal(passes)
                rows.append(
                    blank(case, name, "cpu", status="ok").row()
                    | {"speedup": 1.0, "visit_speedups": np.exp(logs).tolist(), "visit_errors": [0.005] * passes}
                )
    return rows


def test_on_a_calm_machine_slow_downs_are_found_and_nothing_else_is() -> None:
    found = reckon(rows_of(0.02, 12))
    assert found.noise == pytest.approx(0.02, rel=0.2)
    for level in ("cell", "representation"):
        assert found.rate(level, 0).found <= 0.01
        assert found.rate(level, 10).found >= 0.95
        assert found.rate(level, 20).found >= 0.99
        assert found.rate(level, 20, 1).found > found.rate(level, 5, 1).found
    assert {rate.visits for rate in found.rates} == {1, 3, 6}
    assert sum("of those 10 % slower" in line for line in told(found)) == 6


def test_on_a_noisy_machine_verdicts_stay_right_and_cells_together_find_more() -> None:
    found = reckon(rows_of(0.12, 12))
    assert found.rate("cell", 0).found <= 0.01
    assert found.rate("cell", 10).found < 0.5
    assert found.rate("representation", 0).found <= 0.01
    assert found.rate("representation", 10).found > found.rate("cell", 10).found + 0.3
    assert found.rate("cell", 0).tried > 1000


def test_the_factor_grows_where_visits_jump() -> None:
    calm, jumpy = rows_of(0.02, 8), rows_of(0.02, 8)
    rng = np.random.default_rng(1)
    for row in jumpy:
        row["visit_speedups"] = [one * (2.0 if rng.random() < 0.04 else 1.0) for one in row["visit_speedups"]]
    assert reckon(jumpy).rate("cell", 0, 1).factor > reckon(calm).rate("cell", 0, 1).factor
    assert reckon(jumpy).rate("cell", 0).found <= 0.01


def test_too_few_visits_are_told_in_a_line() -> None:
    with pytest.raises(ValueError, match=r"expected at least 2 visits of every cell, got 1; give --time more"):
        reckon(rows_of(0.02, 1))
    with pytest.raises(ValueError, match="got 0"):
        reckon([])


def test_a_slower_copy_computes_the_same_and_waits_for_a_share_of_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    tensor, x = Pattern(kind="element").tensor((32, 48), 0.8, 0, torch.float32), torch.randn(48, 4)
    ticks = iter([0, 1000, 1050, 1100, 1150, 1200, 1250])
    monkeypatch.setattr(copies.time, "perf_counter_ns", lambda: next(ticks))
    for subject in copies.SUBJECTS:
        ticks = iter([0, 1000, 1050, 1100, 1150, 1200, 1250])
        plain, slower = load(subject).build(tensor), load(copies.name_of(subject, 20)).build(tensor)
        torch.testing.assert_close(slower.matmul(x), plain.matmul(x), rtol=0, atol=0)
        assert next(ticks) == 1250  # 1,000 of work, then watched until 1,200 had gone
        assert slower.name == f"{subject} +20 %"
        assert load(copies.name_of(subject)).matmul is load(subject).matmul  # an exact copy has no code of its own


def test_every_subject_and_copy_is_visited_once_a_case() -> None:
    planned = cells()
    assert len(planned) == len({(cell.case, cell.representation) for cell in planned})
    assert {cell.representation for cell in planned} == {
        name for one in copies.SUBJECTS for name in (one, *(copies.name_of(one, share) for share in (0, 5, 10, 20)))
    }


def test_what_is_found_is_kept_for_later_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    threads = machine.default_threads()
    assert kept.known(threads) is None
    found = selftest(tmp_path / "run", threads, 120.0, lambda count: None, cells()[:5], visits=2)
    noted = kept.known(threads)
    assert noted is not None
    assert [rate["factor"] for rate in noted["rates"]] == [rate.factor for rate in found.rates]
    assert kept.known(threads + 1) is None
    journal = [json.loads(line) for line in (tmp_path / "run" / "cells.jsonl").read_text().splitlines()]
    assert {row["status"] for row in journal} == {"ok"}
    assert max(row["visits"] for row in journal) == 2


def test_a_self_test_without_time_is_refused_in_a_line() -> None:
    result = sparsebench("selftest", "--time", "5s")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "expected a time of at least 20 s, got 5 s" in result.stderr
