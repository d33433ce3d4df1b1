"""Convolve plane-sparse activations, and store what comes out plane by plane."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sparsebench.kernels.common.devices import backend
from sparsebench.kernels.csr.layout import RowIndex
from sparsebench.kernels.plane_conv.geometry import Geometry, Pair
from sparsebench.representations import autograd
from sparsebench.representations.base import Representation
from sparsebench.representations.formats.planes import Planes
from sparsebench.representations.plane_tensor import PlaneTensor

CHUNK = 32
"""Output maps that are computed before those worth storing are picked: a few groups of the kernels."""


def conv2d(
    x: PlaneTensor,
    weight: Tensor | Representation,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
) -> Tensor:
    """Return the convolution of plane-sparse activations (n, c, h, w) -> (n, out, h', w'), dense.

    Only stored planes are read where the weight is dense, or is `planes` in its shared regime; any other representation
    meets x as a dense tensor. Gradients flow to the stored planes of x alone, and to the weight.

    Args:
        x: each sample has planes of its own.
        weight: (out, c, kh, kw), a tensor or a representation of one.
        stride: (rows, columns), at least 1.
        padding: zeros on both sides of (rows, columns).
        dilation: (rows, columns), at least 1.

    Raises:
        ValueError: if the operands do not fit.
    """
    if isinstance(weight, Tensor):
        return _planes(x, weight, stride=stride, padding=padding, dilation=dilation)
    maps = weight.maps if isinstance(weight, Planes) else None
    if maps is None:
        return autograd.conv2d(weight, x.to_dense(), stride=stride, padding=padding, dilation=dilation)
    _check_weight(weight.shape, x)
    shape = (maps.rows.numel(), maps.maps.numel(), *weight.shape[2:])
    values = weight.values.reshape(shape)
    y = _planes(x.columns(maps.maps), values, stride=stride, padding=padding, dilation=dilation)
    whole = y.new_zeros((y.shape[0], weight.shape[0], *y.shape[2:]))
    return whole.index_copy(1, maps.rows.long(), y)


@torch.no_grad()
def conv2d_planes(
    x: PlaneTensor | Tensor,
    weight: Tensor,
    *,
    tolerance: float | None = None,
    k: int | None = None,
    by: str = "max",
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
) -> PlaneTensor:
    """Return the planes of a convolution that are worth storing; the whole dense result never exists.

    Output maps are computed CHUNK at a time. No gradient flows: to train, pick planes of `conv2d`'s result.

    Args:
        x: activations (n, c, h, w).
        weight: dense, (out, c, kh, kw).
        tolerance: planes with some |y| above it are stored; or
        k: so many of each sample are, the best by
        by: a score of `PlaneTensor.top_k`.
        stride: as in `conv2d`.
        padding: as in `conv2d`.
        dilation: as in `conv2d`.

    Raises:
        ValueError: if the operands do not fit, or not exactly one of tolerance and k is given.
    """
    if (tolerance is None) == (k is None):
        raise ValueError(f"expected either tolerance or k, got tolerance={tolerance} and k={k}; name one")
    if k is not None and not 0 <= k <= weight.shape[0]:
        raise ValueError(f"expected k in [0, {weight.shape[0]}], as there are so many output maps, got {k}")
    if isinstance(x, Tensor):
        options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation}
        parts = (torch.nn.functional.conv2d(x, rows, None, **options) for rows in weight.split(CHUNK))
    else:
        parts = (_planes(x, rows, stride=stride, padding=padding, dilation=dilation) for rows in weight.split(CHUNK))
    kept: PlaneTensor | None = None
    for number, part in enumerate(parts):
        if k is None:
            chosen = PlaneTensor.from_dense(part, 0.0 if tolerance is None else tolerance)
        else:
            chosen = PlaneTensor.top_k(part, min(k, part.shape[1]), by)
        placed = chosen.shifted(number * CHUNK, weight.shape[0])
        kept = placed if kept is None else kept.add(placed)
        kept = kept if k is None else kept.largest(k, by)
    if kept is None:
        raise ValueError("expected a weight of at least one output map, got none; nothing can be convolved with it")
    return kept


def _planes(x: PlaneTensor, weight: Tensor, *, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """Return the convolution of stored planes with a dense weight, differentiable in both."""
    _check_weight(tuple(weight.shape), x)
    kernel = (weight.shape[2], weight.shape[3])
    geometry = Geometry(kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    index = RowIndex(shape=(x.shape[0], x.shape[1]), crow=x.crow, col=x.col)
    result: Tensor = _Planes.apply(x.values, weight, index, geometry)  # type: ignore[no-untyped-call]
    return result


def _check_weight(shape: tuple[int, ...], x: PlaneTensor) -> None:
    if len(shape) != 4 or shape[1] != x.shape[1]:
        raise ValueError(f"expected a weight (out, {x.shape[1]}, kh, kw), got {shape}; reshape or cut it")


class _Planes(torch.autograd.Function):
    """y = W ∗ planes, with the gradients of the stored planes and of the dense weight."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, index: RowIndex, geometry: Geometry) -> Tensor:
        ctx.index, ctx.geometry, ctx.size = index, geometry, tuple(values.shape[1:])
        ctx.save_for_backward(values, weight)
        y: Tensor = backend("plane_conv", values.device.type).planes(geometry, index, values.detach(), weight.detach())
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        values, weight = ctx.saved_tensors
        kernels, index, geometry = backend("plane_conv", values.device.type), ctx.index, ctx.geometry
        wants_values, wants_weight, *_ = ctx.needs_input_grad
        dvalues = kernels.planes_input(geometry, index, g, weight, ctx.size) if wants_values else None
        dweight = kernels.planes_weight(geometry, index, values, g) if wants_weight else None
        return dvalues, dweight, None, None
