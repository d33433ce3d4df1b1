"""Generate the inner loops of the CPU products with LLVM: over a range of rows, in one tile of columns.

A tile is `vectors` registers wide. In the forward product a row of the result stays in these registers while the row's
elements are walked through, each of which broadcasts its value and multiplies one row of x (Gustavson's order,
https://doi.org/10.1145/355791.355796); in the transposed product it is a row of x that stays, and each element adds to
one row of the result; in the sampled product a row of a stays, and each element takes one dot product.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from sparsebench.kernels.common import row_loop
from sparsebench.kernels.common.row_loop import Body, RowLoop, halved, in_groups, offsets, tile, write
from sparsebench.kernels.common.tailed import Tailed

_ROWS = ("first", "last", "tail")
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "forward": ("values", "col", "crow", "x", "x_row", "out", "out_row", *_ROWS),
    "single": ("values", "col", "crow", "x", "x_row", "out", "out_row", *_ROWS),
    "transposed": ("values", "col", "crow", "x", "x_row", "out", "out_row", *_ROWS),
    "sampled": ("a", "a_row", "col", "crow", "x", "x_row", "out", *_ROWS),
    "pack": ("x", "x_row", "panel", "panel_row", *_ROWS),
    "gather": ("x", "x_row", "x_column", "panel", "panel_row", *_ROWS),
    "clear": ("panel", "panel_row", *_ROWS),
    "finish": ("panels", "panel_bytes", "parts", "panel_row", "out", "out_row", *_ROWS),
}
"""What each kind of function takes, all int64: addresses, strides in bytes, the rows first .. last, and how many lanes
of the last vector lie inside (read only by a `tailed` one)."""

SINGLE = ("float32", "float64")
"""Dtypes that the "single" kind has."""


@dataclass(frozen=True, kw_only=True)
class Loop(RowLoop):
    """What one generated function is for.

    Attributes:
        kind: of ARGUMENTS. "forward": out[i] = Σ values · x[col] in rows i. "single": the same where x is one column of
            elements side by side; lanes run along the elements of a row. "transposed": out[col] += values · x[i],
            out in the type that is computed in, whole vectors. "sampled": out[e] = a[i] · x[col], or += if `adds`,
            out in the type that is computed in. "pack": copy rows side by side. "gather": the same for columns that lie
            apart. "clear": fill a panel of sums with zeros. "finish": add up panels of sums in their order and round
            them to memory.
        dtype: of values, x, a, and what "forward", "pack" and "finish" write.
        wide: whether crow is int64.
        adds: see "sampled".
    """

    family = "csr"


@cache
def address(loop: Loop) -> int:
    """Compile a function and return its address, which holds as long as the process lives."""
    return row_loop.compiled(loop, function(loop))


def function(loop: Loop) -> str:
    """Return the IR of a function and of what it needs declared."""
    return row_loop.text(loop, _BODIES[loop.kind], ARGUMENTS[loop.kind])


def _element(e: Tailed, loop: Loop, row: str) -> tuple[str, str]:
    """Return where the elements of a row begin and end."""
    following = e.add(row, "1")
    begin, end = (e.index64("%crow", i) if loop.wide else e.index("%crow", i) for i in (row, following))
    return begin, end


def _forward(e: Tailed, loop: Loop, row: str) -> None:
    # so many elements at a time, each with sums of its own: one sum would wait for the adder's latency at every step
    unroll = max(1, 8 // loop.vectors)
    begin, end = _element(e, loop, row)
    kind = e.vector(e.scalar)

    def step(places: list[str], sums: list[str]) -> list[str]:
        result = list(sums)
        for u, place in enumerate(places):
            value = e.splat(e.read(e.add("%values", e.mul(place, str(e.size))), 1))
            other = tile(e, loop, e.add("%x", e.mul(e.index("%col", place), "%x_row")))
            for v, part in enumerate(other):
                result[u * loop.vectors + v] = e.fma(value, part, result[u * loop.vectors + v])
        return result

    count = e.let(f"sub i64 {end}, {begin}")
    whole = e.add(begin, e.let(f"and i64 {count}, {-unroll}"))
    with e.loop("many", begin, whole, str(unroll), [(kind, e.zero())] * (unroll * loop.vectors)) as many:
        many.after = step([e.add(many.counter, str(u)) for u in range(unroll)], many.inside)
    sums = many.results
    if unroll == 1:
        write(e, loop, sums, e.add("%out", e.mul(row, "%out_row")))
        return
    # the elements left over, all at once: a loop over them would end where the processor does not foresee it
    most = (unroll - 1) * loop.vectors
    with e.loop("left", whole, end, str(unroll), [(kind, value) for value in sums[:most]]) as left:
        places, inside = e.clamped(left.counter, unroll - 1, end)
        added = step(places, left.inside)
        left.after = [
            e.let(f"select i1 {inside[n // loop.vectors]}, {kind} {new}, {kind} {old}")
            for n, (new, old) in enumerate(zip(added, left.inside, strict=True))
        ]
    sums = [*left.results, *sums[most:]]
    write(e, loop, halved(e, loop, sums), e.add("%out", e.mul(row, "%out_row")))


def _single(e: Tailed, loop: Loop, row: str) -> None:
    begin, end = _element(e, loop, row)
    kind, sums = e.vector(e.scalar), 2
    count = e.let(f"sub i64 {end}, {begin}")
    whole = e.add(begin, e.let(f"and i64 {count}, {-sums * loop.lanes}"))
    with e.loop("many", begin, whole, str(sums * loop.lanes), [(kind, e.zero())] * sums) as many:
        for part, total in enumerate(many.inside):
            many.after.append(e.picked(e.add(many.counter, str(part * loop.lanes)), None, total))
    with e.loop("left", whole, end, str(loop.lanes), [(kind, many.results[0])]) as left:
        left.after = [e.picked(left.counter, e.let(f"sub i64 {end}, {left.counter}"), left.inside[0])]
    total = e.let(f"fadd {kind} {left.results[0]}, {many.results[1]}")
    e.write_computed_one(e.totals([total]), e.add("%out", e.mul(row, "%out_row")))


def _transposed(e: Tailed, loop: Loop, row: str) -> None:
    begin, end = _element(e, loop, row)
    mine = tile(e, loop, e.add("%x", e.mul(row, "%x_row")))
    with e.loop("elements", begin, end, "1", []) as elements:
        place = elements.counter
        value = e.splat(e.read(e.add("%values", e.mul(place, str(e.size))), 1))
        to = e.add("%out", e.mul(e.index("%col", place), "%out_row"))
        for part, offset in zip(mine, offsets(e, loop, computed=True), strict=True):
            at = e.add(to, offset)
            e.write_computed(e.fma(value, part, e.read_computed(at)), at)


def _sampled(e: Tailed, loop: Loop, row: str) -> None:
    begin, end = _element(e, loop, row)
    mine = tile(e, loop, e.add("%a", e.mul(row, "%a_row")))
    in_groups(e, loop, begin, end, lambda places, stored: _dots(e, loop, mine, places, stored))


def _dots(e: Tailed, loop: Loop, mine: list[str], places: list[str], stored: str | None) -> None:
    """Take the dot products at some places and store them side by side, the first `stored` of them if that is given."""
    totals = []
    for place in places:
        other = tile(e, loop, e.add("%x", e.mul(e.index("%col", place), "%x_row")))
        total = e.zero()
        for left, right in zip(mine, other, strict=True):
            total = e.fma(left, right, total)
        totals.append(total)
    sums = e.totals(totals)
    at = e.add("%out", e.mul(places[0], str(e.computed_size)))
    e.write_group(sums, at, len(places), stored, adds=loop.adds)


def _pack(e: Tailed, loop: Loop, row: str) -> None:
    values = tile(e, loop, e.add("%x", e.mul(row, "%x_row")))
    to = e.add("%panel", e.mul(row, "%panel_row"))
    for value, offset in zip(values, offsets(e, loop), strict=True):
        e.write(value, e.add(to, offset), loop.lanes)


def _gather(e: Tailed, loop: Loop, row: str) -> None:
    source, to = e.add("%x", e.mul(row, "%x_row")), e.add("%panel", e.mul(row, "%panel_row"))
    columns = e.add("%tail", str((loop.vectors - 1) * loop.lanes)) if loop.tailed else str(loop.vectors * loop.lanes)
    with e.loop("columns", "0", columns, "1", []) as column:
        at = e.add(to, e.mul(column.counter, str(e.size)))
        e.write(e.read(e.add(source, e.mul(column.counter, "%x_column")), 1), at, 1)


def _clear(e: Tailed, loop: Loop, row: str) -> None:
    to = e.add("%panel", e.mul(row, "%panel_row"))
    for offset in offsets(e, loop, computed=True):
        e.write_computed(e.zero(), e.add(to, offset))


def _finish(e: Tailed, loop: Loop, row: str) -> None:
    kind = e.vector(e.scalar)
    source = e.add("%panels", e.mul(row, "%panel_row"))
    starts = offsets(e, loop, computed=True)
    start = [(kind, e.read_computed(e.add(source, offset))) for offset in starts]
    with e.loop("others", "1", "%parts", "1", start) as others:
        panel = e.add(source, e.mul(others.counter, "%panel_bytes"))
        others.after = [
            e.let(f"fadd {kind} {value}, {e.read_computed(e.add(panel, offset))}")
            for value, offset in zip(others.inside, starts, strict=True)
        ]
    write(e, loop, others.results, e.add("%out", e.mul(row, "%out_row")))


_BODIES: dict[str, Body[Loop]] = {
    "forward": _forward,
    "single": _single,
    "transposed": _transposed,
    "sampled": _sampled,
    "pack": _pack,
    "gather": _gather,
    "clear": _clear,
    "finish": _finish,
}
