"""Make a problem like the one at hand to measure candidates on: the same blocks, sizes and strides, other values.

A problem that takes longer than a few milliseconds is cut, since every candidate runs many times: first along the dense
operand's columns, whose distance in memory stays what it was, then along block rows or columns of the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from sparsebench.kernels.block_sparse import cpu_launch
from sparsebench.kernels.block_sparse.cpu_launch import Choice
from sparsebench.kernels.block_sparse.layout import BlockIndex
from sparsebench.kernels.common.chooser import Trial, Work

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-12, torch.float16: 1e-2, torch.bfloat16: 5e-2}
_MOST = 120_000_000
"""Multiplications of a call: a millisecond or two on two threads, a few dozen candidates in half a second."""
_COPIES = 2
"""Of the operands, used in turn: where they lie in memory alone makes a candidate up to a tenth faster or slower."""
_COLUMNS, _STEP = 512, 256
"""Columns that are left at least, and of which whole ones are left out, so that the last tile stays as it is."""
_OWNERS = 16
"""Block rows of the result that are left at least."""
_CHUNK = 1 << 22
"""Elements that the plain product gathers at a time."""


def trial(product: str, index: BlockIndex, dtype: torch.dtype, n: int) -> Trial[Choice]:
    """Return a product like the one at hand, and a check of its result against a plain computation.

    Args:
        product: one of `cpu_choice.PRODUCTS`.
        index: of the stored blocks.
        dtype: of the operands.
        n: columns of x, or rows of it in x @ S; the summed axis in a sampled product.
    """
    made = cut(product, index, n)
    given = problem(product, *made, dtype, n)
    return Trial(run=given.run, right=checked(given, dtype), turn=given.turn, work=work_of(product, *made, dtype))


def checked(given: Problem, dtype: torch.dtype) -> Callable[[Choice], bool]:
    """Return what calls a choice and tells whether its result is that of the plain computation."""
    wanted: list[tuple[Tensor, float]] = []

    def right(choice: Choice) -> bool:
        if not wanted:  # worked out late: it may be that nobody asks
            want = given.plain()
            wanted.append((want, float(want.abs().max()) if want.numel() else 0.0))
        want, scale = wanted[0]
        got = given.run(choice).reshape(want.shape).to(want.dtype)
        return bool((got - want).abs().max() <= TOLERANCE[dtype] * scale) if want.numel() else True

    return right


def cut(product: str, index: BlockIndex, n: int, most: int = _MOST) -> tuple[BlockIndex, int]:
    """Return so much of a problem that a call takes no more than `most` multiplications, if that can be."""
    sampled = product.startswith("sdd")
    work, short = max(1, index.blocks * index.block[0] * index.block[1] * n), n
    if work > most and not sampled:
        short = n - max(0, min(n - _COLUMNS, n - n * most // work)) // _STEP * _STEP
        work = work // n * short
    return (_cut(index, _by_rows(product), most / work) if work > most else index), short


def _by_rows(product: str) -> bool:
    """Tell whether the result has the matrix's block rows, not its block columns."""
    return product.startswith("sdd") or product.endswith("ᵀ") == product.startswith("dds")


def work_of(product: str, index: BlockIndex, n: int, dtype: torch.dtype) -> Work:
    """Return what any way has to do: each stored block is multiplied, and meets its rows of the dense operand."""
    (rows, columns), (height, width), size = index.shape, index.block, dtype.itemsize
    stored = index.blocks * height * width
    values, indices = stored * size, 12.0 * index.blocks
    if product.startswith("sdd"):
        near = index.blocks * (height + width) * n * size
        return Work(flops=2.0 * stored * n, read=(rows + columns) * n * size + indices, written=values, near=near)
    own, inner = (height, columns) if _by_rows(product) else (width, rows)
    result = rows + columns - inner
    near = stored // own * n * size
    return Work(flops=2.0 * stored * n, read=values + indices + inner * n * size, written=result * n * size, near=near)


class Problem(NamedTuple):
    """A product to be computed in many ways.

    Attributes:
        run: computes it by a choice.
        plain: computes it in float32 or float64, by torch.
        turn: takes the next copy of the operands.
    """

    run: Callable[[Choice], Tensor]
    plain: Callable[[], Tensor]
    turn: Callable[[], None]


def problem(product: str, index: BlockIndex, short: int, dtype: torch.dtype, n: int) -> Problem:
    """Return a product on operands of its own.

    Args:
        product: one of `cpu_choice.PRODUCTS`.
        index: of the stored blocks.
        short: columns of x that are multiplied.
        dtype: of the operands.
        n: columns that x has in memory.
    """
    transposed, shape = product.endswith("ᵀ"), index.shape
    wide = torch.float64 if dtype == torch.float64 else torch.float32

    def operands() -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(0)
        if product.startswith("sdd"):
            a = _random(generator, dtype, 1, shape[0], n)
            sides = (shape[1], n) if transposed else (n, shape[1])
            return a, _random(generator, dtype, 1, *sides).mT if transposed else _random(generator, dtype, 1, *sides)
        values, length = _random(generator, dtype, index.blocks, *index.block), shape[1 if _by_rows(product) else 0]
        if product.startswith("dsd"):
            return values, _random(generator, dtype, 1, length, n)[..., :short]
        return values, _random(generator, dtype, short, length)

    copies = [operands() for _ in range(_COPIES)]

    def run(choice: Choice) -> Tensor:
        left, right = copies[0]
        if product.startswith("sdd"):
            return cpu_launch.sdd(index, left, right, choice)
        return (cpu_launch.dsd if product.startswith("dsd") else cpu_launch.dds)(index, left, right, transposed, choice)

    def plain() -> Tensor:
        left, right = (part.to(wide) for part in copies[0])
        if product.startswith("sdd"):
            return _sampled(index, left[0], right[0])
        if product.startswith("dsd"):
            return _product(index, left, right[0], transposed)
        return _product(index, left, right.mT, not transposed).mT

    return Problem(run=run, plain=plain, turn=lambda: copies.append(copies.pop(0)))


def _random(generator: torch.Generator, dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.rand(shape, generator=generator).sub_(0.5).to(dtype)


def _cut(index: BlockIndex, by_rows: bool, share: float) -> BlockIndex:
    """Return about a share of an index: its first block rows, or its first block columns."""
    (height, width), (down, across) = index.block, index.grid
    if by_rows:
        kept = min(down, max(_OWNERS, round(down * share)))
        crow = index.crow[: kept + 1].clone()
        shape = (min(index.shape[0], kept * height), index.shape[1])
        return BlockIndex.from_rows(crow, index.col[: int(crow[-1])].clone(), shape, index.block)
    kept = min(across, max(_OWNERS, round(across * share)))
    inside = index.col < kept
    before = torch.cat([inside.new_zeros(1, dtype=torch.int32), inside.cumsum(0, dtype=torch.int32)])
    shape = (index.shape[0], min(index.shape[1], kept * width))
    return BlockIndex.from_rows(before[index.crow.long()], index.col[inside], shape, index.block)


def _product(index: BlockIndex, values: Tensor, x: Tensor, transposed: bool) -> Tensor:
    """Return S @ x or Sᵀ @ x by batched products of gathered rows, added up."""
    rows, columns = index.block_rows(), index.col.long()
    own, other = (columns, rows) if transposed else (rows, columns)
    values = values.mT if transposed else values
    lines, depth = index.shape[::-1] if transposed else index.shape
    down, across = index.grid[::-1] if transposed else index.grid
    (height, inner), n = values.shape[1:], x.shape[1]
    padded = x.new_zeros(across * inner, n)
    padded[:depth] = x
    parts, out = padded.view(across, inner, n), x.new_zeros(down, height, n)
    step = max(1, _CHUNK // max(1, inner * n))
    for at in range(0, own.numel(), step):
        part = slice(at, at + step)
        out.index_add_(0, own[part], torch.bmm(values[part], parts[other[part]]))
    return out.view(down * height, n)[:lines]


def _sampled(index: BlockIndex, a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b at the stored blocks by batched products of gathered rows and columns."""
    (height, width), (down, across), n = index.block, index.grid, a.shape[1]
    left, right = a.new_zeros(down * height, n), a.new_zeros(across * width, n)
    left[: a.shape[0]], right[: b.shape[1]] = a, b.mT
    rows, columns = index.block_rows(), index.col.long()
    step = max(1, _CHUNK // max(1, (height + width) * n))
    parts = [
        torch.bmm(
            left.view(down, height, n)[rows[at : at + step]],
            right.view(across, width, n)[columns[at : at + step]].mT,
        )
        for at in range(0, rows.numel(), step)
    ]
    return torch.cat(parts) if parts else a.new_zeros(0, height, width)
