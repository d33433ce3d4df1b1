"""Convolve with a dense weight by torch, as the dense representations do."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import conv2d as torch_conv2d
from torch.nn.grad import conv2d_input as torch_conv2d_input
from torch.nn.grad import conv2d_weight as torch_conv2d_weight

from sparsebench.kernels.plane_conv.geometry import Pair
from sparsebench.representations._derived_conv import output_size, weight_shape
from sparsebench.representations.base import Representation
from sparsebench.representations.operands import check_operand


def conv2d(self: Representation, weight: Tensor, x: Tensor, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """Return the convolution of x (n, in, h, w) with the weight that `self` holds, contiguous.

    Raises:
        ValueError: if self is no 4-D weight, or x does not fit.
    """
    shape = weight_shape(self, "conv2d")
    check_operand(self, "x", x, (None, shape[1], None, None))
    output_size((x.shape[2], x.shape[3]), shape[2:], stride, padding, dilation)
    return torch_conv2d(x.detach(), weight.reshape(shape), None, stride, padding, dilation).contiguous()


def conv2d_input(
    self: Representation, weight: Tensor, g: Tensor, size: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Tensor:
    """Return the gradient of x (n, in, h, w), contiguous; errors as in `conv2d`."""
    shape = weight_shape(self, "conv2d_input")
    places = output_size(size, shape[2:], stride, padding, dilation)
    check_operand(self, "g", g, (None, shape[0], *places))
    whole = (g.shape[0], shape[1], *size)
    dx: Tensor = torch_conv2d_input(whole, weight.reshape(shape), g.detach(), stride, padding, dilation)
    return dx.contiguous()


def conv2d_values(self: Representation, g: Tensor, x: Tensor, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """Return the gradient of the whole weight as a matrix (out, in·kh·kw); errors as in `conv2d`."""
    shape = weight_shape(self, "conv2d_values")
    check_operand(self, "x", x, (None, shape[1], None, None))
    places = output_size((x.shape[2], x.shape[3]), shape[2:], stride, padding, dilation)
    check_operand(self, "g", g, (x.shape[0], shape[0], *places))
    gradient: Tensor = torch_conv2d_weight(x.detach(), shape, g.detach(), stride, padding, dilation)
    return gradient.reshape(self.matrix_shape)
