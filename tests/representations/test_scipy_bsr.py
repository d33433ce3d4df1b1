"""scipy's blocks: any size, any shape, padding that never shows, and kernels named for what they do."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import scipy.sparse
import torch

from sparsebench.representations import operations
from sparsebench.representations.base import Spec
from sparsebench.representations.conformance.products import compare
from sparsebench.representations.formats import _torch
from sparsebench.representations.formats.scipy_bsr import ScipyBsr
from sparsebench.representations.pattern import Pattern

SHAPES = ((48, 80), (37, 53))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("block", [(16, 16), (8, 16), (3, 5), (1, 1), (64, 64)])
@pytest.mark.parametrize("shape", SHAPES)
def test_blocks_of_any_size_multiply(shape: tuple[int, int], block: tuple[int, int], dtype: torch.dtype) -> None:
    pattern = Pattern(kind="block", block=block)
    tensor = pattern.tensor(shape, 0.5, 3, dtype)
    built = ScipyBsr.build(tensor, pattern)
    assert tuple(built.values.shape[1:]) == block
    assert torch.equal(built.to_dense(), tensor)
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(size, 6, generator=generator, dtype=dtype) for size in (shape[1], shape[0]))
    compare(built, "matmul", tensor.double(), x)
    compare(built, "rmatmul", tensor.double(), y)
    compare(built, "sampled_matmul", tensor.double(), y, x.t())


def test_only_blocks_that_hold_something_are_stored_and_padding_shows_nowhere() -> None:
    tensor = torch.zeros(37, 53)
    tensor[0, 0], tensor[36, 52] = 1.0, 2.0
    built = ScipyBsr.build(tensor, Pattern(kind="block", block=(16, 16)))
    assert tuple(built.values.shape) == (2, 16, 16)
    assert built.storage().value_bytes == 2 * 16 * 16 * 4
    assert built.storage().index_bytes == (2 + 4) * 4  # int32 block columns, and where three block rows begin and end
    for result in (built.to_dense(), built.matmul(torch.ones(53, 2)), built.rmatmul(torch.ones(37, 2))):
        assert result.is_contiguous()
    assert tuple(built.rmatmul(torch.ones(37, 2)).shape) == (53, 2)


def test_the_sampled_product_leaves_the_padding_at_zero() -> None:
    built = ScipyBsr.build(torch.ones(17, 17), Pattern(kind="block", block=(16, 16)))
    sampled = built.sampled_matmul(torch.ones(17, 3), torch.ones(3, 17))
    assert tuple(sampled.shape) == (4, 16, 16)
    assert float(sampled.sum()) == 3.0 * 17 * 17


def test_the_sampled_product_in_chunks_equals_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = Pattern(kind="block", block=(3, 5))
    tensor = Pattern(kind="element").tensor((50, 70), 0.5, 1)
    built = ScipyBsr.build(tensor, pattern)
    monkeypatch.setattr(_torch, "WORKSPACE_ELEMENTS", 200)
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(70, 6, generator=generator), torch.randn(50, 6, generator=generator)
    compare(built, "sampled_matmul", tensor.double(), y, x.t())


def test_values_and_their_gradient_are_laid_out_alike() -> None:
    tensor = Pattern(kind="block", block=(8, 8)).tensor((24, 40), 0.5, 2)
    built = ScipyBsr.build(tensor, Pattern(kind="block", block=(8, 8)))
    other = built.with_values(2 * built.values)
    assert torch.equal(other.to_dense(), 2 * tensor)
    assert torch.equal(built.to_dense(), tensor)
    built.values.mul_(3)  # the values are scipy's own memory
    assert torch.equal(built.to_dense(), 3 * tensor)
    assert ScipyBsr.trains()
    assert {ScipyBsr.provenance(operation) for operation in operations.names()[:3]} == {"native"}


def test_kernel_names_agree_with_what_scipy_does() -> None:
    built = ScipyBsr.build(Pattern(kind="element").tensor((64, 64), 0.8, 1))
    turned: list[bool] = []
    plain = scipy.sparse.bsr_array.transpose

    def transpose(array: scipy.sparse.bsr_array, *arguments: object) -> scipy.sparse.bsr_array:
        found = plain(array, *arguments)
        turned.append(not np.shares_memory(found.data, array.data))
        return found

    for operation in ("matmul", "rmatmul"):
        turned.clear()
        with mock.patch.object(scipy.sparse.bsr_array, "transpose", transpose):
            getattr(built, operation)(torch.ones(64, 2))
        assert turned == ([True] if "transposed in each call" in built.kernel(operation) else [])
        assert "bsr_matvecs" in built.kernel(operation)
    assert built.kernel("sampled_matmul") == "torch bmm gather"


def test_what_scipy_does_not_have_is_refused() -> None:
    def unsupported(dtype: torch.dtype, device: str) -> str | None:
        return ScipyBsr.unsupported(Spec(operation="matmul", shape=(4, 4), dtype=dtype, device=device))

    assert unsupported(torch.float32, "cpu") is None
    assert unsupported(torch.float64, "cpu") is None
    assert unsupported(torch.float32, "cuda") == "scipy computes on the CPU only"
    assert unsupported(torch.bfloat16, "cpu") == "scipy has no sparse arrays of bfloat16"
    with pytest.raises(ValueError, match=r"expected a tensor that scipy-bsr supports, got torch.float16 on cpu"):
        ScipyBsr.build(torch.eye(4, dtype=torch.float16))
    with pytest.raises(ValueError, match=r"expected strided x \(53, any\), got torch.strided \(64, 2\)"):
        ScipyBsr.build(torch.ones(37, 53)).matmul(torch.ones(64, 2))  # as long as the padded matrix is wide
