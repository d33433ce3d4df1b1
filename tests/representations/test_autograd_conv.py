"""Convolutions that the base class derives, their gradients through autograd, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sparsebench.representations import _derived_conv, autograd
from sparsebench.representations.base import Representation
from sparsebench.representations.formats.dense import Dense
from sparsebench.representations.pattern import Pattern
from sparsebench.representations.registry import load

pytestmark = pytest.mark.usefixtures("one_thread")

GEOMETRIES: tuple[tuple[tuple[int, ...], tuple[int, ...], dict[str, tuple[int, int]]], ...] = (
    ((6, 4, 3, 3), (2, 4, 11, 9), {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}),
    ((5, 4, 1, 1), (1, 4, 6, 5), {}),
    ((5, 4, 1, 1), (3, 4, 7, 5), {"stride": (2, 3), "padding": (1, 0)}),
    ((5, 4, 2, 3), (3, 4, 6, 8), {"stride": (3, 2), "padding": (1, 1), "dilation": (2, 1)}),
    ((5, 4, 3, 3), (0, 4, 6, 5), {"padding": (1, 1)}),
    ((4, 3, 4, 4), (2, 3, 4, 4), {}),
)
"""A weight, an input, and options; the last one leaves one place."""


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _weight(shape: tuple[int, ...], sparsity: float = 0.5) -> Tensor:
    pattern = Pattern(kind="plane", block=(1, shape[2] * shape[3]))
    matrix = (shape[0], shape[1] * shape[2] * shape[3])
    return pattern.tensor(matrix, sparsity, 1, dtype=torch.float64).reshape(shape)


@pytest.mark.parametrize("sparsity", [0.5, 1.0])
@pytest.mark.parametrize("name", ["dense", "dense-masked", "planes", "csr", "scipy-csr", "torch-coo"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=lambda geometry: "x".join(map(str, geometry[0] + geometry[1])))
def test_autograd_agrees_with_torch_in_float64(name: str, geometry: Any, sparsity: float) -> None:
    shape, size, options = geometry
    weight, x = _weight(shape, sparsity), _normal(*size, seed=2).requires_grad_()
    held = load(name).build(weight)
    values = held.values.clone().requires_grad_()
    got = autograd.conv2d(held, x, values, **options)
    full, x_full = weight.clone().requires_grad_(), x.detach().clone().requires_grad_()
    want = torch.nn.functional.conv2d(x_full, full, **options)
    torch.testing.assert_close(got, want)
    g = _normal(*want.shape, seed=3)
    torch.autograd.backward(got, g)
    torch.autograd.backward(want, g)
    assert x.grad is not None
    assert values.grad is not None
    assert full.grad is not None
    torch.testing.assert_close(x.grad, x_full.grad)
    stored = held.with_values(torch.ones_like(values)).to_dense() != 0
    torch.testing.assert_close(held.with_values(values.grad).to_dense().reshape(shape), full.grad * stored)


def test_only_what_is_asked_for_gets_a_gradient() -> None:
    held = Dense.build(_weight((3, 2, 3, 3)))
    x = _normal(1, 2, 5, 5, seed=5).requires_grad_()
    torch.autograd.backward(autograd.conv2d(held, x).sum())
    assert x.grad is not None
    values = held.values.clone().requires_grad_()
    torch.autograd.backward(autograd.conv2d(held, x.detach(), values).sum())
    assert values.grad is not None
    assert not autograd.conv2d(held, x.detach()).requires_grad


def test_what_holds_constants_still_has_a_gradient_of_x() -> None:
    class Constant(Dense):
        name = "constant"
        values = Representation.values
        with_values = Representation.with_values

    weight = _weight((3, 2, 3, 3))
    held = Constant.build(weight)
    assert not held.trains()
    x, x_full = (_normal(2, 2, 5, 4, seed=6).requires_grad_() for _ in range(2))
    torch.autograd.backward(autograd.conv2d(held, x, padding=(1, 1)).square().sum())
    torch.autograd.backward(torch.nn.functional.conv2d(x_full, weight, padding=1).square().sum())
    assert x.grad is not None
    torch.testing.assert_close(x.grad, x_full.grad)
    with pytest.raises(NotImplementedError, match="gives no values"):
        autograd.conv2d(held, x, torch.ones(3, 18))


def test_values_changed_before_the_backward_pass_are_noticed() -> None:
    held = Dense.build(_weight((3, 2, 3, 3)))
    x, values = _normal(1, 2, 5, 5, seed=5).requires_grad_(), held.values.clone().requires_grad_()
    loss = autograd.conv2d(held, x, values).sum()
    with torch.no_grad():
        values.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.backward(loss)


def test_a_second_derivative_is_refused_instead_of_wrong() -> None:
    held = Dense.build(_weight((3, 2, 3, 3)))
    x, values = _normal(1, 2, 5, 5, seed=5).requires_grad_(), held.values.clone().requires_grad_()
    loss = autograd.conv2d(held, x, values).square().sum()
    (gradient,) = torch.autograd.grad(loss, x, create_graph=True)
    with pytest.raises(RuntimeError, match="to be differentiated once"):
        torch.autograd.backward(gradient.sum())


def test_activations_convolve_with_a_dense_weight() -> None:
    x = _weight((3, 4, 6, 5))
    held, weight = load("planes").build(x), _normal(2, 4, 3, 2, seed=7)
    options = {"stride": (2, 1), "padding": (0, 1), "dilation": (2, 3)}
    want = torch.nn.functional.conv2d(x, weight, None, **options)
    torch.testing.assert_close(held.conv2d_with(weight, **options), want)


def test_results_are_contiguous_and_their_own() -> None:
    weight = torch.eye(4, dtype=torch.float64).reshape(4, 4, 1, 1)
    held, x = Dense.build(weight), _normal(1, 4, 3, 3, seed=8)
    got = held.conv2d(x)
    assert got.is_contiguous()
    before = got.clone()
    x.zero_()
    assert torch.equal(got, before)
    assert held.conv2d(_normal(3, 4, 3, 3, seed=8)).is_contiguous()
    assert held.conv2d_input(_normal(3, 4, 3, 3, seed=8), (3, 3)).is_contiguous()


@pytest.mark.parametrize("count", [1, 2])
def test_results_can_be_changed_in_place(count: int) -> None:
    held, x = Dense.build(_weight((3, 2, 1, 1), 0.0)), _normal(count, 2, 3, 3, seed=8).requires_grad_()
    got = torch.nn.functional.relu(autograd.conv2d(held, x), inplace=True)
    torch.autograd.backward(got.sum())
    assert x.grad is not None
    want = held.conv2d_input((got > 0).double(), (3, 3))
    torch.testing.assert_close(x.grad, want)


def test_windows_of_a_1x1_kernel_over_one_sample_are_no_copy() -> None:
    x = _normal(1, 4, 3, 5, seed=8)
    columns = _derived_conv._columns(x, (1, 1), (1, 1), (0, 0), (1, 1))
    assert columns.data_ptr() == x.data_ptr()
    assert torch.equal(columns, x.reshape(4, 15))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 2}, "expected stride as a pair of ints"),
        ({"stride": (0, 1)}, "expected stride of at least"),
        ({"padding": (-1, 0)}, "expected padding of at least"),
        ({"padding": (0.5, 1)}, "expected padding as a pair of ints"),
        ({"dilation": (0, 1)}, "expected dilation of at least"),
        ({"dilation": (1, 3)}, "expected an input of at least 7 in width"),
    ],
)
def test_bad_options_are_refused(options: Any, message: str) -> None:
    held = Dense.build(_weight((3, 2, 3, 3)))
    x, g = _normal(1, 2, 5, 5, seed=9), _normal(1, 3, 3, 3, seed=9)
    for call in (
        lambda: autograd.conv2d(held, x, **options),
        lambda: held.conv2d(x, **options),
        lambda: held.conv2d_input(g, (5, 5), **options),
        lambda: held.conv2d_values(g, x, **options),
        lambda: Dense.build(x).conv2d_with(_normal(3, 2, 3, 3, seed=9), **options),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_operands_that_do_not_fit_are_refused() -> None:
    held = Dense.build(_weight((3, 2, 3, 3)))
    x, g = _normal(1, 2, 5, 5, seed=9), _normal(1, 3, 3, 3, seed=9)
    with pytest.raises(ValueError, match=r"expected x of shape \(n, 2, h, w\), got \(1, 3, 3, 3\)"):
        autograd.conv2d(held, g)
    with pytest.raises(ValueError, match=r"expected strided x \(any, 2, any, any\)"):
        held.conv2d(x[0])
    with pytest.raises(ValueError, match=r"expected x in torch.float64 on cpu, got torch.float32"):
        held.conv2d(x.float())
    with pytest.raises(ValueError, match=r"expected strided g \(any, 3, 3, 3\), got .* \(1, 3, 3, 2\)"):
        held.conv2d_input(g[..., :2], (5, 5))
    with pytest.raises(ValueError, match=r"expected strided g \(1, 3, 3, 3\)"):
        held.conv2d_values(torch.cat([g, g]), x)
    with pytest.raises(ValueError, match="expected values of shape"):
        autograd.conv2d(held, x, held.values[:1])
    matrix = Dense.build(_weight((3, 2, 3, 3)).reshape(3, 18))
    for call in (
        lambda: autograd.conv2d(matrix, x),
        lambda: matrix.conv2d(x),
        lambda: matrix.conv2d_input(g, (5, 5)),
        lambda: matrix.conv2d_values(g, x),
        lambda: matrix.conv2d_with(_weight((3, 2, 3, 3))),
    ):
        with pytest.raises(ValueError, match=r"got shape \(3, 18\); store a 4-D tensor"):
            call()


def test_provenance_of_the_convolutions() -> None:
    class Bare(Dense):
        name = "bare"
        sampled_matmul = Representation.sampled_matmul
        conv2d = Representation.conv2d
        conv2d_values = Representation.conv2d_values

        def conv2d_input(self, *arguments: Any, **options: Any) -> Tensor:
            return super().conv2d_input(*arguments, **options)

    parts = ("conv2d", "conv2d_input", "conv2d_values", "conv2d_with")
    assert [Bare.provenance(part) for part in parts] == ["derived", "native", "missing", "derived"]
    x, g = _normal(1, 2, 5, 5, seed=9), _normal(1, 3, 3, 3, seed=9)
    with pytest.raises(NotImplementedError, match="bare gives no sampled_matmul"):
        Bare.build(_weight((3, 2, 3, 3))).conv2d_values(g, x)
