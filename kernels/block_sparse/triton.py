"""Compute the three products on the GPU with Triton: float32, float16 and bfloat16, sums in float32, no TF32.

`triton_product.py` holds the kernel of S @ x, `triton_sampled.py` that of a @ b at the stored blocks, `schedule.py` the
work table that their programs walk over, `triton_tiles.py` the candidate tiles and what merging small blocks pays,
`triton_tuner.py` the choice among them. Every element of a result is added up in one order, so runs repeat bit for bit.

The modules import where there is no GPU. Set TRITON_INTERPRET=1 before importing them to run on CPU tensors, for tests;
the first candidate is taken there, and nothing is timed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sparsebench.kernels.block_sparse.layout import BlockIndex
from sparsebench.kernels.block_sparse.operands import check_product, check_sampled
from sparsebench.kernels.block_sparse.schedule import plans_of, table_bytes
from sparsebench.kernels.block_sparse.triton_launch import plan_product, run_sampled
from sparsebench.kernels.block_sparse.triton_tuner import product_tile, sampled_tile
from sparsebench.kernels.common.triton_launch import DTYPES, check_device

_MOST_PLANS = 256
"""Kept with an index: a sequence of a new length is a new shape."""

__all__ = ["DTYPES", "dds", "dsd", "sdd", "table_bytes"]


def dsd(index: BlockIndex, values: Tensor, x: Tensor, *, transposed: bool = False) -> Tensor:
    """Return S @ x, (m, k) @ (..., k, n) -> (..., m, n), or Sᵀ @ x, (k, m) @ (..., m, n) -> (..., k, n).

    Args:
        index: of the stored blocks of S (m, k), on the GPU.
        values: (blocks, height, width), contiguous, one of DTYPES.
        x: any strides; leading dimensions are a batch, copied only if they cannot be seen as one dimension.
        transposed: multiply by Sᵀ; no value is moved.

    Returns:
        a new contiguous tensor.

    Raises:
        ValueError: if the operands do not fit, or lie on the CPU and the interpreter is off.
        RuntimeError: if no tile computes the right result on this device.
    """
    check_product(index, values, x, axis=-2, transposed=transposed, dtypes=DTYPES)
    check_device(index.device)
    rows = index.shape[1 if transposed else 0]
    out = torch.empty((*x.shape[:-2], rows, x.shape[-1]), dtype=x.dtype, device=x.device)
    _multiply(index, values, _one_batch(x), _one_batch(out), transposed=transposed)
    return out


def dds(index: BlockIndex, values: Tensor, x: Tensor, *, transposed: bool = False) -> Tensor:
    """Return x @ S, (..., n, m) @ (m, k) -> (..., n, k), or x @ Sᵀ, (..., n, k) @ (k, m) -> (..., n, m).

    It is (Sᵀ @ xᵀ)ᵀ, of which only the strides differ. Arguments, result and errors as in `dsd`.
    """
    check_product(index, values, x, axis=-1, transposed=not transposed, dtypes=DTYPES)
    check_device(index.device)
    columns = index.shape[0 if transposed else 1]
    out = torch.empty((*x.shape[:-1], columns), dtype=x.dtype, device=x.device)
    batch = _one_batch(x)
    if batch.stride(0) == batch.shape[1] * batch.stride(1):  # then a batch is only more rows
        batch = batch.reshape(1, batch.shape[0] * batch.shape[1], batch.shape[2])
    _multiply(index, values, batch.mT, out.view(*batch.shape[:-1], columns).mT, transposed=not transposed)
    return out


def sdd(index: BlockIndex, a: Tensor, b: Tensor, *, transposed: bool = False) -> Tensor:
    """Return (a @ b) at the stored blocks, (..., m, n) @ (..., n, k) -> (blocks, height, width), 0 in the padding.

    Args:
        index: of the stored blocks of a matrix (m, k), on the GPU.
        a: (..., m, n), any strides, one of DTYPES; leading dimensions as in `dsd`.
        b: (..., n, k), any strides; the products of a batch are added up.
        transposed: a is (..., k, n) and b is (..., n, m): the places are those of the transposed matrix, and the blocks
            of (a @ b)ᵀ are returned.

    Returns:
        a new contiguous tensor, laid out as `values` is.

    Raises:
        ValueError: if the operands do not fit, or lie on the CPU and the interpreter is off.
        RuntimeError: if no tile computes the right result on this device.
    """
    check_sampled(index, a, b, transposed=transposed, dtypes=DTYPES)
    check_device(index.device)
    first, second = (_one_batch(b.mT), _one_batch(a.mT)) if transposed else (_one_batch(a), _one_batch(b))
    out = torch.empty((index.blocks, *index.block), dtype=a.dtype, device=a.device)
    if index.blocks == 0 or first.numel() == 0:
        return out.zero_()
    run_sampled(index, first, second, out, sampled_tile(index, first, second))
    return out


def _multiply(index: BlockIndex, values: Tensor, x: Tensor, out: Tensor, *, transposed: bool) -> None:
    """Write S @ x, or Sᵀ @ x, to out, for x (batch, inner, n)."""
    if index.blocks == 0 or out.numel() == 0:
        out.zero_()
        return
    plans = plans_of(index)
    key = (transposed, x.dtype, x.shape, x.stride(), out.stride(), values.data_ptr() % 16, x.data_ptr() % 16)
    plan = plans.get(key)
    if plan is None:
        tile = product_tile(index, values, x, out, transposed=transposed)
        plan = plan_product(index, values, x, out, tile, transposed=transposed)
        if len(plans) >= _MOST_PLANS:
            plans.clear()
        plans[key] = plan
    plan.run(values, x, out)


def _one_batch(x: Tensor) -> Tensor:
    """Return (..., p, q) as (batch, p, q): a view wherever strides allow it."""
    return x.detach().reshape(x.shape[:-2].numel(), *x.shape[-2:])
