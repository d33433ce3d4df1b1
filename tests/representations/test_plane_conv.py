"""Convolve plane-sparse activations, and store the output plane by plane, against torch in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparsebench.representations.allocation import peak_allocations
from sparsebench.representations.formats.csr import Csr
from sparsebench.representations.formats.planes import Planes
from sparsebench.representations.plane_conv import conv2d, conv2d_planes
from sparsebench.representations.plane_tensor import PlaneTensor

OPTIONS = [
    {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)},
    {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)},
]


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def activations(n: int = 3, maps: int = 7, density: float = 0.4) -> PlaneTensor:
    keep = torch.rand((n, maps), generator=torch.Generator().manual_seed(1)) < density
    return PlaneTensor.from_dense(normal(n, maps, 9, 10, seed=2) * keep[:, :, None, None])


def close(got: Tensor, want: Tensor) -> bool:
    return got.shape == want.shape and bool(torch.allclose(got, want, rtol=1e-12, atol=1e-12))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_dense_weight_and_both_gradients(options: dict[str, tuple[int, int]]) -> None:
    x, weight = activations(), normal(11, 7, 3, 2, seed=3).requires_grad_()
    values = x.values.requires_grad_()
    y = conv2d(x, weight, **options)
    g = normal(*y.shape, seed=4)
    dense = x.to_dense().detach().requires_grad_()
    other = weight.detach().clone().requires_grad_()
    want = torch.nn.functional.conv2d(dense, other, None, **options)
    assert close(y, want)
    dvalues, dweight = torch.autograd.grad(y, (values, weight), g)
    dx, dw = torch.autograd.grad(want, (dense, other), g)
    assert close(dweight, dw)
    assert close(dvalues, dx[x.rows(), x.col.long()])


@pytest.mark.parametrize("cls", [Planes, Csr])
@pytest.mark.parametrize("shared", [True, False])
def test_sparse_weight(cls: type[Planes | Csr], shared: bool) -> None:
    x, weight = activations(), normal(6, 7, 3, 3, seed=5)
    if shared:
        weight[:, [0, 3, 4]] = 0
        weight[[1, 5]] = 0
    else:
        weight *= torch.rand((6, 7, 1, 1), generator=torch.Generator().manual_seed(6)) < 0.5
    held = cls.build(weight)
    x.values.requires_grad_()
    y = conv2d(x, held, padding=(1, 1))
    dense = x.to_dense().detach().requires_grad_()
    want = torch.nn.functional.conv2d(dense, weight, None, 1, 1)
    assert close(y, want)
    g = normal(*y.shape, seed=7)
    (dvalues,) = torch.autograd.grad(y, (x.values,), g)
    assert close(dvalues, torch.autograd.grad(want, dense, g)[0][x.rows(), x.col.long()])


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("asked", [{"k": 5}, {"k": 0}, {"k": 70}, {"tolerance": 6.0}, {"k": 5, "by": "norm"}])
def test_output_is_stored_as_picked_from_the_whole(dense: bool, asked: dict[str, float]) -> None:
    x, weight = activations(), normal(70, 7, 3, 3, seed=8)  # more than two chunks
    got = conv2d_planes(x.to_dense() if dense else x, weight, padding=(1, 1), **asked)  # type: ignore[arg-type]
    whole = torch.nn.functional.conv2d(x.to_dense(), weight, None, 1, 1)
    if "k" in asked:
        want = PlaneTensor.top_k(whole, int(asked["k"]), str(asked.get("by", "max")))
    else:
        want = PlaneTensor.from_dense(whole, asked["tolerance"])
    assert torch.equal(got.crow, want.crow)
    assert torch.equal(got.col, want.col)
    assert close(got.values, want.values)


def test_the_dense_output_never_exists() -> None:
    x = PlaneTensor.from_dense(torch.rand(2, 4, 32, 32))
    weight = torch.rand(1024, 4, 3, 3)
    conv2d_planes(x, weight, k=3, padding=(1, 1))
    _, [peak] = peak_allocations([lambda: conv2d_planes(x, weight, k=3, padding=(1, 1))])
    assert peak < 2 * 1024 * 32 * 32 * 4 / 4  # a quarter of the dense output


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "either tolerance or k"),
        ({"k": 1, "tolerance": 0.5}, "either tolerance or k"),
        ({"k": 5}, r"k in \[0, 4\]"),
        ({"k": 1, "by": "size"}, "score of max, sum, norm"),
    ],
)
def test_what_is_asked_for_must_make_sense(asked: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        conv2d_planes(activations(), normal(4, 7, 3, 3, seed=9), **asked)  # type: ignore[arg-type]


def test_a_weight_of_other_maps_is_refused() -> None:
    with pytest.raises(ValueError, match=r"weight \(out, 7, kh, kw\)"):
        conv2d(activations(), normal(4, 6, 3, 3, seed=9))


def test_columns_and_the_largest_planes() -> None:
    x = activations(4, 9, 0.7)
    some = torch.tensor([1, 4, 8])
    assert torch.equal(x.columns(some).to_dense(), x.to_dense()[:, some])
    best = x.largest(2, "sum")
    assert torch.equal(best.to_dense(), PlaneTensor.top_k(x.to_dense(), 2, "sum").to_dense())
    assert torch.equal(x.shifted(3, 20).to_dense()[:, 3:12], x.to_dense())
    with pytest.raises(ValueError, match="columns to fit"):
        x.shifted(12, 20)
