"""Convolve what is stored as blocks of whole planes or as single elements by the kernels of kernels/plane_conv."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sparsebench.kernels.block_sparse.layout import BlockIndex
from sparsebench.kernels.common.devices import backend
from sparsebench.kernels.csr.layout import RowIndex
from sparsebench.kernels.plane_conv.geometry import Geometry, Pair
from sparsebench.kernels.plane_conv.layout import SharedMaps
from sparsebench.kernels.plane_conv.names import LIBRARY, NAMES
from sparsebench.representations._derived_conv import weight_shape
from sparsebench.representations.base import Representation

CONVOLUTIONS: tuple[str, ...] = ("conv2d", "conv2d_input", "conv2d_values")
"""The operations that are computed here."""

Index = BlockIndex | RowIndex | SharedMaps
_KINDS: dict[type, str] = {BlockIndex: "blocks", RowIndex: "elements", SharedMaps: "shared"}


def geometry_of(self: Representation, operation: str, stride: Pair, padding: Pair, dilation: Pair) -> Geometry:
    """Return how the stored weight (out, in, kh, kw) slides.

    Raises:
        ValueError: if it is no 4-D weight, or a number is out of range.
    """
    *_, height, width = weight_shape(self, operation)
    return Geometry(kernel=(height, width), stride=stride, padding=padding, dilation=dilation)


def holds_planes(index: BlockIndex, shape: tuple[int, ...]) -> bool:
    """Tell whether the blocks of a weight (out, in, kh, kw), stored as a matrix, are made of whole planes."""
    return len(shape) == 4 and shape[2] * shape[3] > 0 and index.block[1] % (shape[2] * shape[3]) == 0


def conv2d(geometry: Geometry, index: Index, values: Tensor, x: Tensor) -> Tensor:
    """Return the convolution of x (n, in, h, w) -> (n, out, h', w')."""
    return _function(index, "", values)(geometry, index, values, x)


def conv2d_input(geometry: Geometry, index: Index, values: Tensor, g: Tensor, size: Pair) -> Tensor:
    """Return the gradient of x, (n, in, h, w), `size` being (h, w)."""
    return _function(index, "_input", values)(geometry, index, values, g, tuple(size))


def conv2d_values(geometry: Geometry, index: Index, values: Tensor, g: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of the values, laid out as they are; of `values` only dtype and device count."""
    if g.dtype != values.dtype:  # the kernels see g and x only, and compare them with each other
        raise ValueError(f"expected g in {values.dtype} on {values.device}, got {g.dtype} on {g.device}; convert it")
    return _function(index, "_values", values)(geometry, index, g, x)


def kernel_name(device: str, maps: SharedMaps | None = None, operation: str = "") -> str:
    """Return what runs, for the column `kernel`; of shared maps, what ran the operation last."""
    if maps is not None and maps.made.get(operation) == "library":
        return LIBRARY
    return NAMES[device]


def _function(index: Index, suffix: str, values: Tensor) -> Callable[..., Tensor]:
    found: Callable[..., Tensor] = getattr(backend("plane_conv", values.device.type), _KINDS[type(index)] + suffix)
    return found
