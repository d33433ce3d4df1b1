"""Check Bitmap: exact, trainable, honest about bytes and kernels; and that faults in its bits do not pass."""

from __future__ import annotations

from typing import Self

import pytest
import torch
from torch import Tensor

from sparsebench.kernels.bitmap import cpu
from sparsebench.kernels.bitmap.layout import COLUMNS, ROWS, BitmapIndex
from sparsebench.representations import autograd
from sparsebench.representations.allocation import peak_allocations
from sparsebench.representations.base import Spec
from sparsebench.representations.conformance import check
from sparsebench.representations.formats.bitmap import Bitmap
from sparsebench.representations.pattern import Pattern

PATTERNS = [Pattern(kind="element"), Pattern(kind="power-law"), Pattern(kind="block", block=(8, 8))]
SHAPE = (70, 90)


def normal(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def close(got: Tensor, want: Tensor) -> bool:
    limit = 64 * torch.finfo(got.dtype).eps * want.abs().max().clamp(min=1.0)
    return bool((got.double() - want).abs().max() <= limit)


@pytest.mark.parametrize("dtype", cpu.DTYPES)
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.label)
@pytest.mark.parametrize("n", [1, 7, 40])
def test_products_and_gradients_against_float64(pattern: Pattern, sparsity: float, dtype: torch.dtype, n: int) -> None:
    tensor = pattern.tensor(SHAPE, sparsity, seed=1, dtype=dtype)
    held = Bitmap.build(tensor, pattern)
    assert torch.equal(held.to_dense(), tensor)
    assert held.values.numel() == int((tensor != 0).sum())
    oracle = tensor.double().requires_grad_()
    x = normal(n, 90, dtype=dtype).t().requires_grad_()  # not contiguous
    wide = x.detach().double().requires_grad_()
    values = held.values.clone().requires_grad_()
    g = normal(70, 2 * n, dtype=dtype, seed=2)[:, ::2]
    product = autograd.matmul(held, x, values)
    product.backward(g)
    want = oracle @ wide
    want.backward(g.double())
    assert close(product.detach(), want.detach())
    assert x.grad is not None
    assert wide.grad is not None
    assert oracle.grad is not None
    assert values.grad is not None
    assert close(x.grad, wide.grad)
    # the gradient of the values is the dense gradient, cut where elements are stored
    assert close(held.with_values(values.grad).to_dense(), oracle.grad * (tensor != 0))


@pytest.mark.parametrize("layout", ["strided", "coo", "csr", "transposed"])
def test_every_layout_gives_the_same(layout: str) -> None:
    tensor = Pattern(kind="element").tensor(SHAPE, 0.6, seed=3)
    source = {
        "strided": tensor,
        "coo": tensor.to_sparse_coo(),
        "csr": tensor.to_sparse_csr(),
        "transposed": tensor.t().contiguous().t(),
    }[layout]
    held, usual = Bitmap.build(source), Bitmap.build(tensor)
    assert torch.equal(held._index.bits, usual._index.bits)
    assert torch.equal(held.values, usual.values)


def test_only_non_zeros_are_stored_however_small_or_strange_they_are() -> None:
    tensor = torch.zeros(5, 66)
    tensor[0, 0], tensor[4, 65], tensor[4, 0] = 1e-42, torch.nan, -0.0
    held = Bitmap.build(tensor)
    assert held.values.numel() == 2
    assert torch.equal(held.to_dense().nan_to_num(5.0), tensor.nan_to_num(5.0))


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 1.0])
def test_storage_is_a_bit_a_place(sparsity: float) -> None:
    held = Bitmap.build(Pattern(kind="element").tensor(SHAPE, sparsity, seed=0, dtype=torch.bfloat16))
    held.rmatmul(normal(70, 3, dtype=torch.bfloat16))
    assert held.storage().value_bytes == 2 * held.values.numel()
    assert held.storage().index_bytes == 72 * 128 // 8 + 8 * (72 // ROWS + 1)


def test_half_of_the_places_take_little_more_than_half_of_the_bytes() -> None:
    held = Bitmap.build(Pattern(kind="element").tensor((1024, 1024), 0.5, seed=0))
    assert held.storage().stored_bytes <= 0.54 * 4 * 1024 * 1024


def test_values_share_memory_and_with_values_shares_the_index() -> None:
    held = Bitmap.build(Pattern(kind="element").tensor(SHAPE, 0.9, seed=0))
    before = held.to_dense()
    other = held.with_values(held.values * 2)
    assert other._index is held._index
    assert torch.equal(other.to_dense(), before * 2)
    held.values.mul_(3)
    assert torch.equal(held.to_dense(), before * 3)
    assert torch.equal(other.to_dense(), before * 2)
    with pytest.raises(ValueError, match="start from"):
        held.with_values(held.values[1:])


@pytest.mark.parametrize("n", [1, 16, 64])
def test_products_need_no_dense_copy(n: int) -> None:
    """Beside the result at most half of what dense would take: of a matrix in a workspace only panels are dense."""
    held = Bitmap.build(Pattern(kind="element").tensor((2048, 2048), 0.5, seed=0))
    x = normal(2048, n, dtype=torch.float32)
    calls = [
        lambda: held.matmul(x),
        lambda: held.rmatmul(x),
        lambda: held.sampled_matmul(x, x.t()),
    ]
    for call in calls:
        call()  # compiled where it is not counted
    _, peaks = peak_allocations(calls)
    dense = 4 * 2048 * 2048
    for peak, returned in zip(peaks, (x.nbytes, x.nbytes, held.values.nbytes), strict=True):
        assert 0 < peak <= dense / 2 + 4 * x.nbytes + returned


def test_kernels_are_named() -> None:
    held = Bitmap.build(Pattern(kind="element").tensor((40, 36), 0.9, seed=0).reshape(40, 4, 3, 3))
    assert held.kernel("matmul") == cpu.name(torch.float32)
    assert "torch.conv2d" in held.kernel("conv2d")


def test_what_is_not_supported_is_refused_with_a_reason() -> None:
    def reason(dtype: torch.dtype, device: str, side: int = 4) -> str | None:
        return Bitmap.unsupported(Spec(operation="matmul", shape=(side, side), dtype=dtype, device=device))

    assert reason(torch.float32, "cpu") is None
    assert "1.2 GiB; store so few elements as csr" in str(reason(torch.float32, "cpu", 100_000))
    assert "not in int64" in str(reason(torch.int64, "cpu"))
    assert "not on mps" in str(reason(torch.float32, "mps"))
    with pytest.raises(ValueError, match=r"expected a tensor that bitmap supports, got torch\.int64 on cpu"):
        Bitmap.build(torch.ones(4, 4, dtype=torch.int64))


class _Wrong(Bitmap):
    """Build an index of bits that a subclass changes, with as many values as fit."""

    @staticmethod
    def changed(bits: Tensor) -> Tensor:
        raise NotImplementedError

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        right = Bitmap.build(tensor, pattern)
        index = BitmapIndex.from_bits(cls.changed(right._index.bits.clone()), right.matrix_shape)
        values = torch.cat([right.values, right.values.new_ones(max(0, index.nnz - right.values.numel()))])
        return cls(tensor, index, values[: index.nnz])


class DropsTheLastBit(_Wrong):
    """A mask of 63 bits: what stands in the last column of a chunk is lost, and later values move up."""

    name = "drops-the-last-bit"

    @staticmethod
    def changed(bits: Tensor) -> Tensor:
        return bits & 2 ** (COLUMNS - 1) - 1


class SwapsRowsOfAGroup(_Wrong):
    """Words in another order than values."""

    name = "swaps-rows-of-a-group"

    @staticmethod
    def changed(bits: Tensor) -> Tensor:
        if bits.shape[0] < 2:  # in the last group a row outside of the matrix would be named, which is refused
            return bits
        bits[:-1] = bits[:-1].flip(2)
        return bits


class CountsAGroupShort(Bitmap):
    """Take a value of the group before for a group's first one, as starts that are one too small would."""

    name = "counts-a-group-short"

    def matmul(self, x: Tensor) -> Tensor:
        if self._index.bits.shape[0] < 2 or self._values.numel() < 2:
            return super().matmul(x)
        begin = int(self._index.starts[1])
        moved = torch.cat([self._values[:begin], self._values[max(0, begin - 1) : -1]])
        product: Tensor = self._backend.dsd(self._index, moved[: self._values.numel()], x)
        return product


class ForgetsTheSampledOrder(Bitmap):
    """Give the sampled product row by row, not in the order of the values."""

    name = "forgets-the-sampled-order"

    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        rows, columns = self._index.places()
        order = torch.argsort(rows * self.matrix_shape[1] + columns)
        return super().sampled_matmul(a, b)[order]


@pytest.mark.parametrize(
    ("cls", "intended"),
    [
        (DropsTheLastBit, "round trip"),
        (SwapsRowsOfAGroup, "round trip"),
        (CountsAGroupShort, "matmul"),
        (ForgetsTheSampledOrder, "round trip 4-D"),  # the first matrix of more than one chunk
    ],
)
def test_a_fault_in_the_bits_fails_in_the_check_about_it(cls: type[Bitmap], intended: str) -> None:
    report = check(cls)
    assert not report.passed
    assert report.failures[0].name == intended, str(report)


def test_the_right_one_passes() -> None:
    report = check(Bitmap)
    assert report.passed, str(report)
