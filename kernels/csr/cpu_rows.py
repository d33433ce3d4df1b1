"""Compute the forward product from rows of x where they stand, with little to do before the loops begin.

A product of a few thousand elements takes ten microseconds, as much as the Python code around it may. So what a call
needs beside three addresses is worked out once for operands of one shape, and kept with the index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import prange
from torch import Tensor

from sparsebench.kernels.common.jit import njit
from sparsebench.kernels.common.sharing import share
from sparsebench.kernels.csr.cpu_generated import SINGLE, Loop, address
from sparsebench.kernels.csr.cpu_tiling import Tiling
from sparsebench.kernels.csr.layout import RowIndex
from sparsebench.kernels.microkernels.call import call
from sparsebench.kernels.microkernels.tiles import lanes


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What a call needs beside its operands' addresses.

    Attributes:
        numbers: int64, as `_task` unpacks them.
        bounds: int64 (shares + 1): the first row of each share.
    """

    numbers: Any
    bounds: Any

    @property
    def nbytes(self) -> int:
        """Return the bytes of both arrays."""
        return int(self.numbers.nbytes + self.bounds.nbytes)


def plan(index: RowIndex, x: Tensor, t: Tiling, threads: int, shares: int, cost: int) -> Plan:
    """Return the plan for x (k, n) or (items, k, n) of these sizes and strides.

    Args:
        index: of the stored elements.
        x: its columns are side by side.
        t: tiles that are read in place.
        threads: how many run.
        shares: into how many the rows of a tile are cut.
        cost: what beginning a row takes, in elements, where shares are balanced.
    """
    m, n = index.shape[0], x.shape[-1]
    items = x.shape[0] if x.dim() == 3 else 1
    crow = index.crow.numpy()
    single = n == 1 and t.dtype in SINGLE and x.stride(-2) == 1
    loops = _single(t.dtype, crow.dtype == np.int64) if single else t.pair("forward", crow.dtype == np.int64)
    numbers = np.array([
        *loops, threads, items, t.tiles, shares, t.tail,
        index.col.data_ptr(), index.crow.data_ptr(), x.stride(-2) * t.size, x.stride(0) * t.size if items > 1 else 0,
        t.tile_bytes, n * t.size, m * n * t.size,
    ], np.int64)  # fmt: skip
    bounds = np.array([share(crow, shares, number, cost) for number in range(shares + 1)], np.int64)
    return Plan(numbers=numbers, bounds=bounds)


def _single(dtype: str, wide: bool) -> tuple[int, int]:
    loop = Loop(kind="single", dtype=dtype, lanes=lanes(dtype), vectors=1, wide=wide)
    return address(loop), address(loop)


@njit()
def _task(numbers: Any, bounds: Any, values: int, x: int, out: int, task: int) -> None:
    (whole, final, _, _, tiles, shares, tail, col, crow, x_row, x_item, tile_bytes, out_row, out_item) = (
        numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6], numbers[7], numbers[8],
        numbers[9], numbers[10], numbers[11], numbers[12], numbers[13],
    )  # fmt: skip
    number, part = task // shares, task % shares
    item, tile = number // tiles, number % tiles
    source, target = x + item * x_item + tile * tile_bytes, out + item * out_item + tile * tile_bytes
    function = final if tile == tiles - 1 else whole
    call(function, (values, col, crow, source, x_row, target, out_row, bounds[part], bounds[part + 1], tail))


@njit(parallel=True)
def forward(numbers: Any, bounds: Any, values: int, x: int, out: int) -> None:
    """Compute self @ x in tasks (item, tile, share of the rows); a thread takes neighbours."""
    threads, tasks = numbers[2], numbers[3] * numbers[4] * numbers[5]
    if threads == 1:
        for task in range(tasks):
            _task(numbers, bounds, values, x, out, task)
        return
    for number in prange(threads):
        thread = np.int64(number)
        for task in range(tasks * thread // threads, tasks * (thread + 1) // threads):
            _task(numbers, bounds, values, x, out, task)
