"""Turn a product into addresses and strides for the loops of cpu_driver.py, and run it with a given choice."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from sparsebench.kernels.bitmap import cpu_driver as drivers
from sparsebench.kernels.bitmap import cpu_fused as fused
from sparsebench.kernels.bitmap.cpu_generated import address
from sparsebench.kernels.bitmap.cpu_plan import Bounds, Plan, known, plan
from sparsebench.kernels.bitmap.cpu_ways import BITS, Way, ways
from sparsebench.kernels.bitmap.layout import COLUMNS, ROWS, BitmapIndex
from sparsebench.kernels.common import pages, pool
from sparsebench.kernels.common.tailed import computed
from sparsebench.kernels.microkernels.emit import SIZES
from sparsebench.kernels.microkernels.host import cache_bytes

WIDEST = 4
"""Columns of x that are multiplied at a time in registers: with four rows, 16 sums."""
_COMPUTED: dict[torch.dtype, torch.dtype] = {getattr(torch, dtype): getattr(torch, computed(dtype)) for dtype in SIZES}
_COMPUTED_AS_IS = (torch.float32, torch.float64)
_TILE = 32 << 10
"""Bytes of a tile of x that stays in the first cache."""
_BLOCK = 64 << 10
"""Bytes of values that all passes go over before the next ones are read."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """How a product is computed.

    Attributes:
        way: how values come into their lanes.
        registers: the most columns of x that are multiplied in registers; more go by panels.
        fused: the most columns of x that are multiplied in panels of our own; more go by torch's product.
        panel: bytes of a panel that torch's product reads.
    """

    way: Way
    registers: int
    fused: int
    panel: int

    @property
    def name(self) -> str:
        """Return it in words, for the column `kernel`."""
        bits = 8 * SIZES[self.way.dtype] * self.way.places
        own = f", own panels up to {self.fused}" if self.fused else ""
        return f"{bits}-bit {self.way.kind}, N up to {self.registers} in registers{own}, then panels for torch.mm"


@cache
def choose(dtype: torch.dtype) -> Choice:
    """Return what is usually the fastest here, for values of a dtype."""
    way = ways(str(dtype).removeprefix("torch."))[0]
    if dtype in _COMPUTED_AS_IS:
        return Choice(way=way, registers=8, fused=192, panel=8 << 20)
    return Choice(way=way, registers=3, fused=0, panel=8 << 20)


def quick(index: BitmapIndex, values: Tensor, x: Tensor) -> Tensor | None:
    """Return self @ x if that is the one column of a product that has run before; None if more is to be looked at.

    After a few megabytes went through the cache, Python's own data and code have to be read anew: what takes 9 µs in a
    row takes 26 µs then. So this looks at no more than it must.
    """
    p = known(id(index))
    if p is None:
        return None
    found = p.quick.get((x.shape, x.dtype, torch.get_num_threads()))
    if found is None or not (
        values.dtype is x.dtype
        and values.shape == p.stored
        and values.is_contiguous()
        and x.layout is torch.strided
        and x.is_contiguous()
        and x.is_cpu
        and values.is_cpu
        and not (x.requires_grad or values.requires_grad)
    ):
        return None
    template, run, shape = found
    out = x.new_empty(shape)
    data = template[:]
    data[7], data[11], data[14] = values.data_ptr(), x.data_ptr(), out.data_ptr()
    run(data)
    return out


def _regime(x: Tensor, choice: Choice) -> tuple[bool, Way]:
    """Return whether x is multiplied in registers, and which way; one that is not finite meets stored ones only."""
    inside, way = x.shape[1] <= choice.registers, choice.way
    if not (inside and way.exact) and not _finite(x):
        return True, _exact(way)
    return inside, way


def forward(index: BitmapIndex, values: Tensor, x: Tensor, choice: Choice) -> Tensor:
    """Return self @ x, (m, k) @ (k, n) -> (m, n); something is stored, and n ≥ 1."""
    m, k = index.shape
    n = x.shape[1]
    inside, way = _regime(x, choice)
    if inside:
        return _forward(index, values, x, way)
    p = plan(index)
    if x.dtype in _COMPUTED_AS_IS and n <= choice.fused:
        return _fused(index, values, x, choice)
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
    n = x.shape[1]
    inside, way = _regime(x, choice)
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
    out = pages.empty(index.nnz, dtype)
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
    return math.isfinite(x.sum(dtype=_COMPUTED[x.dtype]).item())


def _forward(index: BitmapIndex, values: Tensor, x: Tensor, way: Way) -> Tensor:
    m, n = index.shape[0], x.shape[1]
    p = plan(index)
    job = _job(p, "forward", way, n, values.element_size())
    other = _turned(x, p.padded, job.width, way)
    out = other.new_empty(ROWS * p.groups, job.width)
    for at, bounds in _spans(p, values, way, job.threads):
        data = array("q", (
            0, 0, bounds.address, job.whole, job.final, job.passes, job.step, at, p.bits, p.starts, p.chunks,
            other.data_ptr(), *job.packed, out.data_ptr(), *job.by_rows, 0,
        ))  # fmt: skip
        run = pool.runner(drivers.address("passes"), bounds.threads)
        if other is x and out.shape == (m, n) == (m, 1) and way.reach == 0 and way is choose(x.dtype).way:
            p.quick[x.shape, x.dtype, torch.get_num_threads()] = data[:], run, (m, n)
        run(data)
    return _cropped(out, m, n, x.dtype)


def _fused(index: BitmapIndex, values: Tensor, x: Tensor, choice: Choice) -> Tensor:
    m, n = index.shape[0], x.shape[1]
    p, way, size = plan(index), choice.way, x.element_size()
    form = fused.shape(way.dtype, n)
    tile = form.vectors * form.lanes
    tiles = -(-n // tile)
    # the last tile is one vector wide if that is enough
    last = 1 if n - (tiles - 1) * tile <= form.lanes else form.vectors
    width = (tiles - 1) * tile + last * form.lanes
    part = form.groups * ROWS * COLUMNS * size
    several, depth = form.groups, p.chunks
    if tiles > 2 or p.padded * width * size > cache_bytes(2) // 2:
        # a tile of x stays in the first cache while it meets panels that fill a quarter of the second one
        depth = min(p.chunks, max(1, _TILE // (COLUMNS * tile * size)))
        several *= max(1, cache_bytes(2) // 4 // (part * depth))
    packed = _rows(x, p.padded, tiles * tile)
    if tiles > 1:
        packed = packed.view(p.padded, tiles, tile).transpose(0, 1).contiguous()
    density = index.nnz / (ROWS * p.groups * p.padded)
    step = int(form.groups * ROWS * fused.UNROLLED * size * density)
    out = torch.empty((ROWS * p.groups, width), dtype=x.dtype)
    threads = p.threads(n)
    share = part * depth * (several // form.groups)
    panels = torch.empty(threads * share, dtype=torch.uint8)
    tables = [fused.table(form, vectors, adds) for adds in (False, True) for vectors in (form.vectors, last)]
    starts = index.starts.clone()
    expand = address("expand", way, streams=_streams(p, size))
    for at, bounds in _spans(p, values, way, threads):
        data = array("q", (
            0, 0, bounds.address, expand, *(table.ctypes.data for table in tables), tiles, form.groups, several,
            depth, size, step, at, p.bits, starts.data_ptr(), p.chunks,
            panels.data_ptr(), share, COLUMNS * size, part, part * depth // form.groups,
            packed.data_ptr(), tile * size, p.padded * tile * size, out.data_ptr(), width * size, tile * size,
        ))  # fmt: skip
        pool.run(fused.address(), data, bounds.threads)
    return _cropped(out, m, n, x.dtype)


def _transposed(index: BitmapIndex, values: Tensor, x: Tensor, way: Way) -> Tensor:
    k, n = index.shape[1], x.shape[1]
    p = plan(index)
    job = _job(p, "transposed", way, n, values.element_size())
    other = _rows(x, ROWS * p.groups, job.width)
    lies = (p.padded, job.width) if way.kind == BITS else (job.width, p.padded)
    out = torch.zeros((job.threads, *lies), dtype=other.dtype)
    for at, bounds in _spans(p, values, way, job.threads):
        data = array("q", (
            0, 0, bounds.address, job.whole, job.final, job.passes, job.step, at, p.bits, p.starts, p.chunks,
            other.data_ptr(), *job.by_rows, out.data_ptr(), *job.packed, out.stride(0) * out.element_size(),
        ))  # fmt: skip
        pool.run(drivers.address("passes"), data, bounds.threads)
    total = out[0] if job.threads == 1 else out.sum(0)
    if way.kind == BITS:
        return _cropped(total, k, n, x.dtype)
    if way.splits:
        total = total.view(job.width, -1, 2, way.lanes).transpose(-1, -2).reshape(job.width, -1)
    return _cropped(total.t(), k, n, x.dtype)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What is the same in all products of so many columns with an index.

    Attributes:
        whole: address of the function for WIDEST columns.
        final: of the one for the last columns.
        passes: how often the groups are walked through.
        width: columns of all passes.
        step: groups that all passes take before the next ones are read.
        threads: how many run.
        packed: bytes from one column to the next, and from one pass to the next, of what is packed for a way.
        by_rows: bytes from one row to the next, and from one pass to the next, of what lies row by row.
    """

    whole: int
    final: int
    passes: int
    width: int
    step: int
    threads: int
    packed: tuple[int, int]
    by_rows: tuple[int, int]


def _job(p: Plan, kind: str, way: Way, n: int, size: int) -> _Job:
    """Return what a product in registers is made of; it is worked out once."""
    threads = p.threads(n)
    key = (kind, way, n, threads)
    found: _Job | None = p.jobs.get(key)
    if found is None:
        passes = -(-n // WIDEST)
        left = n - (passes - 1) * WIDEST
        last = left if left < 3 else WIDEST
        width = (passes - 1) * WIDEST + last
        streams = _streams(p, size)
        bytes_ = 8 if way.dtype == "float64" else 4
        by_rows = (width * bytes_, WIDEST * bytes_)
        found = p.jobs[key] = _Job(
            whole=address(kind, way, WIDEST, streams) if passes > 1 else 0,
            final=address(kind, way, last, streams),
            passes=passes,
            width=width,
            step=max(1, _BLOCK * p.groups // (p.begin(p.groups) * size + 1)),
            threads=threads,
            packed=by_rows if way.kind == BITS else (p.padded * bytes_, WIDEST * p.padded * bytes_),
            by_rows=by_rows,
        )
    return found


def _streams(p: Plan, size: int) -> bool:
    """Tell whether bits and values of so many bytes are more than the second caches of all threads hold."""
    return p.begin(p.groups) * size + p.groups * p.chunks * 8 * ROWS > pool.threads() * cache_bytes(2) * 1.1


def _spans(p: Plan, values: Tensor, way: Way, threads: int) -> Iterator[tuple[int, Bounds]]:
    """Give (address that values count from, groups of each thread): all, and the last ones from a copy with room."""
    whole = p.whole(way.reach)
    if whole:
        yield values.data_ptr(), p.bounds(threads, 0, whole)
    if whole < p.groups:
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
    function, row = (
        address(kind, way, streams=_streams(p, values.element_size())),
        panel.stride(0) * panel.element_size(),
    )
    first, last = groups
    whole = min(max(first, p.whole(way.reach)), last)
    threads = max(1, min(p.threads(1), last - first))

    def run(at: int, target: int, bounds: Bounds) -> None:
        stored = (at, p.bits, starts.data_ptr(), p.chunks)
        data = array(
            "q", (0, 0, bounds.address, function, *stored, target, row, COLUMNS * panel.element_size(), *chunks)
        )
        pool.run(drivers.address("panel"), data, bounds.threads)

    if whole > first:
        run(values.data_ptr(), panel.data_ptr(), p.bounds(threads, first, whole))
    if whole < last:
        tail = p.tail(values, way.reach)
        at = tail.data_ptr() - p.begin(p.whole(way.reach)) * values.element_size()
        run(at, panel.data_ptr() + (whole - first) * ROWS * row, p.bounds(1, whole, last))


def _rows(x: Tensor, rows: int, width: int) -> Tensor:
    """Return x (r, n) as (rows, width) in the dtype that is computed in, zeros around it, contiguous."""
    dtype = _COMPUTED[x.dtype]
    if x.shape == (rows, width):
        return x if x.dtype == dtype and x.is_contiguous() else x.to(dtype).contiguous()
    wide = torch.zeros((rows, width), dtype=dtype)
    wide[: x.shape[0], : x.shape[1]] = x
    return wide


def _turned(x: Tensor, rows: int, width: int, way: Way) -> Tensor:
    """Return x as `_rows` does, or column by column, each in the order in which a way gives the places."""
    if way.kind == BITS:
        return _rows(x, rows, width)
    if width == 1 and x.shape == (rows, 1) and x.dtype in _COMPUTED_AS_IS and x.is_contiguous():
        return x
    columns = _rows(x.t(), width, rows)
    if not way.splits:
        return columns
    return columns.view(width, -1, way.lanes, 2).transpose(-1, -2).contiguous()


def _cropped(out: Tensor, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    if out.shape == (rows, columns) and out.dtype == dtype and out.is_contiguous():
        return out
    return out[:rows, :columns].to(dtype).contiguous()
