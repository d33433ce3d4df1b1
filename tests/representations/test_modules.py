"""Converted models against masked dense ones: outputs, training, checkpoints and copies."""

from __future__ import annotations

import copy
import io
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparsebench.representations.base import Representation, Spec
from sparsebench.representations.formats.dense import Dense
from sparsebench.representations.modules import SparseConv2d, SparseLinear, convert
from sparsebench.representations.pattern import Pattern
from sparsebench.representations.registry import BUILTIN, load, missing_requirements

pytestmark = pytest.mark.usefixtures("one_thread")

PRUNED = (("element", 0.5), ("plane", 0.5), ("channel", 0.5), ("filter-channel", 0.5), ("block:2", 0.75))
TRAINED = ("dense", "dense-masked", "planes", "block-sparse", "csr", "scipy-csr", "torch-csr", "torch-bsr")


class Net(nn.Module):
    """Stride, padding, dilation, groups, depthwise groups, BatchNorm, a view, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 8, 3, stride=(2, 1), padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.grouped = nn.Conv2d(8, 8, (3, 1), padding="same", groups=2)
        self.depth = nn.Conv2d(8, 8, 3, groups=8, dilation=2, padding=(2, 1))
        self.point = nn.Conv2d(8, 6, 1)
        self.head = nn.Linear(6 * 3 * 4, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x)).relu()
        x = self.point(self.depth(self.grouped(x).relu()).relu()).relu()
        result: Tensor = self.head(x.view(x.shape[0], -1))
        return result


def net(seed: int = 0, dtype: torch.dtype = torch.float32) -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Net().to(dtype)


def mlp() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 6, bias=False))


def image(*lead: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn((*lead, 4, 6, 6), generator=torch.Generator().manual_seed(7), dtype=dtype)


def plain_mask(layer: nn.Linear | nn.Conv2d, kind: str, sparsity: float) -> Tensor:
    """Return what is kept of a layer's weight, unit by unit, slowly: bool, shaped as the layer's own weight."""
    weight, groups = layer.weight.detach(), getattr(layer, "groups", 1)
    out, each = weight.shape[:2]
    side = int(kind.partition(":")[2] or 1)
    maps = each * groups

    def unit(row: int, column: int, place: int) -> tuple[tuple[Any, ...], ...]:
        """Return the units that an element is in, by its row, its input map among all, and its place in the plane."""
        return {
            "element": ((row, column, place),),
            "plane": ((row, column),),
            "channel": ((column,),),
            "filter-channel": (("row", row), ("map", column)),
        }.get(kind, ((row // side, column // side),))

    flat = weight.reshape(out, each, -1).double()
    members: dict[tuple[Any, ...], list[tuple[int, int, int]]] = {}
    for row, column, place in itertools.product(range(out), range(each), range(flat.shape[2])):
        for key in unit(row, column + row // (out // groups) * each, place):
            members.setdefault(key, []).append((row, column, place))
    mask = torch.ones_like(flat, dtype=torch.bool)
    for part in (("row",), ("map",)) if kind == "filter-channel" else ((),):
        keys = [key for key in members if key[: len(part)] == part]
        best = sorted(keys, key=lambda key: -sum(float(flat[at]) ** 2 for at in members[key]))
        for key in best[round((1 - sparsity) * len(keys)) :]:
            for at in members[key]:
                mask[at] = False
    assert maps >= each
    return mask.reshape(weight.shape)


def masked(model: nn.Module, kind: str, sparsity: float) -> tuple[nn.Module, list[tuple[nn.Parameter, Tensor]]]:
    """Return a dense copy with pruned weights, and each weight with its mask."""
    dense = copy.deepcopy(model)
    found = []
    for layer in dense.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            mask = plain_mask(layer, kind, sparsity)
            layer.weight.data.mul_(mask)
            found.append((layer.weight, mask))
    return dense, found


def loads(name: str) -> type[Representation]:
    """Return a class, or skip with the reason why it cannot be used here."""
    cls = load(name)
    missing = missing_requirements(cls)
    reason = f"needs {', '.join(missing)}" if missing else None
    reason = reason or cls.unsupported(Spec(operation="matmul", shape=(8, 8), dtype=torch.float32, device="cpu"))
    if reason:
        print(f"{name}: {reason}")
        pytest.skip(reason)
    return cls


# Outputs


@pytest.mark.parametrize("name", BUILTIN)
def test_a_converted_model_gives_what_the_masked_dense_one_gives(name: str) -> None:
    cls = loads(name)
    for model, x in ((net().eval(), image(3)), (mlp(), torch.rand(5, 12))):
        torch.testing.assert_close(convert(model, cls)(x), model(x), rtol=1e-4, atol=1e-5)
        for kind, sparsity in PRUNED:
            got = convert(model, name, kind, sparsity)(x)
            torch.testing.assert_close(got, masked(model, kind, sparsity)[0](x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "sparsity"), PRUNED)
def test_counts_of_kept_units_are_exact(kind: str, sparsity: float) -> None:
    model = net()
    converted = convert(model, "csr", kind, sparsity)
    for name, layer in model.named_modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            twin = converted.get_submodule(name)
            assert isinstance(twin, (SparseLinear, SparseConv2d))
            assert int((twin.weight != 0).sum()) == int(plain_mask(layer, kind, sparsity).sum()) == twin.values.numel()
    assert type(model.first) is nn.Conv2d  # the given model is as it was
    assert torch.equal(model.first.weight, net().first.weight)


def test_counts_agree_with_those_of_the_pattern() -> None:
    layer = nn.Conv2d(8, 16, 3)
    for kind, pattern in (
        ("element", Pattern(kind="element")),
        ("plane", Pattern(kind="plane", block=(1, 9))),
        ("channel", Pattern(kind="channel", block=(1, 9))),
        ("filter-channel", Pattern(kind="filter-channel", block=(1, 9))),
        ("block:4", Pattern(kind="block", block=(4, 36))),
        ("n:4", Pattern(kind="n:m", m=4)),
    ):
        for sparsity in (0.25, 0.5, 0.75):
            want = int((pattern.tensor((16, 72), sparsity, 1) != 0).sum())
            for given in (kind, pattern):
                held = convert(layer, "csr", given, sparsity)
                assert isinstance(held, SparseConv2d)
                assert held.values.numel() == want, (kind, sparsity)


def test_equal_magnitudes_are_decided_by_the_seed_alone() -> None:
    layer = nn.Linear(16, 16)
    nn.init.ones_(layer.weight)
    weights = [convert(layer, "csr", "element", 0.5, seed=seed).weight for seed in (3, 3, 4)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_shapes_of_inputs() -> None:
    linear, conv = nn.Linear(5, 3), nn.Conv2d(4, 8, 3, stride=2, padding="valid")
    sparse_linear, sparse_conv = convert(linear, "csr"), convert(conv, "csr")
    for shape in ((5,), (2, 5), (2, 3, 4, 5), (0, 5)):
        x = torch.rand(shape)
        torch.testing.assert_close(sparse_linear(x), linear(x))
        assert sparse_linear(x).is_contiguous()
    torch.testing.assert_close(sparse_conv(image()), conv(image()))
    torch.testing.assert_close(sparse_conv(image(0)), conv(image(0)))
    with pytest.raises(ValueError, match=r"expected x \(\.\.\., 5\), got \(2, 4\)"):
        sparse_linear(torch.rand(2, 4))
    with pytest.raises(ValueError, match=r"expected x of shape \(n, 4, h, w\)"):
        sparse_conv(torch.rand(2, 5, 6, 6))


# Training


@pytest.mark.parametrize(
    ("name", "kind"),
    [*itertools.product(TRAINED, ("plane", "element")), ("planes", "channel"), ("block-sparse", "block:2")],
)
def test_training_equals_that_of_the_masked_dense_model(name: str, kind: str) -> None:
    loads(name)
    model, x = net(dtype=torch.float64), image(4, dtype=torch.float64)
    dense, masks = masked(model, kind, 0.5)
    sparse = convert(model, name, kind, 0.5)
    labels = torch.tensor([1, 5, 0, 7])
    for trained in (dense, sparse):
        optimizer = torch.optim.SGD(trained.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
        for _ in range(4):
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(trained(x), labels))
            optimizer.step()
            if trained is dense:
                for weight, mask in masks:
                    weight.data.mul_(mask)
    torch.testing.assert_close(sparse.eval()(x), dense.eval()(x), rtol=1e-7, atol=1e-9)
    assert not torch.allclose(sparse(x), convert(model, name, kind, 0.5).eval()(x), rtol=1e-2)
    head = sparse.head
    assert isinstance(head, SparseLinear)
    torch.testing.assert_close(head.weight, dense.get_submodule("head").weight.detach(), rtol=1e-7, atol=1e-9)


def test_kept_zeros_are_stored_and_trained() -> None:
    conv = nn.Conv2d(2, 2, 3, bias=False)
    nn.init.zeros_(conv.weight)
    mask = torch.tensor([[True, False], [False, True]])
    for name in ("csr", "planes", "dense"):
        layer = SparseConv2d.from_conv(conv, name, mask=mask)
        assert not layer.weight.any()
        torch.autograd.backward(layer(torch.ones(1, 2, 3, 3)).sum())
        torch.optim.SGD(layer.parameters(), lr=1.0).step()
        assert torch.equal(layer.weight, -mask[:, :, None, None].expand(2, 2, 3, 3).float())


def test_training_leaves_what_lies_between_groups_at_zero() -> None:
    conv = nn.Conv2d(4, 4, 3, groups=2, bias=False)
    layer = convert(conv, "dense")
    assert isinstance(layer, SparseConv2d)
    torch.autograd.backward(layer(image()).square().sum())
    torch.optim.SGD(layer.parameters(), lr=0.1).step()
    weight = layer.weight
    assert not weight[:2, 2:].any()
    assert not weight[2:, :2].any()
    assert not torch.allclose(weight[:2, :2], conv.weight[:2])


def test_the_parameter_is_the_memory_that_is_multiplied() -> None:
    layer = convert(nn.Linear(6, 4), "planes")
    assert isinstance(layer, SparseLinear)
    assert isinstance(layer.values, nn.Parameter)
    for twin in (layer, copy.deepcopy(layer), copy.deepcopy(layer).double()):
        assert twin.representation.values.data_ptr() == twin.values.data_ptr() == twin._held.values.data_ptr()
    frozen = nn.Linear(6, 4).requires_grad_(False)
    assert not any(parameter.requires_grad for parameter in convert(frozen, "planes").parameters())


# Checkpoints and copies


@pytest.mark.parametrize("name", BUILTIN)
def test_state_dicts_modules_and_copies_come_back(name: str) -> None:
    loads(name)
    model, x = net().eval(), image(2)
    saved, other = convert(model, name, "plane", 0.5), convert(net(seed=9).eval(), name)
    with pytest.raises(RuntimeError, match="expected a checkpoint of first with the same pattern"):
        other.load_state_dict(saved.state_dict())
    want = saved(x)
    fresh = convert(model, name, "plane", 0.5)
    for parameter in fresh.parameters():
        parameter.data.fill_(0.25)
    assert not torch.allclose(fresh(x), want)
    file = io.BytesIO()
    torch.save(saved.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file))
    assert torch.equal(fresh(x), want)
    file = io.BytesIO()
    torch.save(saved, file)
    file.seek(0)
    twins = [torch.load(file, weights_only=False), copy.deepcopy(saved)]
    for twin in twins:
        assert torch.equal(twin(x), want)
        for parameter in twin.parameters():
            parameter.data.zero_()
    assert torch.equal(saved(x), want)
    torch.testing.assert_close(copy.deepcopy(saved).double()(x.double()).float(), want, rtol=1e-4, atol=1e-5)


def test_checkpoints_of_something_else_are_refused_and_change_nothing() -> None:
    layer = nn.Linear(8, 8)
    target = convert(layer, "csr", "element", 0.5, seed=1)
    before = target.weight
    cases = {
        "representation torch-csc instead of csr": convert(layer, "torch-csc", "element", 0.5).state_dict(),
        "places": convert(nn.Linear(8, 8), "csr", "element", 0.5).state_dict(),
        "values 16 instead of 32": convert(layer, "csr", "element", 0.75).state_dict(),
        "shape 4x8 instead of 8x8": convert(nn.Linear(8, 4), "csr").state_dict(),
        "expected a converted layer at SparseLinear, got none; load it before convert": layer.state_dict(),
    }
    for message, state in cases.items():
        with pytest.raises(RuntimeError, match=message):
            target.load_state_dict(state)
        assert torch.equal(target.weight, before)
    missing = target.load_state_dict({}, strict=False).missing_keys
    assert missing == ["pattern"]
    with pytest.raises(RuntimeError, match="Missing key"):
        target.load_state_dict({})
    with pytest.raises(RuntimeError, match="Unexpected key"):
        layer.load_state_dict(target.state_dict())


def test_fill_that_is_masked_belongs_to_the_pattern() -> None:
    model = nn.Linear(8, 8)
    one, other = (convert(model, "dense", "element", sparsity) for sparsity in (0.5, 0.25))
    with pytest.raises(RuntimeError, match="same pattern, got places"):
        one.load_state_dict(other.state_dict())


class Bare(Dense):
    """Give no values: what the smallest plug-in gives."""

    name = "bare"
    values = Representation.values
    with_values = Representation.with_values


def test_a_class_without_values_is_for_inference_and_keeps_its_weight() -> None:
    model, x = net().eval(), image(2).requires_grad_()
    held = convert(model, Bare, "plane", 0.5)
    want = masked(model, "plane", 0.5)[0](x)
    torch.testing.assert_close(held(x), want)
    assert {name for name, _ in held.named_parameters()} == {name for name, _ in model.named_parameters()} - {
        f"{layer}.weight" for layer in ("first", "grouped", "depth", "point", "head")
    }
    (got,), (gradient,) = (torch.autograd.grad(y.square().sum(), x) for y in (held(x), want))
    torch.testing.assert_close(got, gradient)
    assert "head.weight" in held.state_dict()
    larger = copy.deepcopy(model)
    for parameter in larger.parameters():
        parameter.data.mul_(2)
    double = convert(larger, Bare, "plane", 0.5)
    assert not torch.allclose(double(x), held(x))
    double.load_state_dict(held.state_dict())
    assert torch.equal(double(x), held(x))
    torch.testing.assert_close(double.double()(x.double()).float(), want)
