"""Check Csr: exact, trainable, honest about bytes and kernels, and never dense where it need not be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sparsebench.kernels.csr import cpu
from sparsebench.representations import autograd
from sparsebench.representations.allocation import peak_allocations
from sparsebench.representations.base import Spec
from sparsebench.representations.formats.csr import Csr
from sparsebench.representations.pattern import Pattern

PATTERNS = [
    Pattern(kind="element"),
    Pattern(kind="power-law"),
    Pattern(kind="block", block=(8, 8)),
    Pattern(kind="channel", block=(1, 9)),
    Pattern(kind="n:m", m=4),
]
SHAPE = (70, 90)
EPSILON = {dtype: torch.finfo(dtype).eps for dtype in cpu.DTYPES}


def normal(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def close(got: Tensor, want: Tensor) -> bool:
    return bool((got.double() - want).abs().max() <= 64 * EPSILON[got.dtype] * want.abs().max().clamp(min=1.0))


@pytest.mark.parametrize("dtype", cpu.DTYPES)
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.label)
def test_products_and_gradients_against_float64(pattern: Pattern, sparsity: float, dtype: torch.dtype) -> None:
    tensor = pattern.tensor(SHAPE, sparsity, seed=1, dtype=dtype)
    held = Csr.build(tensor, pattern)
    assert torch.equal(held.to_dense(), tensor)
    assert held.values.numel() == int((tensor != 0).sum())
    oracle = tensor.double().requires_grad_()
    x = normal(7, 90, dtype=dtype).t().requires_grad_()  # not contiguous
    wide = x.detach().double().requires_grad_()
    values = held.values.clone().requires_grad_()
    g = normal(70, 14, dtype=dtype, seed=2)[:, ::2]
    product = autograd.matmul(held, x, values)
    product.backward(g)
    want = oracle @ wide
    want.backward(g.double())
    assert close(product.detach(), want.detach())
    assert x.grad is not None
    assert wide.grad is not None
    assert oracle.grad is not None
    assert values.grad is not None
    assert values.grad.shape == values.shape
    assert close(x.grad, wide.grad)
    # the gradient of the values is the dense gradient, cut where elements are stored
    assert close(held.with_values(values.grad).to_dense(), oracle.grad * (tensor != 0))


def test_only_non_zeros_are_stored_however_small_or_strange_they_are() -> None:
    tensor = torch.zeros(5, 6)
    tensor[0, 0], tensor[4, 5], tensor[4, 0] = 1e-30, torch.nan, -0.0
    held = Csr.build(tensor)
    assert held.values.numel() == 2
    assert torch.equal(held.to_dense().nan_to_num(5.0), tensor.nan_to_num(5.0))


@pytest.mark.parametrize("sparsity", [0.0, 0.7, 1.0])
def test_storage_is_four_bytes_an_index(sparsity: float) -> None:
    held = Csr.build(Pattern(kind="element").tensor(SHAPE, sparsity, seed=0, dtype=torch.bfloat16))
    count = held.values.numel()
    held.rmatmul(normal(70, 3, dtype=torch.bfloat16))
    assert held.storage().value_bytes == 2 * count
    assert held.storage().index_bytes == 4 * (71 + count)


def test_values_share_memory_and_with_values_shares_the_index() -> None:
    held = Csr.build(Pattern(kind="element").tensor(SHAPE, 0.9, seed=0))
    before = held.to_dense()
    other = held.with_values(held.values * 2)
    assert other._index is held._index
    assert torch.equal(other.to_dense(), before * 2)
    held.values.mul_(3)
    assert torch.equal(held.to_dense(), before * 3)
    assert torch.equal(other.to_dense(), before * 2)
    with pytest.raises(ValueError, match="start from"):
        held.with_values(held.values[1:])


@pytest.mark.parametrize("n", [1, 16, 256])
def test_workspace_is_bounded_and_no_gradient_is_dense(n: int) -> None:
    """At most 1.15 times what is stored, given and returned, the result and for halves the sums included."""
    for dtype in (torch.float32, torch.bfloat16):
        held = Csr.build(Pattern(kind="element").tensor((1024, 1536), 0.9, seed=0, dtype=dtype))
        x, g = normal(1536, n, dtype=dtype), normal(1024, n, dtype=dtype)
        stored, both = held.storage().stored_bytes, (x.numel() + g.numel()) * x.element_size()
        calls: list[Any] = [
            lambda held=held, x=x: held.matmul(x),
            lambda held=held, g=g: held.rmatmul(g),
            lambda held=held, x=x, g=g: held.sampled_matmul(g, x.t()),
        ]
        for call in calls:
            call()  # compiled where it is not counted
        _, peaks = peak_allocations(calls)
        returned = held.values.numel() * x.element_size()
        for peak, room in zip(peaks, (stored + both, stored + both, stored + both + returned), strict=True):
            assert 0 < peak <= 1.15 * room


@pytest.mark.parametrize(("operation", "kernel"), [("matmul", "dsd"), ("rmatmul", "dsd"), ("sampled_matmul", "sdd")])
def test_the_kernel_named_is_the_one_that_runs(operation: str, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Csr.build(Pattern(kind="element").tensor((40, 36), 0.9, seed=0).reshape(40, 4, 3, 3))
    ran: list[str] = []
    real = getattr(cpu, kernel)

    def spy(*operands: Any, **options: Any) -> Tensor:
        ran.append(cpu.name(torch.float32))
        product: Tensor = real(*operands, **options)
        return product

    monkeypatch.setattr(cpu, kernel, spy)
    g, x = normal(40, 8, dtype=torch.float32), normal(36, 8, dtype=torch.float32)
    operands = {"matmul": (x,), "rmatmul": (g,), "sampled_matmul": (g, x.t())}
    getattr(held, operation)(*operands[operation])
    assert len(ran) == 1
    assert held.kernel(operation) == ran[0]
    assert held.kernel("conv2d") == "numba + LLVM shifted planes"


def test_what_is_not_supported_is_refused_with_a_reason() -> None:
    def reason(dtype: torch.dtype, device: str) -> str | None:
        return Csr.unsupported(Spec(operation="matmul", shape=(4, 4), dtype=dtype, device=device))

    assert reason(torch.float32, "cpu") is None
    assert reason(torch.bfloat16, "cpu") is None
    assert "not in int64" in str(reason(torch.int64, "cpu"))
    assert "not in float64" in str(reason(torch.float64, "cuda"))
    assert "not on mps" in str(reason(torch.float32, "mps"))
    with pytest.raises(ValueError, match=r"expected a tensor that csr supports, got torch\.int64 on cpu"):
        Csr.build(torch.ones(4, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="expected a matrix"):
        Csr.build(torch.ones(2, 3, 4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_on_a_gpu(dtype: torch.dtype) -> None:
    tensor = Pattern(kind="power-law").tensor((300, 4000), 0.5, seed=0, dtype=dtype).cuda()
    held = Csr.build(tensor)
    assert held.kernel("matmul").startswith("triton")
    x, g = normal(4000, 33, dtype=dtype).cuda(), normal(300, 33, dtype=dtype).cuda()
    for got, want in (
        (held.matmul(x), tensor.double() @ x.double()),
        (held.rmatmul(g), tensor.double().t() @ g.double()),
    ):
        assert got.device == held.device
        assert (got.double() - want).abs().max() <= want.abs().max() * 64 * torch.finfo(dtype).eps
