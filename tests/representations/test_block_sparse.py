"""Check BlockSparse: exact, trainable, honest about bytes and kernels, and never dense where it need not be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sparsebench.kernels.block_sparse import cpu_launch
from sparsebench.representations import autograd
from sparsebench.representations.allocation import peak_allocations
from sparsebench.representations.base import Spec
from sparsebench.representations.formats.block_sparse import BlockSparse
from sparsebench.representations.formats.block_sparse_micro import (
    BlockSparseBlas,
    BlockSparseGenerated,
    BlockSparseMkl,
)
from sparsebench.representations.pattern import Pattern

PATTERNS = [
    Pattern(kind="element"),
    Pattern(kind="power-law"),
    Pattern(kind="block", block=(8, 8)),
    Pattern(kind="block", block=(3, 20)),
    Pattern(kind="plane", block=(1, 9)),
    Pattern(kind="channel", block=(1, 9)),
    Pattern(kind="n:m", m=4),
]
SHAPE = (70, 90)  # a multiple of neither 32 nor 8 nor 20


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.label)
def test_products_and_gradients_against_float64(pattern: Pattern, sparsity: float, dtype: torch.dtype) -> None:
    tensor = pattern.tensor(SHAPE, sparsity, seed=1, dtype=dtype)
    held = BlockSparse.build(tensor, pattern)
    assert torch.equal(held.to_dense(), tensor)
    oracle = tensor.double().requires_grad_()
    x = normal(7, 90, dtype=dtype).t().requires_grad_()  # not contiguous
    wide = x.detach().double().requires_grad_()
    values = held.values.clone().requires_grad_()
    g = normal(70, 14, dtype=dtype, seed=2)[:, ::2]
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
    # the gradient of the values is the dense gradient, cut where blocks are stored
    stored = held.with_values(torch.ones_like(held.values)).to_dense()
    assert close(held.with_values(values.grad).to_dense(), oracle.grad * stored)
    sampled = held.sampled_matmul(g, x.detach().t())
    assert sampled.shape == held.values.shape
    assert torch.equal(sampled, values.grad)


def test_the_block_is_the_patterns() -> None:
    tensor = Pattern(kind="element").tensor(SHAPE, 0.9, seed=0)
    assert BlockSparse.build(tensor, Pattern(kind="block", block=(4, 6))).values.shape[1:] == (4, 6)


@pytest.mark.parametrize("shape", [(256, 384), (1000, 700)])
@pytest.mark.parametrize("block", [(4, 4), (16, 16), (64, 64), (8, 32), (1, 16), (32, 1)])
def test_without_a_pattern_the_block_is_the_one_of_the_zeros(block: tuple[int, int], shape: tuple[int, int]) -> None:
    tensor = Pattern(kind="block", block=block).tensor(shape, 0.9, seed=0)
    built = BlockSparse.build(tensor)
    assert tuple(built.values.shape[1:]) == block
    assert torch.equal(built.to_dense(), tensor)
    # a pattern that names no block says nothing of one
    assert BlockSparse.build(tensor, Pattern(kind="plane", block=(1, 9))).values.shape == built.values.shape
    named = BlockSparse.build(tensor, Pattern(kind="block", block=block))
    assert built.storage() == named.storage()


@pytest.mark.parametrize("outputs", [1, 4, 16, 32])
def test_without_a_pattern_a_weight_is_blocked_by_as_many_outputs_as_the_zeros(outputs: int) -> None:
    flat = Pattern(kind="block", block=(outputs, 9)).tensor((96, 45), 0.8, seed=1)
    built = BlockSparse.build(flat.reshape(96, 5, 3, 3))
    assert tuple(built.values.shape[1:]) == (outputs, 9)
    assert built.slides


def test_only_blocks_with_a_value_are_stored_however_small_or_strange_it_is() -> None:
    tensor = torch.zeros(64, 96)
    tensor[0, 0], tensor[40, 70], tensor[40, 0] = 1e-30, torch.nan, -0.0
    held = BlockSparse.build(tensor)
    assert held.values.shape[0] == 2
    assert torch.equal(held.to_dense().nan_to_num(5.0), tensor.nan_to_num(5.0))


@pytest.mark.parametrize(
    "layout", ["sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc", "uncoalesced"]
)
def test_any_layout_builds(layout: str) -> None:
    tensor = Pattern(kind="element").tensor((64, 96), 0.9, seed=0)
    if layout == "uncoalesced":
        coo = tensor.to_sparse()
        places, halves = coo.indices().flip(1), coo.values().flip(0) / 2
        given = torch.sparse_coo_tensor(torch.cat([places, places], 1), torch.cat([halves, halves]), tensor.shape)
    else:
        size = (8, 8) if "bs" in layout else None
        given = tensor.to_sparse(layout=getattr(torch, layout), blocksize=size)
    assert torch.equal(BlockSparse.build(given).to_dense(), tensor)


def test_a_weight_multiplies_as_a_matrix_and_convolves() -> None:
    weight = Pattern(kind="plane", block=(1, 9)).tensor((20, 45), 0.5, seed=0, dtype=torch.float64).reshape(20, 5, 3, 3)
    held = BlockSparse.build(weight)
    assert held.shape == (20, 5, 3, 3)
    assert torch.equal(held.to_dense(), weight)
    x, image = normal(45, 3), normal(2, 5, 6, 7)
    assert close(held.matmul(x), weight.reshape(20, 45) @ x)
    assert close(held.conv2d(image, padding=(1, 1)), torch.nn.functional.conv2d(image, weight, padding=1))
    assert torch.equal(held.transpose().to_dense(), weight.reshape(20, 45).t())


def test_a_transpose_shares_everything_and_trains() -> None:
    tensor = Pattern(kind="block", block=(8, 16)).tensor(SHAPE, 0.5, seed=0, dtype=torch.float64)
    held = BlockSparse.build(tensor, Pattern(kind="block", block=(8, 16)))
    turned = held.transpose()
    assert turned.shape == (90, 70)
    assert turned.device == held.device
    assert turned.values.data_ptr() == held.values.data_ptr()
    assert turned.storage() == held.storage()
    assert torch.equal(turned.to_dense(), tensor.t())
    x, g = normal(70, 4), normal(90, 4)
    assert torch.equal(turned.matmul(x), held.rmatmul(x))
    assert torch.equal(turned.rmatmul(g), held.matmul(g))
    assert torch.equal(turned.transpose().to_dense(), tensor)
    values = turned.values.clone().requires_grad_()
    autograd.matmul(turned, x, values).backward(g)
    assert values.grad is not None
    stored = held.with_values(torch.ones_like(held.values)).to_dense().t()
    assert close(turned.with_values(values.grad).to_dense(), (g @ x.t()) * stored)


def test_nothing_aliases_the_source_or_the_result() -> None:
    tensor = Pattern(kind="element").tensor((64, 64), 0.0, seed=0)
    kept = tensor.clone()
    held = BlockSparse.build(tensor)
    first = held.matmul(torch.eye(64))
    tensor.zero_()
    first.zero_()
    held.to_dense().zero_()
    assert torch.equal(held.to_dense(), kept)
    assert torch.equal(held.matmul(torch.eye(64)), kept)


def test_values_share_memory_and_with_values_shares_the_index() -> None:
    held = BlockSparse.build(Pattern(kind="element").tensor(SHAPE, 0.9, seed=0))
    other = held.with_values(held.values * 2)
    before = held.to_dense()
    assert torch.equal(other.to_dense(), before * 2)
    held.values.mul_(3)
    assert torch.equal(held.to_dense(), before * 3)
    mine, theirs = ({t.data_ptr() for t in tensors_of(one)} for one in (held, other))
    assert len(mine & theirs) == 5
    with pytest.raises(ValueError, match="start from"):
        held.with_values(held.values[1:])


@pytest.mark.parametrize("sparsity", [0.0, 0.7, 1.0])
def test_storage_is_what_is_held(sparsity: float) -> None:
    pattern = Pattern(kind="block", block=(32, 32))
    held = BlockSparse.build(pattern.tensor(SHAPE, sparsity, seed=0), pattern)
    tensors = tensors_of(held)
    assert len(tensors) == 6
    storage = held.storage()
    assert storage.stored_bytes == sum(t.untyped_storage().nbytes() for t in tensors)
    assert storage.value_bytes == held.values.shape[0] * 32 * 32 * 4
    assert storage.index_bytes == 4 * (4 + 4 + 3 * held.values.shape[0])


@pytest.mark.parametrize(
    ("operation", "kernel"), [("matmul", "dsd"), ("rmatmul", "dsd"), ("sampled_matmul", "sdd"), ("narrow", "dds")]
)
@pytest.mark.parametrize("cls", [BlockSparse, BlockSparseGenerated, BlockSparseBlas, BlockSparseMkl])
def test_the_kernel_named_is_the_one_that_runs(
    cls: type[BlockSparse], operation: str, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason := cls.unsupported(Spec(operation="matmul", shape=(40, 40), dtype=torch.float32, device="cpu")):
        pytest.skip(reason)
    held = cls.build(Pattern(kind="element").tensor((40, 40), 0.9, seed=0))
    ran: list[str] = []
    real = getattr(cpu_launch, kernel)
    monkeypatch.setattr(cpu_launch, kernel, lambda *operands: ran.append(operands[-1].name) or real(*operands))
    x = normal(40, 3 if operation == "narrow" else 40, dtype=torch.float32)
    method = "matmul" if operation == "narrow" else operation
    getattr(held, method)(*((x, x.t()) if operation == "sampled_matmul" else (x,)))
    assert ran == [held.kernel(method)]
    words = {"generated": "LLVM", "blas": "BLAS", "mkl": "MKL"}
    assert words.get(cls.micro or "", "numba") in ran[0]


def test_other_dtypes_and_devices_are_refused_with_a_reason() -> None:
    for dtype in (torch.int64, torch.complex64):
        reason = BlockSparse.unsupported(Spec(operation="matmul", shape=(4, 4), dtype=dtype, device="cpu"))
        assert reason is not None
        assert "\n" not in reason
        with pytest.raises(ValueError, match="numba kernels compute in float32, float64, ") as caught:
            BlockSparse.build(torch.ones(4, 4, dtype=dtype))
        assert reason in str(caught.value)
    for dtype in (torch.float32, torch.bfloat16):
        assert BlockSparse.unsupported(Spec(operation="matmul", shape=(4, 4), dtype=dtype, device="cpu")) is None
    assert "mps" in str(
        BlockSparse.unsupported(Spec(operation="matmul", shape=(4, 4), dtype=torch.float32, device="mps"))
    )
    for cls in (BlockSparseBlas, BlockSparseMkl):
        half = Spec(operation="matmul", shape=(4, 4), dtype=torch.bfloat16, device="cpu")
        assert "bfloat16" in str(cls.unsupported(half)) or "not installed" in str(cls.unsupported(half))
        assert "CPU" in str(cls.unsupported(Spec(operation="matmul", shape=(4, 4), dtype=torch.float32, device="cuda")))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_train_and_keep_their_dtype(dtype: torch.dtype) -> None:
    pattern = Pattern(kind="block", block=(8, 8))
    tensor = pattern.tensor((40, 48), 0.5, seed=0, dtype=dtype)
    held = BlockSparse.build(tensor, pattern)
    values, x = held.values.clone().requires_grad_(), normal(48, 20, dtype=dtype).requires_grad_()
    product = autograd.matmul(held, x, values)
    g = normal(40, 20, dtype=dtype)
    product.backward(g)
    eps = torch.finfo(dtype).eps
    wide, deep = tensor.double(), x.detach().double()
    for got, want in ((product, wide @ deep), (x.grad, wide.t() @ g.double())):
        assert got is not None
        assert got.dtype == dtype
        assert (got.double() - want).abs().max() <= 2 * eps * want.abs().max()
    assert values.grad is not None
    weight = held.with_values(values.grad).to_dense()
    want = torch.where(tensor != 0, g.double() @ deep.t(), 0.0)
    assert (weight.double() - want).abs().max() <= 2 * eps * want.abs().max()


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a matrix"):
        BlockSparse.build(torch.ones(2, 3, 4))
    held = BlockSparse.build(torch.ones(5, 6))
    for product, rows in ((held.matmul, 6), (held.rmatmul, 5)):
        with pytest.raises(ValueError, match="expected x of shape"):
            product(torch.ones(rows + 1, 2))
        with pytest.raises(ValueError, match="expected x in"):
            product(torch.ones(rows, 2, dtype=torch.float64))


def test_a_huge_tensor_never_becomes_dense() -> None:
    pattern = Pattern(kind="element")
    small = BlockSparse.build(pattern.tensor((50, 50), 0.9, seed=0))  # compiles the kernels, which takes memory too
    autograd.matmul(
        small, torch.ones(50, 4, requires_grad=True), small.values.clone().requires_grad_()
    ).sum().backward()
    huge = pattern.tensor((100_000, 100_000), 1 - 1e-7, seed=0, layout=torch.sparse_coo)
    assert huge._nnz() == 1000
    x = torch.ones(100_000, 4, requires_grad=True)

    def work() -> tuple[BlockSparse, Tensor, Tensor]:
        held = BlockSparse.build(huge)
        values = held.values.clone().requires_grad_()
        product = autograd.matmul(held, x, values)
        product.sum().backward()
        assert values.grad is not None
        return held, product.detach(), values.grad

    [(held, product, gradient)], [peak] = peak_allocations([work])
    own = held.storage().stored_bytes
    assert own < 5 * 2**20
    # the object, the values that are trained and their gradient are its own blocks three times over
    assert peak < 3 * own + 64 * 2**20
    assert torch.allclose(product, torch.sparse.mm(huge, x.detach()), atol=1e-5)
    assert x.grad is not None
    assert torch.allclose(x.grad, torch.sparse.mm(huge.t(), torch.ones(100_000, 4)), atol=1e-5)
    assert (gradient[held.values != 0] == 4).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_on_a_gpu(dtype: torch.dtype) -> None:
    tensor = Pattern(kind="block", block=(16, 16)).tensor(SHAPE, 0.5, seed=0, dtype=dtype).cuda()
    held = BlockSparse.build(tensor, Pattern(kind="block", block=(16, 16)))
    x = normal(90, 33, dtype=dtype).cuda()
    product, want = held.matmul(x), tensor.double() @ x.double()
    assert held.kernel("matmul") == "triton"
    assert product.device == held.device
    assert (product.double() - want).abs().max() <= want.abs().max() * 4 * torch.finfo(dtype).eps
    assert torch.equal(held.to_dense(), tensor)
