"""Layers under autocast, and a weight that is read instead of multiplied: outputs and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from sparsebench.representations.base import Spec
from sparsebench.representations.modules import SparseModule, convert
from sparsebench.representations.registry import BUILTIN, load, missing_requirements

pytestmark = pytest.mark.usefixtures("one_thread")

TRAINED = tuple(name for name in BUILTIN if load(name).trains())


def reason_against(name: str) -> str | None:
    """Return why a class cannot be used here, or None."""
    cls = load(name)
    missing = missing_requirements(cls)
    spec = Spec(operation="matmul", shape=(8, 8), dtype=torch.float32, device="cpu")
    return f"needs {', '.join(missing)}" if missing else cls.unsupported(spec)


def loads(name: str) -> str:
    """Return a name, or skip with the reason why its class cannot be used here."""
    reason = reason_against(name)
    if reason:
        pytest.skip(reason)
    return name


def _mlp() -> tuple[nn.Module, Tensor]:
    return nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 8, bias=False)), torch.randn(2, 3, 16)


def _cnn() -> tuple[nn.Module, Tensor]:
    model = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, groups=2, padding=1))
    return model, torch.randn(2, 4, 8, 8)


def _gradients(model: nn.Module) -> dict[str, Tensor]:
    """Return what backward left: of each weight the dense gradient at the stored places, of each bias its own."""
    found: dict[str, Tensor] = {}
    for name, part in model.named_modules():
        if isinstance(part, SparseModule):
            assert isinstance(part.values, nn.Parameter)
            assert part.values.grad is not None
            found[f"{name}.weight"] = part.representation.with_values(part.values.grad).to_dense()
        elif isinstance(part, (nn.Linear, nn.Conv2d)):
            assert part.weight.grad is not None
            found[f"{name}.weight"] = part.weight.grad
        bias = getattr(part, "bias", None)
        if bias is not None:
            assert bias.grad is not None
            found[f"{name}.bias"] = bias.grad
    return found


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", [_mlp, _cnn])
@pytest.mark.parametrize("name", BUILTIN)
def test_autocast_gives_what_it_gives_of_dense_layers(name: str, make: Any, dtype: torch.dtype) -> None:
    loads(name)
    torch.manual_seed(0)
    dense, x = make()
    trains = load(name).trains()
    stored, twin = convert(dense, name), x.clone().requires_grad_()
    x.requires_grad_()
    rtol, atol = (3e-2, 3e-2) if dtype == torch.bfloat16 else (4e-3, 4e-3)
    for backward_inside in (False, True):
        with torch.autocast("cpu", dtype=dtype):
            want, got = dense(x), stored(twin)
            assert got.dtype == want.dtype == dtype
            torch.testing.assert_close(got, want, rtol=rtol, atol=atol)
            if backward_inside:
                for y in (want, got):
                    torch.autograd.backward(y.float().square().mean())
        if not backward_inside:
            for y in (want, got):
                torch.autograd.backward(y.float().square().mean())
    assert twin.grad is not None
    torch.testing.assert_close(twin.grad, x.grad, rtol=rtol, atol=atol)
    if trains and name != "dense-masked":
        places = {key: value != 0 for key, value in _gradients(stored).items()}
        for key, gradient in _gradients(dense).items():
            got_gradient = _gradients(stored)[key].reshape(gradient.shape) if "weight" not in key else None
            if got_gradient is not None:
                torch.testing.assert_close(got_gradient, gradient, rtol=rtol, atol=atol)
        assert all(place.any() for place in places.values())


def _passes(model: Any, run: Any, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the output of `run`, and the gradients that it leaves in a model's parameters."""
    for parameter in model.parameters():
        parameter.grad = None
    output = run(x)
    output.square().sum().backward()
    return output.detach(), [parameter.grad.clone() for parameter in model.parameters()]


# Dynamo looks at .grad of every tensor that it guards, and is warned by torch itself
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
# a format at a time: of more layers of one class than its limit Dynamo compiles none, and nothing would be checked
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("name", BUILTIN)
def test_a_compiled_model_gives_what_the_eager_one_gives(name: str, backend: str) -> None:
    torch.manual_seed(5)
    dense = nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(72, 8))
    model, x = convert(dense, loads(name), "element", 0.5), torch.randn(2, 4, 5, 5)
    torch.compiler.reset()
    compiled = torch.compile(model, backend=backend)
    for _ in range(2):  # the second time with other values: nothing may be remembered of the first
        want, gradients = _passes(model, model, x)
        got, found = _passes(model, compiled, x)
        torch.testing.assert_close(got, want)
        torch.testing.assert_close(found, gradients)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(2)
            torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.parametrize("name", ["dense", "csr"])
def test_a_weight_that_is_read_in_a_compiled_function_takes_part_in_autograd(name: str) -> None:
    torch.manual_seed(8)
    layer, x = convert(nn.Linear(6, 4), name, "element", 0.5), torch.randn(3, 6)

    def read(x: Tensor) -> Tensor:
        return nn.functional.linear(x, layer.weight, layer.bias)

    torch.compiler.reset()
    want, gradients = _passes(layer, read, x)
    got, found = _passes(layer, torch.compile(read, backend="eager"), x)
    torch.testing.assert_close((got, found), (want, gradients))


@pytest.mark.parametrize("shape", [(6, 10), (10, 6)])
@pytest.mark.parametrize("name", TRAINED)
def test_a_weight_that_is_read_takes_part_in_autograd(name: str, shape: tuple[int, int]) -> None:
    torch.manual_seed(6)
    layer = convert(nn.Linear(shape[1], shape[0]), loads(name), "element", 0.5)
    x = torch.randn(4, shape[1])
    assert isinstance(layer, SparseModule)
    want, gradients = _passes(layer, layer, x)
    got, found = _passes(layer, lambda x: nn.functional.linear(x, layer.weight, layer.bias), x)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(found, gradients)
    with torch.no_grad():
        assert not layer.weight.requires_grad


def _fake(model: nn.Module, x: Tensor) -> Tensor:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        result: Tensor = model(mode.from_tensor(x))
    return result


TRACERS: dict[str, Any] = {
    "torch.export": lambda model, x: torch.export.export(model, (x,)).module()(x + 1),
    "torch.jit.trace": lambda model, x: torch.jit.trace(model, x),
    "make_fx": lambda model, x: make_fx(model)(x)(x + 1),
    "fake tensors": _fake,
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.jit.trace
@pytest.mark.parametrize("tracer", TRACERS)
@pytest.mark.parametrize("name", BUILTIN)
def test_a_tracer_gets_the_right_program_or_is_refused(name: str, tracer: str) -> None:
    torch.manual_seed(7)
    dense = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(12, 4))
    model, x = convert(dense, loads(name)).eval(), torch.randn(5, 2, 4, 4)
    if load(name).traceable and tracer != "torch.jit.trace":
        got = TRACERS[tracer](model, x)
        assert got.shape == (5, 4)
        if tracer != "fake tensors":
            torch.testing.assert_close(got, model(x + 1))
        return
    with pytest.raises(NotImplementedError, match=rf"expected tensors with values, .* cannot follow {name};"):
        TRACERS[tracer](model, x)
    assert model(x).shape == (5, 4)


@pytest.mark.parametrize("name", ["dense", "csr"])
def test_second_derivatives_are_refused_whoever_asks(name: str) -> None:
    layer, x = convert(nn.Linear(4, 3), name), torch.randn(4, requires_grad=True)

    def loss(x: Tensor) -> Tensor:
        result: Tensor = layer(x).square().sum()
        return result

    (gradient,) = torch.autograd.grad(loss(x), x, create_graph=True)
    for ask in (
        lambda: torch.autograd.functional.hessian(loss, x.detach()),
        lambda: torch.autograd.functional.hvp(loss, x.detach(), x.detach()),
        lambda: torch.autograd.grad(gradient.sum(), x, allow_unused=True, retain_graph=True),
        lambda: torch.autograd.backward(gradient.square().sum()),
    ):
        with pytest.raises(RuntimeError, match="expected a stored product to be differentiated once"):
            ask()
    torch.testing.assert_close(torch.autograd.functional.jacobian(layer, x.detach()), layer.weight.detach())
