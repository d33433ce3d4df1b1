"""Compute the three products on the CPU with numba: float32 and float64, all threads, the same bits in every run.

Each thread owns its part of the result, so nothing is added up in an order that could change. Threads are numba's own:
set them with `numba.set_num_threads`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from sparsebench.kernels.block_sparse.layout import BlockIndex, check_operands

DTYPES: tuple[torch.dtype, ...] = (torch.float32, torch.float64)

TILE = 256
"""Columns of x and of the result that one task works on: 32 rows of 256 float32 fill a 32 KiB first-level cache."""
DEPTH = 1024
"""Columns of a and of bᵀ that are multiplied at a time in the sampled product, for the same reason."""

# reassoc lets sums be vectorised and contract makes fused multiply-adds; nnan and ninf are left out, as they would let
# the compiler assume that NaN and infinity never occur
_FASTMATH = {"reassoc", "contract"}
_SERIAL: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": _FASTMATH}
_PARALLEL: dict[str, Any] = {**_SERIAL, "parallel": True}
# numba ships its decorators without types: that alone is what the ignores beside them are for


def dsd(index: BlockIndex, values: Tensor, x: Tensor) -> Tensor:
    """Return self @ x, (m, k) @ (k, n) -> (m, n), new and contiguous.

    Args:
        index: of the stored blocks, on the CPU.
        values: (blocks, height, width), contiguous, float32 or float64.
        x: (k, n), any strides; copied if it is not contiguous.

    Raises:
        ValueError: if the operands do not fit.
    """
    check_operands(index, [("values", values, (index.blocks, *index.block)), ("x", x, (index.shape[1], None))], DTYPES)
    out = torch.empty((index.shape[0], x.shape[1]), dtype=x.dtype)
    _dsd(_array(index.crow), _array(index.col), _array(values), _array(x), out.numpy())
    return out


def dsd_transposed(index: BlockIndex, values: Tensor, x: Tensor) -> Tensor:
    """Return selfᵀ @ x, (k, m) @ (m, n) -> (k, n); arguments as in `dsd`, x (m, n). No value is moved."""
    check_operands(index, [("values", values, (index.blocks, *index.block)), ("x", x, (index.shape[0], None))], DTYPES)
    out = torch.empty((index.shape[1], x.shape[1]), dtype=x.dtype)
    _dsd_transposed(_array(index.ccol), _array(index.row), _array(index.order), _array(values), _array(x), out.numpy())
    return out


def sdd(index: BlockIndex, a: Tensor, b: Tensor) -> Tensor:
    """Return (a @ b) at the stored blocks, (m, n) @ (n, k) -> (blocks, height, width), 0 in the padding.

    Rows of a meet rows of bᵀ, so b is best handed in as the transpose of a contiguous tensor, as in x.t().

    Args:
        index: of the stored blocks, on the CPU.
        a: (m, n), float32 or float64; copied if it is not contiguous.
        b: (n, k); copied if its transpose is not contiguous.

    Raises:
        ValueError: if the operands do not fit.
    """
    check_operands(index, [("a", a, (index.shape[0], None)), ("b", b, (None, index.shape[1]))], DTYPES)
    out = torch.empty((index.blocks, *index.block), dtype=a.dtype)
    _sdd(_array(index.col), _array(index.row), _array(index.order), _array(a), _array(b.t()), out.numpy())
    return out


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    return tensor.detach().contiguous().numpy()


@njit(**_SERIAL)  # type: ignore[untyped-decorator]
def _accumulate(block: Any, x: Any, out: Any, low: int, high: int) -> None:
    """Add block (rows, inner) @ x (inner, n) to out (rows, n), in the columns low .. high."""
    rows, inner = block.shape
    fours = inner - inner % 4
    for r in range(rows):
        target = out[r, low:high]
        for c in range(0, fours, 4):  # four rows of x at a time: the target is read and written a quarter as often
            v0, v1, v2, v3 = block[r, c], block[r, c + 1], block[r, c + 2], block[r, c + 3]
            x0, x1, x2, x3 = x[c, low:high], x[c + 1, low:high], x[c + 2, low:high], x[c + 3, low:high]
            for j in range(target.size):
                target[j] += v0 * x0[j] + v1 * x1[j] + v2 * x2[j] + v3 * x3[j]
        for c in range(fours, inner):
            v, x0 = block[r, c], x[c, low:high]
            for j in range(target.size):
                target[j] += v * x0[j]


@njit(**_SERIAL)  # type: ignore[untyped-decorator]
def _accumulate_sampled(a: Any, bt: Any, block: Any, low: int, high: int) -> None:
    """Add a (rows, n) @ bt (columns, n)ᵀ to block (rows, columns), over the places low .. high of n."""
    rows, columns = block.shape
    fours = columns - columns % 4
    zero = block.dtype.type(0)
    for r in range(rows):
        u = a[r, low:high]
        for c in range(0, fours, 4):
            b0, b1, b2, b3 = bt[c, low:high], bt[c + 1, low:high], bt[c + 2, low:high], bt[c + 3, low:high]
            s0, s1, s2, s3 = zero, zero, zero, zero
            for j in range(u.size):
                s0 += u[j] * b0[j]
                s1 += u[j] * b1[j]
                s2 += u[j] * b2[j]
                s3 += u[j] * b3[j]
            block[r, c] += s0
            block[r, c + 1] += s1
            block[r, c + 2] += s2
            block[r, c + 3] += s3
        for c in range(fours, columns):
            b0 = bt[c, low:high]
            s0 = zero
            for j in range(u.size):
                s0 += u[j] * b0[j]
            block[r, c] += s0


@njit(**_PARALLEL)  # type: ignore[untyped-decorator]
def _dsd(crow: Any, col: Any, values: Any, x: Any, out: Any) -> None:
    """Share out (block row, column tile); see `dsd`."""
    height, width = values.shape[1], values.shape[2]
    tiles = (out.shape[1] + TILE - 1) // TILE
    for task in prange((crow.size - 1) * tiles):
        i, low = np.int64(task) // tiles, np.int64(task) % tiles * TILE
        high, top = min(out.shape[1], low + TILE), i * height
        bottom = min(out.shape[0], top + height)
        out[top:bottom, low:high] = 0
        for p in range(crow[i], crow[i + 1]):
            left = np.int64(col[p]) * width
            right = min(x.shape[0], left + width)
            block = values[p, : bottom - top, : right - left]
            _accumulate(block, x[left:right], out[top:bottom], low, high)


@njit(**_PARALLEL)  # type: ignore[untyped-decorator]
def _dsd_transposed(ccol: Any, row: Any, order: Any, values: Any, x: Any, out: Any) -> None:
    """Share out (block column, column tile); see `dsd_transposed`."""
    height, width = values.shape[1], values.shape[2]
    tiles = (out.shape[1] + TILE - 1) // TILE
    for task in prange((ccol.size - 1) * tiles):
        i, low = np.int64(task) // tiles, np.int64(task) % tiles * TILE
        high, left = min(out.shape[1], low + TILE), i * width
        right = min(out.shape[0], left + width)
        out[left:right, low:high] = 0
        for entry in range(ccol[i], ccol[i + 1]):
            top = np.int64(row[entry]) * height
            bottom = min(x.shape[0], top + height)
            block = values[order[entry], : bottom - top, : right - left].T
            _accumulate(block, x[top:bottom], out[left:right], low, high)


@njit(**_PARALLEL)  # type: ignore[untyped-decorator]
def _sdd(col: Any, row: Any, order: Any, a: Any, bt: Any, out: Any) -> None:
    """Share out the stored blocks, by columns, as their rows are at hand there; see `sdd`."""
    height, width = out.shape[1], out.shape[2]
    for entry in prange(order.size):
        p, top = order[entry], np.int64(row[entry]) * height
        left = np.int64(col[p]) * width
        bottom, right = min(a.shape[0], top + height), min(bt.shape[0], left + width)
        out[p] = 0
        block = out[p, : bottom - top, : right - left]
        for low in range(0, a.shape[1], DEPTH):
            high = min(a.shape[1], low + DEPTH)
            _accumulate_sampled(a[top:bottom], bt[left:right], block, low, high)
