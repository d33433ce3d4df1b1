"""The cases of the sparse CNN: all different, each made concrete, and the timed networks meet their oracle."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sparsebench.representations import registry
from sparsebench.representations.base import Representation
from sparsebench.representations.modules import SparseModule
from sparsebench.representations.operations import lacking
from sparsebench.representations.pattern import Pattern
from sparsebench.suites.cell import Case
from sparsebench.suites.measure.fidelity import worst_error
from sparsebench.suites.measure.one_cell import judged_again
from sparsebench.suites.workloads.sparse_cnn import images, kept, plans, workload
from sparsebench.suites.workloads.sparse_cnn.images import Images
from sparsebench.suites.workloads.sparse_cnn.layer_problem import LayerProblem
from sparsebench.suites.workloads.sparse_cnn.net_problems import NetProblem, StepProblem
from sparsebench.suites.workloads.sparse_cnn.network import parameters
from sparsebench.suites.workloads.sparse_cnn.settings import Settings
from sparsebench.suites.workloads.sparse_cnn.train_problem import CnnTraining
from sparsebench.suites.workloads.sparse_cnn.training import Trained, train

TOLERANCE = 1e-4
SMALL = Settings(method="magnitude", sparsity=0.8, maps=(8, 16, 16), images=256, epochs=2, batch=64)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Give small layers one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def digits() -> Images:
    return images.load(None)


@pytest.fixture(scope="module")
def trained(digits: Images, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(SMALL, 0, digits, home=tmp_path_factory.mktemp("store"))


def case_of(operation: str, trained: Trained) -> Case:
    return Case(
        suite="sparse_cnn",
        workload="small",
        operation=operation,
        shape=(8, *trained.settings.maps),
        pattern=Pattern(kind="plane", block=(1, 9)),
        sparsity=trained.settings.sparsity,
    )


def net_problem(kind: type[NetProblem], trained: Trained, digits: Images) -> NetProblem:
    operation = next(name for name, known in workload.NETS.items() if known is kind)
    return kind(case_of(operation, trained), "cpu", trained, digits.test_x[:8], digits.test_y[:8])


def test_cases() -> None:
    for profile, found in (("quick", workload.trainings("quick")), ("full", workload.cases("full"))):
        assert len({case.key for case in found}) == len(found)
        assert {case.suite for case in found} == {"sparse_cnn"}
        timed = [case for case in found if case.operation != "train"]
        layers = {"conv2_step", "conv3_step"} if profile == "full" else set()
        assert {case.operation for case in timed} == {"inference", "training_step"} | layers
        assert {case.pattern.kind for case in timed} >= {"element", "plane"}
        assert all(case.representation == "dense" for case in found if case.operation == "train")
        assert {case.seed for case in found} == set(range(plans.SEEDS[profile]))
        assert len(found) - len(timed) == plans.SEEDS[profile] * len(plans.plans(profile))
        assert {case.sparsity for case in timed} <= {case.sparsity for case in found if case.operation == "train"}
    assert workload.cases("gpu") == workload.trainings("gpu") == workload.trainings("full") == []
    with pytest.raises(ValueError, match="expected a profile of"):
        workload.cases("slow")


def test_full_list_has_what_is_compared() -> None:
    labels = [(plan.settings.label, plan.seen) for plan in plans.plans("full")]
    assert len(set(labels)) == len(labels)
    for sparsity in plans.BUDGETS:
        assert (f"{plans.BEST}-plane-{sparsity:g}", plans.LONG) in labels
        assert (f"narrow-plane-{sparsity:g}", plans.LONG) in labels


def test_problems_of_cases() -> None:
    case = next(case for case in workload.trainings("quick") if case.operation == "train")
    problem = workload.problem(case, "cpu", None)
    assert isinstance(problem, CnnTraining)
    assert (problem.settings.images, problem.settings.epochs) == (4_000, 5)
    wrong = Case(suite="sparse_cnn", workload="x", operation="train", shape=(1,), pattern=case.pattern, sparsity=0.5)
    with pytest.raises(ValueError, match="expected a case of digits CNN"):
        workload.problem(wrong, "cpu", None)


def test_training_problem_gives_accuracy_and_pictures(digits: Images, tmp_path: Path, trained: Trained) -> None:
    problem = CnnTraining(case_of("train", trained), "cpu", digits, SMALL)
    assert problem.quality(trained).value == trained.accuracy[-1]
    assert problem.seconds(trained) == trained.seconds
    name, arrays = problem.artifact(trained)
    assert name == "sparse_cnn-magnitude-plane-0.8-maps8x16x16-256x2-seed0"
    assert arrays["mask_conv2"].shape == (16, 8)
    # what the problem trains is in the user's store, which is the tests' own here
    again = problem.train()
    assert again.accuracy == trained.accuracy
    assert any(file.name.startswith("magnitude-plane-0.8-maps8x16x16-seed0") for file in kept.folder().iterdir())


@pytest.mark.parametrize("name", ["conv2", "conv3"])
@pytest.mark.parametrize("representation", ["planes", "csr", "dense"])
def test_a_layer_alone_meets_what_it_meets_in_the_network(
    name: str, representation: str, trained: Trained, digits: Images
) -> None:
    problem = LayerProblem(case_of(f"{name}_step", trained), "cpu", trained, digits.test_x[:8], name)
    cls = registry.load(representation)
    outputs = problem.outputs(problem.action(cls, cls.build(problem.tensor))())
    assert worst_error(outputs, problem.oracle()) < TOLERANCE
    whole: list[torch.Tensor] = []
    net = net_problem(NetProblem, trained, digits).net
    net.get_submodule(name).register_forward_hook(lambda part, met, y: whole.append(y - part.bias[:, None, None]))
    with torch.no_grad():
        net(digits.test_x[:8])
    assert worst_error((outputs[0],), (whole[0].double(),)) < TOLERANCE


@pytest.mark.parametrize("kind", [NetProblem, StepProblem], ids=["inference", "training_step"])
def test_network_meets_its_oracle_on_every_representation(
    kind: type[NetProblem], trained: Trained, digits: Images
) -> None:
    problem = net_problem(kind, trained, digits)
    for reference in problem.references().values():
        assert worst_error(problem.outputs(reference()), problem.oracle()) < TOLERANCE
    done = []
    for name in registry.names():
        cls: type[Representation] = registry.load(name)
        refusal = registry.missing_requirements(cls) or cls.unsupported(problem.spec())
        if refusal or lacking(cls, problem.spec().operation):
            print(f"{name} is left out: {refusal or 'does not train'}")
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            action = problem.action(cls, cls.build(problem.tensor, problem.case.pattern))
            outputs = problem.outputs(action())
        assert worst_error(outputs, problem.oracle()) < TOLERANCE, name
        for first, second in zip(outputs, problem.outputs(action()), strict=True):
            assert torch.equal(first, second), name
        done.append(name)
        if name in ("dense", "csr"):
            kept = action()
            assert judged_again(problem, action)[0] < TOLERANCE
            assert judged_again(problem, lambda: kept)[0] > 0.01, "a result that is only remembered passes"  # noqa: B023
    assert {"dense", "planes", "block-sparse", "csr"} <= set(done)
    assert problem.quality(problem.oracle()).value == trained.accuracy[-1]


def test_whole_network_is_weighed(trained: Trained, digits: Images) -> None:
    problem = net_problem(NetProblem, trained, digits)
    dense, planes_class = registry.load("dense"), registry.load("planes")
    assert problem.counts() == (trained.parameters, parameters(SMALL.maps))
    assert problem.storage(dense, dense.build(problem.tensor)).stored_bytes == 4 * parameters(SMALL.maps)
    planes = problem.storage(planes_class, planes_class.build(problem.tensor))
    assert planes.value_bytes == 4 * trained.parameters
    assert 0 < planes.index_bytes < planes.value_bytes
    net = problem.converted(planes_class)
    assert [name for name, part in net.named_modules() if isinstance(part, SparseModule)] == ["conv2", "conv3"]
