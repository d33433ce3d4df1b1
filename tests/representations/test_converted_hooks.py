"""Weights that hooks, parametrizations or torch's own modules take in hand: what convert makes of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm

from sparsebench.representations.formats.csr import Csr
from sparsebench.representations.modules import SparseConv2d, SparseLinear, convert

pytestmark = pytest.mark.usefixtures("one_thread")


def _weight_norm(layer: nn.Module) -> nn.Module:
    with pytest.warns(FutureWarning, match="weight_norm"):
        made: nn.Module = nn.utils.weight_norm(layer)
    return made


def _both_pruned(layer: nn.Module) -> nn.Module:
    prune.random_unstructured(prune.l1_unstructured(layer, "weight", amount=0.5), "weight", amount=0.3)
    return prune.random_unstructured(layer, "bias", amount=0.5)


COMPUTED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "prune": lambda layer: prune.l1_unstructured(layer, "weight", amount=0.5),
    "prune twice, and the bias": _both_pruned,
    "weight_norm": _weight_norm,
    "spectral_norm": spectral_norm,
    "parametrized weight_norm": parametrizations.weight_norm,
    "parametrized spectral_norm": parametrizations.spectral_norm,
    "parametrized orthogonal": parametrizations.orthogonal,
}


def _linear() -> tuple[nn.Module, Tensor]:
    return nn.Linear(8, 6), torch.randn(5, 8)


def _conv() -> tuple[nn.Module, Tensor]:
    return nn.Conv2d(4, 6, 3, groups=2, padding=1), torch.randn(2, 4, 5, 5)


def _stale(model: nn.Module, x: Tensor, how: str) -> None:
    """Change what a layer is computed from, so that what its last forward pass left is wrong."""
    if how == "loaded":
        state = model.state_dict()
        model.load_state_dict({key: value if "mask" in key else value * 2 + 1 for key, value in state.items()})
        return
    torch.autograd.backward(model(x).square().sum())
    torch.optim.SGD(model.parameters(), lr=5.0).step()


@pytest.mark.parametrize("how", ["loaded", "stepped"])
@pytest.mark.parametrize("make", [_linear, _conv])
@pytest.mark.parametrize("kind", COMPUTED)
def test_a_computed_weight_is_stored_as_the_next_forward_pass_has_it(kind: str, make: Any, how: str) -> None:
    torch.manual_seed(3)
    layer, x = make()
    model = nn.Sequential(COMPUTED[kind](layer)).eval()
    _stale(model, x, how)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    converted = convert(model, "csr")
    assert type(converted[0]) in (SparseLinear, SparseConv2d)
    direct = (
        SparseLinear.from_linear(model[0], "csr")
        if isinstance(model[0], nn.Linear)
        else SparseConv2d.from_conv(model[0], "csr")
    )
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    want = model(x)
    for got in (converted(x), direct(x)):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    assert all(parameter.requires_grad for parameter in converted.parameters())
    assert not any(p.requires_grad for p in convert(model.requires_grad_(False), "csr").parameters())
    pruned = convert(model, "csr", "element", 0.75)
    assert isinstance(pruned[0], (SparseLinear, SparseConv2d))
    assert pruned[0].values.numel() == round(0.25 * model[0].weight.numel())


def test_a_spectral_norm_in_training_is_left_as_it_was() -> None:
    for normalise in (spectral_norm, parametrizations.spectral_norm):
        model = nn.Sequential(normalise(nn.Linear(6, 5)))
        before = copy.deepcopy(model.state_dict())
        convert(model, "csr", "element", 0.5)
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_what_is_not_converted_is_copied_with_what_hooks_left_there() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        *(COMPUTED[kind](nn.Linear(6, 6)) for kind in COMPUTED),
        prune.l1_unstructured(nn.BatchNorm1d(6), "weight", amount=0.5),
        nn.Linear(6, 6),
    ).eval()
    x = torch.randn(3, 6)
    model(x)
    names = [str(place) for place in range(len(COMPUTED))]
    converted = convert(model, "csr", skip=names)
    _stale(converted, x, "stepped")
    assert isinstance(converted[-1], SparseLinear)
    assert not torch.allclose(converted(x), model(x), rtol=1e-2)
    again = convert(model, "csr", skip=names)
    torch.testing.assert_close(again(x), model(x), rtol=1e-4, atol=1e-5)
    norm = nn.Sequential(_weight_norm_of_recurrent())
    norm(torch.randn(2, 3, 4))
    twin = convert(norm, "csr", skip=["0"])
    torch.testing.assert_close(twin(torch.ones(2, 3, 4))[0], norm(torch.ones(2, 3, 4))[0])


def _weight_norm_of_recurrent() -> nn.Module:
    with pytest.warns(FutureWarning, match="weight_norm"):
        made: nn.Module = nn.utils.weight_norm(nn.LSTM(4, 4), "weight_hh_l0")
    return made


class Watch(nn.Module):
    """Hold a layer, and hooks on it that change what it takes and gives, one of them bound to this module."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.seen: list[Tensor] = []
        self.layer.register_forward_pre_hook(lambda _, args: (args[0] * 2,))
        self.layer.register_forward_hook(self.after)
        self.layer.register_forward_hook(lambda _, args, kwargs, output: output + len(kwargs), with_kwargs=True)
        self.layer.register_full_backward_hook(lambda _, inputs, outputs: (inputs[0] * 3,))

    def after(self, _: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        self.seen.append(output)
        return output + 1

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(x)
        return result


def test_other_hooks_go_with_the_layer() -> None:
    model = Watch()
    converted = convert(model, "csr")
    assert isinstance(converted, Watch)
    x, twin = (torch.ones(2, 4, requires_grad=True) for _ in range(2))
    got, want = converted(twin), model(x)
    torch.testing.assert_close(got, want)
    assert len(converted.seen) == len(model.seen) == 1
    for y in (got, want):
        torch.autograd.backward(y.sum())
    assert x.grad is not None
    torch.testing.assert_close(twin.grad, x.grad)
    direct = SparseLinear.from_linear(model.layer, "csr")
    torch.testing.assert_close(direct(x), want)


def test_a_weight_that_nobody_knows_how_to_compute_is_refused() -> None:
    layer = nn.Linear(4, 4)
    free = layer.weight.detach().clone()
    del layer._parameters["weight"]
    layer.register_forward_pre_hook(lambda module, _: setattr(module, "weight", free * 2))
    layer(torch.ones(1, 4))
    replaced = nn.Conv2d(2, 2, 3)
    replaced.forward = lambda x: x  # type: ignore[method-assign]
    for bad, message in ((layer, "its weight is no parameter"), (replaced, "its forward was replaced")):
        with pytest.raises(
            ValueError, match=rf"layer '1' \({type(bad).__name__}\), got: {message}.*; or name it in skip"
        ):
            convert(nn.Sequential(nn.ReLU(), bad), "csr")
    assert type(convert(nn.Sequential(layer), "csr", skip=["0"])[0]) is nn.Linear
    with pytest.raises(ValueError, match=r"layer '0' \(ParametrizedConvTranspose2d\), got: .* it has weight; or name"):
        convert(nn.Sequential(parametrizations.weight_norm(nn.ConvTranspose2d(2, 2, 2))), "csr")


class Twice(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def test_parametrizations_of_one_tensor_are_a_shared_weight() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    for layer in (first, second):
        parametrize.register_parametrization(layer, "weight", Twice())
    with pytest.raises(ValueError, match="expected a weight of its own in layer '1"):
        convert(nn.Sequential(first, second), "csr")


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets an entry with every sparse product."""
    calls: list[int] = []
    real = Csr.matmul

    def counted(self: Csr, x: Tensor) -> Tensor:
        calls.append(1)
        return real(self, x)

    monkeypatch.setattr(Csr, "matmul", counted)
    return calls


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")  # of the dense model
@pytest.mark.parametrize("padded", [False, True])
def test_encoder_layers_run_the_stored_product_in_evaluation_too(products: list[int], padded: bool) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
    model = nn.TransformerEncoder(layer, 2).eval()
    attention = ["layers.0.self_attn", "layers.1.self_attn"]
    mask = torch.arange(5).expand(2, 5) >= torch.tensor([[5], [3]]) if padded else None
    x = torch.randn(2, 5, 16)
    with torch.no_grad():
        want = model(x, src_key_padding_mask=mask)
        for skip, count in ((attention, 4), ([*attention, "layers.0"], 2)):
            converted = copy.deepcopy(convert(model, "csr", skip=skip))
            products.clear()
            got = converted(x, src_key_padding_mask=mask)
            assert len(products) == count
            inside = slice(None) if mask is None else ~mask
            torch.testing.assert_close(got[inside], want[inside], rtol=1e-4, atol=1e-5)
    assert model.layers[0].activation_relu_or_gelu
    assert model.use_nested_tensor


@pytest.mark.skipif(not hasattr(nn, "LinearCrossEntropyLoss"), reason="this torch has no LinearCrossEntropyLoss")
def test_a_loss_that_reads_the_weight_of_its_layer_is_named() -> None:
    model = nn.Sequential(nn.LinearCrossEntropyLoss(4, 3))
    with pytest.raises(ValueError, match=r"layer '0' \(LinearCrossEntropyLoss\), got: .*; or name it in skip"):
        convert(model, "csr")
    assert type(convert(model, "csr", skip=["0"])[0].linear) is nn.Linear
