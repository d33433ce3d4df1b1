"""Try a tile of a Triton product on random numbers, and compare what it gives with a plain computation.

The numbers stand in for the operands, of the same sizes and the same order in memory, one matrix of a batch: that takes
the operands' memory once more for the moment. Compared with is float64 arithmetic of PyTorch, on some of the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sparsebench.kernels.block_sparse.layout import BlockIndex
from sparsebench.kernels.block_sparse.triton_launch import run_product, run_sampled
from sparsebench.kernels.block_sparse.triton_tiles import Tile

Trial = tuple[bool, Callable[[Tile], Any], Any]
"""Whether the result was right, what runs the same again with a tile, and the compiled kernel (None if interpreted)."""

_ROWS = 8
"""Block rows, or stored blocks, that are compared."""

_COLUMNS = 512
"""Columns that are compared."""


def try_product(index: BlockIndex, values: Tensor, x: Tensor, out: Tensor, tile: Tile, *, transposed: bool) -> Trial:
    """Run a tile on random numbers and compare some block rows with float64; arguments are those of `run_product`."""
    generator = torch.Generator(x.device).manual_seed(0)
    held, given = _like(values, generator), _like(x[:1], generator)
    result = torch.full_like(_empty_like(out[:1]), torch.nan)

    def run(tile: Tile) -> Any:
        return run_product(index, held, given, result, tile, transposed=transposed)

    compiled = run(tile)
    height, width = index.block[::-1] if transposed else index.block
    starts, others = (index.ccol, index.row) if transposed else (index.crow, index.col)
    n = x.shape[2]
    spread = torch.linspace(0, n - 1, min(n, _COLUMNS), device=x.device).long()
    lengths = starts.diff()
    every = torch.linspace(0, lengths.numel() - 1, min(lengths.numel(), _ROWS), device=x.device).long()
    chosen = [int(lengths.argmax()), int(lengths.argmin()), *every.tolist()]
    right = True
    for row in dict.fromkeys(chosen):
        begin, end = int(starts[row]), int(starts[row + 1])
        stored = index.order[begin:end].long() if transposed else torch.arange(begin, end, device=x.device)
        blocks = held[stored].transpose(1, 2) if transposed else held[stored]
        left = blocks.permute(1, 0, 2).reshape(height, -1).double()
        inner = (others[begin:end].long()[:, None] * width + torch.arange(width, device=x.device)).reshape(-1)
        kept = inner < x.shape[1]
        met = given[0][inner[kept]][:, spread].double()
        top, bottom = row * height, min(out.shape[1], (row + 1) * height)
        left = left[: bottom - top, kept]
        got = result[0, top:bottom][:, spread]
        right = right and _close(got, left @ met, left.abs() @ met.abs(), left.shape[1])
    return right, run, compiled


def try_sampled(index: BlockIndex, a: Tensor, b: Tensor, tile: Tile) -> Trial:
    """Run a tile on random numbers and compare some stored blocks with float64, as `try_product` does."""
    generator = torch.Generator(a.device).manual_seed(0)
    left, right_hand = _like(a[:1], generator), _like(b[:1], generator)
    result = torch.full((index.blocks, *index.block), torch.nan, dtype=a.dtype, device=a.device)

    def run(tile: Tile) -> Any:
        return run_sampled(index, left, right_hand, result, tile)

    compiled = run(tile)
    (height, width), (m, k) = index.block, index.shape
    block_rows = index.block_rows()
    right = True
    for place in dict.fromkeys(torch.linspace(0, index.blocks - 1, min(index.blocks, _ROWS)).long().tolist()):
        top, first = int(block_rows[place]) * height, int(index.col[place]) * width
        rows, columns = left[0, top : top + height].double(), right_hand[0, :, first : first + width].double()
        want = torch.zeros(index.block, dtype=torch.float64, device=a.device)
        bound = torch.zeros_like(want)
        want[: min(m - top, height), : min(k - first, width)] = rows @ columns
        bound[: min(m - top, height), : min(k - first, width)] = rows.abs() @ columns.abs()
        right = right and _close(result[place], want, bound, a.shape[2])
    return right, run, compiled


def _close(got: Tensor, want: Tensor, magnitude: Tensor, terms: int) -> bool:
    """Compare with float64: sums are in float32, then the result is rounded to its dtype once. NaN is never close."""
    single, own = torch.finfo(torch.float32).eps, torch.finfo(got.dtype)
    bound = magnitude * single * (terms + 2) + want.abs() * own.eps + own.smallest_normal
    return bool(((got.double() - want).abs() <= bound).all())


def _like(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Return random numbers of the same shape and dtype for which the same code is compiled, without larger gaps."""
    return _empty_like(tensor).normal_(generator=generator)


def _empty_like(tensor: Tensor) -> Tensor:
    """Return an uninitialised (batch, p, q) that a kernel is compiled for as it is for `tensor`, in little memory.

    What is tried must be what runs later: Triton compiles anew for strides that are 1 or multiples of 16 and for
    addresses that are multiples of 16 bytes, and so do the rules of descriptors. Wrong code for one has been seen
    beside right code for the other.
    """
    p, q = (2, 1) if order(tensor) == "columns" else (1, 2)
    strides = [0, 0, 0]
    strides[q] = _stride_like(tensor, q, 1)
    strides[p] = _stride_like(tensor, p, (tensor.shape[q] - 1) * strides[q] + 1)
    strides[0] = _stride_like(tensor, 0, (tensor.shape[p] - 1) * strides[p] + strides[p])
    reach = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, strides, strict=True))
    ahead = tensor.data_ptr() % 16 // tensor.element_size()
    held = torch.empty(ahead + reach, dtype=tensor.dtype, device=tensor.device)
    return held.as_strided(tensor.shape, strides, ahead)


def _stride_like(tensor: Tensor, axis: int, least: int) -> int:
    """Return the least stride from `least` on that kernels are compiled for as they are for a tensor's own."""
    stride = tensor.stride(axis)
    if stride == 1 or tensor.shape[axis] == 1:
        return max(stride, least) if tensor.shape[axis] > 1 else stride
    found = least + (stride - least) % 16
    return found + 16 if found == 1 else found


def compiled_for(tensor: Tensor) -> str:
    """Return what of a tensor's strides and address decides what a kernel is compiled to, as "-1d a"."""
    strides = "".join("1" if stride == 1 else "-" if stride % 16 else "d" for stride in tensor.stride())
    return f"{strides} {'-' if tensor.data_ptr() % 16 else 'a'}"


def order(tensor: Tensor) -> str:
    """Return whether the elements of (..., p, q) lie side by side along its "columns" (p) or along its "rows"."""
    return "columns" if tensor.stride(-1) != 1 and tensor.stride(-2) == 1 else "rows"
