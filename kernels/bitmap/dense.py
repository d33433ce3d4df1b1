"""Go from a dense matrix to bits and values, and back: on any device, faster on the CPU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from sparsebench.kernels.bitmap.layout import COLUMNS, ROWS, BitmapIndex, cut, dense_from_bits
from sparsebench.kernels.common import pages

_SLAB = 1 << 22
"""Places that are looked at together: what is needed beside bits and values stays within a few times as many bytes."""
_GATHER = 0x0102040810204080
"""Times 8 bytes of 0 or 1 this has their 8 bits in its highest byte, the first one lowest."""


def pack(matrix: Tensor) -> tuple[BitmapIndex, Tensor]:
    """Return where a strided matrix (m, k) is not 0, and its values there; a NaN is stored.

    Args:
        matrix: of any strides, dtype and device; neither kept nor changed.
    """
    shape = (int(matrix.shape[0]), int(matrix.shape[1]))
    groups, chunks = cut(shape)
    bits = (
        pages.empty((groups, chunks, ROWS), torch.int64)
        if matrix.device.type == "cpu"
        else torch.empty((groups, chunks, ROWS), dtype=torch.int64, device=matrix.device)
    )
    each = max(1, _SLAB // max(1, ROWS * COLUMNS * chunks))
    for first in range(0, groups, each):
        there = _by_groups(matrix[ROWS * first : ROWS * (first + each)] != 0)
        octets = there.view(-1, 8).view(torch.int64) * _GATHER >> 56 & 0xFF
        bits[first : first + each] = octets.to(torch.uint8).view(-1, 8).view(torch.int64).view(-1, chunks, ROWS)
    index = BitmapIndex.from_bits(bits, shape)
    return index, gather(index, matrix)


def expand(index: BitmapIndex, values: Tensor) -> Tensor:
    """Return the matrix (m, k) as a new contiguous tensor."""
    if values.device.type != "cpu":
        return dense_from_bits(index, values)
    from sparsebench.kernels.bitmap import cpu  # numba takes a while to import, and a GPU does not need it

    return cpu.dense(index, values) if values.dtype in cpu.DTYPES else dense_from_bits(index, values)


def gather(index: BitmapIndex, matrix: Tensor) -> Tensor:
    """Return what a matrix (m, k) has at the stored places, a new tensor (nnz) in the order of the values."""
    if matrix.shape != index.shape:
        raise ValueError(f"expected a matrix of {index.shape}, got {tuple(matrix.shape)}; check its shape")
    if matrix.device.type != "cpu":
        return matrix[index.places()]
    from sparsebench.kernels.bitmap import cpu

    return cpu.gather(index, matrix) if matrix.dtype in cpu.DTYPES else matrix[index.places()]


def _by_groups(slab: Tensor) -> Tensor:
    """Return rows (r, k) as (groups, chunks, ROWS, COLUMNS), zeros around them."""
    (rows, columns), (groups, chunks) = slab.shape, cut((slab.shape[0], slab.shape[1]))
    whole = pad(slab, (0, chunks * COLUMNS - columns, 0, groups * ROWS - rows))
    return whole.reshape(groups, ROWS, chunks, COLUMNS).permute(0, 2, 1, 3).contiguous()
