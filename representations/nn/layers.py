"""Compute linear and convolutional layers with a stored weight."""

from __future__ import annotations

from typing import Any, Self, TypeVar

from torch import Tensor, nn

from sparsebench.kernels.plane_conv.geometry import Pair
from sparsebench.representations import autograd
from sparsebench.representations._derived_conv import output_size
from sparsebench.representations.base import Representation
from sparsebench.representations.nn.base import SparseModule
from sparsebench.representations.nn.computed import computed, take_hooks
from sparsebench.representations.nn.groups import expand_groups, expand_mask, plain_padding
from sparsebench.representations.nn.opaque import opaque
from sparsebench.representations.nn.store import refusal, store_at, usable_class
from sparsebench.representations.pattern import Pattern

_Layer = TypeVar("_Layer", bound=SparseModule)


class SparseLinear(SparseModule):
    """Compute x @ weightᵀ + bias with a stored weight (out, in)."""

    def __init__(self, representation: Representation, bias: Tensor | None = None, **options: Any) -> None:
        """Take a matrix (out, in); see SparseModule for the rest.

        Raises:
            ValueError: if the representation is no matrix, or bias or kept do not fit.
        """
        if len(representation.shape) != 2:
            raise ValueError(f"expected a matrix (out, in), got shape {representation.shape}; use SparseConv2d")
        super().__init__(representation, bias, **options)
        self.out_features, self.in_features = representation.shape

    @classmethod
    def from_linear(
        cls,
        linear: nn.Linear,
        representation: str | type[Representation],
        *,
        mask: Tensor | None = None,
        pattern: Pattern | None = None,
    ) -> Self:
        """Copy a dense layer.

        Args:
            linear: the layer; it is not changed. Its weight is what its next forward pass would compute.
            representation: a name or a class.
            mask: bool (out, in): what is stored; None for what is not 0.
            pattern: a hint at block sizes.

        Raises:
            ValueError: if the mask does not fit, nobody knows what computes the weight, or the class refuses it.
        """
        return stored_layer(cls, linear, representation, mask, pattern)

    @opaque
    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out) of x (..., in), contiguous.

        Raises:
            ValueError: if the last size of x is not `in_features`.
        """
        if not x.dim() or x.shape[-1] != self.in_features:
            raise ValueError(f"expected x (..., {self.in_features}), got {tuple(x.shape)}; transpose or cut it")
        lead = x.shape[:-1]
        rows = x.reshape(lead.numel(), self.in_features)
        result = autograd.matmul(self._held, rows.t(), self._trained()).t().contiguous()
        if self.bias is not None:
            result = result + self.bias.to(result.dtype)  # another one under autocast only
        return result.reshape(*lead, self.out_features)


class SparseConv2d(SparseModule):
    """Convolve with a stored weight (out, in, kh, kw), and add a bias."""

    def __init__(
        self,
        representation: Representation,
        bias: Tensor | None = None,
        *,
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        dilation: Pair = (1, 1),
        **options: Any,
    ) -> None:
        """Take a weight (out, in, kh, kw); see SparseModule for the rest. Groups are absent planes of a full weight.

        Raises:
            ValueError: if the representation is no 4-D weight, or something does not fit.
        """
        if len(representation.shape) != 4:
            raise ValueError(f"expected a weight (out, in, kh, kw), got {representation.shape}; use SparseLinear")
        super().__init__(representation, bias, **options)
        self.out_channels, self.in_channels, *kernel = representation.shape
        self.kernel_size: Pair = (kernel[0], kernel[1])
        self.stride, self.padding, self.dilation = stride, padding, dilation
        # an input that surely is large enough: only the options are looked at here
        reach = [d * k if type(d) is int else k for d, k in zip(dilation, kernel, strict=True)]
        output_size((reach[0] + 1, reach[1] + 1), self.kernel_size, stride, padding, dilation)

    @classmethod
    def from_conv(
        cls,
        conv: nn.Conv2d,
        representation: str | type[Representation],
        *,
        mask: Tensor | None = None,
        pattern: Pattern | None = None,
    ) -> Self:
        """Copy a dense layer; one of several groups becomes a full weight whose planes between groups are absent.

        Args:
            conv: the layer; it is not changed. Its weight is what its next forward pass would compute.
            representation: a name or a class.
            mask: bool, what is stored: (out, in) planes or (out, in, kh, kw), with all input maps also where there are
                groups; None for what is not 0.
            pattern: a hint at block sizes, for the matrix (out, in·kh·kw).

        Raises:
            ValueError: if the mask does not fit, the padding is not that of zeros or not the same on both sides, or the
                representation refuses the weight.
        """
        return stored_layer(cls, conv, representation, mask, pattern)

    @opaque
    def forward(self, x: Tensor) -> Tensor:
        """Return (n, out, h', w') of x (n, in, h, w), or (out, h', w') of one sample (in, h, w).

        Raises:
            ValueError: if x does not fit the weight.
        """
        options = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        result = autograd.conv2d(self._held, x[None] if x.dim() == 3 else x, self._trained(), **options)
        if self.bias is not None:
            result.add_(self.bias[:, None, None].to(result.dtype))  # its own memory: no second result is needed
        return result[0] if x.dim() == 3 else result

    def extra_repr(self) -> str:
        """Return name, shape, bytes, and options."""
        return f"{super().extra_repr()}, stride={self.stride}, padding={self.padding}, dilation={self.dilation}"


def stored_layer(
    cls: type[_Layer],
    layer: nn.Linear | nn.Conv2d,
    representation: str | type[Representation],
    mask: Tensor | None,
    pattern: Pattern | None,
    weight: Tensor | None = None,
) -> _Layer:
    """Copy a dense layer; arguments and errors as in `from_linear` and `from_conv`.

    Args:
        cls: SparseConv2d for a convolution, else SparseLinear.
        layer: it is not changed.
        representation: a name or a class.
        mask: what is stored, or None for what is not 0.
        pattern: a hint at block sizes.
        weight: stored instead of the layer's own, in its dtype and on its device, with all input maps.
    """
    options: dict[str, Any] = {}
    if isinstance(layer, nn.Conv2d):
        options = {"stride": tuple(layer.stride), "dilation": tuple(layer.dilation), "padding": plain_padding(layer)}
    own, bias = computed(layer)
    groups = getattr(layer, "groups", 1)
    shape = (own.shape[0], own.shape[1] * groups, *own.shape[2:])
    full = expand_groups(own.detach(), groups) if weight is None else weight
    if full.shape != shape:
        raise ValueError(f"expected a weight {shape}, got {tuple(full.shape)}; build the network as it was")
    kind = usable_class(representation)
    reason = refusal(kind, full, pattern)
    if reason is not None:
        raise ValueError(f"expected a weight that {kind.name} supports, got {shape}: {reason}")
    held, kept = store_at(kind, full, expand_mask(mask, full, groups), pattern)
    made = cls(held, bias, pattern=pattern, kept=kept, **options)
    if isinstance(made.values, nn.Parameter):
        made.values.requires_grad_(own.requires_grad)
    made.train(layer.training)
    take_hooks(made, layer)
    return made
