"""Convolve slowly and obviously, as the oracle of the other kernels; any dtype, any device.

Four ways to store an operand, three operations for each: the convolution, the gradient of the dense operand, and the
gradient of the stored one. x and the planes are zero-padded; y (n, out, h', w').

- `shared`: a weight (out, in, kh, kw) as all pairs of some output maps and some input maps, SharedMaps.
- `blocks`: a weight as the matrix (out, in · kh · kw) of stored blocks, BlockIndex; a block (1, kh · kw) is one plane.
- `elements`: the same matrix as single elements, RowIndex.
- `planes`: activations (n, c, h, w) as stored planes, a RowIndex of shape (n, c), values (planes, h, w); the weight is
  dense.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import conv2d
from torch.nn.grad import conv2d_input, conv2d_weight

from sparsebench.kernels.block_sparse.layout import BlockIndex, dense_from_blocks
from sparsebench.kernels.csr.layout import RowIndex
from sparsebench.kernels.plane_conv.geometry import Geometry, Pair
from sparsebench.kernels.plane_conv.layout import SharedMaps, check, check_gradient, maps_of


def shared(geometry: Geometry, maps: SharedMaps, values: Tensor, x: Tensor) -> Tensor:
    """Return y (n, out, h', w') of x (n, in, h, w).

    Args:
        geometry: kernel, stride, padding, dilation.
        maps: the stored output and input maps.
        values: (rows, maps, kh, kw).
        x: any strides.

    Raises:
        ValueError: if the operands do not fit.
    """
    check("values", values, (maps.rows.numel(), maps.maps.numel(), *geometry.kernel), values, None)
    return _forward(geometry, _whole(geometry, maps, values), x)


def shared_input(geometry: Geometry, maps: SharedMaps, values: Tensor, g: Tensor, size: Pair) -> Tensor:
    """Return the gradient of x, (n, in, h, w) with `size` (h, w), from g (n, out, h', w')."""
    return _input(geometry, _whole(geometry, maps, values), g, size)


def shared_values(geometry: Geometry, maps: SharedMaps, g: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of the values, (rows, maps, kh, kw)."""
    whole = _weight(geometry, maps.shape, g, x)
    return whole[maps.rows.long()][:, maps.maps.long()]


def blocks(geometry: Geometry, index: BlockIndex, values: Tensor, x: Tensor) -> Tensor:
    """Return y (n, out, h', w') of x (n, in, h, w); values (blocks, height, width)."""
    return _forward(geometry, _kernels(geometry, dense_from_blocks(index, values)), x)


def blocks_input(geometry: Geometry, index: BlockIndex, values: Tensor, g: Tensor, size: Pair) -> Tensor:
    """Return the gradient of x, (n, in, h, w) with `size` (h, w)."""
    return _input(geometry, _kernels(geometry, dense_from_blocks(index, values)), g, size)


def blocks_values(geometry: Geometry, index: BlockIndex, g: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of the values, (blocks, height, width), 0 in the padding."""
    (m, k), (height, width), (down, across) = index.shape, index.block, index.grid
    whole = _weight(geometry, (m, maps_of(index.shape, geometry)), g, x).reshape(m, k)
    padded = whole.new_zeros((down * height, across * width))
    padded[:m, :k] = whole
    tiles = padded.view(down, height, across, width)
    return tiles[index.block_rows(), :, index.col.long(), :]


def elements(geometry: Geometry, index: RowIndex, values: Tensor, x: Tensor) -> Tensor:
    """Return y (n, out, h', w') of x (n, in, h, w); values (nnz)."""
    return _forward(geometry, _kernels(geometry, _dense(index, values)), x)


def elements_input(geometry: Geometry, index: RowIndex, values: Tensor, g: Tensor, size: Pair) -> Tensor:
    """Return the gradient of x, (n, in, h, w) with `size` (h, w)."""
    return _input(geometry, _kernels(geometry, _dense(index, values)), g, size)


def elements_values(geometry: Geometry, index: RowIndex, g: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of the values, (nnz)."""
    whole = _weight(geometry, (index.shape[0], maps_of(index.shape, geometry)), g, x).reshape(index.shape)
    return whole[index.rows().long(), index.col.long()]


def planes(geometry: Geometry, index: RowIndex, values: Tensor, weight: Tensor) -> Tensor:
    """Return y (n, out, h', w') of stored planes (planes, h, w), with a dense weight (out, c, kh, kw)."""
    check("weight", weight, (None, index.shape[1], *geometry.kernel), values, None)
    return conv2d(_activations(index, values), weight, None, geometry.stride, geometry.padding, geometry.dilation)


def planes_input(geometry: Geometry, index: RowIndex, g: Tensor, weight: Tensor, size: Pair) -> Tensor:
    """Return the gradient of the stored planes, (planes, h, w) with `size` (h, w), from g (n, out, h', w')."""
    return _input(geometry, weight, g, size)[index.rows().long(), index.col.long()]


def planes_weight(geometry: Geometry, index: RowIndex, values: Tensor, g: Tensor) -> Tensor:
    """Return the gradient of the dense weight, (out, c, kh, kw)."""
    return _weight(geometry, (g.shape[1], index.shape[1]), g, _activations(index, values))


def _forward(geometry: Geometry, weight: Tensor, x: Tensor) -> Tensor:
    check("x", x, (None, weight.shape[1], None, None), weight, None)
    geometry.output((x.shape[2], x.shape[3]))
    return conv2d(x, weight, None, geometry.stride, geometry.padding, geometry.dilation)


def _input(geometry: Geometry, weight: Tensor, g: Tensor, size: Pair) -> Tensor:
    check_gradient(g, weight.shape[0], size, geometry)
    shape = (g.shape[0], weight.shape[1], *size)
    dx: Tensor = conv2d_input(shape, weight, g, geometry.stride, geometry.padding, geometry.dilation)
    return dx


def _weight(geometry: Geometry, shape: Pair, g: Tensor, x: Tensor) -> Tensor:
    check_gradient(g, shape[0], (x.shape[2], x.shape[3]), geometry, batch=x.shape[0])
    size = (*shape, *geometry.kernel)
    dw: Tensor = conv2d_weight(x, size, g, geometry.stride, geometry.padding, geometry.dilation)
    return dw


def _whole(geometry: Geometry, maps: SharedMaps, values: Tensor) -> Tensor:
    weight = values.new_zeros((*maps.shape, *geometry.kernel))
    weight[maps.rows.long()[:, None], maps.maps.long()] = values
    return weight


def _kernels(geometry: Geometry, matrix: Tensor) -> Tensor:
    return matrix.reshape(matrix.shape[0], maps_of((matrix.shape[0], matrix.shape[1]), geometry), *geometry.kernel)


def _dense(index: RowIndex, values: Tensor) -> Tensor:
    matrix = values.new_zeros(index.shape)
    matrix[index.rows().long(), index.col.long()] = values
    return matrix


def _activations(index: RowIndex, values: Tensor) -> Tensor:
    dense = values.new_zeros((*index.shape, *values.shape[1:]))
    dense[index.rows().long(), index.col.long()] = values
    return dense
