"""Check Planes: both regimes exact and trainable, planes kept or dropped exactly, bytes and kernels honest."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sparsebench.representations import autograd
from sparsebench.representations.allocation import peak_allocations
from sparsebench.representations.base import Spec
from sparsebench.representations.formats.planes import Planes
from sparsebench.representations.pattern import Pattern

PATTERNS = [
    Pattern(kind="element"),
    Pattern(kind="power-law"),
    Pattern(kind="block", block=(8, 8)),
    Pattern(kind="plane", block=(1, 9)),
    Pattern(kind="plane", block=(1, 100)),  # wider than the matrix
    Pattern(kind="channel", block=(1, 9)),
    Pattern(kind="channel", block=(1, 7)),
    Pattern(kind="n:m", m=4),
]
SHAPE = (40, 90)  # a multiple of 9, not of 16 nor of 7


def normal(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def close(got: Tensor, want: Tensor) -> bool:
    tolerance = 1e-5 if got.dtype == torch.float32 else 1e-13
    return bool((got.double() - want).abs().max() <= tolerance * want.abs().max().clamp(min=1.0))


def tensors_of(thing: Any, seen: set[int] | None = None) -> list[Tensor]:
    """Return every tensor that an object holds, at any depth, each once."""
    seen = set() if seen is None else seen
    if id(thing) in seen:
        return []
    seen.add(id(thing))
    if isinstance(thing, Tensor):
        return [thing]
    return [t for part in vars(thing).values() for t in tensors_of(part, seen)] if hasattr(thing, "__dict__") else []


def one_row_absent(sparsity: float) -> tuple[Tensor, Pattern]:
    """Return a matrix of shared planes in which some rows are absent too, and the last, ragged plane is stored."""
    pattern = Pattern(kind="channel", block=(1, 7))
    tensor = pattern.tensor(SHAPE, sparsity, seed=3, dtype=torch.float64)
    tensor[:, -6:] = 1.5
    tensor[5:9] = 0
    return tensor, pattern


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.label)
def test_products_and_gradients_against_float64(pattern: Pattern, sparsity: float, dtype: torch.dtype) -> None:
    tensor = pattern.tensor(SHAPE, sparsity, seed=1, dtype=dtype)
    check(tensor, Planes.build(tensor, pattern))


@pytest.mark.parametrize("sparsity", [0.2, 0.5, 1.0])
def test_shared_planes_with_absent_rows_and_a_ragged_edge(sparsity: float) -> None:
    tensor, pattern = one_row_absent(sparsity)
    held = Planes.build(tensor, pattern)
    assert held.regime == "shared"
    check(tensor, held)


def check(tensor: Tensor, held: Planes) -> None:
    (m, k), dtype = tensor.shape, tensor.dtype
    assert torch.equal(held.to_dense(), tensor)
    oracle = tensor.double().requires_grad_()
    x = normal(7, k, dtype=dtype).t().requires_grad_()  # not contiguous
    wide = x.detach().double().requires_grad_()
    values = held.values.clone().requires_grad_()
    g = normal(m, 14, dtype=dtype, seed=2)[:, ::2]
    product = autograd.matmul(held, x, values)
    product.backward(g)
    want = oracle @ wide
    want.backward(g.double())
    assert product.layout == torch.strided
    assert close(product.detach(), want.detach())
    assert x.grad is not None
    assert wide.grad is not None
    assert oracle.grad is not None
    assert values.grad is not None
    assert close(x.grad, wide.grad)
    assert close(held.rmatmul(g), tensor.double().t() @ g.double())
    stored = held.with_values(torch.ones_like(held.values)).to_dense()
    assert close(held.with_values(values.grad).to_dense(), oracle.grad * stored)
    sampled = held.sampled_matmul(g, x.detach().t())
    assert sampled.shape == held.values.shape
    assert torch.equal(sampled, values.grad)
    # nothing is written outside the matrix
    assert values.grad.count_nonzero() == held.with_values(values.grad).to_dense().count_nonzero()
    turned = held.transpose()
    assert turned.shape == (k, m)
    assert turned.values.data_ptr() == held.values.data_ptr()
    assert torch.equal(turned.to_dense(), tensor.t())
    assert torch.equal(turned.matmul(g), held.rmatmul(g))
    assert torch.equal(turned.rmatmul(x.detach()), held.matmul(x.detach()))
    assert close(turned.with_values(turned.sampled_matmul(x.detach(), g.t())).to_dense(), (oracle.grad * stored).t())


def test_the_data_choose_the_regime_and_the_kernel_says_so() -> None:
    shared = Planes.build(
        Pattern(kind="channel", block=(1, 9)).tensor(SHAPE, 0.5, seed=0), Pattern(kind="channel", block=(1, 9))
    )
    assert (shared.regime, shared.kernel("matmul")) == ("shared", "gather-gemm")
    assert shared.values.shape == (40, 5, 9)
    pairs = Planes.build(
        Pattern(kind="plane", block=(1, 9)).tensor(SHAPE, 0.5, seed=0), Pattern(kind="plane", block=(1, 9))
    )
    assert (pairs.regime, pairs.kernel("matmul")) == ("pairs", "numba")
    assert pairs.values.shape == (200, 1, 9)


def test_the_width_is_the_patterns_or_that_of_the_zeros() -> None:
    tensor = Pattern(kind="plane", block=(1, 32)).tensor((40, 96), 0.8, seed=0)
    assert Planes.build(tensor, Pattern(kind="plane", block=(1, 9))).values.shape[-1] == 9
    assert Planes.build(tensor, Pattern(kind="block", block=(4, 4))).values.shape[-1] == 32
    assert Planes.build(tensor).values.shape[-1] == 32
    assert Planes.build(torch.ones(4, 10, 3, 3), Pattern(kind="plane", block=(1, 5))).values.shape[-1] == 9


@pytest.mark.parametrize("kind", ["plane", "channel"])
def test_a_weight_convolves(kind: str) -> None:
    pattern = Pattern(kind=kind, block=(1, 6))
    weight = pattern.tensor((8, 30), 0.4, seed=0, dtype=torch.float64).reshape(8, 5, 3, 2)
    held = Planes.build(weight, pattern)
    assert held.regime == {"plane": "pairs", "channel": "shared"}[kind]
    assert held.values.numel() == weight.count_nonzero()
    assert torch.equal(held.to_dense(), weight)
    names = {held.kernel(name) for name in ("conv2d", "conv2d_input", "conv2d_values")}
    assert names == {"numba + LLVM shifted planes"}
    image = normal(2, 5, 6, 7)
    assert close(held.conv2d(image, stride=(2, 1)), torch.nn.functional.conv2d(image, weight, stride=(2, 1)))


def test_a_plane_is_kept_if_and_only_if_it_holds_any_value_other_than_zero() -> None:
    """No tolerance, and each plane judged by itself, not by the largest value of the whole tensor."""
    weight = torch.zeros(3, 4, 2, 2)
    weight[0, 1, 1, 1], weight[1, 2, 0, 0], weight[2, 3, 0, 1] = 1e-38, -1e-7, torch.nan
    weight[2, 0] = -0.0
    held = Planes.build(weight)
    assert held.values.shape == (3, 1, 4)
    assert torch.equal(held.to_dense().nan_to_num(5.0), weight.nan_to_num(5.0))
    weight[0, 1, 1, 1] = 0.0
    assert Planes.build(weight).values.shape[0] == 2


@pytest.mark.parametrize("sparsity", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["plane", "channel"])
def test_stored_planes_do_not_alias_their_source_or_a_result(kind: str, sparsity: float) -> None:
    pattern = Pattern(kind=kind, block=(1, 9))
    tensor = pattern.tensor(SHAPE, sparsity, seed=0)
    kept = tensor.clone()
    held = Planes.build(tensor, pattern)
    x = normal(90, 90, dtype=torch.float32)
    first, back = held.matmul(x), held.rmatmul(x[:40])
    expected = first.clone(), back.clone()
    tensor.fill_(9.0)
    first.zero_()
    back.zero_()
    held.to_dense().zero_()
    assert torch.equal(held.to_dense(), kept)
    assert torch.equal(held.matmul(x), expected[0])
    assert torch.equal(held.rmatmul(x[:40]), expected[1])


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["plane", "channel"])
def test_storage_is_what_is_held(kind: str, sparsity: float) -> None:
    pattern = Pattern(kind=kind, block=(1, 7))
    held = Planes.build(pattern.tensor(SHAPE, sparsity, seed=0), pattern)
    tensors = tensors_of(held)
    storage = held.storage()
    assert storage.stored_bytes == sum(t.untyped_storage().nbytes() for t in tensors)
    assert storage.value_bytes == held.values.numel() * 4
    if held.regime == "shared":
        assert storage.index_bytes == 4 * (held.values.shape[0] + held.values.shape[1])
    else:
        assert storage.index_bytes == 4 * (41 + 14 + 3 * held.values.shape[0])


@pytest.mark.parametrize("kind", ["plane", "channel"])
def test_values_share_memory_and_with_values_shares_the_index(kind: str) -> None:
    pattern = Pattern(kind=kind, block=(1, 9))
    held = Planes.build(pattern.tensor(SHAPE, 0.5, seed=0), pattern)
    before = held.to_dense()
    other = held.with_values(held.values * 2)
    assert torch.equal(other.to_dense(), before * 2)
    held.values.mul_(3)
    assert torch.equal(held.to_dense(), before * 3)
    mine, theirs = ({t.data_ptr() for t in tensors_of(one)} for one in (held, other))
    assert len(mine & theirs) == {"plane": 5, "channel": 2}[kind]
    with pytest.raises(ValueError, match="start from"):
        held.with_values(held.values[1:])


@pytest.mark.parametrize("kind", ["plane", "channel"])
def test_bad_operands_are_refused(kind: str) -> None:
    pattern = Pattern(kind=kind, block=(1, 9))
    held = Planes.build(pattern.tensor(SHAPE, 0.5, seed=0), pattern)
    for product, rows in ((held.matmul, 90), (held.rmatmul, 40)):
        with pytest.raises(ValueError, match=r"expected (strided )?x"):
            product(torch.ones(rows + 1, 2))
        with pytest.raises(ValueError, match="expected x in"):
            product(torch.ones(rows, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"expected (strided )?b"):
        held.sampled_matmul(torch.ones(40, 2), torch.ones(3, 90))


def test_what_cannot_be_built_is_refused_with_a_reason() -> None:
    reason = Planes.unsupported(Spec(operation="matmul", shape=(4, 4), dtype=torch.int64, device="cpu"))
    assert reason is not None
    with pytest.raises(ValueError, match="numba kernels compute in float32, float64") as caught:
        Planes.build(torch.ones(4, 4, dtype=torch.int64))
    assert reason in str(caught.value)
    with pytest.raises(ValueError, match="expected a matrix"):
        Planes.build(torch.ones(2, 3, 4))


@pytest.mark.parametrize("kind", ["plane", "channel"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_right_in_both_regimes(kind: str, dtype: torch.dtype) -> None:
    pattern = Pattern(kind=kind, block=(1, 9))
    tensor = pattern.tensor(SHAPE, 0.5, seed=0, dtype=dtype)
    held = Planes.build(tensor, pattern)
    assert held.regime == {"plane": "pairs", "channel": "shared"}[kind]
    x, g = (torch.randn(side, 20, generator=torch.Generator().manual_seed(1)).to(dtype) for side in SHAPE[::-1])
    for got, want in (
        (held.matmul(x), tensor.double() @ x.double()),
        (held.rmatmul(g), tensor.double().t() @ g.double()),
    ):
        assert got.dtype == dtype
        assert (got.double() - want).abs().max() <= 2 * torch.finfo(dtype).eps * want.abs().max()


@pytest.mark.parametrize("regime", ["pairs", "shared"])
def test_a_huge_tensor_never_becomes_dense(regime: str) -> None:
    pattern = Pattern(kind="element")
    small = Planes.build(pattern.tensor((50, 50), 0.9, seed=0))  # compiles the kernels, which takes memory too
    assert small.regime == "pairs"
    autograd.matmul(
        small, torch.ones(50, 4, requires_grad=True), small.values.clone().requires_grad_()
    ).sum().backward()
    huge = pattern.tensor((100_000, 100_000), 1 - 1e-7, seed=0, layout=torch.sparse_coo)
    if regime == "shared":  # 1,000 rows, all in the planes 3 and 6249, the last one
        rows = torch.arange(0, 100_000, 100)
        places = torch.cat([torch.stack([rows, torch.full_like(rows, column)]) for column in (50, 99_999)], 1)
        huge = torch.sparse_coo_tensor(places, torch.ones(2000), (100_000, 100_000)).coalesce()
    x = torch.ones(100_000, 4, requires_grad=True)

    def work() -> tuple[Planes, Tensor]:
        held = Planes.build(huge)
        values = held.values.clone().requires_grad_()
        product = autograd.matmul(held, x, values)
        product.sum().backward()
        assert values.grad is not None
        return held, product.detach()

    [(held, product)], [peak] = peak_allocations([work])
    assert held.regime == regime
    assert held.storage().stored_bytes < 2**20
    assert peak < 64 * 2**20
    assert torch.allclose(product, torch.sparse.mm(huge, x.detach()), atol=1e-5)
    assert x.grad is not None
    assert torch.allclose(x.grad, torch.sparse.mm(huge.t(), torch.ones(100_000, 4)), atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", ["plane", "channel"])
def test_on_a_gpu(kind: str) -> None:
    pattern = Pattern(kind=kind, block=(1, 9))
    tensor = pattern.tensor(SHAPE, 0.5, seed=0).cuda()
    held = Planes.build(tensor, pattern)
    x = normal(90, 33, dtype=torch.float32).cuda()
    assert held.kernel("matmul") == {"plane": "triton", "channel": "gather-gemm"}[kind]
    assert close(held.matmul(x), tensor.double() @ x.double())
    assert close(held.rmatmul(x[:40]), tensor.double().t() @ x[:40].double())
