"""Generate the inner loops of the CPU products with LLVM: over a range of rows, in one tile of columns.

Rows of a dense operand x are met in no order, and mostly lie in the third-level cache or behind it: what bounds these
loops is how many lines are on their way at a time. So the lines of an entry some way ahead are asked for, into the
second-level cache, while this one is computed; the processor's own prefetcher cannot know them. A prefetch never
faults, so that a pad's place, one row behind the last, may be asked for too; it is never read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from sparsebench.kernels.common import row_loop
from sparsebench.kernels.common.row_loop import Body, RowLoop, halved, in_groups, tile, write
from sparsebench.kernels.common.tailed import Tailed

_WALK = ("others", "begin", "end", "x", "x_row", "out")
_RANGE = ("ahead", "total", "first", "last", "tail")
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "gather": ("values", *_WALK, "out_row", *_RANGE),
    "dots": ("a", "a_row", *_WALK, *_RANGE),
}
"""What each kind of function takes, all int64: addresses, strides in bytes, how many entries ahead lines are asked for,
the entries in all, the rows first .. last, and how many lanes of the last vector lie inside (if `tailed`)."""
LINE = 64
"""Bytes of a line of the cache."""


@dataclass(frozen=True, kw_only=True)
class Loop(RowLoop):
    """What one generated function is for.

    Attributes:
        kind: of ARGUMENTS. Row i has the entries begin[i] .. end[i] (both int64). "gather": out[i] = Σ values[e] ·
            x[others[e]]. "dots": out[e] = a[i] · x[others[e]], or += if `adds`, out in the type that is computed in.
        dtype: of values, x, a, and what "gather" writes.
        lines: of a row of the tile that are asked for ahead; 0 for none.
        wide: whether others is int64.
        adds: see "dots".
    """

    family = "codes"
    lines: int

    @property
    def name(self) -> str:
        """Return a name that no other function has."""
        return f"{super().name}_{self.lines}"


@cache
def address(loop: Loop) -> int:
    """Compile a function and return its address, which holds as long as the process lives."""
    return row_loop.compiled(loop, function(loop))


def function(loop: Loop) -> str:
    """Return the IR of a function and of what it needs declared."""
    prefetch = "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"
    return row_loop.text(loop, _BODIES[loop.kind], ARGUMENTS[loop.kind], prefetch)


def _gather(e: Tailed, loop: Loop, row: str) -> None:
    # so many entries at a time, each with sums of its own: one sum would wait for the adder's latency at every step
    unroll = max(1, 8 // loop.vectors)
    begin, end = e.index64("%begin", row), e.index64("%end", row)
    kind = e.vector(e.scalar)

    def step(place: str, sums: list[str]) -> list[str]:
        _ask_ahead(e, loop, place)
        value = e.splat(e.read(e.add("%values", e.mul(place, str(e.size))), 1))
        return [
            e.fma(value, part, total) for part, total in zip(tile(e, loop, _other(e, loop, place)), sums, strict=True)
        ]

    count = e.let(f"sub i64 {end}, {begin}")
    whole = e.add(begin, e.let(f"and i64 {count}, {-unroll}"))
    with e.loop("many", begin, whole, str(unroll), [(kind, e.zero())] * (unroll * loop.vectors)) as many:
        for u in range(unroll):
            own = many.inside[u * loop.vectors : (u + 1) * loop.vectors]
            many.after += step(e.add(many.counter, str(u)), own)
    sums = halved(e, loop, many.results)
    if unroll > 1:
        with e.loop("left", whole, end, "1", [(kind, value) for value in sums]) as left:
            left.after = step(left.counter, left.inside)
        sums = left.results
    write(e, loop, sums, e.add("%out", e.mul(row, "%out_row")))


def _dots(e: Tailed, loop: Loop, row: str) -> None:
    begin, end = e.index64("%begin", row), e.index64("%end", row)
    mine = tile(e, loop, e.add("%a", e.mul(row, "%a_row")))
    in_groups(e, loop, begin, end, lambda places, stored: _group(e, loop, mine, places, stored))


def _group(e: Tailed, loop: Loop, mine: list[str], places: list[str], stored: str | None) -> None:
    """Take the dot products at some places and store them side by side, the first `stored` of them if that is given."""
    totals = []
    for place in places:
        _ask_ahead(e, loop, place)
        total = e.zero()
        for left, right in zip(mine, tile(e, loop, _other(e, loop, place)), strict=True):
            total = e.fma(left, right, total)
        totals.append(total)
    at = e.add("%out", e.mul(places[0], str(e.computed_size)))
    e.write_group(e.totals(totals), at, len(places), stored, adds=loop.adds)


def _ask_ahead(e: Tailed, loop: Loop, place: str) -> None:
    """Ask for the lines of the entry that comes `ahead` after this one; past the last entry, for this one's."""
    if not loop.lines:
        return
    later = e.add(place, "%ahead")
    inside = e.let(f"icmp slt i64 {later}, %total")
    at = _other(e, loop, e.let(f"select i1 {inside}, i64 {later}, i64 {place}"))
    for line in range(loop.lines):
        pointer = e.let(f"inttoptr i64 {e.add(at, str(line * LINE))} to ptr")
        # read (0), into the second level (2), of data (1): the first level is too small to hold what is ahead
        e.do(f"call void @llvm.prefetch.p0(ptr {pointer}, i32 0, i32 2, i32 1)")


def _other(e: Tailed, loop: Loop, place: str) -> str:
    """Return where the row of x begins that an entry picks."""
    number = e.index64("%others", place) if loop.wide else e.index("%others", place)
    return e.add("%x", e.mul(number, "%x_row"))


_BODIES: dict[str, Body[Loop]] = {"gather": _gather, "dots": _dots}
