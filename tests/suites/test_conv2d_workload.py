"""The conv2d suite asks for the right convolutions, draws the right tensors, and lists each case once."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from sparsebench.representations.pattern import Pattern
from sparsebench.representations.registry import load
from sparsebench.suites.cell import Case
from sparsebench.suites.measure.clocks import CpuClock
from sparsebench.suites.measure.fidelity import worst_error
from sparsebench.suites.measure.gauge import Gauge, ReferenceChoice
from sparsebench.suites.measure.one_cell import measure
from sparsebench.suites.measure.timing import Effort
from sparsebench.suites.workloads import conv2d
from sparsebench.suites.workloads.conv2d_cases import LAYERS, POINTS, RESNET, STRIDED, Layer

PROFILES = ("quick", "full", "gpu")
OPERATIONS = ("conv2d", "conv2d_backward", "conv2d_with")
PLANE = Pattern(kind="plane", block=(1, 9))
PATTERNS = (
    PLANE,
    Pattern(kind="channel", block=(1, 9)),
    Pattern(kind="filter-channel", block=(1, 9)),
    Pattern(kind="block", block=(4, 36)),
    Pattern(kind="element"),
)
TIGHT = 1e-12


def case_of(operation: str, pattern: Pattern = PLANE, layer: Layer = RESNET, dtype: str = "float64") -> Case:
    """Return a small case: 12 × 10 kernels over 3 samples of 7 × 6, stride and padding those of a layer."""
    kernel = layer.kernel
    return Case(suite="conv2d", workload=layer.name, operation=operation, shape=(12, 10, kernel, kernel, 3, 7, 6),
                pattern=pattern, sparsity=0.6, dtype=dtype)  # fmt: skip


def problem_of(case: Case) -> conv2d.ConvProblem:
    found = conv2d.problem(case, "cpu", None)
    assert isinstance(found, conv2d.ConvProblem)
    return found


def windows(problem: conv2d.ConvProblem, stride: int, padding: int) -> torch.Tensor:
    """Return the windows (n, in, h', w', kh, kw) of the padded input, by slicing: no convolution of torch's."""
    padded = torch.nn.functional.pad(problem.x, (padding,) * 4)
    kernel = problem.case.shape[2]
    return padded.unfold(2, kernel, stride).unfold(3, kernel, stride)


@pytest.mark.parametrize("layer", [RESNET, STRIDED, POINTS], ids=lambda layer: layer.name)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_oracles_are_the_sums_over_windows(operation: str, layer: Layer) -> None:
    problem = problem_of(case_of(operation, Pattern(kind="element"), layer))
    weight, g = problem.weight, problem.g
    assert bool((g != 0).all())
    seen = windows(problem, layer.stride, layer.padding)
    want = [torch.einsum("ncyxij,ocij->noyx", seen, weight)]
    assert want[0].shape == g.shape
    if operation == "conv2d_backward":
        x = problem.x.clone().requires_grad_()
        problem.x = x
        (x_gradient,) = torch.autograd.grad((windows(problem, layer.stride, layer.padding) * torch.einsum(
            "noyx,ocij->ncyxij", g, weight)).sum(), x)  # fmt: skip
        want += [x_gradient, torch.einsum("ncyxij,noyx->ocij", seen, g) * (weight != 0)]
        problem.x = x.detach()
    for got, expected in zip(problem.oracle(), want, strict=True):
        torch.testing.assert_close(got, expected, rtol=TIGHT, atol=TIGHT)


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.kind)
@pytest.mark.parametrize("name", ["dense", "planes", "block-sparse", "csr"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_meets_its_oracle(operation: str, name: str, pattern: Pattern) -> None:
    problem = problem_of(case_of(operation, pattern, STRIDED))
    cls = load(name)
    action = problem.action(cls, cls.build(problem.tensor, pattern))
    assert worst_error(problem.outputs(action()), problem.oracle()) < TIGHT
    assert problem.spec().operation == {"conv2d_backward": "train"}.get(operation, operation)
    assert problem.spec().shape == tuple(problem.tensor.shape)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_dense_forms_compute_the_same_in_their_own_order_of_elements(operation: str) -> None:
    problem = problem_of(case_of(operation))
    assert list(problem.references()) == ["dense contiguous", "dense channels-last"]
    dense = load("dense")
    cells = [problem.outputs(problem.action(dense, dense.build(problem.tensor))())]
    for reference in problem.references().values():
        result = reference()
        outputs = result if isinstance(result, tuple) else (result,)
        assert worst_error(outputs[:1], problem.oracle()[:1]) < TIGHT
        if operation == "conv2d_backward":
            _, weight_gradient, x_gradient = outputs
            assert bool((weight_gradient != 0).all())  # dense: what stands at the zeros is computed too
            masked = torch.where(problem.tensor != 0, weight_gradient, 0)
            assert worst_error((x_gradient, masked), problem.oracle()[1:]) < TIGHT
        cells.append(outputs)
    assert cells[2][0].is_contiguous(memory_format=torch.channels_last)


def test_what_is_stored_has_the_pattern_and_what_it_meets_is_dense() -> None:
    weight = problem_of(case_of("conv2d"))
    assert tuple(weight.tensor.shape) == (12, 10, 3, 3)
    assert bool((weight.x != 0).all())
    kept = (weight.tensor != 0).flatten(2)
    assert bool((kept.all(dim=2) == kept.any(dim=2)).all())
    assert int(kept.all(dim=2).sum()) == round(0.4 * 120)
    activations = problem_of(case_of("conv2d_with", Pattern(kind="plane", block=(1, 42))))
    assert tuple(activations.tensor.shape) == (3, 10, 7, 6)
    assert bool((activations.weight != 0).all())
    maps = (activations.tensor != 0).flatten(2)
    assert bool((maps.all(dim=2) == maps.any(dim=2)).all())
    assert int(maps.all(dim=2).sum()) == round(0.4 * 30)
    assert not torch.equal(maps.any(dim=2)[0], maps.any(dim=2)[1])  # chosen per sample


def test_useful_operations_are_counted_by_non_zeros_and_places() -> None:
    problem = problem_of(case_of("conv2d", layer=STRIDED))
    kept = int(torch.count_nonzero(problem.tensor))
    places = math.ceil(7 / 2) * math.ceil(6 / 2)
    assert problem.useful_flops() == pytest.approx(2 * kept * 3 * places)
    training = problem_of(case_of("conv2d_backward", layer=STRIDED))
    assert training.useful_flops() == pytest.approx(3 * problem.useful_flops())
    activations = problem_of(case_of("conv2d_with", Pattern(kind="plane", block=(1, 42))))
    assert activations.useful_flops() == pytest.approx(0.4 * 2 * 12 * 10 * 9 * 3 * 42)


def test_native_parts_give_the_provenance() -> None:
    parts = {operation: problem_of(case_of(operation)).native_parts() for operation in OPERATIONS}
    assert parts == {
        "conv2d": ("conv2d",),
        "conv2d_backward": ("conv2d", "conv2d_input", "conv2d_values"),
        "conv2d_with": ("conv2d_with",),
    }


def test_what_is_handed_back_by_training_is_no_larger_than_what_is_stored() -> None:
    problem = problem_of(case_of("conv2d_backward"))
    cls = load("planes")
    built = cls.build(problem.tensor, PLANE)
    shapes = [tuple(tensor.shape) for tensor in problem.held(problem.action(cls, built)())]
    assert shapes == [tuple(problem.g.shape), tuple(built.values.shape), tuple(problem.x.shape)]
    assert tuple(problem.tensor.shape) not in shapes


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_cell_is_right_and_weighed_against_the_dense_tensor(operation: str, benchmark: Any) -> None:
    clock = CpuClock()
    effort = Effort(visits=1, budget_s=0.01, min_rounds=2, max_rounds=4, min_sample_s=1e-5)
    gauge = Gauge(clock=clock, effort=effort, choice=ReferenceChoice(clock))
    problem = problem_of(case_of(operation, dtype="float32"))
    cell, _ = measure(problem, "planes", benchmark, gauge)
    assert cell.status == "ok", cell.reason
    assert cell.dense_bytes == 4 * problem.tensor.numel()
    assert (cell.reference or "").startswith("dense c")
    refused, _ = measure(problem_of(case_of("conv2d_backward")), "torch-semi-structured", benchmark, gauge)
    assert refused.status == "unsupported"


@pytest.mark.parametrize("profile", PROFILES)
def test_no_case_comes_twice_and_every_case_can_be_drawn(profile: str) -> None:
    found = conv2d.cases(profile)
    assert len({case.key for case in found}) == len(found)
    assert {case.suite for case in found} == {"conv2d"}
    assert {case.operation for case in found} == set(OPERATIONS)
    for case in found:
        layer = LAYERS[case.workload]
        assert case.shape == layer.shape(case.shape[4])
        assert case.pattern.block[1] in (1, layer.kernel**2, 32 * layer.kernel**2, layer.side**2)


def test_the_full_profile_holds_every_promise() -> None:
    keys = {case.key for case in conv2d.cases("full")}
    for name, side in (("ResNet-34 conv4 3×3", 14), ("VGG-16 conv3 3×3", 28)):
        lead, trail = f"256x256x3x3x8x{side}x{side}", "float32|0"
        for level in ("0.05", "0.1", "0.15", "0.2", "0.9"):
            assert f"{name}|conv2d|{lead}|channel-1x9|{level}|{trail}" in keys
        assert f"{name}|conv2d|{lead}|filter-channel-1x9|0.8|{trail}" in keys
        assert f"{name}|conv2d|{lead}|plane-1x9|0.9|{trail}" in keys
        assert f"{name}|conv2d|{lead}|block-32x288|0.9|{trail}" in keys
        assert f"{name}|conv2d|{lead}|element|0.9|{trail}" in keys
        assert f"{name}|conv2d_with|{lead}|plane-1x{side**2}|0.9|{trail}" in keys
        assert f"{name}|conv2d_backward|{lead}|plane-1x9|0.9|{trail}" in keys


def test_the_quick_profile_is_one_layer_and_the_gpu_profile_begins_with_what_tells_most() -> None:
    quick = conv2d.cases("quick")
    assert {case.shape for case in quick} == {(256, 256, 3, 3, 2, 14, 14)}
    assert {case.pattern.kind for case in quick} == {"channel", "filter-channel", "plane", "block", "element"}
    gpu = conv2d.cases("gpu")
    assert (gpu[0].workload, gpu[0].pattern.kind, gpu[0].dtype) == ("VGG-16 conv3 3×3", "channel", "bfloat16")
    assert {case.dtype for case in gpu} == {"bfloat16", "float16"}


def test_an_unknown_profile_operation_layer_or_shape_is_named() -> None:
    with pytest.raises(ValueError, match="expected a profile of quick, full, gpu, got 'slow'"):
        conv2d.cases("slow")
    with pytest.raises(ValueError, match=r"expected an operation of conv2d, conv2d_backward, .* got 'matmul'"):
        conv2d.problem(case_of("matmul"), "cpu", None)
    odd = Case(suite="conv2d", workload="mine", operation="conv2d", shape=(2, 2), pattern=PLANE, sparsity=0.5)
    with pytest.raises(ValueError, match=r"expected a layer of ResNet-34 conv4 3×3, .* got 'mine'"):
        conv2d.problem(odd, "cpu", None)
    flat = Case(suite="conv2d", workload=RESNET.name, operation="conv2d", shape=(2, 2), pattern=PLANE, sparsity=0.5)
    with pytest.raises(ValueError, match=r"expected a shape \(out, in, kh, kw, n, h, w\), got \(2, 2\)"):
        conv2d.problem(flat, "cpu", None)
