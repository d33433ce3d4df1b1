"""Plane-sparse tensors against the dense ones that they stand for, the faults of their ancestor, and bad input."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sparsebench.representations.pattern import Pattern
from sparsebench.representations.plane_tensor import SCORES, PlaneTensor

SHAPE = (5, 7, 3, 4)


def dense(sparsity: float = 0.6, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw a tensor with exactly so many planes, an empty row among them; its other values are not near 0."""
    rows, columns, height, width = SHAPE
    pattern = Pattern(kind="plane", block=(1, height * width))
    x = pattern.tensor((rows, columns * height * width), sparsity, seed, dtype=dtype).reshape(SHAPE)
    x[2] = 0
    return x


def stored(x: Tensor) -> Tensor:
    return (x != 0).any(3).any(2)


def expect_planes(got: PlaneTensor, want: Tensor, keep: Tensor | None = None) -> None:
    """Compare with a dense tensor, and the index with the planes that should be stored."""
    keep = stored(want) if keep is None else keep
    assert got.shape == tuple(want.shape)
    assert torch.equal(got.to_dense(), want)
    assert got.crow.dtype == got.col.dtype == torch.int32
    rows, columns = keep.nonzero().unbind(1)
    assert got.rows().tolist() == rows.tolist()
    assert got.col.tolist() == columns.tolist()
    assert got.crow.tolist() == [0, *keep.sum(1).cumsum(0).tolist()]
    assert torch.equal(got.values, want[rows, columns])
    assert got.values.is_contiguous()


# The faults of the first plane store, in Lua


def test_old_fault_add_keeps_planes_that_only_the_second_operand_has() -> None:
    a, b = dense(0.8, seed=1), dense(0.7, seed=2)
    assert bool((stored(b) & ~stored(a)).any())
    got = PlaneTensor.from_dense(a).add(PlaneTensor.from_dense(b))
    expect_planes(got, a + b, stored(a) | stored(b))


def test_old_fault_mul_drops_planes_where_the_second_is_zero() -> None:
    a, b = dense(0.3, seed=1), dense(0.5, seed=2)
    assert bool((stored(a) & ~stored(b)).any())
    got = PlaneTensor.from_dense(a).mul(PlaneTensor.from_dense(b))
    expect_planes(got, a * b, stored(a) & stored(b))


def test_old_fault_a_3d_input_is_not_judged_by_its_overall_maximum() -> None:
    sample = dense()[0]
    with pytest.raises(ValueError, match=r"got \(7, 3, 4\).*x\[None\] makes a batch"):
        PlaneTensor.from_dense(sample)
    assert 0 < int(stored(sample[None]).sum()) < 7
    expect_planes(PlaneTensor.from_dense(sample[None]), sample[None])


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_old_fault_stored_planes_do_not_alias_their_source(memory: torch.memory_format) -> None:
    x = torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)).add_(1).to(memory_format=memory)
    before = x.clone()
    held = [PlaneTensor.from_dense(x), PlaneTensor.top_k(x, 7), PlaneTensor.from_dense(x).threshold(0.5)]
    source = PlaneTensor.from_dense(x)
    made = [source.threshold(0.0), source.relu(), source.scale(1.0), source.add(PlaneTensor.from_dense(x * 0))]
    x.zero_()
    source.values.zero_()
    for planes in (*held, *made):
        assert torch.equal(planes.to_dense(), before)
    held[0].to_dense().zero_()
    assert torch.equal(held[0].to_dense(), before)


# Build


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("sparsity", [0.0, 0.6, 1.0])
def test_round_trip(dtype: torch.dtype, sparsity: float) -> None:
    x = dense(sparsity, dtype=dtype)
    held = PlaneTensor.from_dense(x)
    expect_planes(held, x)
    count = int(stored(x).sum())
    assert (held.planes, held.density, len(held)) == (count, count / 35, 5)
    assert held.storage().value_bytes == count * 12 * x.element_size()
    assert held.storage().index_bytes == 4 * count + 4 * 6
    assert held.nbytes == held.storage().stored_bytes
    assert f"{count} planes" in repr(held)


def test_strides_of_the_source_do_not_matter() -> None:
    x = dense()
    wide = torch.zeros(5, 7, 3, 8, dtype=x.dtype)
    wide[..., ::2] = x
    for source in (
        x.to(memory_format=torch.channels_last),
        wide[..., ::2],
        x.transpose(0, 1).contiguous().mT.mT.transpose(0, 1),
    ):
        expect_planes(PlaneTensor.from_dense(source), x)
        expect_planes(PlaneTensor.top_k(source, 7), x)


def test_tolerance_is_a_bound_on_each_planes_maximum() -> None:
    x = torch.zeros(2, 3, 2, 2)
    x[0, 0, 1, 1], x[0, 2, 0, 0], x[1, 1] = -0.5, 0.5001, float("nan")
    held = PlaneTensor.from_dense(x, tolerance=0.5)
    assert held.places().tolist() == [2, 4]  # -0.5 is not above 0.5; NaN is kept
    assert PlaneTensor.from_dense(x).places().tolist() == [0, 2, 4]
    assert PlaneTensor.from_dense(x).threshold(0.5).places().tolist() == [2, 4]
    assert PlaneTensor.from_dense(x, tolerance=float("inf")).places().tolist() == [4]


@pytest.mark.parametrize("by", SCORES)
@pytest.mark.parametrize("k", [0, 1, 3, 7])
def test_top_k_keeps_the_best_planes_of_each_row(by: str, k: int) -> None:
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    x[2] = 0  # a row of zeros stores nothing, whatever k
    x[3, 2:] = 0  # fewer planes than k
    score = {"max": x.abs().amax((2, 3)), "sum": x.abs().sum((2, 3)), "norm": x.square().sum((2, 3)).sqrt()}[by]
    keep = torch.zeros(5, 7, dtype=torch.bool)
    for row in range(5):
        best = sorted(range(7), key=lambda column: -float(score[row, column]))[:k]
        keep[row, best] = True
    keep &= stored(x)
    expect_planes(PlaneTensor.top_k(x, k, by), x * keep[:, :, None, None], keep)


def test_ties_of_top_k_go_to_the_lowest_columns_and_nan_comes_first() -> None:
    x = torch.ones(3, 6, 2, 2)
    x[1, 4] = 2
    x[2, 5, 0, 0] = float("nan")
    held = PlaneTensor.top_k(x, 3)
    assert held.col.tolist() == [0, 1, 2, 0, 1, 4, 0, 1, 5]


def test_top_k_of_values_whose_squares_vanish_still_finds_them() -> None:
    x = torch.zeros(1, 4, 2, 2)
    x[0, 2] = 1e-30
    assert PlaneTensor.top_k(x, 2, "norm").col.tolist() == [2]
    halves = torch.full((1, 3, 40, 40), 100.0, dtype=torch.float16)
    halves[0, 2] = 101.0
    assert PlaneTensor.top_k(halves, 1, "sum").col.tolist() == [2]  # the sums overflow in float16


# Arithmetic


def test_arithmetic_with_nothing_stored() -> None:
    x, zero = dense(), torch.zeros(SHAPE, dtype=torch.float64)
    held, empty = PlaneTensor.from_dense(x), PlaneTensor.from_dense(zero)
    expect_planes(held.add(empty), x)
    expect_planes(empty.add(held), x)
    expect_planes(empty.add(empty), zero)
    expect_planes(held.mul(empty), zero)
    expect_planes(empty.mul(held), zero)
    expect_planes(empty.relu().scale(2.0).threshold(), zero)


def test_relu_scale_and_threshold() -> None:
    x = dense()
    x[0] = -x[0].abs()
    held = PlaneTensor.from_dense(x)
    assert torch.equal(held.relu().to_dense(), x.relu())
    assert held.relu().planes == held.planes
    expect_planes(held.relu().threshold(), x.relu())
    expect_planes(held.scale(-2.5), x * -2.5)
    expect_planes(held.scale(torch.tensor(3.0, dtype=x.dtype)), x * 3)
    bound = float(x.abs().amax((2, 3)).flatten().sort().values[-4])
    expect_planes(held.threshold(bound), x * (x.abs().amax((2, 3)) > bound)[:, :, None, None])


def test_planes_that_cancel_stay_until_a_threshold_drops_them() -> None:
    held = PlaneTensor.from_dense(dense())
    total = held.add(held.scale(-1.0))
    assert total.planes == held.planes
    expect_planes(total.threshold(), torch.zeros(SHAPE, dtype=torch.float64))


def test_transposed_planes() -> None:
    x = dense(0.4)
    held = PlaneTensor.from_dense(x)
    expect_planes(held.transpose_planes(), x.transpose(0, 1))
    expect_planes(held.transpose_planes().transpose_planes(), x)


# Slices


@pytest.mark.parametrize(
    "rows",
    [
        slice(2, 5),
        slice(None),
        slice(0, 0),
        slice(4, 2),
        slice(5, 9),
        slice(-2, None),
        slice(None, None, 2),
        slice(None, None, -1),
    ],
)
def test_slices_by_sample(rows: slice) -> None:
    x = dense()
    picked = torch.arange(5)[list(range(*rows.indices(5)))] if len(range(*rows.indices(5))) else torch.arange(0)
    expect_planes(PlaneTensor.from_dense(x)[rows], x[picked])


def test_one_sample_is_a_batch_of_one_and_neighbours_are_not_copied() -> None:
    x = dense()
    held = PlaneTensor.from_dense(x)
    for row in (0, 2, 4, -1):
        expect_planes(held[row], x[row][None])
    torch.testing.assert_close(functools.reduce(PlaneTensor.add, held).to_dense(), x.sum(0, keepdim=True))
    part = held[3:5]
    assert part.values.untyped_storage().data_ptr() == held.values.untyped_storage().data_ptr()
    assert part.col.untyped_storage().data_ptr() == held.col.untyped_storage().data_ptr()
    assert part.nbytes == part.planes * (12 * 8 + 4) + 3 * 4
    for row in (5, -6):
        with pytest.raises(IndexError, match=r"expected a row in \[0, 5\)"):
            held[row]
    with pytest.raises(TypeError, match="got list; use to_dense"):
        held[[1, 2]]  # type: ignore[index]


# Gradients


@pytest.mark.parametrize(
    ("sparse", "plain"),
    [
        (lambda a, b: a.add(b), lambda a, b: a + b),
        (lambda a, b: a.mul(b), lambda a, b: a * b),
        (lambda a, b: a.relu().add(b.scale(-3.0)), lambda a, b: a.relu() - 3 * b),
        (lambda a, b: a.threshold(1.2).mul(b), lambda a, b: a * (a.abs().amax((2, 3)) > 1.2)[:, :, None, None] * b),
        (lambda a, b: a[1:4].add(b[4:1:-1]), lambda a, b: a[1:4] + b[2:5].flip(0)),
        (lambda a, b: a.transpose_planes().mul(b.transpose_planes()), lambda a, b: (a * b).transpose(0, 1)),
    ],
    ids=["add", "mul", "relu-scale", "threshold", "slices", "transpose"],
)
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_gradients_agree_with_dense_ones_at_the_stored_planes(
    sparse: Callable[[PlaneTensor, PlaneTensor], PlaneTensor],
    plain: Callable[[Tensor, Tensor], Tensor],
    memory: torch.memory_format,
) -> None:
    sources = [dense(0.4, seed).to(memory_format=memory) for seed in (1, 2)]
    a, b = (x.clone().requires_grad_() for x in sources)
    a_plain, b_plain = (x.clone().requires_grad_() for x in sources)
    got, want = sparse(PlaneTensor.from_dense(a), PlaneTensor.from_dense(b)).to_dense(), plain(a_plain, b_plain)
    assert torch.equal(got, want)
    g = torch.randn(want.shape, generator=torch.Generator().manual_seed(5), dtype=want.dtype)
    torch.autograd.backward([got, want], [g, g])
    for x, x_plain in ((a, a_plain), (b, b_plain)):
        assert x.grad is not None
        assert x_plain.grad is not None
        assert bool(x.grad.any())
        torch.testing.assert_close(x.grad, x_plain.grad * stored(x.detach())[:, :, None, None])


def test_top_k_sends_gradients_to_the_winners_only() -> None:
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3)).requires_grad_()
    held = PlaneTensor.top_k(x, 2)
    torch.autograd.backward(held.to_dense().square().sum())
    assert x.grad is not None
    assert torch.equal(x.grad, 2 * held.to_dense())
    values = held.values.detach().requires_grad_()
    torch.autograd.backward(PlaneTensor(shape=SHAPE, crow=held.crow, col=held.col, values=values).to_dense().sum())
    assert values.grad is not None
    assert torch.equal(values.grad, torch.ones_like(values))


# Sizes at the edge, and bad input


@pytest.mark.parametrize("shape", [(0, 3, 2, 2), (2, 0, 2, 2), (2, 3, 0, 2), (1, 1, 1, 1)])
def test_sizes_of_none_and_one(shape: tuple[int, int, int, int]) -> None:
    x = torch.ones(shape)
    held = PlaneTensor.from_dense(x)
    assert torch.equal(held.to_dense(), x)
    assert held.planes == (1 if x.numel() else 0)
    assert torch.equal(held.add(held).mul(held).relu().threshold().to_dense(), 2 * x)
    assert torch.equal(held.transpose_planes().to_dense(), x.transpose(0, 1))
    assert torch.equal(PlaneTensor.top_k(x, shape[1]).to_dense(), x)


def test_bad_operands_are_refused() -> None:
    held = PlaneTensor.from_dense(dense())
    for operation in (held.add, held.mul):
        with pytest.raises(ValueError, match=r"operand of shape \(5, 7, 3, 4\), got \(5, 7, 4, 3\)"):
            operation(PlaneTensor.from_dense(dense().mT))
        with pytest.raises(ValueError, match=r"operand of dtype torch.float64, got torch.float32"):
            operation(PlaneTensor.from_dense(dense().float()))
    for k in (-1, 8):
        with pytest.raises(ValueError, match=rf"expected k in \[0, 7\], .* got {k}"):
            PlaneTensor.top_k(dense(), k)
    with pytest.raises(ValueError, match=r"expected a score of max, sum, norm, got 'best'"):
        PlaneTensor.top_k(dense(), 1, by="best")
    for tolerance in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="expected a tolerance of at least 0"):
            PlaneTensor.from_dense(dense(), tolerance)
        with pytest.raises(ValueError, match="expected a tolerance of at least 0"):
            held.threshold(tolerance)
    with pytest.raises(ValueError, match="expected a scalar factor"):
        held.scale(torch.ones(7))
    for wrong in (dense().to_sparse(), dense().to(torch.int64)):
        with pytest.raises(ValueError, match="expected a strided tensor"):
            PlaneTensor.from_dense(wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (5, 7, 3)}, "expected a shape"),
        ({"values": torch.zeros(2, 4, 3)}, r"expected planes as values \(2, 3, 4\), got \(2, 4, 3\)"),
        ({"values": torch.zeros(3, 3, 4)}, r"expected planes as values \(2, 3, 4\), got \(3, 3, 4\)"),
        ({"crow": torch.zeros(5, dtype=torch.int32)}, r"expected crow \(6,\), got \(5,\)"),
        ({"crow": torch.zeros(6, dtype=torch.int64)}, "expected crow in torch.int32"),
        ({"col": torch.zeros(2, dtype=torch.int64)}, "expected col in torch.int32"),
        ({"col": torch.zeros(2, dtype=torch.int32, device="meta")}, "expected col on cpu, got meta"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    parts: dict[str, Any] = {
        "shape": SHAPE,
        "crow": torch.tensor([0, 1, 1, 2, 2, 2], dtype=torch.int32),
        "col": torch.tensor([3, 0], dtype=torch.int32),
        "values": torch.ones(2, 3, 4),
    }
    assert PlaneTensor(**parts).planes == 2
    with pytest.raises(ValueError, match=message):
        PlaneTensor(**(parts | change))
