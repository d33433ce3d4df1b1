"""Turn a product into addresses and strides for the loops of cpu_driver.py, and run it with a given choice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from sparsebench.kernels.bitmap import cpu_driver as drivers
from sparsebench.kernels.bitmap.cpu_generated import address
from sparsebench.kernels.bitmap.cpu_plan import Plan, plan
from sparsebench.kernels.bitmap.cpu_ways import BITS, Way, ways
from sparsebench.kernels.bitmap.layout import COLUMNS, ROWS, BitmapIndex
from sparsebench.kernels.common.tailed import computed
from sparsebench.kernels.microkernels.emit import SIZES

WIDEST = 4
"""Columns of x that are multiplied at a time in registers: with four rows, 16 sums."""
_BLOCK = 64 << 10
"""Bytes of values that all passes go over before the next ones are read."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How a product is computed.

    Attributes:
        way: how values come into their lanes.
        registers: the most columns of x that are multiplied in registers; more go by panels.
        panel: bytes of a panel that is expanded.
    """

    way: Way
    registers: int
    panel: int

    @property
    def name(self) -> str:
        """Return it in words, for the column `kernel`."""
        bits = 8 * SIZES[self.way.dtype] * self.way.places
        return f"{bits}-bit {self.way.kind} up to N = {self.registers}, from there panels for torch.mm"


@cache
def choose(dtype: str) -> Choice:
    """Return what is usually the fastest here.

    Args:
        dtype: name of the values' dtype.
    """
    return Choice(way=ways(dtype)[0], registers=16 if dtype in ("float32", "float64") else 2, panel=4 << 20)


def forward(index: BitmapIndex, values: Tensor, x: Tensor, choice: Choice) -> Tensor:
    """Return self @ x, (m, k) @ (k, n) -> (m, n); something is stored, and n ≥ 1."""
    m, k = index.shape
    n, way = x.shape[1], choice.way
    inside = n <= choice.registers
    if not (inside and way.exact) and not _finite(x):
        inside, way = True, _exact(way)
    if inside:
        return _forward(index, values, x, way)
    p = plan(index)
    out = torch.empty((m, n), dtype=x.dtype)
    each = max(1, choice.panel // (ROWS * p.padded * x.element_size()))
    panel = torch.empty((ROWS * min(each, p.groups), p.padded), dtype=x.dtype)
    starts = index.starts.clone()
    for first in range(0, p.groups, each):
        last = min(first + each, p.groups)
        _panel("expand", p, values, starts, panel, way, (0, p.chunks), (first, last))
        rows = min(m, ROWS * last) - ROWS * first
        torch.mm(panel[:rows, :k], x, out=out[ROWS * first : ROWS * first + rows])
    return out


def transposed(index: BitmapIndex, values: Tensor, x: Tensor, choice: Choice) -> Tensor:
    """Return selfᵀ @ x, (k, m) @ (m, n) -> (k, n); something is stored, and n ≥ 1."""
    m, k = index.shape
    n, way = x.shape[1], choice.way
    inside = n <= choice.registers
    if not (inside and way.exact) and not _finite(x):
        inside, way = True, _exact(way)
    if inside:
        return _transposed(index, values, x, way)
    p = plan(index)
    out = torch.empty((k, n), dtype=x.dtype)
    each = max(1, choice.panel // (ROWS * p.groups * COLUMNS * x.element_size()))
    panel = torch.empty((ROWS * p.groups, COLUMNS * min(each, p.chunks)), dtype=x.dtype)
    starts = index.starts.clone()
    for first in range(0, p.chunks, each):
        last = min(first + each, p.chunks)
        _panel("expand", p, values, starts, panel, way, (first, last), (0, p.groups))
        columns = min(k, COLUMNS * last) - COLUMNS * first
        torch.mm(panel[:m, :columns].t(), x, out=out[COLUMNS * first : COLUMNS * first + columns])
    return out


def sampled(index: BitmapIndex, a: Tensor, b: Tensor, choice: Choice) -> Tensor:
    """Return (a @ b) at the stored places, (m, n) @ (n, k) -> (nnz); something is stored, and n ≥ 1."""
    return _compressed(index, a.dtype, choice, lambda rows, panel: torch.mm(a[rows], b, out=panel))


def gathered(index: BitmapIndex, matrix: Tensor, choice: Choice) -> Tensor:
    """Return what a matrix has at the stored places; something is stored."""
    return _compressed(index, matrix.dtype, choice, lambda rows, panel: panel.copy_(matrix[rows]))


def _compressed(
    index: BitmapIndex, dtype: torch.dtype, choice: Choice, fill: Callable[[slice, Tensor], object]
) -> Tensor:
    """Return the values that stand in dense rows, which `fill` writes panel by panel."""
    m, k = index.shape
    p = plan(index)
    out = torch.empty(index.nnz, dtype=dtype)
    each = max(1, choice.panel // (ROWS * p.padded * dtype.itemsize))
    panel = torch.empty((ROWS * min(each, p.groups), p.padded), dtype=dtype)
    starts = index.starts.clone()
    way = _compressing(choice.way)
    for first in range(0, p.groups, each):
        last = min(first + each, p.groups)
        rows = min(m, ROWS * last) - ROWS * first
        fill(slice(ROWS * first, ROWS * first + rows), panel[:rows, :k])
        _panel("compress", p, out, starts, panel, way, (0, p.chunks), (first, last))
    return out


def expanded(index: BitmapIndex, values: Tensor, choice: Choice) -> Tensor:
    """Return the matrix (m, k) as a new contiguous tensor."""
    m, k = index.shape
    p = plan(index)
    panel = torch.empty((ROWS * p.groups, p.padded), dtype=values.dtype)
    if panel.numel():
        _panel("expand", p, values, index.starts.clone(), panel, choice.way, (0, p.chunks), (0, p.groups))
    return panel[:m, :k].contiguous()


def _exact(way: Way) -> Way:
    """Return the way nearest to `way` that multiplies stored elements only."""
    return way if way.exact else next(other for other in ways(way.dtype) if other.exact)


def _compressing(way: Way) -> Way:
    """Return a way that compresses: with an instruction if `way` has one, else bit by bit."""
    return way if way.compresses else ways(way.dtype)[-1]


def _finite(x: Tensor) -> bool:
    """Tell whether all of x is finite; a sum that overflows is taken for an infinity, and costs time only."""
    total = x.sum(dtype=torch.float64 if x.dtype == torch.float64 else torch.float32)
    return bool(torch.isfinite(total))


def _passes(n: int) -> tuple[int, int]:
    """Return how many passes n columns take, and how many columns the last one has: 1, 2 or WIDEST."""
    passes = -(-n // WIDEST)
    left = n - (passes - 1) * WIDEST
    return passes, left if left < 3 else WIDEST


def _forward(index: BitmapIndex, values: Tensor, x: Tensor, way: Way) -> Tensor:
    m, n = index.shape[0], x.shape[1]
    p = plan(index)
    passes, last = _passes(n)
    width = (passes - 1) * WIDEST + last
    other = _turned(x, p.padded, width, way)
    size = other.element_size()
    out = torch.empty((ROWS * p.groups, width), dtype=other.dtype)
    across = (width * size, WIDEST * size) if way.kind == BITS else (p.padded * size, WIDEST * p.padded * size)
    for at, bounds in _spans(p, values, way, p.threads(n)):
        drivers.forward(
            address("forward", way, WIDEST) if passes > 1 else 0, address("forward", way, last), passes,
            _step(index, values, p), at, p.bits, p.starts, p.chunks,
            other.data_ptr(), *across, out.data_ptr(), width * size, WIDEST * size, bounds,
        )  # fmt: skip
    return _cropped(out, m, n, x.dtype)


def _transposed(index: BitmapIndex, values: Tensor, x: Tensor, way: Way) -> Tensor:
    k, n = index.shape[1], x.shape[1]
    p = plan(index)
    passes, last = _passes(n)
    width = (passes - 1) * WIDEST + last
    other = _rows(x, ROWS * p.groups, width)
    size = other.element_size()
    threads = p.threads(n)
    by_rows = way.kind == BITS
    out = torch.zeros((threads, p.padded, width) if by_rows else (threads, width, p.padded), dtype=other.dtype)
    across = (width * size, WIDEST * size) if by_rows else (p.padded * size, WIDEST * p.padded * size)
    for at, bounds in _spans(p, values, way, threads):
        drivers.transposed(
            address("transposed", way, WIDEST) if passes > 1 else 0, address("transposed", way, last), passes,
            _step(index, values, p), at, p.bits, p.starts, p.chunks,
            other.data_ptr(), width * size, WIDEST * size, out.data_ptr(), *across, p.padded * width * size, bounds,
        )  # fmt: skip
    total = out[0] if threads == 1 else out.sum(0)
    if by_rows:
        return _cropped(total, k, n, x.dtype)
    if way.splits:
        total = total.view(width, -1, 2, way.lanes).transpose(-1, -2).reshape(width, -1)
    return _cropped(total.t(), k, n, x.dtype)


def _step(index: BitmapIndex, values: Tensor, p: Plan) -> int:
    """Return how many groups the passes take at a time."""
    return max(1, _BLOCK * p.groups // (index.nnz * values.element_size() + 1))


def _spans(p: Plan, values: Tensor, way: Way, threads: int) -> Iterator[tuple[int, object]]:
    """Give (address that values count from, groups of each thread): all, and the last ones from a copy with room."""
    whole = p.whole(way.reach)
    if whole == p.groups:
        yield values.data_ptr(), p.bounds(threads)
        return
    if whole:
        yield values.data_ptr(), p.bounds(threads, 0, whole)
    tail = p.tail(values, way.reach)
    yield tail.data_ptr() - p.begin(whole) * values.element_size(), p.bounds(1, whole, p.groups)


def _panel(
    kind: str,
    p: Plan,
    values: Tensor,
    starts: Tensor,
    panel: Tensor,
    way: Way,
    chunks: tuple[int, int],
    groups: tuple[int, int],
) -> None:
    """Expand into a panel, or compress from one; `starts` moves on."""
    function, row = address(kind, way), panel.stride(0) * panel.element_size()
    first, last = groups
    whole = min(max(first, p.whole(way.reach)), last)
    threads = max(1, min(p.threads(1), last - first))
    arguments = (p.bits, starts.data_ptr(), p.chunks)
    if whole > first:
        bounds = p.bounds(threads, first, whole)
        drivers.panel(function, values.data_ptr(), *arguments, panel.data_ptr(), row, *chunks, ROWS, bounds)
    if whole < last:
        tail = p.tail(values, way.reach)
        at = tail.data_ptr() - p.begin(p.whole(way.reach)) * values.element_size()
        to = panel.data_ptr() + (whole - first) * ROWS * row
        drivers.panel(function, at, *arguments, to, row, *chunks, ROWS, p.bounds(1, whole, last))


def _rows(x: Tensor, rows: int, width: int) -> Tensor:
    """Return x (r, n) as (rows, width) in the dtype that is computed in, zeros around it, contiguous."""
    dtype: torch.dtype = getattr(torch, computed(str(x.dtype).removeprefix("torch.")))
    if x.shape == (rows, width):
        return x.to(dtype).contiguous()
    wide = torch.zeros((rows, width), dtype=dtype)
    wide[: x.shape[0], : x.shape[1]] = x
    return wide


def _turned(x: Tensor, rows: int, width: int, way: Way) -> Tensor:
    """Return x as `_rows` does, or column by column, each in the order in which a way gives the places."""
    if way.kind == BITS:
        return _rows(x, rows, width)
    columns = _rows(x.t(), width, rows)
    if not way.splits:
        return columns
    return columns.view(width, -1, way.lanes, 2).transpose(-1, -2).contiguous()


def _cropped(out: Tensor, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    return out[:rows, :columns].to(dtype).contiguous()
