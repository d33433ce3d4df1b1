"""Compute the three products on the CPU: loops generated for this processor, shared out among numba's threads.

float32 and float64 are computed as they are. float16 and bfloat16 are read and written in 16 bits and computed in
float32, element by element: no float32 copy of values or x is made. Each thread owns its part of a result or of a sum,
so that runs with the same number of threads (`numba.set_num_threads`) repeat bit for bit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sparsebench.kernels.common import chooser, jit
from sparsebench.kernels.common.tiling import kernel_name
from sparsebench.kernels.csr import cpu_blocks, cpu_rows
from sparsebench.kernels.csr import cpu_driver as drivers
from sparsebench.kernels.csr.cpu_choice import Choice, choose
from sparsebench.kernels.csr.cpu_tiling import Tiling, in_place, tiling
from sparsebench.kernels.csr.layout import RowIndex, check_product, check_sampled
from sparsebench.kernels.microkernels import host

DTYPES: tuple[torch.dtype, ...] = (
    torch.float32,
    torch.float64,
    *((torch.float16,) if host.has_half() else ()),
    torch.bfloat16,
)
"""What can be computed in here; float16 only where the processor converts it."""


def name(dtype: torch.dtype = torch.float32) -> str:
    """Return what runs for a dtype, as tables call it."""
    return kernel_name(dtype, "loops")


def dsd(index: RowIndex, values: Tensor, x: Tensor, *, transposed: bool = False) -> Tensor:
    """Return self @ x, (m, k) @ (..., k, n) -> (..., m, n), or selfᵀ @ x, (k, m) @ (..., m, n) -> (..., k, n).

    Beside the result it takes room for a packed tile of x a thread; transposed, for a tile of the result a thread, in
    the type that is computed in. Fewer threads run if that came to more than index, values, x and result together.

    Args:
        index: of the stored elements, on the CPU.
        values: (nnz), contiguous, one of DTYPES.
        x: any strides and any number of leading dimensions; read where it stands if its last stride is 1.
        transposed: whether selfᵀ is meant. It works from the row-major order too.

    Returns:
        a new contiguous tensor in the dtype of x.

    Raises:
        ValueError: if the operands do not fit.
    """
    check_product(index, values, x, DTYPES, transposed=transposed)
    rows, n = index.shape[1 if transposed else 0], x.shape[-1]
    out = torch.empty((rows, n) if x.dim() == 2 else (*x.shape[:-2], rows, n), dtype=x.dtype)
    if out.numel() == 0:
        return out
    flat = x if x.dim() == 2 else x.reshape(-1, *x.shape[-2:])
    (_transposed if transposed else _forward)(index, values, flat, out)
    return out


def sdd(index: RowIndex, a: Tensor, b: Tensor) -> Tensor:
    """Return (a @ b) at the stored places, (m, n) @ (n, k) -> (nnz).

    Rows of a meet rows of bᵀ, so b is best handed in as the transpose of a contiguous tensor, as in x.t(). Sums of
    halves that take more than one tile are kept in float32: 4 bytes an element beside the result.

    Args:
        index: of the stored elements, on the CPU.
        a: (m, n), one of DTYPES; copied if its last stride is not 1.
        b: (n, k), any strides.

    Returns:
        a new tensor in the dtype of a.

    Raises:
        ValueError: if the operands do not fit.
    """
    check_sampled(index, a, b, DTYPES)
    x = b.t()
    n = a.shape[1]
    if n == 0 or index.nnz == 0:
        return torch.zeros(index.nnz, dtype=a.dtype)
    a = a if a.stride(1) == 1 or n == 1 else a.contiguous()
    k, wide = index.shape[1], index.crow.dtype == torch.int64
    threads = _row_threads(index, n)
    t = tiling(x, index.nnz // threads, k)
    if t.packs:
        threads = min(threads, _panels(index, k * t.tile_bytes, t, a, x))
    out = torch.empty(index.nnz, dtype=t.computed)
    panels = torch.empty(threads * k * t.tile_bytes, dtype=torch.uint8) if t.packs else None
    drivers.sampled(
        t.pair("sampled", wide)[0], *t.pair("sampled", wide, t.tiles > 1), *_pack(t), t.gathers,
        threads, t.tiles, t.tail, a.data_ptr(), a.stride(0) * t.size,
        index.col.data_ptr(), index.crow.data_ptr(), index.crow.numpy(),
        x.data_ptr(), x.stride(0) * t.size, x.stride(1) * t.size, t.tile_bytes, x.stride(1) * t.tile_bytes, k,
        0 if panels is None else panels.data_ptr(), t.tile_bytes, out.data_ptr(),
    )  # fmt: skip
    return out.to(a.dtype)


def _forward(index: RowIndex, values: Tensor, x: Tensor, out: Tensor) -> None:
    available = jit.threads()
    kept = index.plans.get((x.shape, x.stride(), x.dtype))
    if kept is None or kept[0] != chooser.changes() or kept[1] != available:
        kept = _planned(index, x, available)
    choice, plan = kept[2:]
    if plan is None:
        _compute(index, values, x, out, choice)
    else:
        cpu_rows.forward(plan.numbers, plan.bounds, values.data_ptr(), x.data_ptr(), out.data_ptr())


_PLANS = 16
"""Shapes of x whose plans an index keeps."""


def _planned(index: RowIndex, x: Tensor, available: int) -> tuple[int, int, Choice, cpu_rows.Plan | None]:
    """Choose how to compute a product, keep that, and return what is kept."""
    choice = choose(index, x, _compute)
    plan = _row_plan(index, x, choice.vectors) if choice.way == "rows" else None
    if len(index.plans) >= _PLANS:
        index.plans.clear()
    found = index.plans[x.shape, x.stride(), x.dtype] = chooser.changes(), available, choice, plan
    return found


def _row_plan(index: RowIndex, x: Tensor, vectors: int) -> cpu_rows.Plan:
    n, items = x.shape[-1], x.shape[0] if x.dim() == 3 else 1
    t = in_place(x.dtype, n, vectors)
    return cpu_rows.plan(index, x, t, *_deal(index, items * t.tiles, n * items), drivers.ROW_COST)


def _compute(index: RowIndex, values: Tensor, x: Tensor, out: Tensor, choice: Choice) -> None:
    m, k = index.shape
    n = x.shape[-1]
    items = x.shape[0] if x.dim() == 3 else 1
    if choice.way == "blocks":
        cpu_blocks.dsd(index, values, x, out, _row_threads(index, n * items), choice.vectors)
        return
    if choice.way == "rows":
        plan = _row_plan(index, x, choice.vectors)
        cpu_rows.forward(plan.numbers, plan.bounds, values.data_ptr(), x.data_ptr(), out.data_ptr())
        return
    t = tiling(x, index.nnz, k)
    threads, shares = _deal(index, items * t.tiles, n * items)
    if t.packs:
        threads = min(threads, _panels(index, k * t.tile_bytes, t, values, x, out))
    panels = torch.empty(threads * k * t.tile_bytes, dtype=torch.uint8) if t.packs else None
    wide = index.crow.dtype == torch.int64
    x_row, x_column = x.stride()[-2:]
    drivers.forward(
        *t.pair("forward", wide), *_pack(t), t.gathers, threads, items, t.tiles, shares, t.tail,
        values.data_ptr(), index.col.data_ptr(), index.crow.data_ptr(), index.crow.numpy(),
        x.data_ptr(), x_row * t.size, x_column * t.size, x.stride(0) * t.size if items > 1 else 0,
        x_column * t.tile_bytes, k, 0 if panels is None else panels.data_ptr(), t.tile_bytes,
        out.data_ptr(), n * t.size, m * n * t.size, t.tile_bytes,
    )  # fmt: skip


def _transposed(index: RowIndex, values: Tensor, x: Tensor, out: Tensor) -> None:
    m, k = index.shape
    if x.stride(-1) != 1 and x.shape[-1] > 1:
        x = x.contiguous()
    t = tiling(x, index.nnz, k, sums=True)
    items = x.shape[0] if x.dim() == 3 else 1
    threads, shares = _deal(index, items * t.tiles, x.shape[-1] * items)
    panel_row = t.columns * t.computed.itemsize
    by_tiles = shares == 1
    if not by_tiles:
        # a panel more costs its clearing and adding up, so it has to take four elements for each of its rows at least
        threads = max(1, min(_row_threads(index, t.columns), index.nnz // (4 * k)))
    threads = min(threads, _panels(index, k * panel_row, t, values, x, out))
    panels = torch.empty(threads * k * panel_row, dtype=torch.uint8)
    driver = drivers.transposed_by_tiles if by_tiles else drivers.transposed_by_rows
    driver(
        *t.pair("transposed", index.crow.dtype == torch.int64), t.pair("clear")[0], *t.pair("finish"),
        threads, items, t.tiles, t.tail,
        values.data_ptr(), index.col.data_ptr(), index.crow.data_ptr(), m if by_tiles else index.crow.numpy(),
        x.data_ptr(), x.stride(-2) * t.size, x.stride(0) * t.size if items > 1 else 0, t.tile_bytes, k,
        panels.data_ptr(), panel_row, out.data_ptr(), out.shape[-1] * t.size, k * out.shape[-1] * t.size, t.tile_bytes,
    )  # fmt: skip


def _deal(index: RowIndex, tiles: int, columns: int) -> tuple[int, int]:
    """Return how many threads run, and into how many shares the rows of each tile are cut.

    Whole tiles are taken if no more than a tenth of the threads' time is idle then; else just so many shares.
    """
    threads, shares = _row_threads(index, columns), 1
    while math.ceil(tiles * shares / threads) * threads > 1.1 * tiles * shares:
        shares += 1
    return threads, shares


def _row_threads(index: RowIndex, columns: int) -> int:
    """Return how many threads run: a short job is done before a second one has woken up."""
    work = (index.nnz + drivers.ROW_COST * index.shape[0]) * (4 + columns // 4)
    return max(1, min(jit.threads(), work >> 14))


def _panels(index: RowIndex, panel: int, t: Tiling, *operands: Tensor) -> int:
    """Return how many panels of so many bytes take no more room than index and operands together, at least one."""
    room = index.nbytes + sum(operand.numel() for operand in operands) * t.size
    return max(1, room // max(1, panel))


def _pack(t: Tiling) -> tuple[int, int]:
    return t.pair("gather" if t.gathers else "pack") if t.packs else (0, 0)
