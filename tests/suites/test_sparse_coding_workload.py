"""The timed operations of sparse coding compute what their oracle says, on exactly counted codes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sparsebench.representations import registry
from sparsebench.representations.base import Representation
from sparsebench.representations.formats.dense import Dense
from sparsebench.representations.formats.scipy_csr import ScipyCsr
from sparsebench.representations.pattern import Pattern
from sparsebench.suites.cell import Case
from sparsebench.suites.measure.fidelity import TOLERANCES, worst_error
from sparsebench.suites.measure.one_cell import judged_again
from sparsebench.suites.workloads.data import DataError, digits
from sparsebench.suites.workloads.problem import Problem
from sparsebench.suites.workloads.sparse_coding import coding_cases, quality, workload
from sparsebench.suites.workloads.sparse_coding.notebook import operations
from sparsebench.suites.workloads.sparse_coding.notebook.conserved_flow import Settings, learn
from sparsebench.suites.workloads.sparse_coding.notebook.loops import epoch_numpy
from sparsebench.suites.workloads.sparse_coding.notebook.training import FlowTraining

QUICK = workload.trainings("quick")
FULL = workload.cases("full")
FLOW = "conserved flow f=0.0001"
LEVELS = coding_cases.LEVELS["full"]
TIMED = [
    Case(
        suite="sparse_coding", workload=FLOW, operation=operation, pattern=Pattern(kind="element"), sparsity=sparsity,
        shape=(256, 784, 100) if operation == "encode" else (256, 100, 784),
    )
    for operation in ("decode", "encode", "learn")
    for sparsity in (0.0, 0.8, 0.95)
]  # fmt: skip
TOLERANCE = 1e-5


def problem_of(operation: str, sparsity: float) -> Problem:
    (case,) = (case for case in TIMED if (case.operation, case.sparsity) == (operation, sparsity))
    return workload.problem(case, "cpu", None)


def test_cases() -> None:
    for cases in (QUICK, FULL):
        assert len({case.key for case in cases}) == len(cases)
        assert {case.suite for case in cases} == {"sparse_coding"}
    assert [case.workload for case in QUICK[:3]] == ["conserved flow f=0.2", FLOW, FLOW]
    assert [case.shape for case in FULL[:2]] == [(60_000, 100, 784)] * 2
    on_every = [case for case in QUICK if case.representation is None]
    assert {(case.operation, case.sparsity) for case in on_every} == {
        ("decode", 0.8),
        ("decode", 0.95),
        ("learn", 0.95),
    }
    # a newcomer waits for these
    assert len(QUICK) - len(on_every) + len(on_every) * len(registry.names()) <= 100
    flows = [case for case in FULL if case.workload == FLOW and case.representation is None]
    assert {(case.operation, case.sparsity) for case in flows} == {
        (operation, level) for operation in ("decode", "encode", "learn") for level in LEVELS
    }
    assert {case.shape for case in FULL if case.operation == "decode_backward"} == {(1024, 10_000, 784)}
    with pytest.raises(ValueError, match="expected a profile of"):
        workload.cases("slow")


@pytest.mark.parametrize("cls", [Dense, ScipyCsr])
@pytest.mark.parametrize("case", TIMED, ids=lambda case: f"{case.operation}-{case.sparsity}")
def test_operations_meet_their_oracle(cls: type[Representation], case: Case) -> None:
    problem = workload.problem(case, "cpu", None)
    built = cls.build(problem.tensor, case.pattern)
    action = problem.action(cls, built)
    outputs = problem.outputs(action())
    assert worst_error(outputs, problem.oracle()) < TOLERANCE
    for reference in problem.references().values():
        assert worst_error(problem.outputs(reference()), problem.oracle()) < TOLERANCE
    for first, second in zip(outputs, problem.outputs(action()), strict=True):
        assert torch.equal(first, second)  # a call leaves nothing behind
    kept = action()
    assert judged_again(problem, action)[0] < TOLERANCE
    # choosing the largest entries of turned images is another choice, so encoding is judged as it was
    assert (judged_again(problem, lambda: kept)[0] > 0.01) == (case.operation != "encode")
    assert problem.spec().shape == tuple(problem.tensor.shape) == (256, 100)


@pytest.mark.parametrize("sparsity", [0.0, 0.8, 0.95])
def test_every_image_keeps_the_same_number(sparsity: float) -> None:
    problem = problem_of("decode", sparsity)
    kept = round(100 * (1 - sparsity))
    assert (problem.tensor != 0).sum(1).tolist() == [kept] * 256
    assert problem.useful_flops() == 2 * 256 * kept * 784
    assert problem_of("learn", sparsity).useful_flops() == 4 * 256 * kept * 784
    assert torch.equal(problem_of("encode", sparsity).tensor, problem.tensor)


def test_quality_stands_beside_sparsity() -> None:
    levels = []
    for sparsity in (0.0, 0.8, 0.95):
        problem = problem_of("decode", sparsity)
        quality = problem.quality(problem.outputs(Dense.build(problem.tensor).matmul(problem.dictionary)))  # type: ignore[attr-defined]
        assert quality is not None
        assert quality.metric == "l1_per_image"
        assert quality.figures is not None
        assert quality.figures["l1"] == pytest.approx(quality.value)
        assert quality.figures["l1_clipped"] <= quality.value  # type: ignore[operator]
        assert quality.figures["pca_100"] < quality.value < quality.figures["all_zero"]  # type: ignore[operator]
        other = problem_of("learn", sparsity)
        assert other.quality(()).value == pytest.approx(quality.value, rel=1e-6)  # type: ignore[union-attr]
        levels.append(quality.value)
    assert 55 < levels[0] < 70  # what the training ended with
    # most entries of this code are weak and only blur, so dropping up to 80 % helps a little; after that each is missed
    assert levels[0] > levels[1] < levels[2]
    assert levels[2] > levels[0] + 5


class Short(Dense):
    """Loses a thousandth of every transposed product."""

    name = "short"

    def rmatmul(self, x: Tensor) -> Tensor:
        return super().rmatmul(x) * 0.999


class Forgetful(Dense):
    """Loses one stored entry."""

    name = "forgetful"

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Any:
        built = super().build(tensor, pattern)
        row, column = tensor.nonzero()[0].tolist()
        built.values[row, column] = 0
        return built


@pytest.mark.parametrize(("cls", "operation"), [(Short, "learn"), (Forgetful, "encode"), (Forgetful, "decode")])
def test_a_wrong_representation_is_seen(cls: type[Representation], operation: str) -> None:
    problem = problem_of(operation, 0.8)
    outputs = problem.outputs(problem.action(cls, cls.build(problem.tensor))())
    assert worst_error(outputs, problem.oracle()) > 10 * TOLERANCE


def test_unclear_images_are_passed_over() -> None:
    dictionary, thresholds = torch.eye(100), torch.zeros(100)
    images = torch.arange(100.0).repeat(3, 1)
    images[1, 50] = images[1, 49] + 5e-5  # as good as a tie, exactly where half of the entries are dropped
    images[2, 30] = images[2, 31]  # a tie that no level asks about
    assert workload.clear_images(images, dictionary, thresholds).tolist() == [0, 2]
    trained = workload.trained(Settings(flow=1e-4, epochs=coding_cases.TIMED_EPOCHS), 0, None)
    w, t = torch.from_numpy(trained.dictionary), torch.from_numpy(trained.thresholds)
    chosen = workload.clear_images(digits(None).images, w, t)
    assert 0.8 * 4000 < len(chosen) < 4000
    v = digits(None).images[chosen]
    for sparsity in LEVELS:
        kept = operations.kept_entries(100, sparsity)
        single = operations.encode(v, w, t, kept) != 0
        double = operations.encode(v.double(), w.double(), t.double(), kept) != 0
        assert torch.equal(single, double)


def test_a_training_learns_what_the_plain_loop_learns(tmp_path: Path) -> None:
    settings = Settings(flow=0.2, units=9, epochs=6, images=40)
    case = Case(
        suite="sparse_coding",
        workload="conserved flow f=0.2",
        operation="train",
        shape=(240, 9, 784),
        pattern=Pattern(kind="element"),
        sparsity=None,
        seed=5,
    )
    training = FlowTraining(case, "cpu", digits(None), settings)
    learned = training.train()
    np.testing.assert_array_equal(learned.dictionary, learn(digits(None), settings, seed=5).dictionary)
    plain = learn(digits(None), settings, seed=5, loop=epoch_numpy)
    for part in ("curve", "dictionary", "thresholds"):
        np.testing.assert_allclose(getattr(learned, part), getattr(plain, part), rtol=TOLERANCE, atol=TOLERANCE)
    assert training.quality(learned).value == pytest.approx(learned.curve[1:].mean())
    name, arrays = training.artifact(learned)
    assert name == "sparse_coding-f0.2"
    assert json.loads(str(arrays["settings"]))["epochs"] == settings.epochs


def test_the_planned_training_has_the_notebooks_settings() -> None:
    problem = workload.problem(QUICK[0], "cpu", None)
    assert isinstance(problem, FlowTraining)
    assert problem.settings == Settings(flow=0.2, epochs=10)
    assert QUICK[0].representation == "dense"


def test_the_notebooks_loop_is_timed_on_copies() -> None:
    (case,) = (case for case in QUICK if case.operation == "notebook_epoch")
    problem = workload.problem(case, "cpu", None)
    action = problem.action(Dense, Dense.build(problem.tensor))
    first, second = problem.outputs(action()), problem.outputs(action())
    for before, after in zip(first, second, strict=True):
        assert torch.equal(before, after)
    assert worst_error(first, problem.oracle()) < TOLERANCES[torch.float64]
    assert not torch.equal(first[1], problem.tensor)  # it has learned
    plain = problem.references()["plain NumPy"]
    assert worst_error(problem.outputs(plain()), problem.oracle()) == 0
    assert problem.builds_inside()


def test_large_random_codes_are_a_case_of_their_own() -> None:
    case = Case(
        suite="sparse_coding", workload="random codes N=10000 k=32", operation="decode", shape=(3, 10_000, 784),
        pattern=Pattern(kind="element"), sparsity=1 - 32 / 10_000,
    )  # fmt: skip
    problem = workload.problem(case, "cpu", None)
    assert (problem.tensor != 0).sum(1).tolist() == [32] * 3
    with pytest.raises(ValueError, match="expected an operation of decode, decode_backward for random codes"):
        workload.problem(replace(case, operation="encode"), "cpu", None)


def test_what_is_no_case_of_this_suite_is_refused(tmp_path: Path) -> None:
    def changed(**fields: Any) -> Case:
        base = {name: getattr(TIMED[0], name) for name in ("suite", "workload", "operation", "shape", "pattern")}
        return Case(**{**base, "sparsity": 0.5, **fields})

    with pytest.raises(ValueError, match=r"expected a workload of conserved flow f=0\.2"):
        workload.problem(changed(workload="conserved flow f=1"), "cpu", None)
    with pytest.raises(ValueError, match="expected an operation of train, notebook_epoch, decode"):
        workload.problem(changed(operation="dream"), "cpu", None)
    with pytest.raises(ValueError, match="expected whole epochs of 3,000 images"):
        workload.problem(changed(operation="train", shape=(3001, 100, 784)), "cpu", None)
    with pytest.raises(DataError, match="expected at least 5,000 images with clear codes"):
        workload.problem(changed(shape=(5000, 100, 784)), "cpu", None)
    with pytest.raises(DataError, match="expected a data folder at"):
        workload.problem(TIMED[0], "cpu", tmp_path / "nowhere")


def test_figures_by_hand() -> None:
    code = torch.tensor([[0.005, 0.6, -0.2], [0.01, 0.02, 0.9]])
    expected = {"l0_weak": 2.0, "l0_strong": 1.0, "dead_units": 1.0, "code_sum": 0.8675}
    assert quality.activity(code) == pytest.approx(expected)
    assert quality.activity(code.to_sparse_csr()) == pytest.approx(expected)
    v, r = torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.tensor([[0.5, 1.25], [0.5, 0.5]])
    found = quality.errors(v, r)
    assert (found["l1"], found["l1_clipped"], found["squared"]) == (0.875, 0.75, (0.25 + 1.5625) / 2)
    assert found["r2"] == pytest.approx(1 - 1.8125 / 0.25)
    assert found["kl"] == pytest.approx((math.log(2) - 1 + 0.5 + 1.25) / 2)  # the second image is met exactly
    constant = quality.errors(v[:1].expand(3, 2), r[:1].expand(3, 2))
    assert math.isnan(constant["r2"])  # nothing varies
    assert math.isnan(quality.errors(v - 0.5, r)["kl"])  # a pixel is negative


def test_trivial_rows_stand_in_order() -> None:
    images = digits(None).images[:150]
    rows = quality.trivial_rows(images)
    assert rows["all_zero"] == pytest.approx(images.double().sum(1).mean().item())
    assert rows["pca_100_clipped"] < rows["pca_100"] < rows["median_image"] < rows["all_zero"]
    assert quality.trivial_rows(images[:2])["pca_100"] == pytest.approx(0, abs=1e-9)  # two images, one component
