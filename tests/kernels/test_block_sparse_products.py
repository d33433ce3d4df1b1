"""Check the gradients of the three products, with batches and transposes, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparsebench.kernels.block_sparse import products
from sparsebench.kernels.block_sparse.layout import BlockIndex, dense_from_blocks

SHAPE, BLOCK = (11, 14), (4, 3)


def index() -> BlockIndex:
    crow, col = ([0, 2, 2, 5], [1, 4, 0, 2, 3])
    arrays = (torch.tensor(numbers, dtype=torch.int32) for numbers in (crow, col))
    return BlockIndex.from_rows(*arrays, SHAPE, BLOCK)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("n", [1, 9])
def test_gradients_of_products_with_a_sparse_matrix(batch: tuple[int, ...], transposed: bool, n: int) -> None:
    places = index()
    rows, columns = SHAPE[::-1] if transposed else SHAPE
    values = normal(places.blocks, *BLOCK)
    x, y = normal(*batch, columns, n, seed=1), normal(*batch, n, rows, seed=2)
    dense = dense_from_blocks(places, values)
    matrix = dense.t() if transposed else dense
    assert torch.allclose(products.dsd(places, values, x, transposed=transposed), matrix @ x, atol=1e-12)
    assert torch.allclose(products.dds(places, values, y, transposed=transposed), y @ matrix, atol=1e-12)
    for product, operand in ((products.dsd, x), (products.dds, y)):
        torch.autograd.gradcheck(
            lambda v, o, product=product: product(places, v, o, transposed=transposed), (values, operand)
        )


@pytest.mark.parametrize("batch", [(), (3,)])
@pytest.mark.parametrize("transposed", [False, True])
def test_gradients_of_the_sampled_product(batch: tuple[int, ...], transposed: bool) -> None:
    places = index()
    rows, columns = SHAPE[::-1] if transposed else SHAPE
    a, b = normal(*batch, rows, 9), normal(*batch, 9, columns, seed=1)
    torch.autograd.gradcheck(lambda a, b: products.sdd(places, a, b, transposed=transposed), (a, b))


def test_no_gradient_is_computed_for_an_operand_that_wants_none(monkeypatch: pytest.MonkeyPatch) -> None:
    places, kernels, ran = index(), products.backend("cpu"), []
    for name in ("dsd", "sdd"):
        real = getattr(kernels, name)
        monkeypatch.setattr(
            kernels, name, lambda *args, real=real, name=name, **options: ran.append(name) or real(*args, **options)
        )
    values, x = normal(places.blocks, *BLOCK), normal(14, 9)
    products.dsd(places, values.detach(), x).sum().backward()
    assert ran == ["dsd", "dsd"]
    ran.clear()
    products.dsd(places, values, x.detach()).sum().backward()
    assert ran == ["dsd", "sdd"]


def test_a_second_derivative_is_refused() -> None:
    places = index()
    x = normal(14, 9)
    (first,) = torch.autograd.grad(products.dsd(places, normal(5, *BLOCK), x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_misfits_are_refused_before_a_kernel_runs() -> None:
    places = index()
    with pytest.raises(ValueError, match=r"x of shape \(..., 14, n\), got \(3, 11, 9\)"):
        products.dsd(places, normal(5, *BLOCK), normal(3, 11, 9))
    with pytest.raises(ValueError, match=r"x of shape \(..., n, 11\), got \(3, 9, 14\)"):
        products.dds(places, normal(5, *BLOCK), normal(3, 9, 14))
    with pytest.raises(ValueError, match="device of cpu, cuda, got 'mps'"):
        products.backend("mps")
