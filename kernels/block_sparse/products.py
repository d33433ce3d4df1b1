"""Multiply by a block-sparse matrix on whatever device it is on, with gradients for values and dense operands."""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType
from typing import Any

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from sparsebench.kernels.block_sparse.layout import BlockIndex

BACKENDS: dict[str, str] = {"cpu": "cpu", "cuda": "triton"}
"""The module of this package that computes on a type of device."""


@cache
def backend(device: str) -> ModuleType:
    """Return the kernels for a type of device: a module with DTYPES, dsd, dds and sdd.

    Raises:
        ValueError: if there are none for it.
    """
    if device not in BACKENDS:
        raise ValueError(f"expected a device of {', '.join(BACKENDS)}, got {device!r}; move the tensor")
    # imported late: neither library needs to be installed where the other one is used, and both take a while to import
    return importlib.import_module(f"sparsebench.kernels.block_sparse.{BACKENDS[device]}")


def dsd(index: BlockIndex, values: Tensor, x: Tensor, *, transposed: bool = False) -> Tensor:
    """Return S @ x, (m, k) @ (..., k, n) -> (..., m, n), or Sᵀ @ x, (k, m) @ (..., m, n) -> (..., k, n).

    Gradients flow to `values` and x, and none is dense-shaped: the gradient of the values is a sampled product.

    Args:
        index: of the stored blocks of S (m, k).
        values: (blocks, height, width), contiguous.
        x: any strides; leading dimensions are a batch.
        transposed: multiply by Sᵀ; no value is moved.

    Raises:
        ValueError: if the operands do not fit, before any kernel runs.
    """
    return _apply(_Dsd, values, x, index, transposed)


def dds(index: BlockIndex, values: Tensor, x: Tensor, *, transposed: bool = False) -> Tensor:
    """Return x @ S, (..., n, m) @ (m, k) -> (..., n, k), or x @ Sᵀ, (..., n, k) @ (k, m) -> (..., n, m); as `dsd`."""
    return _apply(_Dds, values, x, index, transposed)


def sdd(index: BlockIndex, a: Tensor, b: Tensor, *, transposed: bool = False) -> Tensor:
    """Return (a @ b) at the stored blocks, (..., m, n) @ (..., n, k) -> (blocks, height, width), 0 in the padding.

    Gradients flow to a and b.

    Args:
        index: of the stored blocks of a matrix (m, k).
        a: (..., m, n); the products of a batch are added up.
        b: (..., n, k).
        transposed: a is (..., k, n) and b is (..., n, m): the blocks of (a @ b)ᵀ are returned.

    Raises:
        ValueError: if the operands do not fit, before any kernel runs.
    """
    return _apply(_Sdd, a, b, index, transposed)


def _apply(function: type[Function], left: Tensor, right: Tensor, index: BlockIndex, transposed: bool) -> Tensor:
    result: Tensor = function.apply(left, right, index, transposed)
    return result


def _run(ctx: Any, product: str, left: Tensor, right: Tensor, index: BlockIndex, transposed: bool) -> Tensor:
    """Compute a product, and keep what its gradients need."""
    ctx.index, ctx.transposed = index, transposed
    ctx.save_for_backward(left, right)
    result: Tensor = getattr(backend(index.device.type), product)(index, left, right, transposed=transposed)
    return result


class _Dsd(Function):
    """y = S x: dx = Sᵀ g, dS = g xᵀ at the stored blocks."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, x: Tensor, index: BlockIndex, transposed: bool) -> Tensor:
        return _run(ctx, "dsd", values, x, index, transposed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        values, x = ctx.saved_tensors
        kernels, index, transposed = backend(ctx.index.device.type), ctx.index, ctx.transposed
        dvalues = kernels.sdd(index, g, x.mT, transposed=transposed) if ctx.needs_input_grad[0] else None
        dx = kernels.dsd(index, values, g, transposed=not transposed) if ctx.needs_input_grad[1] else None
        return dvalues, dx, None, None


class _Dds(Function):
    """y = x S: dx = g Sᵀ, dS = xᵀ g at the stored blocks."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, x: Tensor, index: BlockIndex, transposed: bool) -> Tensor:
        return _run(ctx, "dds", values, x, index, transposed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        values, x = ctx.saved_tensors
        kernels, index, transposed = backend(ctx.index.device.type), ctx.index, ctx.transposed
        dvalues = dx = None
        if ctx.needs_input_grad[0]:
            # rows of a batch are rows like any other: one long product instead of a batch of short ones
            left, right = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
            dvalues = kernels.sdd(index, left.mT, right, transposed=transposed)
        if ctx.needs_input_grad[1]:
            dx = kernels.dds(index, values, g, transposed=not transposed)
        return dvalues, dx, None, None


class _Sdd(Function):
    """y = a b at the stored blocks: with the sparse gradient G, da = G bᵀ and db = aᵀ G."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, index: BlockIndex, transposed: bool) -> Tensor:
        return _run(ctx, "sdd", a, b, index, transposed)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        a, b = ctx.saved_tensors
        kernels, index, transposed = backend(ctx.index.device.type), ctx.index, ctx.transposed
        da = kernels.dsd(index, g.contiguous(), b.mT, transposed=transposed) if ctx.needs_input_grad[0] else None
        db = kernels.dds(index, g.contiguous(), a.mT, transposed=transposed) if ctx.needs_input_grad[1] else None
        return da, db, None, None
