"""Every format of ours passes the checks; beside them, what each format promises for itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from sparsebench.representations import operations
from sparsebench.representations.allocation import peak_allocations
from sparsebench.representations.base import Representation, Spec
from sparsebench.representations.conformance import check
from sparsebench.representations.conformance.products import compare
from sparsebench.representations.formats import _torch
from sparsebench.representations.formats._blocked import TorchBlocked
from sparsebench.representations.formats.dense_masked import DenseMasked
from sparsebench.representations.formats.scipy_bsr import ScipyBsr
from sparsebench.representations.formats.scipy_coo import ScipyCoo
from sparsebench.representations.formats.scipy_csr import ScipyCsr
from sparsebench.representations.formats.torch_bsc import TorchBsc
from sparsebench.representations.formats.torch_bsr import TorchBsr
from sparsebench.representations.formats.torch_coo import TorchCoo
from sparsebench.representations.formats.torch_csc import TorchCsc
from sparsebench.representations.formats.torch_csr import TorchCsr
from sparsebench.representations.pattern import Pattern
from sparsebench.representations.registry import BUILTIN, load

ELEMENT = Pattern(kind="element")
TORCH_FORMATS: tuple[type[Representation], ...] = (TorchCoo, TorchCsr, TorchCsc, TorchBsr, TorchBsc)
HALVES = (torch.float16, torch.bfloat16)
CUDA_ONLY = ("torch-semi-structured",)
"""Refused on a CPU, as their own tests see; they have no kernel for what is checked here."""
ON_CPU = tuple(name for name in BUILTIN if name not in CUDA_ONLY)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Run on one thread: thousands of tiny operations wait for a pool longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", ON_CPU)
def test_every_builtin_passes_every_check(name: str) -> None:
    report = check(load(name))
    assert report.passed, str(report)
    # all of ours train, and only these parts may be left to the base class
    assert {result.name for result in report.skips} <= {"transpose", "conv2d", "no silent densification"}, str(report)


@pytest.mark.parametrize("name", ON_CPU)
def test_values_of_another_shape_are_refused_by_all_in_the_same_words(name: str) -> None:
    stored = load(name).build(torch.eye(32))
    values = torch.cat([stored.values, stored.values])
    with pytest.raises(ValueError, match=r"expected values of shape \(.*\) on cpu, got \(.*; start from .values"):
        stored.with_values(values)


@pytest.mark.parametrize("name", BUILTIN)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_every_builtin_passes_every_check_on_cuda(name: str) -> None:
    cls = load(name)
    refused = cls.unsupported(Spec(operation="matmul", shape=(48, 64), dtype=torch.float32, device="cuda"))
    if refused:
        pytest.skip(refused)
    report = check(cls, device="cuda")
    assert report.passed, str(report)


@pytest.mark.parametrize("cls", TORCH_FORMATS)
@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_works_or_is_refused_with_torchs_own_words(
    cls: type[Representation], dtype: torch.dtype
) -> None:
    tensor = ELEMENT.tensor((40, 56), 0.8, 1, dtype=dtype)
    built, dense = cls.build(tensor), tensor.double()
    x, y = torch.randn(56, 8, dtype=torch.float64).to(dtype), torch.randn(40, 8, dtype=torch.float64).to(dtype)
    runs = {
        "matmul": lambda: compare(built, "matmul", dense, x),
        "rmatmul": lambda: compare(built, "rmatmul", dense, y),
        "sampled_matmul": lambda: compare(built, "sampled_matmul", dense, y, x.t()),
    }
    for operation, run in runs.items():
        reason = cls.unsupported(Spec(operation=operation, shape=(40, 56), dtype=dtype, device="cpu"))
        if reason is None:
            run()
        else:
            assert reason.startswith("torch "), reason
            assert operation != "sampled_matmul", "gathered, so torch needs no kernel for it"
            with pytest.raises(RuntimeError):
                run()


def test_block_sums_of_half_precision_are_kept_in_single() -> None:
    built = TorchBsc.build(torch.ones(1, 512, dtype=torch.bfloat16), Pattern(kind="block", block=(1, 1)))
    ones = torch.ones(512, 1, dtype=torch.bfloat16)
    assert float(built.matmul(ones)) == 512.0  # bfloat16 alone cannot count past 256


@pytest.mark.parametrize("cls", [ScipyCsr, ScipyCoo])
def test_scipy_refuses_what_it_does_not_have(cls: type[Representation]) -> None:
    def unsupported(dtype: torch.dtype, device: str) -> str | None:
        return cls.unsupported(Spec(operation="matmul", shape=(4, 4), dtype=dtype, device=device))

    assert unsupported(torch.float32, "cpu") is None
    assert unsupported(torch.float64, "cpu") is None
    assert unsupported(torch.float32, "cuda") == "scipy computes on the CPU only"
    assert unsupported(torch.bfloat16, "cpu") == "scipy has no sparse arrays of bfloat16"
    with pytest.raises(ValueError, match=r"expected a tensor that scipy-c.. supports, got torch.float16 on cpu: scipy"):
        cls.build(torch.eye(4, dtype=torch.float16))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
@pytest.mark.parametrize("cls", TORCH_FORMATS)
def test_cuda_is_refused_where_there_is_none(cls: type[Representation]) -> None:
    spec = Spec(operation="matmul", shape=(4, 4), dtype=torch.float32, device="cuda")
    assert cls.unsupported(spec) == "torch finds no CUDA device here"


def test_indices_take_as_few_bytes_as_the_library_allows() -> None:
    tensor = ELEMENT.tensor((100, 80), 0.75, 1)
    stored = 2000
    want = {
        TorchCoo: 2 * stored * 8,  # torch keeps int64 in this layout
        TorchCsr: (stored + 101) * 4,
        TorchCsc: (stored + 81) * 4,
        ScipyCsr: (stored + 101) * 4,
        ScipyCoo: 2 * stored * 4,
        DenseMasked: 100 * 80,
    }
    assert {cls: cls.build(tensor).storage().index_bytes for cls in want} == want
    assert TorchCoo.build(tensor).storage().value_bytes == stored * 4


def test_index_dtype_widens_at_two_to_the_31() -> None:
    assert _torch.index_dtype(10, 2**31 - 1) == torch.int32
    assert _torch.index_dtype(10, 2**31) == torch.int64


@pytest.mark.parametrize("cls", [TorchBsr, TorchBsc])
@pytest.mark.parametrize("block", [(16, 16), (8, 16), (3, 5), (1, 1), (64, 64)])
@pytest.mark.parametrize("shape", [(48, 80), (37, 53)])
def test_blocks_of_any_size(cls: type[TorchBlocked], block: tuple[int, int], shape: tuple[int, int]) -> None:
    pattern = Pattern(kind="block", block=block)
    tensor = pattern.tensor(shape, 0.5, 3)
    built = cls.build(tensor, pattern)
    assert tuple(built.values.shape[1:]) == block
    assert torch.equal(built.to_dense(), tensor)
    dense = tensor.double()
    x, y = torch.randn(shape[1], 6), torch.randn(shape[0], 6)
    compare(built, "matmul", dense, x)
    compare(built, "rmatmul", dense, y)
    compare(built, "sampled_matmul", dense, y, x.t())


@pytest.mark.parametrize("cls", [TorchBsr, TorchBsc])
def test_only_blocks_that_hold_something_are_stored(cls: type[TorchBlocked]) -> None:
    tensor = torch.zeros(64, 64)
    tensor[0, 0], tensor[40, 17] = 1.0, 2.0
    block = Pattern(kind="block", block=(16, 16))
    built = cls.build(tensor, block)
    assert tuple(built.values.shape) == (2, 16, 16)
    assert built.storage().value_bytes == 2 * 16 * 16 * 4
    assert built.storage().index_bytes == (5 + 2) * 4
    padded = cls.build(torch.ones(17, 1), block)
    assert tuple(padded.values.shape) == (2, 16, 16)
    assert float(padded.values.sum()) == 17.0


@pytest.mark.parametrize("cls", [TorchBsr, TorchBsc, ScipyBsr])
@pytest.mark.parametrize("side", [4, 16, 64])
def test_without_a_pattern_the_block_is_the_one_of_the_zeros(cls: type[Representation], side: int) -> None:
    tensor = Pattern(kind="block", block=(side, side)).tensor((512, 700), 0.9, seed=0)
    built = cls.build(tensor)
    assert tuple(built.values.shape[1:]) == (side, side)
    assert torch.equal(built.to_dense(), tensor)


def test_kernel_names_tell_what_runs() -> None:
    tensor = ELEMENT.tensor((64, 64), 0.8, 1)
    square, oblong = TorchBsr.build(tensor), TorchBsr.build(tensor, Pattern(kind="block", block=(8, 16)))
    assert square.kernel("matmul").startswith("torch.mm bsr (")
    assert square.kernel("rmatmul") == oblong.kernel("matmul") == "torch bmm gather + index_add"
    turned = TorchBsc.build(tensor)
    assert turned.kernel("matmul") == "torch bmm gather + index_add"
    assert "torch.mm bsr (" in turned.kernel("rmatmul")
    assert "sorted" in TorchCsr.build(tensor).kernel("rmatmul")
    assert "sorted" not in TorchCsr.build(tensor).kernel("matmul")
    assert "sorted" in TorchCsc.build(tensor).kernel("matmul")
    half = TorchCsr.build(tensor.half())
    assert "gathered" in half.kernel("sampled_matmul")


@pytest.mark.parametrize("cls", TORCH_FORMATS)
def test_kernel_names_agree_with_the_profiler(cls: type[Representation]) -> None:
    built = cls.build(ELEMENT.tensor((64, 64), 0.8, 1))
    x = torch.randn(64, 8)
    for operation in ("matmul", "rmatmul"):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            getattr(built, operation)(x)
        ran = {event.key for event in profile.key_averages()}
        name = built.kernel(operation)
        assert ("aten::bmm" in ran) == ("bmm" in name), (operation, name)
        assert ("aten::addmm" in ran) == ("torch.mm" in name), (operation, name)
        assert ("aten::sort" in ran) == ("sorted" in name), (operation, name)


@pytest.mark.parametrize("name", ON_CPU)
def test_the_gathering_products_keep_their_workspace_small(name: str) -> None:
    tensor = ELEMENT.tensor((512, 512), 0.5, 1)
    built = load(name).build(tensor)
    a, b = torch.randn(512, 512), torch.randn(512, 512)
    built.sampled_matmul(a, b)
    # gathered whole, 131,072 × 512 float32 would be 256 MiB for each operand
    limit = 3 * 4 * _torch.WORKSPACE_ELEMENTS + 16 * 2**20
    for call in (lambda: built.matmul(b), lambda: built.rmatmul(a), lambda: built.sampled_matmul(a, b)):
        _, [peak] = peak_allocations([call])
        assert peak <= limit


def test_chunks_cover_everything_once() -> None:
    parts = list(_torch.chunks(10, _torch.WORKSPACE_ELEMENTS // 3))
    assert [i for part in parts for i in range(10)[part]] == list(range(10))
    assert len(parts) == 4
    assert list(_torch.chunks(0, 5)) == []
    assert len(list(_torch.chunks(3, 10 * _torch.WORKSPACE_ELEMENTS))) == 3
    assert len(list(_torch.chunks(3, 0))) == 1


def test_gathered_dots_in_chunks_equal_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(30, 7, generator=generator), torch.randn(7, 20, generator=generator)
    rows, columns = torch.randint(30, (50,), generator=generator), torch.randint(20, (50,), generator=generator)
    monkeypatch.setattr(_torch, "WORKSPACE_ELEMENTS", 100)
    got = _torch.gathered_dots(rows, columns.int(), a, b)
    torch.testing.assert_close(got, (a @ b)[rows, columns])


@pytest.mark.parametrize("cls", [TorchBsr, TorchBsc])
def test_block_products_in_chunks_equal_the_whole(cls: type[TorchBlocked], monkeypatch: pytest.MonkeyPatch) -> None:
    tensor = ELEMENT.tensor((50, 70), 0.5, 1)
    built = cls.build(tensor, Pattern(kind="block", block=(3, 5)))
    monkeypatch.setattr(_torch, "WORKSPACE_ELEMENTS", 200)
    x, y = torch.randn(70, 6), torch.randn(50, 6)
    compare(built, "matmul", tensor.double(), x)
    compare(built, "rmatmul", tensor.double(), y)
    compare(built, "sampled_matmul", tensor.double(), y, x.t())


@pytest.mark.parametrize("cls", [TorchCsr, TorchCsc])
def test_a_stored_nan_does_not_reach_the_sampled_product(cls: type[Representation]) -> None:
    tensor = torch.eye(8)
    tensor[3, 3] = float("nan")
    sampled = cls.build(tensor).sampled_matmul(torch.ones(8, 2), torch.ones(2, 8))
    assert torch.equal(sampled, torch.full((8,), 2.0))


def test_the_mask_holds_whatever_an_optimiser_writes() -> None:
    tensor = ELEMENT.tensor((12, 20), 0.5, 1)
    built = DenseMasked.build(tensor)
    built.values.add_(1.0)
    masked = (tensor + 1.0) * (tensor != 0)
    assert torch.equal(built.to_dense(), masked)
    x = torch.randn(20, 3)
    torch.testing.assert_close(built.matmul(x), masked @ x)
    torch.testing.assert_close(built.rmatmul(x[:12]), masked.t() @ x[:12])
    sampled = built.sampled_matmul(x[:12], x.t())
    assert torch.equal(sampled != 0, tensor != 0)


@pytest.mark.parametrize("name", ON_CPU)
def test_values_of_another_shape_are_refused(name: str) -> None:
    built = load(name).build(ELEMENT.tensor((12, 20), 0.5, 1))
    with pytest.raises((ValueError, RuntimeError)):
        built.with_values(torch.ones(7))


@pytest.mark.parametrize("name", BUILTIN)
def test_what_is_no_matrix_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected a matrix"):
        load(name).build(torch.ones(3))
    with pytest.raises(ValueError, match="expected a matrix"):
        load(name).build(torch.ones(3, 4, 5))


@pytest.mark.parametrize("name", ON_CPU)
def test_a_source_that_requires_a_gradient_is_stored_detached(name: str) -> None:
    tensor = ELEMENT.tensor((12, 20), 0.5, 1).requires_grad_()
    built = load(name).build(tensor)
    assert not built.values.requires_grad
    assert not built.to_dense().requires_grad
    assert all(isinstance(built.kernel(operation), str) for operation in operations.names())
