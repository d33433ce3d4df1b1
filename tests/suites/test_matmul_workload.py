"""The matmul suite asks for the right products, draws the right matrices, and lists each case once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sparsebench.representations.base import Representation
from sparsebench.representations.operations import lacking
from sparsebench.representations.pattern import Pattern
from sparsebench.representations.registry import load
from sparsebench.suites.cell import Case
from sparsebench.suites.measure import one_cell
from sparsebench.suites.measure.clocks import CpuClock
from sparsebench.suites.measure.fidelity import worst_error
from sparsebench.suites.measure.gauge import Gauge, ReferenceChoice
from sparsebench.suites.measure.one_cell import measure
from sparsebench.suites.measure.timing import Effort
from sparsebench.suites.runner.outlook import FIRST_S
from sparsebench.suites.workloads import matmul
from sparsebench.suites.workloads.matmul import drawn_blocks

PROFILES = ("quick", "full", "gpu")
OPERATIONS = ("matmul", "rmatmul", "sampled_matmul", "matmul_backward")
BLOCK = Pattern(kind="block", block=(16, 8))
TIGHT = 1e-12
ROOT = Path(__file__).parents[2]


def case_of(operation: str, pattern: Pattern = BLOCK, dtype: str = "float64") -> Case:
    return Case(suite="matmul", workload="small", operation=operation, shape=(50, 36, 7), pattern=pattern,
                sparsity=0.6, dtype=dtype)  # fmt: skip


def outcome(name: str, case: Case, benchmark: Any) -> Any:
    clock = CpuClock()
    effort = Effort(visits=1, budget_s=0.01, min_rounds=2, max_rounds=4, min_sample_s=1e-5)
    gauge = Gauge(clock=clock, effort=effort, choice=ReferenceChoice(clock))
    return measure(matmul.problem(case, "cpu", None), name, benchmark, gauge)[0]


@pytest.mark.parametrize("pattern", [BLOCK, Pattern(kind="element")], ids=lambda pattern: pattern.kind)
@pytest.mark.parametrize("name", ["dense", "torch-csr", "torch-bsr", "scipy-bsr", "block-sparse", "dense-masked"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_meets_its_oracle(operation: str, name: str, pattern: Pattern) -> None:
    problem = matmul.problem(case_of(operation, pattern), "cpu", None)
    cls = load(name)
    action = problem.action(cls, cls.build(problem.tensor, pattern))
    assert worst_error(problem.outputs(action()), problem.oracle()) < TIGHT
    assert problem.spec().operation == {"matmul_backward": "train"}.get(operation, operation)
    assert problem.spec().shape == (50, 36)


def test_the_oracles_are_the_products_that_the_names_say() -> None:
    problems = {operation: matmul.problem(case_of(operation), "cpu", None) for operation in OPERATIONS}
    one = problems["matmul"]
    assert isinstance(one, matmul.MatmulProblem)
    weight, x, g = one.tensor, one.x, one.g
    assert int(torch.count_nonzero(weight)) > 0
    mask = weight != 0
    want = {
        "matmul": (torch.einsum("mk,kn->mn", weight, x),),
        "rmatmul": (torch.einsum("mk,mn->kn", weight, g),),
        "sampled_matmul": (torch.einsum("mn,kn->mk", g, x) * mask,),
    }
    want["matmul_backward"] = (*want["matmul"], *want["rmatmul"], *want["sampled_matmul"])
    for operation, problem in problems.items():
        for got, expected in zip(problem.oracle(), want[operation], strict=True):
            torch.testing.assert_close(got, expected, rtol=TIGHT, atol=TIGHT)
        products = 3 if operation == "matmul_backward" else 1
        assert problem.useful_flops() == products * 2 * int(mask.sum()) * 7


def test_the_dense_forms_compute_the_whole_product() -> None:
    for operation in ("matmul", "rmatmul"):
        problem = matmul.problem(case_of(operation), "cpu", None)
        for reference in problem.references().values():
            assert worst_error((reference(),), problem.oracle()) < TIGHT
    problem = matmul.problem(case_of("sampled_matmul"), "cpu", None)
    assert isinstance(problem, matmul.SampledProblem)
    for reference in problem.references().values():
        full = reference()
        torch.testing.assert_close(full, problem.g @ problem.x.t(), rtol=TIGHT, atol=TIGHT)
        assert bool((full != 0).all())  # dense: what stands at the zeros of the weight is computed too


@pytest.mark.parametrize("operation", ["sampled_matmul", "matmul_backward"])
def test_what_is_handed_back_is_no_larger_than_what_is_stored(operation: str) -> None:
    problem = matmul.problem(case_of(operation), "cpu", None)
    cls = load("block-sparse")
    built = cls.build(problem.tensor, BLOCK)
    result = problem.action(cls, built)()
    assert isinstance(problem, (matmul.SampledProblem, matmul.TrainingProblem))
    shapes = [tuple(tensor.shape) for tensor in problem.held(result)]
    assert tuple(built.values.shape) in shapes
    assert tuple(problem.tensor.shape) not in shapes


def test_native_parts_give_the_provenance() -> None:
    parts = {operation: matmul.problem(case_of(operation), "cpu", None).native_parts() for operation in OPERATIONS}
    assert parts == {
        "matmul": ("matmul",),
        "rmatmul": ("rmatmul",),
        "sampled_matmul": ("sampled_matmul",),
        "matmul_backward": ("matmul", "rmatmul", "sampled_matmul"),
    }


def test_a_cell_of_each_product_says_where_it_comes_from_and_how_efficient_it_is(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    smallest = "bad_representations:Smallest"
    derived = outcome(smallest, case_of("rmatmul"), benchmark)
    assert (derived.status, derived.provenance) == ("ok", "derived")
    refused = outcome(smallest, case_of("sampled_matmul"), benchmark)
    assert refused.status == "unsupported"
    assert refused.efficiency is None
    assert (refused.reason or "").startswith("cannot be derived: needs sampled_matmul, values, with_values of its own")
    if not benchmark.disabled:
        assert derived.speedup is not None
        assert derived.achieved_sparsity is not None
        assert derived.efficiency == pytest.approx(derived.speedup * (1 - derived.achieved_sparsity))


def test_what_is_missing_is_named() -> None:
    assert lacking(load("torch-csr"), "sampled_matmul") is None
    assert lacking(load("torch-csr"), "train") is None
    only = load("torch-semi-structured")
    assert "sampled_matmul" in (lacking(only, "sampled_matmul") or "")
    assert "does not train" in (lacking(only, "train") or "")
    assert lacking(only, "matmul") is None
    assert lacking(only, "rmatmul") is None

    class Unplaced(load("dense")):  # type: ignore[misc]
        """Gives the product, but nothing to lay it out by."""

        with_values = Representation.with_values

    assert "with_values" in (lacking(Unplaced, "sampled_matmul") or "")


def test_a_worker_whose_device_is_lost_ends_rather_than_fail_every_further_cell(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setattr(one_cell, "device_is_lost", lambda device: True)
    with pytest.raises(pytest.exit.Exception, match="KeyError: 'lost the index'") as ended:
        outcome("bad_representations:Raises", case_of("matmul"), benchmark)
    assert ended.value.returncode == one_cell.LOST
    benchmark.pedantic(lambda: None)  # pytest-benchmark warns of a fixture that nobody used


def test_a_device_is_lost_once_it_cannot_be_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "synchronize", fails)
    assert one_cell.device_is_lost("cuda")
    assert not one_cell.device_is_lost("cpu")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert not one_cell.device_is_lost("cuda")


@pytest.mark.parametrize("profile", PROFILES)
def test_no_case_comes_twice_and_every_operation_is_known(profile: str) -> None:
    found = matmul.cases(profile)
    assert len({case.key for case in found}) == len(found)
    assert {case.suite for case in found} == {"matmul"}
    assert {case.operation for case in found} <= set(OPERATIONS)


def test_the_square_layer_is_in_the_full_profile() -> None:
    found = {case.key for case in matmul.cases("full") if "square 2048" in case.key}
    for size in (16, 32, 64, 128):
        for level in (0.5, 0.8, 0.9, 0.95, 0.98):
            assert f"square 2048|matmul|2048x2048x1024|block-{size}x{size}|{level:g}|float32|0" in found
        for columns in (1, 16):
            assert f"square 2048|matmul|2048x2048x{columns}|block-{size}x{size}|0.9|float32|0" in found
    for operation in OPERATIONS[1:]:
        for size in (32, 64):
            for level in (0.8, 0.9, 0.95):
                assert f"square 2048|{operation}|2048x2048x1024|block-{size}x{size}|{level:g}|float32|0" in found
        for level in (0.9, 0.98):
            assert f"square 2048|{operation}|2048x2048x1024|element|{level:g}|float32|0" in found
    for columns in (1, 4, 16, 128, 1024):
        for dtype in ("float32", "bfloat16"):
            for pattern in ("element", "block-32x32"):
                assert f"square 2048|matmul|2048x2048x{columns}|{pattern}|0.9|{dtype}|0" in found
    again = 2 * 4 + 2 * (1 + 2)  # 1,024 columns at four levels; of 1 and 16, blocks at one and elements at two
    assert len(found) == 6 * 5 + 3 * (2 * 3 + 2) + 2 * (4 + 3) + 5 * 2 * 4 * 2 - again


def test_the_quick_profile_has_one_case_of_each_backward_product() -> None:
    found = matmul.cases("quick")
    alone = [(case.operation, case.sparsity) for case in found if case.operation in ("rmatmul", "sampled_matmul")]
    assert sorted(alone) == [("rmatmul", 0.9), ("sampled_matmul", 0.9)]
    assert len(found) == 2 * 4 + 2 * 2 + 2 + (2 + 3) * 2 * 2 + 3


def test_the_gpu_profile_begins_with_what_tells_most() -> None:
    found = matmul.cases("gpu")
    first = found[0]
    assert (first.shape, first.dtype, first.sparsity) == ((8192, 8192, 8192), "bfloat16", 0.9)
    assert {case.dtype for case in found} == {"bfloat16", "float16"}
    blocks = [case for case in found if case.pattern.kind == "block"]
    assert {case.shape for case in blocks} == {(size,) * 3 for size in (1024, 2048, 4096, 8192)} | {
        (4096, 4096, n) for n in (1, 16)
    }
    assert {case.pattern.block for case in blocks} == {(size, size) for size in (16, 32, 64, 128)}
    assert {case.sparsity for case in blocks if case.dtype == "bfloat16"} == {0.5, 0.8, 0.9, 0.95}
    assert {case.operation for case in found} == {"matmul", "matmul_backward"}


def test_the_gpu_profile_meets_few_columns_in_the_time_that_its_job_has() -> None:
    """Four representations a case at what a GPU cell is taken for, and seconds more to build 8192 × 28672."""
    found = matmul.cases("gpu")
    single = [case for case in found if case.pattern.kind == "element"]
    narrow = [case for case in single if case.shape[2] <= 64]
    assert {case.shape[2] for case in narrow} == {1, 2, 4, 8, 16, 32, 64}
    assert {case.shape[:2] for case in narrow} == {(4096, 4096), (8192, 8192), (8192, 28672)}
    vectors = [case for case in narrow if case.shape[2] == 1 and case.dtype == "float16"]
    assert {case.sparsity for case in vectors} == {0.3, 0.4, 0.5, 0.7, 0.9, 0.95}
    assert {case.dtype for case in narrow} == {"float16", "bfloat16"}
    assert len(set(found)) == len(found)
    large = sum(case.shape[1] > 8192 for case in narrow)
    assert len(single) * 4 * FIRST_S["gpu"] + large * 10 <= 240


def test_elements_drawn_on_a_device_are_as_many_as_the_pattern_says_and_repeat() -> None:
    for sparsity in (0.0, 0.3, 0.95, 1.0):
        drawn = matmul.drawn_elements((30, 50), sparsity, 3, torch.float16, "cpu")
        assert torch.count_nonzero(drawn) == round((1.0 - sparsity) * 1500)
        assert torch.equal(drawn, matmul.drawn_elements((30, 50), sparsity, 3, torch.float16, "cpu"))
        kept = drawn[drawn != 0].abs()
        assert ((kept >= 0.5) & (kept <= 1.5)).all()
    other = matmul.drawn_elements((30, 50), 0.3, 4, torch.float16, "cpu")
    assert not torch.equal(other != 0, matmul.drawn_elements((30, 50), 0.3, 3, torch.float16, "cpu") != 0)


def test_an_unknown_profile_or_operation_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="expected a profile of quick, full, gpu, got 'slow'"):
        matmul.cases("slow")
    with pytest.raises(ValueError, match=r"expected an operation of matmul, rmatmul, .* got 'encode'"):
        matmul.problem(case_of("encode"), "cpu", None)


@pytest.mark.parametrize("shape", [(64, 96), (50, 37)])
@pytest.mark.parametrize("block", [(16, 16), (8, 32)])
def test_blocks_drawn_on_the_device_are_those_of_the_pattern(shape: tuple[int, int], block: tuple[int, int]) -> None:
    pattern = Pattern(kind="block", block=block)
    got = drawn_blocks(pattern, shape, 0.7, 5, torch.bfloat16, "cpu")
    want = pattern.tensor(shape, 0.7, 5, torch.bfloat16)
    assert torch.equal(got != 0, want != 0)
    stored = got[got != 0].abs()
    assert 0.5 <= float(stored.min()) < 0.6
    assert 1.4 < float(stored.max()) <= 1.5
    assert 0.2 < float((got[got != 0] > 0).double().mean()) < 0.8
    assert torch.equal(got, drawn_blocks(pattern, shape, 0.7, 5, torch.bfloat16, "cpu"))
    assert not torch.equal(got, drawn_blocks(pattern, shape, 0.7, 6, torch.bfloat16, "cpu"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_meets_its_oracle_on_cuda(operation: str) -> None:
    problem = matmul.problem(case_of(operation), "cuda", None)
    cls = load("dense")
    action = problem.action(cls, cls.build(problem.tensor, BLOCK))
    assert worst_error(problem.outputs(action()), problem.oracle()) < TIGHT
    assert problem.tensor.is_cuda


def test_the_gpu_profile_is_refused_on_a_cpu(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("sparsebench")), "run", "--suite", "matmul", "--profile", "gpu"]
    result = subprocess.run(
        [*command, "--out", str(tmp_path / "run")], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 2, result.stdout + result.stderr
    assert result.stderr.startswith("sparsebench: expected --device cuda with --profile gpu, got cpu")
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
@pytest.mark.parametrize("bare", [False, True], ids=["no device", "nothing installed"])
def test_the_gpu_job_says_in_one_line_what_it_lacks(bare: bool, tmp_path: Path) -> None:
    python = tmp_path / "python3"
    # isolated and without site-packages, any Python has nothing installed
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" {"-I -S" if bare else ""} "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    before = set((ROOT / "results").glob("runs/*"))
    result = subprocess.run(
        ["bash", str(ROOT / ".ci" / "gpu"), "facts", str(tmp_path / "out")],
        env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 2, result.stdout + result.stderr
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("gpu: expected torch, triton," if bare else "gpu: expected a CUDA device")
    assert result.stdout == ""
    assert set((ROOT / "results").glob("runs/*")) == before
