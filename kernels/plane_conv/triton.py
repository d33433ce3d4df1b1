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

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from sparsebench.kernels.block_sparse.layout import BlockIndex
from sparsebench.kernels.common.triton_launch import DTYPES, check_device
from sparsebench.kernels.common.triton_plan import keep, recall, signature
from sparsebench.kernels.csr.layout import RowIndex
from sparsebench.kernels.plane_conv.geometry import Geometry, Pair
from sparsebench.kernels.plane_conv.layout import SharedMaps, check, check_gradient, maps_of, whole_planes
from sparsebench.kernels.plane_conv.triton_launch import (
    Convolution,
    Part,
    Terms,
    plan_elements,
    plan_gather,
    plan_pairs,
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
    key = signature(("shared", geometry), values, x)
    known = recall(maps, key)
    if known is not None:
        return known(values, x)
    rows, count = _check_shared(geometry, maps, values)
    out = _result(geometry, maps.shape, values, x)

    def prepare(values: Tensor) -> Tensor:
        return values.detach().reshape(rows, count, -1).permute(2, 0, 1).contiguous()[:, None]

    parts: tuple[Part, ...] = ()
    if rows and count:
        terms = Terms(kind="shared", maps=maps.maps, rows=rows, count=count, order=maps.rows)
        parts = plan_gather(geometry, [forward_step(geometry)], terms, prepare(values), x, out, x.shape[0])
    plan = Convolution(shape=tuple(out.shape), parts=parts, prepare=prepare, clear=rows < maps.shape[0] or count == 0)
    return keep(maps, key, plan)(values, x)


def shared_input(geometry: Geometry, maps: SharedMaps, values: Tensor, g: Tensor, size: Pair) -> Tensor:
    """Return the gradient of x, (n, in, h, w) with `size` (h, w), from g (n, out, h', w')."""
    key = signature(("shared input", geometry, tuple(size)), values, g)
    known = recall(maps, key)
    if known is not None:
        return known(values, g)
    count, rows = _check_shared(geometry, maps, values)
    out = _input_result(geometry, maps.shape, values, g, size)

    def prepare(values: Tensor) -> Tensor:
        return values.detach().reshape(count, rows, -1).permute(2, 1, 0).contiguous()[:, None]

    parts: tuple[Part, ...] = ()
    if rows and count:
        terms = Terms(kind="shared", maps=maps.rows, rows=rows, count=count, order=maps.maps)
        parts = plan_gather(geometry, input_steps(geometry, size), terms, prepare(values), g, out, g.shape[0])
    plan = Convolution(shape=tuple(out.shape), parts=parts, prepare=prepare, clear=rows < maps.shape[1] or count == 0)
    return keep(maps, key, plan)(values, g)


def shared_values(geometry: Geometry, maps: SharedMaps, g: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of the values, (rows, maps, kh, kw)."""
    _check_both(geometry, maps.shape, maps.device, g, x)
    sizes = 1, maps.rows.numel(), maps.maps.numel()
    with torch.cuda.device_of(g):
        found = run_reduce(geometry, g.detach(), x.detach(), (maps.rows, maps.maps), sizes, blocks=False)
    return found.view(*sizes[1:], *geometry.kernel)


def blocks(geometry: Geometry, index: BlockIndex, values: Tensor, x: Tensor) -> Tensor:
    """Return y (n, out, h', w') of x (n, in, h, w), any strides; values (blocks, height, width), whole kernels wide."""
    key = signature(("blocks", geometry), values, x)
    known = recall(index, key)
    if known is not None:
        return known(values, x)
    shape = _check_blocks(geometry, index, values)
    out = _result(geometry, shape, values, x)
    steps = [forward_step(geometry)]
    prepare: Callable[[Tensor], Tensor] = _contiguous
    if _is_pairs(geometry, index):
        parts = plan_pairs(geometry, steps, (index.crow, index.col, None), x, out, elements=False)
    else:
        prepare = partial(_by_tap, geometry, index.block, (3, 0, 1, 2))
        terms = Terms(
            kind="blocks", maps=index.col, rows=shape[0], starts=index.crow, groups=index.grid[0],
            source_maps=shape[1], block=(index.block[0], index.block[1] // geometry.taps),
        )  # fmt: skip
        parts = plan_gather(geometry, steps, terms, prepare(values), x, out, x.shape[0])
    plan = Convolution(shape=tuple(out.shape), parts=parts, prepare=prepare)
    return keep(index, key, plan)(values, x)


def blocks_input(geometry: Geometry, index: BlockIndex, values: Tensor, g: Tensor, size: Pair) -> Tensor:
    """Return the gradient of x, (n, in, h, w) with `size` (h, w)."""
    key = signature(("blocks input", geometry, tuple(size)), values, g)
    known = recall(index, key)
    if known is not None:
        return known(values, g)
    shape = _check_blocks(geometry, index, values)
    out = _input_result(geometry, shape, values, g, size)
    steps = input_steps(geometry, size)
    prepare: Callable[[Tensor], Tensor] = _contiguous
    if _is_pairs(geometry, index):
        parts = plan_pairs(geometry, steps, (index.ccol, index.row, index.order), g, out, elements=False)
    else:
        prepare = partial(_by_tap, geometry, index.block, (3, 0, 2, 1))
        terms = Terms(
            kind="blocks", maps=index.row, rows=shape[1], starts=index.ccol, order=index.order,
            groups=index.grid[1], source_maps=shape[0], block=(index.block[1] // geometry.taps, index.block[0]),
        )  # fmt: skip
        parts = plan_gather(geometry, steps, terms, prepare(values), g, out, g.shape[0])
    plan = Convolution(shape=tuple(out.shape), parts=parts, prepare=prepare)
    return keep(index, key, plan)(values, g)


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
    key = signature(("elements", geometry), values, x)
    known = recall(index, key)
    if known is not None:
        return known(values, x)
    check("values", values, (index.nnz,), values, DTYPES)
    _check_device(index.device, "values", values)
    out = _result(geometry, (index.shape[0], maps_of(index.shape, geometry)), values, x)
    parts = plan_elements(geometry, index.crow, index.col, x, out)
    plan = Convolution(shape=tuple(out.shape), parts=parts, prepare=_contiguous)
    return keep(index, key, plan)(values, x)


def elements_input(geometry: Geometry, index: RowIndex, values: Tensor, g: Tensor, size: Pair) -> Tensor:
    """Return the gradient of x, (n, in, h, w) with `size` (h, w); the index then keeps its order by columns."""
    key = signature(("elements input", geometry, tuple(size)), values, g)
    known = recall(index, key)
    if known is not None:
        return known(values, g)
    check("values", values, (index.nnz,), values, DTYPES)
    _check_device(index.device, "values", values)
    out = _input_result(geometry, (index.shape[0], maps_of(index.shape, geometry)), values, g, size)
    order = index.columns
    lists = order.ccol, order.row, order.place
    parts = plan_pairs(geometry, input_steps(geometry, size), lists, g, out, elements=True)
    plan = Convolution(shape=tuple(out.shape), parts=parts, prepare=_contiguous)
    return keep(index, key, plan)(values, g)


def elements_values(geometry: Geometry, index: RowIndex, g: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of the values, (nnz)."""
    _check_both(geometry, (index.shape[0], maps_of(index.shape, geometry)), index.device, g, x)
    row = index.rows().int()
    with torch.cuda.device_of(g):
        return run_reduce_elements(geometry, g.detach(), x.detach(), row, index.col, index.nnz, pairs=False)


def planes(geometry: Geometry, index: RowIndex, values: Tensor, weight: Tensor) -> Tensor:
    """Return y (n, out, h', w') of stored planes (planes, h, w), with a dense weight (out, c, kh, kw)."""
    key = signature(("planes", geometry), values, weight)
    known = recall(index, key)
    if known is not None:
        return known(weight, values)
    check("values", values, (index.nnz, None, None), values, DTYPES)
    check("weight", weight, (None, index.shape[1], *geometry.kernel), values, None)
    _check_device(index.device, "values", values)
    samples, out_maps = index.shape[0], weight.shape[0]
    out = values.new_empty((samples, out_maps, *geometry.output((values.shape[1], values.shape[2]))))
    terms = Terms(kind="planes", maps=index.col, rows=out_maps, starts=index.crow)

    def prepare(weight: Tensor) -> Tensor:
        return _taps_first(weight).mT

    steps = [forward_step(geometry)]
    parts = plan_gather(geometry, steps, terms, prepare(weight), values, out, samples)
    plan = Convolution(shape=tuple(out.shape), parts=parts, prepare=prepare)
    return keep(index, key, plan)(weight, values)


def planes_input(geometry: Geometry, index: RowIndex, g: Tensor, weight: Tensor, size: Pair) -> Tensor:
    """Return the gradient of the stored planes, (planes, h, w) with `size` (h, w), from g (n, out, h', w')."""
    key = signature(("planes input", geometry, tuple(size)), g, weight)
    known = recall(index, key)
    if known is not None:
        return known(weight, g)
    check("weight", weight, (None, index.shape[1], *geometry.kernel), weight, DTYPES)
    check("g", g, (index.shape[0], weight.shape[0], *geometry.output(size)), weight, None)
    _check_device(index.device, "g", g)
    out = g.new_empty((index.nnz, *size))
    terms = Terms(kind="planes_input", maps=index.col, rows=index.shape[1], count=weight.shape[0], starts=index.crow)
    steps = input_steps(geometry, size)
    parts = plan_gather(geometry, steps, terms, _taps_first(weight), g, out, index.shape[0])
    plan = Convolution(shape=tuple(out.shape), parts=parts, prepare=_taps_first)
    return keep(index, key, plan)(weight, g)


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


def _contiguous(values: Tensor) -> Tensor:
    return values.detach().contiguous()


def _by_tap(geometry: Geometry, block: Pair, order: tuple[int, ...], values: Tensor) -> Tensor:
    """Return values, seen as (blocks, height, maps, taps), copied in another order of these."""
    held = values.detach().reshape(-1, block[0], block[1] // geometry.taps, geometry.taps)
    return held.permute(order).contiguous()


def _taps_first(weight: Tensor) -> Tensor:
    """Return a dense weight (out, c, kh, kw) as (taps, 1, c, out)."""
    return weight.detach().flatten(2).permute(2, 1, 0).contiguous()[:, None]
