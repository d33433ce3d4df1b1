"""Derive a convolution and its gradients from the three products of a matrix, by windows of the input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sparsebench.kernels.plane_conv.geometry import Geometry, Pair
from sparsebench.representations.operands import check_operand

if TYPE_CHECKING:
    from sparsebench.representations.base import Representation


def output_size(size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    """Return (h', w') of a convolution of an input (h, w).

    Raises:
        ValueError: if one is no pair of ints or too small, or the kernel does not fit into the padded input.
    """
    return Geometry(kernel=kernel, stride=stride, padding=padding, dilation=dilation).output(size)


def weight_shape(self: Representation, operation: str) -> tuple[int, int, int, int]:
    """Return the four sizes of what is stored.

    Raises:
        ValueError: if it is no 4-D tensor.
    """
    if len(self.shape) != 4:
        what = "activations (n, c, h, w)" if operation == "conv2d_with" else "a weight (out, in, kh, kw)"
        raise ValueError(f"expected {what} for {operation}, got shape {self.shape}; store a 4-D tensor")
    first, second, third, fourth = self.shape
    return first, second, third, fourth


def conv2d(self: Representation, x: Tensor, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """Return the convolution of x (n, in, h, w) with self (out, in, kh, kw) -> (n, out, h', w'), contiguous."""
    out, maps, *kernel = weight_shape(self, "conv2d")
    check_operand(self, "x", x, (None, maps, None, None))
    height, width = output_size(_pair(x.shape[2:]), _pair(kernel), stride, padding, dilation)
    product = self.matmul(_columns(x, _pair(kernel), stride, padding, dilation))
    return product.reshape(out, x.shape[0], height, width).transpose(0, 1).contiguous()


def conv2d_input(self: Representation, g: Tensor, size: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """Return the gradient of conv2d with respect to x (n, in, h, w), from g (n, out, h', w')."""
    out, maps, *kernel = weight_shape(self, "conv2d_input")
    places = output_size(_pair(size), _pair(kernel), stride, padding, dilation)
    check_operand(self, "g", g, (None, out, *places))
    products = self.rmatmul(_rows(g)).reshape(maps, *kernel, g.shape[0], *places)
    padded = products.new_zeros((maps, g.shape[0], size[0] + 2 * padding[0], size[1] + 2 * padding[1]))
    # one addition a place in the kernel, into a view: torch's fold would copy all products into another order first
    windows = _windows(padded, _pair(kernel), places, stride, dilation)
    for row in range(kernel[0]):
        for column in range(kernel[1]):
            windows[:, row, column].add_(products[:, row, column])
    inner = padded[:, :, padding[0] : padding[0] + size[0], padding[1] : padding[1] + size[1]]
    return inner.transpose(0, 1).contiguous()


def conv2d_values(self: Representation, g: Tensor, x: Tensor, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """Return the gradient of conv2d with respect to the stored values, laid out as they are."""
    out, maps, *kernel = weight_shape(self, "conv2d_values")
    check_operand(self, "x", x, (None, maps, None, None))
    places = output_size(_pair(x.shape[2:]), _pair(kernel), stride, padding, dilation)
    check_operand(self, "g", g, (x.shape[0], out, *places))
    return self.sampled_matmul(_rows(g), _columns(x, _pair(kernel), stride, padding, dilation).t())


def conv2d_with(self: Representation, weight: Tensor, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """Return the convolution of self, activations (n, c, h, w), with a dense weight (out, c, kh, kw)."""
    _, maps, *size = weight_shape(self, "conv2d_with")
    check_operand(self, "weight", weight, (None, maps, None, None))
    output_size(_pair(size), _pair(weight.shape[2:]), stride, padding, dilation)
    return torch.nn.functional.conv2d(self.to_dense(), weight, None, stride, padding, dilation)


def _rows(g: Tensor) -> Tensor:
    """Return a gradient (n, out, h', w') as a contiguous matrix (out, n·h'·w'); a view where n is 1."""
    count, maps, height, width = g.shape
    return g.detach().transpose(0, 1).reshape(maps, count * height * width).contiguous()


def _columns(x: Tensor, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """Return the matrix (in·kh·kw, n·h'·w') of all windows of x, contiguous.

    It is copied once, from a view of x, into the order that a product needs; torch's unfold puts samples outermost and
    would have to be copied again. A 1 × 1 kernel of stride 1 over one sample copies nothing.
    """
    count, maps, height, width = x.shape
    places = output_size((height, width), kernel, stride, padding, dilation)
    padded = x.detach()
    if max(padding):
        padded = torch.nn.functional.pad(padded, (padding[1], padding[1], padding[0], padding[0]))
    windows = _windows(padded.transpose(0, 1), kernel, places, stride, dilation)
    return windows.reshape(maps * kernel[0] * kernel[1], count * places[0] * places[1]).contiguous()


def _windows(maps: Tensor, kernel: Pair, places: Pair, stride: Pair, dilation: Pair) -> Tensor:
    """Return a view (in, kh, kw, n, h', w') of padded maps (in, n, h, w): what each place in the kernel meets."""
    channel, sample, row, column = maps.stride()
    return maps.as_strided(
        (maps.shape[0], *kernel, maps.shape[1], *places),
        (channel, row * dilation[0], column * dilation[1], sample, row * stride[0], column * stride[1]),
    )


def _pair(sizes: list[int] | tuple[int, ...]) -> Pair:
    first, second = sizes
    return int(first), int(second)
