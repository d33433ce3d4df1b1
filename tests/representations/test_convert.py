"""What convert leaves as it is, what it reports, and what it and the layers refuse."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import nn

from sparsebench.representations.base import Spec
from sparsebench.representations.formats.csr import Csr
from sparsebench.representations.modules import SparseConv2d, SparseLinear, convert
from sparsebench.representations.pattern import Pattern

pytestmark = pytest.mark.usefixtures("one_thread")


def test_skipped_and_shared_layers() -> None:
    shared = nn.Linear(4, 4)
    model = nn.Sequential(
        shared, nn.Sequential(nn.Linear(4, 4), nn.ConvTranspose2d(2, 2, 2)), shared, nn.Embedding(5, 4)
    )
    made = convert(model, "csr", skip=["1"])
    assert made[0] is made[2]
    assert isinstance(made[0], SparseLinear)
    assert type(made[1][0]) is nn.Linear
    assert made[1][0] is not model[1][0]
    assert type(model[0]) is nn.Linear
    assert type(convert(nn.Linear(3, 3), "csr", skip=[""])) is nn.Linear


def test_a_layer_with_nothing_stored_runs_and_is_reported() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(3, 2))
    for name in ("csr", "planes", "block-sparse", "dense"):
        with pytest.warns(UserWarning, match="nothing is stored of '0'"):
            held = convert(model, name, "channel", 0.6)
        x = torch.rand(2, 1, 3, 3)
        torch.testing.assert_close(held[0](x), model[0].bias.detach()[:, None, None].expand(2, 3, 1, 1))
        torch.autograd.backward(held(x).sum())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convert(model, "csr", "channel", 0.4)


class Odd(nn.Linear):
    """A layer that may compute anything."""


@pytest.mark.parametrize(
    "layer",
    [
        nn.ConvTranspose2d(2, 2, 2),
        nn.Conv1d(2, 2, 2),
        nn.Conv3d(2, 2, 2),
        nn.Bilinear(2, 2, 2),
        nn.LSTM(2, 2),
        nn.MultiheadAttention(4, 2),
        nn.LazyLinear(3),
        Odd(2, 2),
        convert(nn.Linear(2, 2), "csr"),
        nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(2, 2, (3, 4), padding="same"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_that_cannot_be_converted_are_named(layer: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), layer))
    name = type(layer).__name__
    with pytest.raises(ValueError, match=rf"expected to convert layer '1\.1' \({name}\), got: .*; or name it in skip"):
        convert(model, "csr")
    assert type(convert(model, "csr", skip={"1.1"})[1][1]) is type(layer)


class Needy(Csr):
    name = "needy"
    requires = ("no_such_module_anywhere",)


class Picky(Csr):
    name = "picky"

    @classmethod
    def unsupported(cls, spec: Spec) -> str | None:
        return "only matrices today" if len(spec.shape) == 4 else None


def test_bad_arguments_are_refused() -> None:
    model = nn.Sequential(nn.Conv2d(6, 4, 3), nn.Flatten(), nn.Linear(4, 2))
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"sparsity": 1.0, "pattern": "plane"}, r"expected a sparsity in \[0, 1\), got 1\.0"),
        ({"sparsity": -0.1, "pattern": "plane"}, r"expected a sparsity in \[0, 1\)"),
        ({"sparsity": float("nan"), "pattern": "plane"}, r"expected a sparsity in \[0, 1\)"),
        ({"sparsity": 0.5}, "expected a pattern to prune by"),
        ({"pattern": "planes"}, r"layer '0' \(Conv2d\), got: expected a pattern of element, plane, .*got 'planes'"),
        ({"pattern": "block:4"}, r"layer '0' \(Conv2d\), got: expected units that divide 4 × 54, got block 4×36"),
        ({"pattern": "block:0"}, "expected a pattern of element"),
        ({"pattern": Pattern(kind="plane", block=(1, 6))}, r"layer '0' .*expected planes of 9"),
        ({"pattern": "n:4", "sparsity": 0.5}, r"layer '0' .*expected units that divide 4 × 54, got n:4"),
        ({"pattern": Pattern(kind="power-law")}, "expected a pattern of whole units"),
        ({"skip": ["2", "3"]}, "expected names of modules to skip, got 3;"),
        ({"representation": "no-such-format"}, "expected a representation of dense"),
        ({"representation": Needy}, "expected no_such_module_anywhere to be installed for needy"),
        ({"representation": Picky}, r"layer '0' \(Conv2d\), got: .*only matrices today"),
    )
    for options, message in cases:
        with pytest.raises(ValueError, match=message):
            convert(model, **({"representation": "csr"} | options))
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    with pytest.raises(ValueError, match="expected a weight of its own in layer '1', got that of '0'"):
        convert(tied, "csr")
    assert type(convert(tied, "csr", skip=["0", "1"])[0]) is nn.Linear
    tied = nn.Sequential(nn.Linear(4, 4), nn.Conv2d(4, 4, 3))
    tied[1].bias = tied[0].bias
    with pytest.raises(ValueError, match="expected a bias of its own in layer '1', got that of '0'"):
        convert(tied, "csr")
    with pytest.raises(ValueError, match=r"layer '0' \(LazyConv2d\), got: it has no shape before its first input; run"):
        convert(nn.Sequential(nn.LazyConv2d(2, 3)), "csr")


def test_bad_parts_of_a_layer_are_refused() -> None:
    weight, matrix = torch.ones(4, 2, 3, 3), torch.ones(4, 6)
    with pytest.raises(ValueError, match="use SparseConv2d"):
        SparseLinear(Csr.build(weight))
    with pytest.raises(ValueError, match="use SparseLinear"):
        SparseConv2d(Csr.build(matrix))
    with pytest.raises(ValueError, match=r"expected a bias \(4,\), got \(6,\)"):
        SparseLinear(Csr.build(matrix), torch.ones(6))
    with pytest.raises(ValueError, match=r"expected kept shaped as the values \(24,\)"):
        SparseLinear(Csr.build(matrix), kept=torch.ones(3, dtype=torch.bool))
    for options, message in (({"stride": 1}, "expected stride as a pair"), ({"dilation": (0, 1)}, "expected dilation")):
        with pytest.raises(ValueError, match=message):
            SparseConv2d(Csr.build(weight), **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected a bool mask \(4, 2\) or \(4, 2, 3, 3\)"):
        SparseConv2d.from_conv(nn.Conv2d(2, 4, 3), "csr", mask=torch.ones(4, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"expected a bool mask \(4, 6\), got torch.bool \(6, 4\)"):
        SparseLinear.from_linear(nn.Linear(6, 4), "csr", mask=torch.ones(6, 4, dtype=torch.bool))
    text = repr(SparseConv2d(Csr.build(weight), stride=(2, 1)))
    assert "csr, 4×2×3×3, bias=False" in text
    assert "stride=(2, 1)" in text


def test_the_weight_of_a_stored_layer_is_not_replaced() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)).eval()
    stored = convert(model, "csr")
    for replace in (
        lambda: nn.utils.fuse_conv_bn_eval(stored[0], stored[1]),
        lambda: setattr(stored[0], "weight", nn.Parameter(torch.zeros(3, 2, 3, 3))),
        lambda: setattr(stored[0], "weight", torch.zeros(3, 2, 3, 3)),
    ):
        with pytest.raises(AttributeError, match="expected the weight of a stored layer to be left alone, got a"):
            replace()
    x = torch.rand(2, 2, 5, 5)
    fused = nn.Sequential(nn.utils.fuse_conv_bn_eval(model[0], model[1]))
    torch.testing.assert_close(convert(fused, "csr")(x), model(x), rtol=1e-4, atol=1e-5)


def test_a_decoder_and_data_parallel_run_the_stored_layers() -> None:
    torch.manual_seed(0)
    decoder = nn.TransformerDecoderLayer(16, 2, 32, batch_first=True, dropout=0.0)
    made = convert(decoder, "csr", skip=["self_attn", "multihead_attn"])
    x, memory = torch.randn(2, 5, 16), torch.randn(2, 3, 16)
    for mode in (True, False):
        torch.testing.assert_close(made.train(mode)(x, memory), decoder.train(mode)(x, memory), rtol=1e-4, atol=1e-5)
    layer = convert(nn.Linear(4, 3), "csr")
    torch.testing.assert_close(nn.DataParallel(layer)(torch.ones(2, 4)), layer(torch.ones(2, 4)))
    layer.share_memory()
    with torch.no_grad():
        layer.get_parameter("values").zero_()
    assert layer.get_parameter("values").is_shared()
    torch.testing.assert_close(layer(torch.ones(1, 4))[0], layer.get_parameter("bias"))


def test_functional_call_computes_with_the_values_that_it_is_given() -> None:
    layer, x = convert(nn.Linear(4, 3), "csr", "element", 0.5), torch.randn(2, 4)
    given = {key: (2 * value).detach().requires_grad_() for key, value in layer.named_parameters()}
    got = torch.func.functional_call(layer, given, (x,))
    torch.testing.assert_close(got, 2 * layer(x))
    torch.autograd.backward(got.sum())
    assert all(value.grad is not None for value in given.values())
