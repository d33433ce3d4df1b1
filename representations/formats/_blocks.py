"""Multiply and sample lists of equal dense blocks by torch's batched product, where torch has no sparse one."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsebench.representations.formats._torch import chunks

HALVES = (torch.float16, torch.bfloat16)


def padded(x: Tensor, rows: int) -> Tensor:
    """Return x (r, n) with zero rows added up to `rows`; x itself if none are missing."""
    missing = rows - x.shape[0]
    return torch.nn.functional.pad(x, (0, 0, 0, missing)) if missing else x


def multiply(values: Tensor, outer: Tensor, inner: Tensor, x: Tensor, count: int) -> Tensor:
    """Return the matrix whose blocks are `values` times x, by gather, batched product and index_add.

    Args:
        values: (blocks, height, width).
        outer: block row of each block, (blocks,).
        inner: block column of each block, (blocks,).
        x: (block columns · width, n).
        count: block rows of the result.

    Returns:
        (count · height, n). Sums of half precision are kept in float32 until the end.
    """
    height, width = values.shape[1:]
    n = x.shape[1]
    tiles = x.reshape(x.shape[0] // width, width, n)
    wide = torch.float32 if x.dtype in HALVES else x.dtype
    sums = torch.zeros((count, height, n), dtype=wide, device=x.device)
    for part in chunks(len(values), (height + width) * n):
        products = torch.bmm(values[part], tiles.index_select(0, inner[part])).to(sums.dtype)
        if sums.device.type == "cuda":
            # index_add_ uses atomics on CUDA, so its last bits vary; index_put_ sorts first
            sums.index_put_((outer[part].long(),), products, accumulate=True)
        else:
            sums.index_add_(0, outer[part], products)
    return sums.to(x.dtype).reshape(count * height, n)


def sample(values: Tensor, rows: Tensor, columns: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return (a @ b) at the places of the blocks, shaped as `values` (blocks, height, width), by batched products.

    Args:
        values: only their shape is used.
        rows: block row of each block, (blocks,).
        columns: block column of each block, (blocks,).
        a: (block rows · height, n).
        b: (n, block columns · width).
    """
    height, width = values.shape[1:]
    n = a.shape[1]
    left = a.reshape(a.shape[0] // height, height, n)
    right = b.t().reshape(b.shape[1] // width, width, n)
    result = a.new_empty(values.shape)
    for part in chunks(len(values), (height + width) * n):
        tiles = right.index_select(0, columns[part]).mT
        result[part] = torch.bmm(left.index_select(0, rows[part]), tiles)
    return result
