"""Convolve on the CPU with what is stored, straight from padded planes: no im2col copy, no dense weight.

float32 and float64 are computed as they are; float16 and bfloat16 are converted to float32 and back. Threads are
numba's. The planes that take part are copied once, with their margins (cpu_buffer.py); generated kernels
(cpu_generated.py) then read them by shifting. NaN or infinity in x may spread to all of its map's gradient of the
weight, as places between the rows are multiplied by zeros there.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from sparsebench.kernels.block_sparse.layout import BlockIndex
from sparsebench.kernels.csr.layout import RowIndex
from sparsebench.kernels.microkernels import tiles
from sparsebench.kernels.plane_conv import cpu_launch, cpu_plan
from sparsebench.kernels.plane_conv.cpu_buffer import Layout, Sweep, backward, beside, forward
from sparsebench.kernels.plane_conv.cpu_groups import Plan
from sparsebench.kernels.plane_conv.cpu_launch import GROUPS, REDUCED
from sparsebench.kernels.plane_conv.cpu_memory import DTYPES, computed, each, empty, numbers, plain, zeros
from sparsebench.kernels.plane_conv.cpu_shared import shared, shared_input, shared_values
from sparsebench.kernels.plane_conv.geometry import Geometry, Pair
from sparsebench.kernels.plane_conv.layout import check, check_gradient, maps_of, whole_planes

__all__ = [
    "DTYPES", "blocks", "blocks_input", "blocks_values", "elements", "elements_input", "elements_values", "planes",
    "planes_input", "planes_weight", "shared", "shared_input", "shared_values",
]  # fmt: skip


def blocks(geometry: Geometry, index: BlockIndex, values: Tensor, x: Tensor) -> Tensor:
    """Return y (n, out, h', w') of x (n, in, h, w); values (blocks, height, width) of whole planes.

    Raises:
        ValueError: if the operands do not fit, or a block's width is no whole number of kernels.
    """
    inputs = whole_planes(index, geometry)
    check("values", values, (index.blocks, *index.block), values, DTYPES)
    check("x", x, (None, inputs, None, None), values, DTYPES)
    size = (x.shape[2], x.shape[3])
    layout, (sweep,) = forward(geometry, size)
    maps, place = cpu_plan.met(index, geometry.taps, below=False)
    buffer = cpu_launch.fill(layout, plain(x), numbers(x.shape[0], inputs, maps))
    out = empty(values, (x.shape[0], index.shape[0], *sweep.size), index.shape[0])
    batches = (maps.size * layout.plane, each(out))
    if slides(geometry, index):
        plan = cpu_plan.pairs(index, geometry.taps, layout.plane, 0, place)
        cpu_launch.slide(plan, geometry, False, layout.pitch, plain(values), buffer, out, x.shape[0], batches)
    else:
        plan = cpu_plan.blocks(index, geometry.taps, sweep, layout.plane, GROUPS, place)
        _gather(plan, sweep, layout, maps.size, values, buffer, out, x.shape[0], batches, apart=index.block[1])
    return out.to(x.dtype)


def blocks_input(geometry: Geometry, index: BlockIndex, values: Tensor, g: Tensor, size: Pair) -> Tensor:
    """Return the gradient of x, (n, in, h, w) with `size` (h, w)."""
    inputs = whole_planes(index, geometry)
    check("values", values, (index.blocks, *index.block), values, DTYPES)
    check("g", g, (None, None, None, None), values, DTYPES)
    check_gradient(g, index.shape[0], size, geometry)
    layout, sweeps = backward(geometry, size)
    maps, place = cpu_plan.met(index, geometry.taps, below=True)
    buffer = cpu_launch.fill(layout, plain(g), numbers(g.shape[0], g.shape[1], maps))
    out = empty(values, (g.shape[0], inputs, *size), inputs)
    batches = (maps.size * layout.plane, each(out))
    if slides(geometry, index):
        plan = cpu_plan.pairs_input(index, geometry.taps, layout.plane, int(sweeps[0].reads[-1]), place)
        cpu_launch.slide(plan, geometry, True, layout.pitch, plain(values), buffer, out, g.shape[0], batches)
        return out.to(g.dtype)
    for sweep in sweeps:
        plan = cpu_plan.blocks_input(index, geometry.taps, sweep, layout.plane, GROUPS, place)
        _gather(plan, sweep, layout, maps.size, values, buffer, out, g.shape[0], batches)
    return out.to(g.dtype)


def blocks_values(geometry: Geometry, index: BlockIndex, g: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of the values, (blocks, height, width), 0 in the padding."""
    inputs = whole_planes(index, geometry)
    check("x", x, (None, inputs, None, None), g, DTYPES)
    size = (x.shape[2], x.shape[3])
    check_gradient(g, index.shape[0], size, geometry, batch=x.shape[0])
    layout, (sweep,) = forward(geometry, size)
    plan = cpu_plan.blocks(index, geometry.taps, sweep, layout.plane, REDUCED, np.arange(inputs))
    out = zeros(g, (index.blocks, *index.block))
    _reduce_all(geometry, plan, g, x, out)
    return out.to(g.dtype)


def elements(geometry: Geometry, index: RowIndex, values: Tensor, x: Tensor) -> Tensor:
    """Return y (n, out, h', w') of x (n, in, h, w); values (nnz)."""
    inputs = maps_of(index.shape, geometry)
    check("values", values, (index.nnz,), values, DTYPES)
    check("x", x, (None, inputs, None, None), values, DTYPES)
    size = (x.shape[2], x.shape[3])
    layout, (sweep,) = forward(geometry, size)
    buffer = cpu_launch.fill(layout, plain(x), np.arange(x.shape[0] * inputs))
    out = empty(values, (x.shape[0], index.shape[0], *geometry.output(size)), index.shape[0])
    plan = cpu_plan.elements(index, geometry.taps, sweep, layout.plane)
    batches = (inputs * layout.plane, each(out))
    _gather(plan, sweep, layout, inputs, values, buffer, out, x.shape[0], batches)
    return out.to(x.dtype)


def elements_input(geometry: Geometry, index: RowIndex, values: Tensor, g: Tensor, size: Pair) -> Tensor:
    """Return the gradient of x, (n, in, h, w) with `size` (h, w); makes and keeps the index's order by columns."""
    inputs = maps_of(index.shape, geometry)
    check("values", values, (index.nnz,), values, DTYPES)
    check("g", g, (None, None, None, None), values, DTYPES)
    check_gradient(g, index.shape[0], size, geometry)
    layout, sweeps = backward(geometry, size)
    buffer = cpu_launch.fill(layout, plain(g), np.arange(g.shape[0] * g.shape[1]))
    out = empty(values, (g.shape[0], inputs, *size), inputs)
    batches = (g.shape[1] * layout.plane, each(out))
    for sweep in sweeps:
        plan = cpu_plan.elements_input(index, geometry.taps, sweep, layout.plane)
        _gather(plan, sweep, layout, g.shape[1], values, buffer, out, g.shape[0], batches)
    return out.to(g.dtype)


def elements_values(geometry: Geometry, index: RowIndex, g: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of the values, (nnz)."""
    inputs = maps_of(index.shape, geometry)
    check("x", x, (None, inputs, None, None), g, DTYPES)
    size = (x.shape[2], x.shape[3])
    check_gradient(g, index.shape[0], size, geometry, batch=x.shape[0])
    layout, (sweep,) = forward(geometry, size)
    out = zeros(g, (index.nnz,))
    _reduce_all(geometry, cpu_plan.elements(index, geometry.taps, sweep, layout.plane), g, x, out)
    return out.to(g.dtype)


def planes(geometry: Geometry, index: RowIndex, values: Tensor, weight: Tensor) -> Tensor:
    """Return y (n, out, h', w') of stored planes (planes, h, w), with a dense weight (out, c, kh, kw).

    Args:
        geometry: kernel, stride, padding, dilation.
        index: of the stored planes, shape (n, c).
        values: (planes, h, w).
        weight: any strides.

    Raises:
        ValueError: if the operands do not fit.
    """
    check("values", values, (index.nnz, None, None), values, DTYPES)
    check("weight", weight, (None, index.shape[1], *geometry.kernel), values, DTYPES)
    size, (samples, out) = (values.shape[1], values.shape[2]), (index.shape[0], weight.shape[0])
    layout, (sweep,) = forward(geometry, size)
    buffer = cpu_launch.fill(layout, plain(values), np.arange(index.nnz))
    y = empty(values, (samples, out, *geometry.output(size)), out)
    plan = cpu_plan.planes(index, out, geometry.taps, sweep, layout.plane, GROUPS)
    depth = -(-index.nnz // max(samples, 1))
    # of a sample's few planes every weight is read once or twice a band: packing them would take longer
    _gather(plan, sweep, layout, depth, weight, buffer, y, 1, (0, 0), apart=weight[:1].numel())
    return y.to(values.dtype)


def planes_input(geometry: Geometry, index: RowIndex, g: Tensor, weight: Tensor, size: Pair) -> Tensor:
    """Return the gradient of the stored planes, (planes, h, w) with `size` (h, w), from g (n, out, h', w')."""
    check("weight", weight, (None, index.shape[1], *geometry.kernel), g, DTYPES)
    check_gradient(g, weight.shape[0], size, geometry, batch=index.shape[0])
    layout, sweeps = backward(geometry, size)
    buffer = cpu_launch.fill(layout, plain(g), np.arange(g.shape[0] * g.shape[1]))
    out = empty(g, (index.nnz, *size), index.nnz)
    for sweep in sweeps:
        plan = cpu_plan.planes_input(index, weight.shape[0], geometry.taps, sweep, layout.plane, GROUPS)
        _gather(plan, sweep, layout, g.shape[1], weight, buffer, out, 1, (0, 0))
    return out.to(g.dtype)


def planes_weight(geometry: Geometry, index: RowIndex, values: Tensor, g: Tensor) -> Tensor:
    """Return the gradient of the dense weight, (out, c, kh, kw)."""
    check("values", values, (index.nnz, None, None), g, DTYPES)
    size, (samples, maps) = (values.shape[1], values.shape[2]), index.shape
    check_gradient(g, g.shape[1], size, geometry, batch=samples)
    layout, (sweep,) = forward(geometry, size)
    gradient = beside(layout, sweep.size, tiles.lanes(computed(g)))
    out = zeros(g, (g.shape[1], maps, *geometry.kernel))
    left = cpu_launch.fill(gradient, plain(g), np.arange(samples * g.shape[1]))
    right = cpu_launch.fill(layout, plain(values), np.arange(index.nnz))
    plan = cpu_plan.planes(index, g.shape[1], geometry.taps, sweep, layout.plane, REDUCED, by_row=True)
    length = (sweep.size[0] - 1) * layout.pitch + sweep.size[1]
    cpu_launch.reduce(plan, samples, geometry.taps, length, left, right, out, 1, (0, 0), gradient.plane)
    return out.to(g.dtype)


def slides(geometry: Geometry, index: BlockIndex) -> bool:
    """Tell whether pairs of maps are computed by the kernel that slides over rows: single planes, without a stride."""
    return index.block == (1, geometry.taps) and geometry.stride == (1, 1) and geometry.kernel[0] <= 7


def _gather(
    plan: Plan,
    sweep: Sweep,
    layout: Layout,
    depth: int,
    values: Tensor,
    buffer: np.ndarray,
    out: Tensor,
    samples: int,
    batches: Pair,
    *,
    apart: int = 0,
) -> None:
    """Prepare a sweep and compute it; see cpu_launch.prepare."""
    gathering = cpu_launch.prepare(
        plan, sweep, layout.pitch, depth, out.dtype, out.shape, samples, batches, apart=apart
    )
    cpu_launch.gather(gathering, plain(values), buffer, out)


def _reduce_all(geometry: Geometry, plan: Plan, g: Tensor, x: Tensor, out: Tensor) -> None:
    """Add the gradient of the values of all groups of a plan whose buffers hold all maps."""
    layout, (sweep,) = forward(geometry, (x.shape[2], x.shape[3]))
    gradient = beside(layout, sweep.size, tiles.lanes(computed(g)))
    left = cpu_launch.fill(gradient, plain(g), np.arange(g.shape[0] * g.shape[1]))
    right = cpu_launch.fill(layout, plain(x), np.arange(x.shape[0] * x.shape[1]))
    batches = (g.shape[1] * gradient.plane, x.shape[1] * layout.plane)
    length = (sweep.size[0] - 1) * layout.pitch + sweep.size[1]
    cpu_launch.reduce(plan, 1, geometry.taps, length, left, right, out, x.shape[0], batches, gradient.plane)
