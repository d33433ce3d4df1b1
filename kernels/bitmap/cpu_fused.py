"""Generate the product of many columns: a few rows are expanded into the cache and multiplied there at once.

A thread expands `Shape.groups` groups of four rows, some chunks wide, into a panel of its own, laid out chunk by chunk
so that no two rows compete for a set of the cache, and multiplies it by tiles of x that were packed side by side: a
matrix product whose left operand is unpacked instead of packed (the loops of BLIS, https://doi.org/10.1145/2764454). A
tile of the result stays in registers while the chunks are walked through.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from sparsebench.kernels.bitmap.layout import COLUMNS, ROWS
from sparsebench.kernels.common import pool
from sparsebench.kernels.common.tailed import Tailed
from sparsebench.kernels.microkernels import host
from sparsebench.kernels.microkernels.emit import SIZES, Emitter

FIELDS: tuple[str, ...] = (
    "bounds", "expand", "first_whole", "first_final", "next_whole", "next_final",
    "tiles", "groups", "several", "depth", "size", "fetch_step",
    "values", "bits", "starts", "chunks", "panel", "panel_part", "panel_row", "panel_chunk", "panel_group",
    "x", "x_row", "x_tile", "out", "out_row", "out_tile",
)  # fmt: skip
"""What a thread's function reads of the data, behind pool.HEAD entries. `first_…` and `next_…` are tables of addresses
by the number of groups, for the first chunks and for later ones, which add; `…_final` of the last tile. So many
as `several` groups, `depth` chunks wide, are expanded and multiplied before the next ones, in panels of `groups`.
While they are multiplied the values behind them are fetched, `fetch_step` bytes for UNROLLED columns."""

UNROLLED = 4
"""Columns of the panel that are multiplied in one go."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How a result is cut into tiles.

    Attributes:
        dtype: "float32" or "float64".
        lanes: of a vector.
        vectors: side by side in a tile.
        groups: of four rows that a panel holds.
    """

    dtype: str
    lanes: int
    vectors: int
    groups: int


@cache
def shape(dtype: str, n: int) -> Shape:
    """Return the tiles for n columns: sums fill three quarters of the registers."""
    wide = host.vector_bytes()
    lanes = wide // SIZES[dtype]
    vectors = 1 if n <= lanes else 2
    sums = 24 if wide == 64 else 8 * vectors if vectors == 1 else 8
    return Shape(dtype=dtype, lanes=lanes, vectors=vectors, groups=sums // (ROWS * vectors))


@cache
def table(form: Shape, vectors: int, adds: bool) -> np.ndarray:
    """Return addresses, int64 (groups + 1): of functions that multiply a panel of 1, 2 … groups with a tile."""
    names = [f"{form.dtype}_{groups}_{vectors}_{int(adds)}" for groups in range(1, form.groups + 1)]
    texts = [_multiply(name, form, groups, vectors, adds) for groups, name in enumerate(names, 1)]
    declared = (Emitter(form.dtype, form.lanes).declarations(), "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    engine = host.compile_module("\n".join([*declared, *texts]))
    return np.array([0, *(engine.get_function_address(name) for name in names)], np.int64)


@cache
def address() -> int:
    """Return the address of what a thread does."""
    e = Emitter("float32", 1)
    e.label("entry")
    given = {name: e.load("i64", e.add("%data", str(8 * (pool.HEAD + at))), 8) for at, name in enumerate(FIELDS)}
    mine = e.add(given["bounds"], e.mul("%thread", "8"))
    first, last = e.load("i64", mine, 8), e.load("i64", e.add(mine, "8"), 8)
    panel = e.add(given["panel"], e.mul("%thread", given["panel_part"]))
    stored = [given[name] for name in ("values", "bits", "starts", "chunks")]

    def lesser(left: str, right: str) -> str:
        return e.let(f"select i1 {e.let(f'icmp slt i64 {left}, {right}')}, i64 {left}, i64 {right}")

    def place(block: str, from_: str) -> str:
        return e.add(panel, e.mul(e.let(f"sub i64 {block}, {from_}"), given["panel_group"]))

    with e.loop("deep", "0", given["chunks"], given["depth"], []) as deep:
        begin, end = deep.counter, lesser(e.add(deep.counter, given["depth"]), given["chunks"])
        depth = e.let(f"sub i64 {end}, {begin}")
        at_first = e.let(f"icmp eq i64 {begin}, 0")
        whole, final = (
            e.let(f"select i1 {at_first}, i64 {given['first_' + name]}, i64 {given['next_' + name]}")
            for name in ("whole", "final")
        )
        source = e.add(given["x"], e.mul(e.mul(begin, str(COLUMNS)), given["x_row"]))
        with e.loop("several", first, last, given["several"], []) as several:
            stop = lesser(e.add(several.counter, given["several"]), last)
            with e.loop("expand", several.counter, stop, given["groups"], []) as block:
                after = lesser(e.add(block.counter, given["groups"]), stop)
                where = [place(block.counter, several.counter), given["panel_row"], given["panel_chunk"], begin, end]
                _call(e, given["expand"], [*stored, *where, block.counter, after])
            fetch = e.add(
                given["values"], e.mul(e.load("i64", e.add(given["starts"], e.mul(stop, "8")), 8), given["size"])
            )
            with e.loop("tile", "0", given["tiles"], "1", []) as tile:
                at_last = e.let(f"icmp eq i64 {e.add(tile.counter, '1')}, {given['tiles']}")
                functions = e.let(f"select i1 {at_last}, i64 {final}, i64 {whole}")
                x = e.add(source, e.mul(tile.counter, given["x_tile"]))
                across = e.add(given["out"], e.mul(tile.counter, given["out_tile"]))
                with e.loop("block", several.counter, stop, given["groups"], []) as block:
                    after = lesser(e.add(block.counter, given["groups"]), stop)
                    count = e.let(f"sub i64 {after}, {block.counter}")
                    function = e.load("i64", e.add(functions, e.mul(count, "8")), 8)
                    out = e.add(across, e.mul(e.mul(block.counter, str(ROWS)), given["out_row"]))
                    left = [place(block.counter, several.counter), given["panel_chunk"], depth]
                    _call(e, function, [*left, x, given["x_row"], out, given["out_row"], fetch, given["fetch_step"]])
    e.do("ret void")
    body = "\n".join(e.lines)
    engine = host.compile_module(f"define void @fused(i64 %data, i64 %thread) nounwind {{\n{body}\n}}\n")
    found: int = engine.get_function_address("fused")
    return found


def _prefetch(e: Emitter, place: str, locality: int) -> None:
    """Fetch a line into the first cache (3) or the second (2)."""
    pointer = e.let(f"inttoptr i64 {place} to ptr")
    e.do(f"call void @llvm.prefetch.p0(ptr {pointer}, i32 0, i32 {locality}, i32 1)")


def _call(e: Emitter, function: str, arguments: list[str]) -> None:
    pointer = e.let(f"inttoptr i64 {function} to ptr")
    e.do(f"call void {pointer}({', '.join(f'i64 {argument}' for argument in arguments)})")


def _multiply(name: str, form: Shape, groups: int, vectors: int, adds: bool) -> str:
    """Return the IR of a function that multiplies a panel by a tile of x, and writes a tile of the result or adds."""
    e = Tailed(form.dtype, form.lanes)
    e.label("entry")
    rows, kind = ROWS * groups, e.vector(e.scalar)
    places = [
        e.add(e.add("%out", e.mul("%out_row", str(row))), str(v * form.lanes * e.size))
        for row in range(rows)
        for v in range(vectors)
    ]
    start = [(kind, e.read(place, form.lanes) if adds else e.zero()) for place in places]
    lines = ROWS * groups * UNROLLED * e.size // 64  # of the panel, and at most of the values, for so many columns
    begin = [("i64", "%panel"), ("i64", "%x"), ("i64", "%fetch"), *start]
    with e.loop("walk", "0", "%chunks", "1", begin) as walk:
        panel, x, fetch, *sums = walk.inside
        following = e.add(panel, "%panel_chunk")
        begin = [("i64", x), ("i64", following), ("i64", fetch), *((kind, value) for value in sums)]
        with e.loop("column", "0", str(COLUMNS), str(UNROLLED), begin) as column:
            x, ahead, fetch, *sums = column.inside
            for line in range(lines):
                _prefetch(e, e.add(ahead, str(64 * line)), 3)
                _prefetch(e, e.add(fetch, str(64 * line)), 2)
            left = e.add(panel, e.mul(column.counter, str(e.size)))
            for u in range(UNROLLED):
                right = [e.read(e.add(x, str(v * form.lanes * e.size)), form.lanes) for v in range(vectors)]
                for row in range(rows):
                    value = e.splat(e.read(e.add(left, str((row * COLUMNS + u) * e.size)), 1))
                    for v in range(vectors):
                        n = row * vectors + v
                        sums[n] = e.fma(value, right[v], sums[n])
                x = e.add(x, "%x_row")
            column.after = [x, e.add(ahead, str(64 * lines)), e.add(fetch, "%fetch_step"), *sums]
        x, _, fetch, *sums = column.results
        walk.after = [following, x, fetch, *sums]
    for place, value in zip(places, walk.results[3:], strict=True):
        e.write(value, place, form.lanes)
    e.do("ret void")
    body = "\n".join(e.lines)
    names = ("panel", "panel_chunk", "chunks", "x", "x_row", "out", "out_row", "fetch", "fetch_step")
    return f"define void @{name}({', '.join(f'i64 %{given}' for given in names)}) nounwind {{\n{body}\n}}\n"
