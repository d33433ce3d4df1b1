"""What a machine can do at the most is told generously, and what is faster was not done."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch

from sparsebench.representations.pattern import Pattern
from sparsebench.representations.registry import load
from sparsebench.suites.cell import Case
from sparsebench.suites.measure import roof
from sparsebench.suites.measure.roof import MARGIN, Roof
from sparsebench.suites.workloads import matmul

ROOF = Roof(device="cpu", threads=2, flops=1e11, bandwidths=((1 << 15, 4e11), (1 << 20, 2e11), (1 << 24, 5e10)))


def test_the_longest_limit_is_named_and_a_margin_is_left() -> None:
    least = 1e9 / 1e11
    assert ROOF.impossible(1.01 * least / MARGIN, 1e9, 1e3) is None
    assert ROOF.impossible(0.99 * least / MARGIN, 1e9, 1e3) == (
        "impossible: 3.30 ms for what takes 2 threads at least "
        "10.0 ms (1e+09 operations at 100 Gflop/s, the most that it was measured to do)"
    )
    assert "bytes" not in (ROOF.impossible(1e-6, 1e9, 1e3) or "")
    assert "64.0 MiB at 50 GB/s" in (ROOF.impossible(1e-6, 1e3, 1 << 26) or "")


@pytest.mark.parametrize(("moved", "rate"), [(0, 4e11), (1 << 15, 4e11), (1 << 19, 4e11), (1 << 20, 2e11), (1e9, 5e10)])
def test_bytes_go_through_the_smallest_cache_that_may_hold_them(moved: float, rate: float) -> None:
    assert ROOF.bandwidth(moved) == rate


def test_on_a_gpu_nothing_is_far_quicker_than_an_empty_queue() -> None:
    gpu = Roof(device="cuda", threads=2, flops=1e15, bandwidths=((0, 1e13),), idle_s=1.5e-6)
    assert "is less than half of what nothing at all takes on this GPU" in (gpu.impossible(0.7e-6, 1.0, 1.0) or "")
    assert gpu.impossible(0.8e-6, 1.0, 1.0) is None  # the clock's own grain


def test_a_look_at_this_machine_is_kept_with_the_run_and_used_for_the_same_threads_only() -> None:
    threads = torch.get_num_threads()
    seen = roof.measure("cpu", threads)
    assert torch.get_num_threads() == threads  # left as it was
    facts = json.loads(json.dumps({"roof": seen.noted()}))
    assert roof.known(facts, "cpu", threads) == seen
    assert roof.known(facts, "cpu", threads + 1) is roof.known(facts, "cuda", threads) is None


@pytest.mark.parametrize(
    "noted", [None, {}, {"roof": 3}, {"roof": {"device": "cpu"}}, {"roof": ROOF.noted() | {"flops": 0.0}}]
)
def test_a_note_that_is_damaged_or_of_another_version_is_none(noted: dict[str, object] | None) -> None:
    assert roof.known(noted, "cpu", 2) is None


def test_two_looks_give_the_higher_of_each() -> None:
    slower = Roof(device="cpu", threads=2, flops=2e11, bandwidths=((1 << 15, 1e11), (1 << 20, 3e11)))
    both = ROOF.higher(slower)
    assert both.flops == 2e11
    assert both.bandwidths == ((1 << 15, 4e11), (1 << 20, 3e11), (1 << 24, 5e10))


def _expanded(result: torch.Tensor) -> torch.Tensor:
    return result[:1, :1].expand_as(result)


@pytest.mark.parametrize(("given", "written"), [(lambda result: result, 64 * 8 * 4), (_expanded, 64 * 8 * 4)])
def test_the_least_work_of_a_product(given: Callable[[torch.Tensor], torch.Tensor], written: int) -> None:
    case = Case(suite="matmul", workload="small", operation="matmul", shape=(64, 48, 8),
                pattern=Pattern(kind="block", block=(16, 16)), sparsity=0.75)  # fmt: skip
    problem, cls = matmul.problem(case, "cpu", None), load("dense")
    result = problem.action(cls, cls.build(problem.tensor))()
    nonzeros = 64 * 48 // 4
    assert problem.least_work(given(result)) == (2.0 * nonzeros * 8, max(written, nonzeros * 4))
    assert problem.least_work(result[:, :0]) == (2.0 * nonzeros * 8, nonzeros * 4)
