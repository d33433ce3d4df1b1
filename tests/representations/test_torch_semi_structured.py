"""2:4 for sparse tensor cores: refused in one line where it cannot be, judged by its data, right on a GPU."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
import torch

from sparsebench.representations.base import Spec
from sparsebench.representations.formats import torch_semi_structured as module
from sparsebench.representations.formats.torch_semi_structured import (
    TorchSemiStructured,
    fullest_group,
    size_problem,
)
from sparsebench.representations.pattern import Pattern

PAIRS = Pattern(kind="n:m", m=4)
on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device of capability 8.0 or later")


def spec(device: str = "cuda", dtype: torch.dtype = torch.float16, pattern: Pattern | None = PAIRS,
         shape: tuple[int, ...] = (64, 128), operation: str = "matmul") -> Spec:  # fmt: skip
    return Spec(operation=operation, shape=shape, dtype=dtype, device=device, pattern=pattern)


@pytest.mark.parametrize("operation", ["build", "matmul", "rmatmul", "sampled_matmul", "train", "conv2d"])
def test_a_cpu_is_refused_with_the_reason(operation: str) -> None:
    reason = TorchSemiStructured.unsupported(spec("cpu", operation=operation))
    assert reason == "2:4 products need the sparse tensor cores of a CUDA device, there are none on cpu"


def test_building_on_a_cpu_says_why_not() -> None:
    with pytest.raises(
        ValueError, match=r"expected a tensor that torch-semi-structured supports, got torch.float16 on"
    ):
        TorchSemiStructured.build(PAIRS.tensor((64, 128), 0.5, 1, torch.float16), PAIRS)
    with pytest.raises(ValueError, match="expected a matrix"):
        TorchSemiStructured.build(torch.ones(3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int8])
def test_only_halves_are_taken(dtype: torch.dtype) -> None:
    reason = TorchSemiStructured.unsupported(spec(dtype=dtype))
    assert reason == f"torch multiplies 2:4 matrices of float16, bfloat16, not of {str(dtype).removeprefix('torch.')}"


@pytest.mark.parametrize(
    "pattern",
    [Pattern(kind="element"), Pattern(kind="block", block=(16, 16)), Pattern(kind="n:m", m=16)],
    ids=lambda pattern: pattern.label,
)
def test_other_patterns_are_refused_by_name(pattern: Pattern) -> None:
    assert TorchSemiStructured.unsupported(spec(pattern=pattern)) == (
        f"holds n:4 patterns of at most 2 in 4, not {pattern.label}"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_a_machine_without_cuda_is_told_apart() -> None:
    assert TorchSemiStructured.unsupported(spec()) == "torch finds no CUDA device here"


@pytest.mark.parametrize(
    ("capability", "cusparselt", "cuda", "says"),
    [
        ((7, 5), True, "13.0", "2:4 needs compute capability 8.0, this device has 7.5"),
        ((9, 0), False, "13.0", "torch was built without cuSPARSELt, and CUTLASS multiplies 2:4 on 8.x, not on 9.x"),
        ((9, 4), True, None, "torch was built without CUDA, and 2:4 needs NVIDIA's sparse tensor cores"),
        ((9, 0), True, "13.0", torch.sparse.SparseSemiStructuredTensorCUSPARSELT),
        ((8, 6), False, "13.0", torch.sparse.SparseSemiStructuredTensorCUTLASS),
    ],
)
def test_the_backend_follows_the_device(
    capability: tuple[int, int], cusparselt: bool, cuda: str | None, says: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.cusparselt, "is_available", lambda: cusparselt)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(module, "_probe", lambda dtype, device: None)
    assert module._backend() == says
    assert TorchSemiStructured.unsupported(spec()) == (says if isinstance(says, str) else None)
    if not isinstance(says, str):
        smallest = module._smallest(says, torch.float16)
        ragged = spec(shape=(smallest[0] + 8, 128))
        assert TorchSemiStructured.unsupported(ragged) == (
            f"torch compresses multiples of {smallest[0]}×{smallest[1]}, not {smallest[0] + 8}×128"
        )


def test_a_probe_that_fails_gives_torchs_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_backend", lambda: torch.sparse.SparseSemiStructuredTensorCUSPARSELT)
    reason = module._probe(torch.bfloat16, "cpu")
    assert reason is not None
    assert reason.startswith(f"torch {torch.__version__} on cpu: ")
    assert "cpu is not supported" in reason
    assert len(reason.splitlines()) == 1


def test_sizes_have_to_divide() -> None:
    assert size_problem((64, 128), (32, 64)) is None
    assert size_problem((16, 4, 2, 2), (16, 16)) is None
    assert size_problem((48, 128), (32, 64)) == "torch compresses multiples of 32×64, not 48×128"
    assert size_problem((16, 3, 3, 3), (16, 16)) == "torch compresses multiples of 16×16, not 16×27"
    assert size_problem((0, 16), (16, 16)) is not None


def test_the_fullest_group_is_found() -> None:
    assert fullest_group(PAIRS.tensor((12, 64), 0.5, 1)) == 2
    assert fullest_group(PAIRS.tensor((12, 64), 0.75, 1)) == 1
    assert fullest_group(torch.zeros(4, 8)) == 0
    assert fullest_group(torch.zeros(0, 8)) == 0
    crossing = torch.tensor([[0.0, 1.0, 0.0, 2.0, 3.0, 0.0, float("nan"), 0.0]])
    assert fullest_group(crossing) == 2  # three neighbours across two groups are fine, and NaN counts
    crossing[0, 0] = 4.0
    assert fullest_group(crossing) == 3


def test_the_bytes_of_both_layouts_are_told_apart() -> None:
    source = torch.empty(32, 64, dtype=torch.float16)
    kept = torch.empty(32, 32, dtype=torch.float16)
    apart = SimpleNamespace(BACKEND="cutlass", packed=kept, meta=torch.empty(32, 4, dtype=torch.int16))
    joined = SimpleNamespace(BACKEND="cusparselt", packed=torch.empty(32 * 36, dtype=torch.float16), meta=None)
    for sparse, library in ((apart, "CUTLASS"), (joined, "cuSPARSELt")):
        built = TorchSemiStructured(source, sparse)
        assert built.storage().value_bytes == 32 * 32 * 2
        assert built.storage().index_bytes == 32 * 4 * 2  # 2 bits for each kept value
        assert built.kernel("matmul") == f"torch.mm 2:4 ({library})"
        assert built.kernel("rmatmul") == "to_dense + torch.mm"
    assert not TorchSemiStructured.trains()
    assert TorchSemiStructured.provenance("rmatmul") == "derived"
    assert TorchSemiStructured.provenance("sampled_matmul") == "missing"


@on_cuda
@pytest.mark.parametrize("sparsity", [0.5, 0.75])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_products_on_cuda_meet_float64(dtype: torch.dtype, sparsity: float) -> None:
    refused = TorchSemiStructured.unsupported(spec(dtype=dtype, shape=(256, 512)))
    if refused:
        pytest.skip(refused)
    tensor = PAIRS.tensor((256, 512), sparsity, 3, dtype).cuda()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch's notice of a prototype is kept to ourselves
        built = TorchSemiStructured.build(tensor, PAIRS)
    assert torch.equal(built.to_dense(), tensor)
    generator = torch.Generator().manual_seed(1)
    for columns in (1, 16, 20, 64, 0):
        x = torch.randn(512, columns, generator=generator).to("cuda", dtype)
        y = torch.randn(256, columns, generator=generator).to("cuda", dtype)
        for got, want in (
            (built.matmul(x), tensor.double() @ x.double()),
            (built.rmatmul(y), tensor.double().t() @ y.double()),
        ):
            assert got.dtype == dtype
            assert got.shape == want.shape
            torch.testing.assert_close(got.double(), want, rtol=2e-2, atol=0.3 if dtype == torch.bfloat16 else 0.05)
    wide = torch.randn(2 * 512, 64, generator=generator).to("cuda", dtype)[::2, 3:40]
    torch.testing.assert_close(built.matmul(wide), built.matmul(wide.contiguous()))
    assert built.storage().index_bytes >= 256 * 512 // 2 // 4  # 2 bits for each kept value, and what torch pads


@on_cuda
def test_a_group_of_three_is_refused_on_cuda_whatever_the_pattern_says() -> None:
    refused = TorchSemiStructured.unsupported(spec())
    if refused:
        pytest.skip(refused)
    tensor = PAIRS.tensor((64, 128), 0.5, 1, torch.float16).cuda()
    tensor[5, :3] = 1.0
    with pytest.raises(ValueError, match=r"expected at most 2 of every 4 neighbours in a row other than 0, got [34]"):
        TorchSemiStructured.build(tensor, PAIRS)
