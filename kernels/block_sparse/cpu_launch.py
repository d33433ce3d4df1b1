"""Turn a product into addresses and strides for the loops of cpu_driver.py, and run it with a given choice."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from sparsebench.kernels.block_sparse.cpu_driver import GEMM, GENERATED, Work, reduce_blocks, sample_blocks
from sparsebench.kernels.block_sparse.layout import BlockIndex
from sparsebench.kernels.microkernels import blas, mkl, tiles

NARROW = 8
"""Columns from which on lanes run along the columns of x; below, x is turned and lanes run along the blocks."""

_ENDLESS = 1 << 62


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How a product is computed.

    Attributes:
        micro: "generated", "blas" or "mkl".
        tile: columns of x (rows, in x @ S) that one task works on.
        rows: of a generated tile, a power of two.
        vectors: of a generated tile, side by side.
        dots: a generated kernel runs along the summed axis; else an operand that lies the wrong way is turned first.
    """

    micro: str
    tile: int = 128
    rows: int = 8
    vectors: int = 2
    dots: bool = False

    @property
    def name(self) -> str:
        """Return it in words, for the column `kernel`."""
        if self.micro != "generated":
            library = "BLAS" if self.micro == "blas" else "MKL JIT" if mkl.makes_code() else "MKL"
            return f"numba + {library} gemm, tile {self.tile}"
        return f"numba + LLVM {'dots' if self.dots else f'{self.rows}×{self.vectors} vectors'}, tile {self.tile}"


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
    work = Work(
        kind=_kind(choice), owns_rows=1, own=own, own_total=rows, tile=choice.tile, tile_total=n, batch=batch,
        size=size, a=values.data_ptr(), b=x.data_ptr(), c=out.data_ptr(), ordered=int(transposed),
        a_place=height * width * size, a_other=0, b_place=0, b_other=inner * lines, inner=inner, limit=depth,
        a_row=a_row, a_inner=a_inner, b_inner=lines, b_column=size, c_row=n * size, c_column=size,
        a_batch=0, b_batch=x.stride(0) * size, c_batch=rows * n * size,
    )  # fmt: skip
    constants = (("a_row", a_row), ("a_inner", a_inner))
    _reduce(
        index, transposed, work, choice, _name(x), (own, rows % own), (min(choice.tile, n), n % choice.tile), constants
    )
    return out


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
    _reduce(index, not transposed, work, choice, _name(x), tile, (own, columns % own), constants)
    return out


def sdd(index: BlockIndex, a: Tensor, b: Tensor, choice: Choice) -> Tensor:
    """Return (a @ b) at the stored blocks; a (batch, m, n), b (batch, n, k), n ≥ 1, one of b's last strides 1."""
    (m, k), (height, width), n = index.shape, index.block, a.shape[2]
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
        sample_blocks(work, *arrays, batches, height, width, addresses, rows, columns)
    return out


def _reduce(
    index: BlockIndex,
    by_columns: bool,
    work: Work,
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
        reduce_blocks(work, *(array.numpy() for array in order), *table)


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
        down, across = tiles.halves(4), tiles.halves(4 if max(rows) > 1 else 8)
    else:
        wide = tiles.lanes(dtype)
        down = tiles.halves(choice.rows)
        whole_vectors = (choice.vectors * wide,) if choice.vectors % 2 else tiles.halves(choice.vectors * wide)
        across = tuple(dict.fromkeys((*whole_vectors, *tiles.halves(wide))))
    needed = frozenset((r, c) for r in tiles.used(down, rows) for c in tiles.used(across, columns))
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
