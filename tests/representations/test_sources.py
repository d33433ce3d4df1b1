"""What a representation is built from: torch tensors of any layout, or one line that says how to get one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import Tensor

from sparsebench.representations.base import Representation
from sparsebench.representations.registry import BUILTIN, load

CLASSES = [load(name) for name in BUILTIN if name != "torch-semi-structured"]  # refused without a GPU


def embedding_gradient(rows: Tensor) -> Tensor:
    """Return the gradient of an embedding table (12, 5), a COO tensor whose rows are dense."""
    table = torch.nn.Embedding(12, 5, sparse=True)
    weight = torch.randn(len(rows), 5, generator=torch.Generator().manual_seed(1))
    (table(rows) * weight).sum().backward()
    assert table.weight.grad is not None
    assert table.weight.grad.dense_dim() == 1
    return table.weight.grad


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("rows", [[3, 3, 0, 11], []])
def test_the_gradient_of_an_embedding_is_stored(cls: type[Representation], rows: list[int]) -> None:
    source = embedding_gradient(torch.tensor(rows, dtype=torch.long))
    dense = source.to_dense()
    built = cls.build(source)
    assert torch.equal(built.to_dense(), dense)
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(built.matmul(x).double(), dense.double() @ x.double(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cls", CLASSES)
def test_a_tensor_of_dense_dimensions_only_is_stored(cls: type[Representation]) -> None:
    values = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 3.0]])
    source = torch.sparse_coo_tensor(torch.zeros((0, 1), dtype=torch.long), values[None], (2, 3), check_invariants=True)
    assert source.sparse_dim() == 0
    assert torch.equal(cls.build(source).to_dense(), values)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(
    ("source", "message"),
    [
        (scipy.sparse.csr_array(np.eye(3, dtype=np.float32)), "got scipy's csr_array; with c = it.tocsr"),
        (scipy.sparse.coo_matrix(np.eye(3)), "got scipy's coo_matrix; with c = it.tocsr"),
        (np.eye(3, dtype=np.float32), "got numpy's ndarray; use torch.from_numpy"),
        ([[1.0, 0.0]], "got builtins's list; use torch.tensor"),
        (None, "got builtins's NoneType; use torch.tensor"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_tensor_is_refused_in_one_line(cls: type[Representation], source: Any, message: str) -> None:
    with pytest.raises(TypeError, match="expected a torch tensor, ") as caught:
        cls.build(source)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_way_that_is_told_for_scipy_works() -> None:
    c = scipy.sparse.coo_array(np.array([[0.0, 2.0], [1.0, 0.0]])).tocsr()
    tensor = torch.sparse_csr_tensor(c.indptr, c.indices, c.data, c.shape, check_invariants=True)
    assert load("csr").build(tensor).to_dense().tolist() == [[0.0, 2.0], [1.0, 0.0]]


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize(
    "source",
    [
        torch.ones(3),
        torch.ones(2, 3, 4),
        torch.ones(2, 3, 4).to_sparse(),
        torch.ones(2, 3, 4).to_sparse_csr(),
        torch.ones(2, 3, 4, 4).to_sparse(2),
        torch.ones(2, 3, device="meta"),
    ],
    ids=["1-D", "3-D", "3-D COO", "batch of CSR", "4-D hybrid", "meta"],
)
def test_what_is_no_matrix_is_refused_in_one_line(cls: type[Representation], source: Tensor) -> None:
    with pytest.raises(ValueError, match=r"^expected ") as caught:
        cls.build(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.bool, torch.complex64])
def test_operands_of_another_dtype_are_refused_by_all(
    cls: type[Representation], stored: bool, dtype: torch.dtype
) -> None:
    built = cls.build(torch.eye(8) if stored else torch.zeros(8, 8))
    x = torch.ones(8, 8).to(dtype)
    for call in (built.matmul, built.rmatmul, lambda x: built.sampled_matmul(x, x)):
        with pytest.raises(ValueError, match=rf"^expected \w+ in torch.float32 .*, got {dtype}.*; convert"):
            call(x)


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int64])
def test_convolutions_refuse_operands_of_another_dtype(cls: type[Representation], dtype: torch.dtype) -> None:
    built = cls.build(torch.ones(4, 3, 3, 3))
    x, g = torch.ones(2, 3, 5, 5).to(dtype), torch.ones(2, 4, 3, 3).to(dtype)
    calls = {
        "conv2d": lambda: built.conv2d(x),
        "conv2d_input": lambda: built.conv2d_input(g, (5, 5)),
        "conv2d_values": lambda: built.conv2d_values(g, x),
        "conv2d_with": lambda: cls.build(torch.ones(2, 3, 5, 5)).conv2d_with(torch.ones(4, 3, 3, 3).to(dtype)),
    }
    for call in calls.values():
        with pytest.raises(ValueError, match=rf"^expected \w+ in torch.float32 .*, got {dtype}.*; convert"):
            call()


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")  # deprecated, and still made
@pytest.mark.parametrize("cls", CLASSES)
def test_nested_and_quantized_sources_are_refused_in_one_line(cls: type[Representation]) -> None:
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)
    with pytest.raises(ValueError, match="got a nested one; pad it"):
        cls.build(nested)
    with pytest.raises(ValueError, match="got a quantized one; dequantize it"):
        cls.build(torch.quantize_per_tensor(torch.eye(4), 0.1, 0, torch.qint8))
