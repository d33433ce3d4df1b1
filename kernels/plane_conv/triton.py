"""Convolve on the GPU with Triton: float32, float16 and bfloat16, sums in float32, no TF32, no atomics.

`triton_gather.py` holds the convolution and the gradient of its dense operand where several maps share an operand (an
implicit matrix product), `triton_vectors.py` the same of single planes and elements, `triton_reduce.py` the gradients
of weights, `triton_steps.py` which taps meet where. Nothing of the size of x is copied: no im2col, no padding; weights
are copied once a call with their taps first. Every element of a result is added up in one order, so runs repeat bit for
bit on one kind of device.

The functions are those of `reference.py`, where they are defined. All raise ValueError if the operands do not fit, or
lie on the CPU and the interpreter is off. The modules import where there is no GPU. Set TRITON_INTERPRET=1 before
importing them to run on CPU tensors, for tests.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparsebench.kernels.block_sparse.layout import BlockIndex
from sparsebench.kernels.common.triton_launch import DTYPES, check_device
from sparsebench.kernels.csr.layout import RowIndex
from sparsebench.kernels.plane_conv.geometry import Geometry, Pair
from sparsebench.kernels.plane_conv.layout import SharedMaps, check, check_gradient, maps_of, whole_planes
from sparsebench.kernels.plane_conv.triton_launch import (
    Terms,
    run_elements,
    run_gather,
    run_pairs,
    run_reduce,
    run_reduce_elements,
    run_reduce_planes,
)
from sparsebench.kernels.plane_conv.triton_steps import forward_step, input_steps

__all__ = [
    "DTYPES", "blocks", "blocks_input", "blocks_values", "elements",
    "elements_input", "elements_values", "planes", "planes_input", "planes_weight", "shared", "shared_input",
    "shared_values",
]  # fmt: skip


def shared(geometry: Geometry, maps: SharedMaps, values: Tensor, x: Tensor) -> Tensor:
    """Return y (n, out, h', w') of x (n, in, h, w), any strides; values (rows, maps, kh, kw)."""
    rows, count = _check_shared(geometry, maps, values)
    out = _result(geometry, maps.shape, values, x)
    if rows < maps.shape[0] or count == 0:
        out.zero_()
    if rows and count:
        weight = values.detach().reshape(rows, count, -1).permute(2, 0, 1).contiguous()[:, None]
        terms = Terms(kind="shared", maps=maps.maps, rows=rows, count=count, order=maps.rows)
        with torch.cuda.device_of(x):
            run_gather(geometry, forward_step(geometry), terms, weight, x.detach(), out, x.shape[0])
    return out


def shared_input(geometry: Geometry, maps: SharedMaps, values: Tensor, g: Tensor, size: Pair) -> Tensor:
    """Return the gradient of x, (n, in, h, w) with `size` (h, w), from g (n, out, h', w')."""
    count, rows = _check_shared(geometry, maps, values)
    out = _input_result(geometry, maps.shape, values, g, size)
    if rows < maps.shape[1] or count == 0:
        out.zero_()
    if rows and count:
        weight = values.detach().reshape(count, rows, -1).permute(2, 1, 0).contiguous()[:, None]
        terms = Terms(kind="shared", maps=maps.rows, rows=rows, count=count, order=maps.maps)
        with torch.cuda.device_of(g):
            for step in input_steps(geometry, size):
                run_gather(geometry, step, terms, weight, g.detach(), out, g.shape[0])
    return out


def shared_values(geometry: Geometry, maps: SharedMaps, g: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of the values, (rows, maps, kh, kw)."""
    _check_both(geometry, maps.shape, maps.device, g, x)
    sizes = 1, maps.rows.numel(), maps.maps.numel()
    with torch.cuda.device_of(g):
        found = run_reduce(geometry, g.detach(), x.detach(), (maps.rows, maps.maps), sizes, blocks=False)
    return found.view(*sizes[1:], *geometry.kernel)


def blocks(geometry: Geometry, index: BlockIndex, values: Tensor, x: Tensor) -> Tensor:
    """Return y (n, out, h', w') of x (n, in, h, w), any strides; values (blocks, height, width), whole kernels wide."""
    shape = _check_blocks(geometry, index, values)
    out = _result(geometry, shape, values, x)
    step, samples = forward_step(geometry), x.shape[0]
    with torch.cuda.device_of(x):
        if _is_pairs(geometry, index):
            lists = index.crow, index.col, None
            run_pairs(geometry, step, lists, values.detach().contiguous(), x.detach(), out, elements=False)
        else:
            weight = _by_tap(geometry, index, values).permute(3, 0, 1, 2).contiguous()
            terms = Terms(
                kind="blocks", maps=index.col, rows=shape[0], starts=index.crow, groups=index.grid[0],
                source_maps=shape[1], block=(index.block[0], index.block[1] // geometry.taps),
            )  # fmt: skip
            run_gather(geometry, step, terms, weight, x.detach(), out, samples)
    return out


def blocks_input(geometry: Geometry, index: BlockIndex, values: Tensor, g: Tensor, size: Pair) -> Tensor:
    """Return the gradient of x, (n, in, h, w) with `size` (h, w)."""
    shape = _check_blocks(geometry, index, values)
    out = _input_result(geometry, shape, values, g, size)
    with torch.cuda.device_of(g):
        if _is_pairs(geometry, index):
            held = values.detach().contiguous()
            for step in input_steps(geometry, size):
                lists = index.ccol, index.row, index.order
                run_pairs(geometry, step, lists, held, g.detach(), out, elements=False)
        else:
            weight = _by_tap(geometry, index, values).permute(3, 0, 2, 1).contiguous()
            terms = Terms(
                kind="blocks", maps=index.row, rows=shape[1], starts=index.ccol, order=index.order,
                groups=index.grid[1], source_maps=shape[0], block=(index.block[1] // geometry.taps, index.block[0]),
            )  # fmt: skip
            for step in input_steps(geometry, size):
                run_gather(geometry, step, terms, weight, g.detach(), out, g.shape[0])
    return out


def blocks_values(geometry: Geometry, index: BlockIndex, g: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of the values, (blocks, height, width), 0 in the padding."""
    shape = _check_whole(geometry, index)
    _check_both(geometry, shape, index.device, g, x)
    height, width = index.block
    row = index.block_rows().int()
    with torch.cuda.device_of(g):
        if _is_pairs(geometry, index):
            entries = index.blocks * width
            found = run_reduce_elements(geometry, g.detach(), x.detach(), row, index.col, entries, pairs=True)
        else:
            sizes = index.blocks, height, width // geometry.taps
            found = run_reduce(geometry, g.detach(), x.detach(), (row, index.col), sizes, blocks=True)
    return found.reshape(index.blocks, height, width)


def elements(geometry: Geometry, index: RowIndex, values: Tensor, x: Tensor) -> Tensor:
    """Return y (n, out, h', w') of x (n, in, h, w), any strides; values (nnz)."""
    check("values", values, (index.nnz,), values, DTYPES)
    _check_device(index.device, "values", values)
    out = _result(geometry, (index.shape[0], maps_of(index.shape, geometry)), values, x)
    with torch.cuda.device_of(x):
        run_elements(geometry, index.crow, index.col, values.detach().contiguous(), x.detach(), out)
    return out


def elements_input(geometry: Geometry, index: RowIndex, values: Tensor, g: Tensor, size: Pair) -> Tensor:
    """Return the gradient of x, (n, in, h, w) with `size` (h, w); the index then keeps its order by columns."""
    check("values", values, (index.nnz,), values, DTYPES)
    _check_device(index.device, "values", values)
    out = _input_result(geometry, (index.shape[0], maps_of(index.shape, geometry)), values, g, size)
    order, held = index.columns, values.detach().contiguous()
    with torch.cuda.device_of(g):
        for step in input_steps(geometry, size):
            lists = order.ccol, order.row, order.place
            run_pairs(geometry, step, lists, held, g.detach(), out, elements=True)
    return out


def elements_values(geometry: Geometry, index: RowIndex, g: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of the values, (nnz)."""
    _check_both(geometry, (index.shape[0], maps_of(index.shape, geometry)), index.device, g, x)
    row = index.rows().int()
    with torch.cuda.device_of(g):
        return run_reduce_elements(geometry, g.detach(), x.detach(), row, index.col, index.nnz, pairs=False)


def planes(geometry: Geometry, index: RowIndex, values: Tensor, weight: Tensor) -> Tensor:
    """Return y (n, out, h', w') of stored planes (planes, h, w), with a dense weight (out, c, kh, kw)."""
    check("values", values, (index.nnz, None, None), values, DTYPES)
    check("weight", weight, (None, index.shape[1], *geometry.kernel), values, None)
    _check_device(index.device, "values", values)
    samples, out_maps = index.shape[0], weight.shape[0]
    u, v = geometry.output((values.shape[1], values.shape[2]))
    out = values.new_empty((samples, out_maps, u, v))
    terms = Terms(kind="planes", maps=index.col, rows=out_maps, starts=index.crow)
    with torch.cuda.device_of(values):
        held = weight.detach().flatten(2).permute(2, 1, 0).contiguous()[:, None]  # (taps, 1, c, out)
        run_gather(geometry, forward_step(geometry), terms, held.mT, values.detach(), out, samples)
    return out


def planes_input(geometry: Geometry, index: RowIndex, g: Tensor, weight: Tensor, size: Pair) -> Tensor:
    """Return the gradient of the stored planes, (planes, h, w) with `size` (h, w), from g (n, out, h', w')."""
    check("weight", weight, (None, index.shape[1], *geometry.kernel), weight, DTYPES)
    check("g", g, (index.shape[0], weight.shape[0], *geometry.output(size)), weight, None)
    _check_device(index.device, "g", g)
    out = g.new_empty((index.nnz, *size))
    terms = Terms(kind="planes_input", maps=index.col, rows=index.shape[1], count=weight.shape[0], starts=index.crow)
    with torch.cuda.device_of(g):
        held = weight.detach().flatten(2).permute(2, 1, 0).contiguous()[:, None]
        for step in input_steps(geometry, size):
            run_gather(geometry, step, terms, held, g.detach(), out, index.shape[0])
    return out


def planes_weight(geometry: Geometry, index: RowIndex, values: Tensor, g: Tensor) -> Tensor:
    """Return the gradient of the dense weight, (out, c, kh, kw); the index then keeps its order by columns."""
    check("values", values, (index.nnz, None, None), values, DTYPES)
    u, v = geometry.output((values.shape[1], values.shape[2]))
    check("g", g, (index.shape[0], None, u, v), values, None)
    _check_device(index.device, "values", values)
    order, maps = index.columns, index.shape[1]
    with torch.cuda.device_of(g):
        lists = order.ccol, order.row, order.place
        found = run_reduce_planes(geometry, g.detach(), values.detach(), lists, maps)
    return found.view(g.shape[1], maps, *geometry.kernel)


def _check_shared(geometry: Geometry, maps: SharedMaps, values: Tensor) -> Pair:
    sizes = maps.rows.numel(), maps.maps.numel()
    check("values", values, (*sizes, *geometry.kernel), values, DTYPES)
    _check_device(maps.device, "values", values)
    return sizes


def _check_blocks(geometry: Geometry, index: BlockIndex, values: Tensor) -> Pair:
    shape = _check_whole(geometry, index)
    check("values", values, (index.blocks, *index.block), values, DTYPES)
    _check_device(index.device, "values", values)
    return shape


def _check_whole(geometry: Geometry, index: BlockIndex) -> Pair:
    """Return (out, in), or raise ValueError unless blocks are made of whole kernels."""
    return index.shape[0], whole_planes(index, geometry)


def _check_both(geometry: Geometry, shape: Pair, device: torch.device, g: Tensor, x: Tensor) -> None:
    check("x", x, (None, shape[1], None, None), g, DTYPES)
    check_gradient(g, shape[0], (x.shape[2], x.shape[3]), geometry, batch=x.shape[0])
    _check_device(device, "g", g)


def _check_device(device: torch.device, name: str, tensor: Tensor) -> None:
    check_device(device)
    if tensor.device != device:
        raise ValueError(f"expected {name} on {device} as the index is, got {tensor.device}; move one")


def _result(geometry: Geometry, shape: Pair, values: Tensor, x: Tensor) -> Tensor:
    check("x", x, (None, shape[1], None, None), values, None)
    return x.new_empty((x.shape[0], shape[0], *geometry.output((x.shape[2], x.shape[3]))))


def _input_result(geometry: Geometry, shape: Pair, values: Tensor, g: Tensor, size: Pair) -> Tensor:
    check("g", g, (None, shape[0], *geometry.output(size)), values, None)
    return g.new_empty((g.shape[0], shape[1], *size))


def _is_pairs(geometry: Geometry, index: BlockIndex) -> bool:
    return index.block == (1, geometry.taps)


def _by_tap(geometry: Geometry, index: BlockIndex, values: Tensor) -> Tensor:
    """Return values as (blocks, height, maps, taps)."""
    return values.detach().reshape(index.blocks, index.block[0], index.block[1] // geometry.taps, geometry.taps)
