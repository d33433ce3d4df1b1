"""Compute the three products on the GPU with Triton: float32, float16 and bfloat16, sums in float32, no TF32.

`triton_product.py` holds the kernel of S @ x, `triton_sampled.py` that of a @ b at the stored blocks, `schedule.py` the
work table that their programs walk over, `triton_tiles.py` the candidate tiles and what merging small blocks pays,
`triton_tuner.py` the choice among them. Every element of a result is added up in one order, so runs repeat bit for bit.

The modules import where there is no GPU. Set TRITON_INTERPRET=1 before importing them to run on CPU tensors, for tests;
the first candidate is taken there, and nothing is timed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsebench.kernels.block_sparse.layout import BlockIndex
from sparsebench.kernels.block_sparse.operands import check_product, check_sampled
from sparsebench.kernels.block_sparse.schedule import table_bytes
from sparsebench.kernels.block_sparse.triton_launch import ProductPlan, SampledPlan, plan_product, plan_sampled
from sparsebench.kernels.block_sparse.triton_tuner import product_tile, sampled_tile
from sparsebench.kernels.common.triton_launch import DTYPES, check_device
from sparsebench.kernels.common.triton_plan import Key, keep, recall, signature

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
    key = signature(("dsd", transposed), values, x)
    known = recall(index, key)
    if known is not None:
        return known(values, x)
    check_product(index, values, x, axis=-2, transposed=transposed, dtypes=DTYPES)
    check_device(index.device)
    out = x.new_empty((*x.shape[:-2], index.shape[1 if transposed else 0], x.shape[-1]))
    batch = _one_batch(x)
    return _planned(index, key, values, x, batch, out, _one_batch(out), transposed=transposed)


def dds(index: BlockIndex, values: Tensor, x: Tensor, *, transposed: bool = False) -> Tensor:
    """Return x @ S, (..., n, m) @ (m, k) -> (..., n, k), or x @ Sᵀ, (..., n, k) @ (k, m) -> (..., n, m).

    It is (Sᵀ @ xᵀ)ᵀ, of which only the strides differ. Arguments, result and errors as in `dsd`.
    """
    key = signature(("dds", transposed), values, x)
    known = recall(index, key)
    if known is not None:
        return known(values, x)
    check_product(index, values, x, axis=-1, transposed=not transposed, dtypes=DTYPES)
    check_device(index.device)
    columns = index.shape[0 if transposed else 1]
    out = x.new_empty((*x.shape[:-1], columns))
    batch = _one_batch(x)
    if batch.stride(0) == batch.shape[1] * batch.stride(1):  # then a batch is only more rows
        batch = batch.reshape(1, batch.shape[0] * batch.shape[1], batch.shape[2])
    result = out.view(*batch.shape[:-1], columns).mT
    return _planned(index, key, values, x, batch.mT, out, result, transposed=not transposed)


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
    key = signature(("sdd", transposed), a, b)
    known = recall(index, key)
    if known is not None:
        return known(a, b)
    check_sampled(index, a, b, transposed=transposed, dtypes=DTYPES)
    check_device(index.device)
    out = torch.empty((index.blocks, *index.block), dtype=a.dtype, device=a.device)
    if index.blocks == 0 or a.numel() == 0:
        return out.zero_()
    both = _one_batch(a), _one_batch(b)
    first, second = (both[1].mT, both[0].mT) if transposed else both
    plan = plan_sampled(index, first, second, out, sampled_tile(index, first, second))
    flats = tuple(_flat(one, seen) for one, seen in zip((a, b), both, strict=True))
    call = _SampledCall(plan=plan, shape=tuple(out.shape), flats=flats, transposed=transposed)
    return keep(index, key, call)(a, b)


@dataclass(frozen=True, kw_only=True)
class _ProductCall:
    """A product of operands of one signature: what it gives, and what is left to do for the next one.

    Attributes:
        plan: up to the launch.
        shape: of the result.
        flat: what x is copied to, (batch, p, q), where it cannot be seen so; else None.
    """

    plan: ProductPlan
    shape: tuple[int, ...]
    flat: torch.Size | None

    def __call__(self, values: Tensor, x: Tensor) -> Tensor:
        out = x.new_empty(self.shape)
        self.plan.run(values, x if self.flat is None else x.detach().reshape(self.flat), out)
        return out


@dataclass(frozen=True, kw_only=True)
class _SampledCall:
    """A sampled product of operands of one signature, as `_ProductCall`, with what each of the two is copied to."""

    plan: SampledPlan
    shape: tuple[int, ...]
    flats: tuple[torch.Size | None, ...]
    transposed: bool

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        out = a.new_empty(self.shape)
        first = a if self.flats[0] is None else a.detach().reshape(self.flats[0])
        second = b if self.flats[1] is None else b.detach().reshape(self.flats[1])
        self.plan.run(*((second, first) if self.transposed else (first, second)), out)
        return out


def _planned(
    index: BlockIndex,
    key: Key | None,
    values: Tensor,
    x: Tensor,
    batch: Tensor,
    out: Tensor,
    result: Tensor,
    *,
    transposed: bool,
) -> Tensor:
    """Return S @ x, or Sᵀ @ x, and keep how: x seen as `batch` (batch, inner, n), `out` as `result`."""
    if index.blocks == 0 or out.numel() == 0:
        return out.zero_()
    tile = product_tile(index, values, batch, result, transposed=transposed)
    plan = plan_product(index, values, batch, result, tile, transposed=transposed)
    call = _ProductCall(plan=plan, shape=tuple(out.shape), flat=_flat(x, _one_batch(x)))
    return keep(index, key, call)(values, x)


def _flat(x: Tensor, seen: Tensor) -> torch.Size | None:
    """Return the shape that x is copied to, or None if it need not be: `seen` lies where x does."""
    return None if seen.data_ptr() == x.data_ptr() else seen.shape


def _one_batch(x: Tensor) -> Tensor:
    """Return (..., p, q) as (batch, p, q): a view wherever strides allow it."""
    return x.detach().reshape(x.shape[:-2].numel(), *x.shape[-2:])
