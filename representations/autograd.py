"""Train any representation: autograd Functions over its products, over a convolution, and over the dense weight.

Under `torch.autocast` a product is computed in the stored dtype, whatever kernels a class has, and given in the dtype
of autocast, as torch's own layers do; so its gradients come in the dtype of what they belong to.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from sparsebench.kernels.plane_conv.geometry import Pair
from sparsebench.representations._derived_conv import output_size
from sparsebench.representations.base import Representation
from sparsebench.representations.operands import check_values

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _as_stored(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Run a pass without autocast: the operations of torch that a class is made of would else change the dtype."""

    @wraps(function)
    def run(*arguments: _P.args, **options: _P.kwargs) -> _T:
        device = next(one.device.type for one in arguments if isinstance(one, Tensor))
        if not torch.is_autocast_enabled(device):
            return function(*arguments, **options)
        with torch.autocast(device, enabled=False):
            return function(*arguments, **options)

    return run


class _Last(torch.autograd.Function):
    """Pass a gradient on that cannot be differentiated again, and say so when that is tried."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, *sources: Tensor | None) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        raise RuntimeError(
            "expected a stored product to be differentiated once, got a second time, which it has no kernels for; use "
            "the dense layer"
        )


def _once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run a backward pass so that its gradients refuse to be differentiated with regard to whatever they come from.

    torch's `once_differentiable` does so in `backward` only: torch.autograd.functional.hessian would find zeros.
    """

    @wraps(function)
    def run(ctx: Any, g: Tensor) -> Any:
        with torch.no_grad():
            results = function(ctx, g)
        if not torch.is_grad_enabled():
            return results
        return tuple(
            _Last.apply(one, g, *ctx.saved_tensors)  # type: ignore[no-untyped-call]  # torch leaves it without types
            if isinstance(one, Tensor)
            else one
            for one in results
        )

    return run


class _Matmul(torch.autograd.Function):
    """y = S(values) @ x, with dx = Sᵀ @ g and dvalues = (g @ xᵀ) at the stored positions."""

    @staticmethod
    @_as_stored
    def forward(ctx: Any, values: Tensor | None, x: Tensor, representation: Representation) -> Tensor:
        _remember(ctx, values, x, representation)
        return _whole(ctx.holder.matmul(x.detach()))

    @staticmethod
    @_once
    @_as_stored
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, _ = ctx.saved_tensors
        wants_values, wants_x, _ = ctx.needs_input_grad
        values_gradient = ctx.holder.sampled_matmul(g, x.t()) if wants_values else None
        x_gradient = ctx.holder.rmatmul(g) if wants_x else None
        return values_gradient, x_gradient, None


class _Conv2d(torch.autograd.Function):
    """y = S(values) ∗ x, with dx by conv2d_input and dvalues by conv2d_values."""

    @staticmethod
    @_as_stored
    def forward(
        ctx: Any, values: Tensor | None, x: Tensor, representation: Representation, options: dict[str, Pair]
    ) -> Tensor:
        _remember(ctx, values, x, representation)
        ctx.options, ctx.size = options, tuple(x.shape[2:])
        return _whole(ctx.holder.conv2d(x.detach(), **options))

    @staticmethod
    @_once
    @_as_stored
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, _ = ctx.saved_tensors
        wants_values, wants_x, *_ = ctx.needs_input_grad
        values_gradient = ctx.holder.conv2d_values(g, x, **ctx.options) if wants_values else None
        x_gradient = ctx.holder.conv2d_input(g, ctx.size, **ctx.options) if wants_x else None
        return values_gradient, x_gradient, None, None


class _Weight(torch.autograd.Function):
    """W = S(values) as a dense tensor, with dvalues = dW at the stored positions."""

    @staticmethod
    @_as_stored
    def forward(ctx: Any, values: Tensor, representation: Representation) -> Tensor:
        ctx.holder = representation.with_values(values.detach())
        return _whole(ctx.holder.to_dense())

    @staticmethod
    @_once
    @_as_stored
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        # only sampled_matmul knows where the values stand and in which order: one factor is the identity
        rows, columns = ctx.holder.matrix_shape
        matrix = g.reshape(rows, columns).contiguous()
        one = torch.eye(min(rows, columns), dtype=g.dtype, device=g.device)
        factors = (one, matrix) if rows <= columns else (matrix, one)
        return ctx.holder.sampled_matmul(*factors), None


def _remember(ctx: Any, values: Tensor | None, x: Tensor, representation: Representation) -> None:
    """Keep what the backward pass needs: x for the gradient of the values, the values for that of x.

    Both are saved through torch, which raises if one of them was changed in place in between.
    """
    ctx.holder = representation if values is None else representation.with_values(values.detach())
    wants_values, wants_x, *_ = ctx.needs_input_grad
    ctx.save_for_backward(x if wants_values else None, values if wants_x else None)


def _whole(result: Tensor) -> Tensor:
    """Return a result that is no view, of the same memory: autograd forbids to change a Function's view in place.

    That would hit whoever puts nn.ReLU(inplace=True) behind a layer, at some shapes and not at others.
    """
    if not isinstance(result, Tensor) or not result._is_view():
        return result
    return result.new_empty(0).set_(result.untyped_storage(), result.storage_offset(), result.shape, result.stride())


def _refuse_tracers(representation: Representation, x: Tensor) -> None:
    """Raise NotImplementedError where a tracer looks on: it would record constants, or tensors without memory."""
    keys = torch._C._TorchDispatchModeKey
    modes = (torch._C._get_dispatch_mode(key) for key in (keys.FAKE, keys.PROXY, keys.FUNCTIONAL))
    fake = isinstance(x, FakeTensor) or any(mode is not None for mode in modes)
    recorded = torch._C._get_tracing_state() is not None  # by torch.jit.trace, which could not be saved in any case
    if recorded or (fake and not type(representation).traceable):
        raise NotImplementedError(
            f"expected tensors with values, got those of a tracer (torch.export, torch.jit.trace, make_fx), which "
            f"cannot follow {representation.name}; run the model eagerly or by torch.compile, or trace the dense one"
        )


def _lowered(representation: Representation, x: Tensor) -> tuple[Tensor, torch.dtype | None]:
    """Return x in the stored dtype and the dtype to give the result in, where autocast is on; else x and None.

    As in torch, autocast leaves float64 and what is no float alone.
    """
    device = representation.device.type
    if not torch.is_autocast_enabled(device):
        return x, None
    lowers = all(dtype.is_floating_point and dtype != torch.float64 for dtype in (x.dtype, representation.dtype))
    if not lowers or x.device.type != device:
        return x, None
    return x.to(representation.dtype), torch.get_autocast_dtype(device)


def matmul(representation: Representation, x: Tensor, values: Tensor | None = None) -> Tensor:
    """Return representation @ x so that gradients flow to `values` and to x; no gradient is ever dense-shaped.

    Args:
        representation: gives the places, and the values if none are given.
        x: (k, n).
        values: shaped as `representation.values`, usually a leaf that requires a gradient; None stands for the
            representation's own values, or for constants if it gives none: then only x has a gradient.

    Returns:
        (m, n), strided; in the dtype of autocast where that is on. It can be differentiated once.

    Raises:
        NotImplementedError: if values are given and the representation does not train, or a tracer looks on.
        ValueError: if shapes do not match.
    """
    _refuse_tracers(representation, x)
    leaf = _leaf(representation, values)
    columns = representation.matrix_shape[1]
    if x.dim() != 2 or x.shape[0] != columns:
        raise ValueError(f"expected x of shape ({columns}, n), got {tuple(x.shape)}; transpose or cut it")
    x, given = _lowered(representation, x)
    result = _Matmul.apply(leaf, x, representation)  # type: ignore[no-untyped-call]  # torch leaves it without types
    return _tensor(result, representation, "matmul", given)


def conv2d(
    representation: Representation,
    x: Tensor,
    values: Tensor | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
) -> Tensor:
    """Return the convolution of x with a stored weight so that gradients flow to `values` and to x.

    Args:
        representation: a weight (out, in, kh, kw): gives the places, and the values if none are given.
        x: (n, in, h, w).
        values: as in `matmul`.
        stride: (rows, columns), at least 1.
        padding: zeros on both sides of (rows, columns).
        dilation: (rows, columns), at least 1.

    Returns:
        (n, out, h', w'); in the dtype of autocast where that is on. It can be differentiated once.

    Raises:
        NotImplementedError: if values are given and the representation does not train, or a tracer looks on.
        ValueError: if the representation is no 4-D weight, or shapes or sizes do not fit.
    """
    _refuse_tracers(representation, x)
    leaf = _leaf(representation, values)
    if len(representation.shape) != 4:
        raise ValueError(f"expected a weight (out, in, kh, kw), got shape {representation.shape}; store a 4-D tensor")
    _, maps, rows, columns = representation.shape
    if x.dim() != 4 or x.shape[1] != maps:
        raise ValueError(f"expected x of shape (n, {maps}, h, w), got {tuple(x.shape)}; reshape or cut it")
    output_size((x.shape[2], x.shape[3]), (rows, columns), stride, padding, dilation)
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    x, given = _lowered(representation, x)
    result = _Conv2d.apply(leaf, x, representation, options)  # type: ignore[no-untyped-call]  # as above
    return _tensor(result, representation, "conv2d", given)


def to_dense(representation: Representation, values: Tensor) -> Tensor:
    """Return the dense tensor of `shape` around values, so that its gradient flows to them, at the stored places.

    Raises:
        NotImplementedError: if a tracer looks on; in the backward pass, if the representation does not train.
        ValueError: if the values do not fit.
    """
    _refuse_tracers(representation, values)
    result = _Weight.apply(_leaf(representation, values), representation)  # type: ignore[no-untyped-call]  # as above
    return _tensor(result, representation, "to_dense", None)


def _leaf(representation: Representation, values: Tensor | None) -> Tensor | None:
    if values is None and not (representation.native("values") and representation.native("with_values")):
        return None
    own = representation.values
    if values is None:
        return own
    check_values(values, own)
    return values


def _tensor(result: object, representation: Representation, operation: str, dtype: torch.dtype | None) -> Tensor:
    if not isinstance(result, Tensor):
        raise TypeError(f"expected a tensor from {representation.name}.{operation}, got {type(result).__name__}")
    return result if dtype is None else result.to(dtype)
