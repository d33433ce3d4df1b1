"""Generate the inner loops of the CPU products with LLVM: over a range of rows, in one tile of columns.

Rows of a dense operand x are met in no order, and mostly lie in the third-level cache or behind it: what bounds these
loops is how many lines are on their way at a time. So the lines of an entry some way ahead are asked for, into the
second-level cache, while this one is computed; the processor's own prefetcher cannot know them. A prefetch never
faults, so that a pad's place, one row behind the last, may be asked for too; it is never read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from sparsebench.kernels.csr.emit import Tailed
from sparsebench.kernels.microkernels import host

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
class Loop:
    """What one generated function is for.

    Attributes:
        kind: of ARGUMENTS. Row i has the entries begin[i] .. end[i] (both int64). "gather": out[i] = Σ values[e] ·
            x[others[e]]. "dots": out[e] = a[i] · x[others[e]], or += if `adds`, out in the type that is computed in.
        dtype: of values, x, a, and what "gather" writes.
        lanes: elements of a vector.
        vectors: of a tile.
        lines: of a row of the tile that are asked for ahead; 0 for none.
        tailed: whether the last vector has lanes that lie outside.
        wide: whether others is int64.
        adds: see "dots".
    """

    kind: str
    dtype: str
    lanes: int
    vectors: int
    lines: int
    tailed: bool = False
    wide: bool = False
    adds: bool = False

    @property
    def name(self) -> str:
        """Return a name that no other function has."""
        flags = "".join(str(int(flag)) for flag in (self.tailed, self.wide, self.adds))
        return f"codes_{self.kind}_{self.dtype}_{self.vectors}x{self.lanes}_{self.lines}_{flags}"


@cache
def address(loop: Loop) -> int:
    """Compile a function and return its address, which holds as long as the process lives."""
    engine = host.compile_module(function(loop))
    found: int = engine.get_function_address(loop.name)
    return found


def function(loop: Loop) -> str:
    """Return the IR of a function and of what it needs declared."""
    e = Tailed(loop.dtype, loop.lanes)
    e.label("entry")
    if loop.tailed:
        e.limit("%tail")
    with e.loop("rows", "%first", "%last", "1", []) as rows:
        _BODIES[loop.kind](e, loop, rows.counter)
    e.do("ret void")
    arguments = ", ".join(f"i64 %{name}" for name in ARGUMENTS[loop.kind])
    lines = "\n".join(e.lines)
    prefetch = "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"
    return f'{e.declarations()}\n{prefetch}\ndefine void @"{loop.name}"({arguments}) nounwind {{\n{lines}\n}}\n'


def _gather(e: Tailed, loop: Loop, row: str) -> None:
    # so many entries at a time, each with sums of its own: one sum would wait for the adder's latency at every step
    unroll = max(1, 8 // loop.vectors)
    begin, end = e.index64("%begin", row), e.index64("%end", row)
    kind = e.vector(e.scalar)

    def step(place: str, sums: list[str]) -> list[str]:
        _ask_ahead(e, loop, place)
        value = e.splat(e.read(e.add("%values", e.mul(place, str(e.size))), 1))
        return [
            e.fma(value, part, total) for part, total in zip(_tile(e, loop, _other(e, loop, place)), sums, strict=True)
        ]

    count = e.let(f"sub i64 {end}, {begin}")
    whole = e.add(begin, e.let(f"and i64 {count}, {-unroll}"))
    with e.loop("many", begin, whole, str(unroll), [(kind, e.zero())] * (unroll * loop.vectors)) as many:
        for u in range(unroll):
            own = many.inside[u * loop.vectors : (u + 1) * loop.vectors]
            many.after += step(e.add(many.counter, str(u)), own)
    sums = many.results
    while len(sums) > loop.vectors:
        half = len(sums) // 2
        sums = [e.let(f"fadd {kind} {one}, {two}") for one, two in zip(sums[:half], sums[half:], strict=True)]
    if unroll > 1:
        with e.loop("left", whole, end, "1", [(kind, value) for value in sums]) as left:
            left.after = step(left.counter, left.inside)
        sums = left.results
    to = e.add("%out", e.mul(row, "%out_row"))
    for v, (value, offset) in enumerate(zip(sums, _offsets(e, loop), strict=True)):
        if loop.tailed and v == loop.vectors - 1:
            e.write_inside(value, e.add(to, offset))
        else:
            e.write(value, e.add(to, offset), loop.lanes)


def _dots(e: Tailed, loop: Loop, row: str) -> None:
    begin, end = e.index64("%begin", row), e.index64("%end", row)
    mine = _tile(e, loop, e.add("%a", e.mul(row, "%a_row")))
    done = begin
    # whole groups of as many entries as there are lanes, then of four; the last one computes its last entry again for
    # the lanes that are left over, and does not store them
    for group in sorted({loop.lanes, min(loop.lanes, 4)}, reverse=True):
        count = e.let(f"sub i64 {end}, {done}")
        whole = e.add(done, e.let(f"and i64 {count}, {-group}"))
        with e.loop(f"groups{group}", done, whole, str(group), []) as groups:
            _group(e, loop, mine, [e.add(groups.counter, str(g)) for g in range(group)], None)
        done = whole
    if group == 1:
        return
    with e.loop("left", done, end, str(group), []) as left:
        places, _ = e.clamped(left.counter, group, end)
        _group(e, loop, mine, places, e.let(f"sub i64 {end}, {left.counter}"))


def _group(e: Tailed, loop: Loop, mine: list[str], places: list[str], stored: str | None) -> None:
    """Take the dot products at some places and store them side by side, the first `stored` of them if that is given."""
    totals = []
    for place in places:
        _ask_ahead(e, loop, place)
        total = e.zero()
        for left, right in zip(mine, _tile(e, loop, _other(e, loop, place)), strict=True):
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


def _offsets(e: Tailed, loop: Loop) -> list[str]:
    return [str(v * loop.lanes * e.size) for v in range(loop.vectors)]


def _tile(e: Tailed, loop: Loop, at: str) -> list[str]:
    """Read the vectors of a row; only the last one may have lanes outside, and these are 0."""
    last = loop.vectors - 1
    return [
        e.read_inside(e.add(at, offset)) if loop.tailed and v == last else e.read(e.add(at, offset), loop.lanes)
        for v, offset in enumerate(_offsets(e, loop))
    ]


_BODIES: dict[str, Callable[[Tailed, Loop, str], None]] = {"gather": _gather, "dots": _dots}
