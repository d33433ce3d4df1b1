"""Turn a product into addresses and strides for the loops of cpu_driver.py, and run it with a given choice."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from sparsebench.kernels.block_sparse import cpu_sampled
from sparsebench.kernels.block_sparse.cpu_driver import ALONE, GEMM, GENERATED, Near, Work, reduce_blocks, sample_blocks
from sparsebench.kernels.block_sparse.layout import BlockIndex
from sparsebench.kernels.common import jit, panels
from sparsebench.kernels.common.sharing import shares_for
from sparsebench.kernels.microkernels import blas, host, mkl, tiles
from sparsebench.kernels.microkernels.emit import SIZES

NARROW = 8
"""Columns from which on lanes run along the columns of x; below, x is turned and lanes run along the blocks."""

_ENDLESS = 1 << 62
_REUSE = 2
"""Times that a row of x has to be read, on average, for copying it to pay."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How a product is computed.

    Attributes:
        micro: "generated", "blas" or "mkl".
        tile: columns of x (rows, in x @ S) that one task works on; a panel takes no more of them than fit in the cache.
        rows: of a generated tile, at most.
        vectors: of a generated tile, side by side.
        dots: a generated kernel runs along the summed axis; else an operand that lies the wrong way is turned first.
        near: operands are copied into panels that fit the caches, and what comes next is asked for beforehand. Not in
            x @ S; in a sampled product of one pair only (of a batch, and of halves, it is computed as without).
    """

    micro: str
    tile: int = 128
    rows: int = 8
    vectors: int = 2
    dots: bool = False
    near: bool = False

    @property
    def name(self) -> str:
        """Return it in words, for the column `kernel`."""
        if self.micro != "generated":
            library = "BLAS" if self.micro == "blas" else "MKL JIT" if mkl.makes_code() else "MKL"
            return f"numba + {library} gemm, tile {self.tile}"
        tile = f"{'panel' if self.near else 'tile'} {self.tile}"
        return f"numba + LLVM {'dots' if self.dots else f'{self.rows}×{self.vectors} vectors'}, {tile}"


def dsd(index: BlockIndex, values: Tensor, x: Tensor, transposed: bool, choice: Choice) -> Tensor:
    """Return S @ x or Sᵀ @ x; x (batch, r, n) with columns side by side, n ≥ 1."""
    height, width = index.block
    own, inner = (width, height) if transposed else (height, width)
    rows, depth = index.shape[::-1] if transposed else index.shape
    batch, _, n = x.shape
    out = torch.empty((batch, rows, n), dtype=x.dtype)
    size = x.element_size()
    lines = x.stride(1) * size
    a_row, a_inner = (size, width * size) if transposed else (width * size, size)
    tile = _fitting(choice, n, depth, _name(x)) if choice.near else choice.tile
    packs = choice.near and n > tile and index.blocks * inner >= _REUSE * depth
    line = tile * size if packs else lines
    work = Work(
        kind=_kind(choice), owns_rows=1, own=own, own_total=rows, tile=tile, tile_total=n, batch=batch,
        size=size, a=values.data_ptr(), b=x.data_ptr(), c=out.data_ptr(), ordered=int(transposed),
        a_place=height * width * size, a_other=0, b_place=0, b_other=inner * line, inner=inner, limit=depth,
        a_row=a_row, a_inner=a_inner, b_inner=line, b_column=size, c_row=n * size, c_column=size,
        a_batch=0, b_batch=x.stride(0) * size, c_batch=rows * n * size,
    )  # fmt: skip
    constants = (("a_row", a_row), ("a_inner", a_inner))
    near = _shared(work)
    if choice.near:
        near = near._replace(
            ask_write=panels.asker(write=True),
            ask_read=panels.asker(write=False) if work.a_place % panels.LINE == 0 else 0,
        )
    if packs:
        made = torch.empty(near.threads * depth * line, dtype=torch.uint8)
        last = (n % tile or tile) * size
        near = near._replace(
            copy=panels.copier(line), copy_last=panels.copier(last), x_row=lines, panels=made.data_ptr(),
            panel=depth * line,
        )  # fmt: skip
    _reduce(index, transposed, work, near, choice, _name(x), (own, rows % own), (min(tile, n), n % tile), constants)
    return out


def _fitting(choice: Choice, n: int, depth: int, dtype: str) -> int:
    """Return the columns of a panel: the choice's, or what half of the second-level cache holds."""
    strip = choice.vectors * tiles.lanes(dtype)
    fitting = host.cache_bytes(2) // 2 // max(1, depth * SIZES[dtype])
    return min(max(1, fitting // strip) * strip, choice.tile, -(-n // strip) * strip)


def _shared(work: Work) -> Near:
    """Return how the tasks of a product are shared out."""
    tasks = work.batch * -(-work.tile_total // work.tile)
    threads = jit.threads()
    return ALONE._replace(threads=threads, shares=shares_for(tasks, threads))


def dds(index: BlockIndex, values: Tensor, x: Tensor, transposed: bool, choice: Choice) -> Tensor:
    """Return x @ S or x @ Sᵀ; x (n, r) with columns side by side, n ≥ 1."""
    height, width = index.block
    own, inner = (height, width) if transposed else (width, height)
    columns, depth = index.shape if transposed else index.shape[::-1]
    n, size = x.shape[0], x.element_size()
    out = torch.empty((n, columns), dtype=x.dtype)
    if transposed and choice.micro == "generated" and not choice.dots:
        values, lines = values.mT.contiguous(), height * size  # lanes run along what are rows of the stored blocks
        b_inner, b_column = lines, size
    else:
        b_inner, b_column = (size, width * size) if transposed else (width * size, size)
    work = Work(
        kind=_kind(choice), owns_rows=0, own=own, own_total=columns, tile=choice.tile, tile_total=n, batch=1, size=size,
        a=x.data_ptr(), b=values.data_ptr(), c=out.data_ptr(), ordered=int(not transposed),
        a_place=0, a_other=inner * size, b_place=height * width * size, b_other=0, inner=inner, limit=depth,
        a_row=x.stride(0) * size, a_inner=size, b_inner=b_inner, b_column=b_column,
        c_row=columns * size, c_column=size, a_batch=0, b_batch=0, c_batch=0,
    )  # fmt: skip
    constants = (("b_column", b_column), ("inner", inner)) if choice.dots else (("b_inner", b_inner), ("a_inner", size))
    tile = (min(choice.tile, n), n % choice.tile)
    _reduce(index, not transposed, work, _shared(work), choice, _name(x), tile, (own, columns % own), constants)
    return out


def sdd(index: BlockIndex, a: Tensor, b: Tensor, choice: Choice) -> Tensor:
    """Return (a @ b) at the stored blocks; a (batch, m, n), b (batch, n, k), n ≥ 1, one of b's last strides 1."""
    (m, k), (height, width), n = index.shape, index.block, a.shape[2]
    if choice.near and a.shape[0] == 1 and _name(a) in cpu_sampled.DTYPES:
        left = a[0] if a.stride(2) == 1 else a[0].contiguous()
        return cpu_sampled.run(index, left, b[0], choice.rows, choice.vectors)
    if choice.micro == "generated" and not choice.dots and b.stride(2) != 1:
        b = b.contiguous()
    if (choice.dots and a.stride(2) != 1) or (choice.micro != "generated" and 1 not in a.stride()[1:]):
        a = a.contiguous()
    size = a.element_size()
    out = (torch.zeros if m % height or k % width else torch.empty)((index.blocks, height, width), dtype=a.dtype)
    work = Work(
        kind=_kind(choice), owns_rows=1, own=height, own_total=m, tile=width, tile_total=k, batch=a.shape[0], size=size,
        a=a.data_ptr(), b=b.data_ptr(), c=out.data_ptr(), ordered=0,
        a_place=0, a_other=a.stride(0) * size, b_place=0, b_other=b.stride(0) * size, inner=n, limit=_ENDLESS,
        a_row=a.stride(1) * size, a_inner=a.stride(2) * size, b_inner=b.stride(1) * size, b_column=b.stride(2) * size,
        c_row=width * size, c_column=size, a_batch=0, b_batch=0, c_batch=height * width * size,
    )  # fmt: skip
    constants = (("c_row", width * size), ("c_column", size))
    sizes = (height, m % height), (width, k % width)
    addresses, rows, columns = _table(work, choice, _name(a), *sizes, constants, whole=(height, width, n))
    batches = np.arange(a.shape[0], dtype=np.int32)
    arrays = (array.numpy() for array in (index.row, index.order, index.col))
    with _one_thread(choice):
        sample_blocks(work, ALONE, *arrays, batches, height, width, addresses, rows, columns)
    return out


def _reduce(
    index: BlockIndex,
    by_columns: bool,
    work: Work,
    near: Near,
    choice: Choice,
    dtype: str,
    rows: tuple[int, int],
    columns: tuple[int, int],
    constants: tuple[tuple[str, int], ...],
) -> None:
    """Run a product over one of the two orders of the blocks; rows, columns: the usual size of a tile, and the last."""
    order = (index.ccol, index.row, index.order) if by_columns else (index.crow, index.col, index.col)
    table = _table(work, choice, dtype, rows, columns, constants, whole=(rows[0], columns[0], work.inner))
    with _one_thread(choice):
        reduce_blocks(work, near, *(array.numpy() for array in order), *table)


def _table(
    work: Work,
    choice: Choice,
    dtype: str,
    rows: tuple[int, int],
    columns: tuple[int, int],
    constants: tuple[tuple[str, int], ...],
    whole: tuple[int, int, int],
) -> tiles.Table:
    if choice.micro != "generated":
        return _gemm_table(work, choice, dtype, whole), _EMPTY, _EMPTY
    return _generated(choice, dtype, rows, columns, bool(work.ordered), constants)


@cache
def _generated(
    choice: Choice,
    dtype: str,
    rows: tuple[int, int],
    columns: tuple[int, int],
    ordered: bool,
    constants: tuple[tuple[str, int], ...],
) -> tiles.Table:
    """Return the kernels that make up tiles of these sizes."""
    if choice.dots:
        largest, across = 4, tiles.halves(4 if max(rows) > 1 else 8)
    else:
        wide = tiles.lanes(dtype)
        largest = choice.rows
        across = (*(vectors * wide for vectors in range(choice.vectors, 1, -1)), *tiles.halves(wide))
    down = tuple(range(largest, 0, -1))
    needed = frozenset((r, c) for r in tiles.even(largest, rows) for c in tiles.used(across, columns))
    return tiles.table("dots" if choice.dots else "outer", dtype, down, across, needed, ordered, constants)


_EMPTY = np.zeros(0, np.int64)


def _gemm_table(work: Work, choice: Choice, dtype: str, whole: tuple[int, int, int]) -> np.ndarray:
    """Return what cpu_driver._gemms reads, one row."""
    made: list[int] = []
    if choice.micro == "mkl":
        a_plain, b_plain = work.a_inner == work.size, work.b_column == work.size
        leading = (
            (work.a_row if a_plain else work.a_inner) // work.size,
            (work.b_inner if b_plain else work.b_column) // work.size,
            work.c_row // work.size,
        )
        pairs = [mkl.kernel(dtype, *whole, a_plain, b_plain, *leading, beta) for beta in (0, 1)]
        if all(pairs):
            made = [number for pair in pairs if pair is not None for number in pair]
    return np.array([[*blas.addresses(dtype), *(made or [0] * 4), *whole[:2]]], np.int64)


def _kind(choice: Choice) -> int:
    return GENERATED if choice.micro == "generated" else GEMM


def _one_thread(choice: Choice) -> AbstractContextManager[None]:
    return nullcontext() if choice.micro == "generated" else blas.one_thread()


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
