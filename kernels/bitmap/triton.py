"""Compute the three products on the GPU with Triton: float32, float16 and bfloat16, sums in float32.

`triton_narrow.py` holds the products with up to eight columns, which the bytes read decide: lanes decode and multiply.
`triton_kernels.py` holds those with more, and the sampled one: tiles are decoded for matrix instructions. Sums with too
few tiles to fill a device are cut into parts, which a second pass adds up in their order. Nothing is added by atomics:
runs repeat bit for bit.

The module imports where there is no GPU. Set TRITON_INTERPRET=1 before importing it to run on CPU tensors, for tests.
"""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsebench.kernels.bitmap import triton_kernels as kernels
from sparsebench.kernels.bitmap import triton_narrow as narrow
from sparsebench.kernels.bitmap.layout import BitmapIndex, check_product, check_sampled, count_bits
from sparsebench.kernels.bitmap.triton_tiles import narrow_tile, parts_of, product_tile, sampled_tile
from sparsebench.kernels.common.triton_launch import DTYPES, check_device, grid, processors
from sparsebench.kernels.common.triton_plan import OPERAND, Launch, keep, recall, signature

_BLOCK = 1024
"""Elements of a result that a program of the second pass adds up."""

_tables: weakref.WeakKeyDictionary[BitmapIndex, Tensor] = weakref.WeakKeyDictionary()

__all__ = ["DTYPES", "dsd", "name", "sdd", "table_bytes"]


def name(dtype: torch.dtype = torch.float32) -> str:
    """Return what runs for a dtype, as tables call it."""
    return "triton bitmap" if dtype == torch.float32 else f"triton bitmap, {str(dtype)[6:]}, sums in float32"


def table_bytes(index: BitmapIndex) -> int:
    """Return the bytes that are held with an index beside its own arrays, once it was used."""
    table = _tables.get(index)
    return 0 if table is None else int(table.nbytes)


def dsd(index: BitmapIndex, values: Tensor, x: Tensor, *, transposed: bool = False) -> Tensor:
    """Return self @ x, (m, k) @ (..., k, n) -> (..., m, n), or selfᵀ @ x, (k, m) @ (..., m, n) -> (..., k, n).

    Args:
        index: of the stored elements, on the GPU. A table of where each chunk's values begin, 4 bytes for 256 places,
            is kept with it; `table_bytes` counts it.
        values: (nnz), contiguous, one of DTYPES.
        x: any strides and any number of leading dimensions; copied only if these cannot be merged into one.
        transposed: whether selfᵀ is meant.

    Returns:
        a new contiguous tensor in the dtype of x.

    Raises:
        ValueError: if the operands do not fit, or lie on the CPU and the interpreter is off.
    """
    key = signature(("dsd", transposed), values, x)
    known = recall(index, key)
    if known is not None:
        return known(values, x)
    check_product(index, values, x, DTYPES, transposed=transposed)
    check_device(index.device)
    out = x.new_empty((*x.shape[:-2], index.shape[1 if transposed else 0], x.shape[-1]))
    if index.nnz == 0 or out.numel() == 0:
        return out.zero_()
    flat = x.detach().reshape(-1, *x.shape[-2:])
    plan = _plan(index, flat, x, out, transposed=transposed)
    return keep(index, key, plan)(values, x)


def sdd(index: BitmapIndex, a: Tensor, b: Tensor) -> Tensor:
    """Return (a @ b) at the stored places, (m, n) @ (n, k) -> (nnz), in the order of the values.

    Args:
        index: of the stored elements, on the GPU.
        a: (m, n), any strides, one of DTYPES.
        b: (n, k), any strides; reads are side by side if its first stride is 1, as in x.t().

    Returns:
        a new tensor in the dtype of a.

    Raises:
        ValueError: if the operands do not fit, or lie on the CPU and the interpreter is off.
    """
    key = signature(("sdd",), a, b)
    known = recall(index, key)
    if known is not None:
        return known(a, b)
    check_sampled(index, a, b, DTYPES)
    check_device(index.device)
    n = a.shape[1]
    if index.nnz == 0 or n == 0:
        return a.new_zeros(index.nnz)
    groups, chunks, _ = index.bits.shape
    tile = sampled_tile(n, a.dtype)
    launch = Launch(
        kernels.sampled,
        grid(math.ceil(groups / tile.groups) * chunks),
        (
            index.bits, index.starts, _table(index), OPERAND, OPERAND, OPERAND, groups, chunks, *index.shape, n,
            *a.stride(), *b.stride(),
        ),
        {"GROUPS": tile.groups, "INNER": tile.columns},
        tile.options(nvidia=torch.version.hip is None),
        device=a.device,
    )  # fmt: skip
    return keep(index, key, _Plan(shape=(index.nnz,), launch=launch))(a, b)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """A product of operands of one signature, worked out up to its launch.

    Attributes:
        shape: of the result.
        launch: that writes the result, or its parts, from two operands.
        flat: what the second operand is copied to, (batch, p, q), where it cannot be seen so; else None.
        parts: shape of the parts; empty if there is one.
        add_parts: what adds them up.
    """

    shape: tuple[int, ...]
    launch: Launch
    flat: torch.Size | None = None
    parts: tuple[int, ...] = ()
    add_parts: Launch | None = None

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        out = second.new_empty(self.shape)
        if self.flat is not None:
            second = second.detach().reshape(self.flat)
        if self.add_parts is None:
            self.launch(first, second, out)
        else:
            parts = torch.empty(self.parts, dtype=torch.float32, device=out.device)
            self.launch(first, second, parts)
            self.add_parts(parts, out)
        return out


def _plan(index: BitmapIndex, x: Tensor, given: Tensor, out: Tensor, *, transposed: bool) -> _Plan:
    """Return what writes to tensors like `out` from operands like `given`, seen as x (batch, inner, n)."""
    groups, chunks, _ = index.bits.shape
    items, _, n = x.shape
    rows = out.shape[-2]
    if n <= narrow.MOST:
        tile = narrow_tile(n, 8 * chunks, transposed=transposed)
        kernel = narrow.narrow_transposed if transposed else narrow.narrow
        tasks, every = (chunks, math.ceil(groups / tile.groups)) if transposed else (groups, tile.steps(chunks))
        tasks *= math.ceil(n / tile.columns)
    else:
        tile = product_tile(n, x.dtype, transposed=transposed)
        kernel, blocks = kernels.product, math.ceil(groups / tile.groups)
        tasks, every = (chunks, blocks) if transposed else (blocks, chunks)
        tasks *= math.ceil(n / tile.columns)
    steps = math.ceil(every / parts_of(tasks * items, every, processors(x.device)))
    parts = math.ceil(every / steps)
    shape = (parts, items, rows, n)
    constants = tile.constants(kernel.arg_names)
    if kernel is kernels.product:
        constants["TRANSPOSED"] = transposed
    launch = Launch(
        kernel,
        (*grid(tasks, items), parts),
        (
            OPERAND, index.bits, index.starts, _table(index), OPERAND, OPERAND, groups, chunks, *index.shape, n, steps,
            *x.stride(), items * rows * n, rows * n, n,
        ),
        constants,
        tile.options(nvidia=torch.version.hip is None),
        device=x.device,
    )  # fmt: skip
    add_parts = Launch(
        kernels.add_parts,
        grid(math.ceil(out.numel() / _BLOCK)),
        (OPERAND, OPERAND, parts, out.numel()),
        {"BLOCK": _BLOCK},
        device=x.device,
    )
    return _Plan(
        shape=tuple(out.shape),
        launch=launch,
        flat=None if x.data_ptr() == given.data_ptr() else x.shape,
        parts=shape,
        add_parts=None if parts == 1 else add_parts,
    )


def _table(index: BitmapIndex) -> Tensor:
    """Return how many values of its group stand before each chunk, int32 (groups, chunks).

    Raises:
        ValueError: if a group has more of them than int32 can count.
    """
    table = _tables.get(index)
    if table is None:
        counts = count_bits(index.bits).sum(2)
        before = counts.cumsum(1)
        most = int(before[:, -1].max())
        if most >= 2**31:
            raise ValueError(f"expected fewer than 2^31 stored elements in four rows, got {most}; split the matrix")
        table = _tables[index] = (before - counts).int()
    return table
