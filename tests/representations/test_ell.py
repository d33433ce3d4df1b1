"""Check what is particular to ell and to its peer torch-embedding-bag; the rest is in the conformance checks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparsebench.kernels.sparse_codes import cpu, products
from sparsebench.representations import autograd
from sparsebench.representations.base import Representation, Spec
from sparsebench.representations.formats.ell import Ell
from sparsebench.representations.formats.torch_embedding_bag import TorchEmbeddingBag
from sparsebench.representations.pattern import Pattern
from sparsebench.representations.registry import load

BOTH: list[type[Representation]] = [Ell, TorchEmbeddingBag]


def codes(n: int, units: int, k: int, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return codes (n, units) of k entries a row, strided."""
    x = torch.randn(n, units, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    values, places = products.select(x, k)
    return torch.zeros_like(x).scatter_(1, places.long(), values)


def normal(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_both_are_known() -> None:
    assert [load(cls.name) for cls in BOTH] == BOTH


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("even", [True, False])
def test_gradients_of_the_dictionary_and_of_the_values(cls: type[Representation], even: bool) -> None:
    code = codes(6, 20, 4)
    if not even:
        code[2, :10], code[4] = 0, 0
    held = cls.build(code)
    x = normal(20, 7).requires_grad_()
    values = held.values.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda v, d: autograd.matmul(held, d, v), (values, x))


def test_rows_of_one_length_need_no_pads_and_others_cost_what_fill_says() -> None:
    code = codes(50, 300, 8, dtype=torch.float32)
    held = Ell.build(code)
    assert held.fill == 1.0
    assert held.values.shape == (50, 8)
    assert held.storage().value_bytes == held.storage().index_bytes == 50 * 8 * 4
    code[:25, :150] = 0
    stored = int(code.count_nonzero())
    ragged = Ell.build(code)
    assert ragged.fill == pytest.approx(50 * 8 / stored)
    assert ragged.storage() == held.storage()
    assert torch.equal(ragged.to_dense(), code)
    assert Ell.build(torch.zeros(5, 7)).fill == 1.0
    assert Ell.build(torch.zeros(5, 7)).storage().stored_bytes == 0


@pytest.mark.parametrize("index", [torch.int32, torch.int64])
def test_a_csr_source_of_even_rows_keeps_its_slots_stored_zeros_included(index: torch.dtype) -> None:
    x = normal(9, 40, dtype=torch.float32)
    values, places = products.select(x, 5)
    values[3, 2] = 0.0
    crow = torch.arange(10) * 5
    source = torch.sparse_csr_tensor(crow.to(index), places.reshape(-1).to(index), values.reshape(-1), (9, 40))
    held = Ell.build(source)
    assert torch.equal(held.values, values)
    assert torch.equal(held.to_dense(), source.to_dense())
    values.zero_()
    assert held.values.abs().sum() > 0
    gradient = held.sampled_matmul(normal(9, 3, dtype=torch.float32), normal(3, 40, dtype=torch.float32))
    assert gradient.shape == (9, 5)
    assert gradient[3, 2] != 0


@pytest.mark.parametrize("columns", [[3, 1, 0, 2], [1, 3, 2, 2], [1, 3, -1, 2]])
def test_csr_sources_that_are_none_are_refused(columns: list[int]) -> None:
    source = torch.sparse_csr_tensor(
        torch.tensor([0, 2, 4]), torch.tensor(columns), torch.ones(4), (2, 5), check_invariants=False
    )
    with pytest.raises(ValueError, match="ascending in each row and none twice"):
        Ell.build(source)


@pytest.mark.parametrize("kind", ["element", "power-law"])
def test_the_peer_and_ell_agree_with_dense(kind: str) -> None:
    dense = Pattern(kind=kind).tensor((60, 90), 0.9, seed=0).double()
    x, g = normal(90, 33), normal(60, 33, seed=2)
    for cls in BOTH:
        held = cls.build(dense)
        torch.testing.assert_close(held.matmul(x), dense @ x)
        torch.testing.assert_close(held.rmatmul(g), dense.t() @ g)
        placed = held.with_values(held.sampled_matmul(g, x.t())).to_dense()
        torch.testing.assert_close(placed, (g @ x.t()) * (dense != 0))


def test_the_kernels_are_named() -> None:
    held = Ell.build(codes(4, 9, 2, dtype=torch.float32))
    assert held.kernel("matmul") == held.kernel("sampled_matmul") == cpu.name(torch.float32)
    assert held.kernel("rmatmul") == "entries sorted by columns in each call + " + cpu.name(torch.float32)
    assert held.kernel("conv2d").startswith("torch unfold + ")
    peer = TorchEmbeddingBag.build(codes(4, 9, 2, dtype=torch.float32))
    assert [peer.kernel(operation) for operation in ("matmul", "rmatmul", "sampled_matmul")] == [
        "torch embedding_bag, sum",
        "torch _embedding_bag_dense_backward",
        "torch _embedding_bag_per_sample_weights_backward",
    ]


def test_what_is_not_supported_is_refused_with_a_reason() -> None:
    def reason(dtype: torch.dtype, device: str) -> str | None:
        return Ell.unsupported(Spec(operation="matmul", shape=(4, 4), dtype=dtype, device=device))

    assert reason(torch.float32, "cpu") is None
    assert reason(torch.bfloat16, "cpu") is None
    assert "not in int64" in str(reason(torch.int64, "cpu"))
    assert "not in float64" in str(reason(torch.float64, "cuda"))
    assert "not on mps" in str(reason(torch.float32, "mps"))
    with pytest.raises(ValueError, match=r"expected a tensor that ell supports, got torch\.int64 on cpu"):
        Ell.build(torch.ones(4, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="expected a matrix"):
        Ell.build(torch.ones(2, 3, 4))
    held = Ell.build(codes(4, 9, 2, dtype=torch.float32))
    with pytest.raises(ValueError, match=r"expected values of shape \(4, 2\) on cpu, got \(8,\)"):
        held.with_values(torch.ones(8))
    with pytest.raises(ValueError, match=r"expected dictionary strided \(9, d\) .*, got \(8, 3\)"):
        held.matmul(torch.ones(8, 3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_on_a_gpu(dtype: torch.dtype) -> None:
    code = codes(300, 4000, 32, dtype=torch.float32).to("cuda", dtype)
    held = Ell.build(code)
    assert held.kernel("matmul").startswith("triton")
    x, g = normal(4000, 33).to("cuda", dtype), normal(300, 33).to("cuda", dtype)
    for got, want in (
        (held.matmul(x), code.double() @ x.double()),
        (held.rmatmul(g), code.double().t() @ g.double()),
    ):
        assert got.device == held.device
        assert (got.double() - want).abs().max() <= want.abs().max() * 64 * torch.finfo(dtype).eps
