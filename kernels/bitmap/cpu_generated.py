"""Generate the inner loops of the CPU products with LLVM: over a range of groups of four rows.

A group's bits and values are walked through once, from front to back. In a chunk, row r of the group begins as many
values behind the chunk's first one as there are bits in the words of the rows before; inside of a row a vector begins
as many values further as there are bits in the places before. All addresses come from counts of bits, so that none
waits for another vector (expanding loads with counted offsets: SPC5, https://doi.org/10.7717/peerj-cs.151).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from sparsebench.kernels.bitmap.cpu_ways import BITS, Way
from sparsebench.kernels.bitmap.layout import COLUMNS, ROWS
from sparsebench.kernels.common import row_loop
from sparsebench.kernels.common.row_loop import Body, RowLoop
from sparsebench.kernels.common.tailed import Tailed

_GROUPS = ("first", "last")
_STORED = ("values", "bits", "starts", "chunks")
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "forward": (*_STORED, "x", "x_column", "out", "out_row", *_GROUPS),
    "transposed": (*_STORED, "x", "x_row", "out", "out_column", *_GROUPS),
    "expand": (*_STORED, "panel", "panel_row", "panel_chunk", "begin", "end", *_GROUPS),
    "compress": (*_STORED, "panel", "panel_row", "panel_chunk", "begin", "end", *_GROUPS),
}
"""What each kind of function takes, all int64: addresses, strides in bytes, the groups first .. last."""

NEAR, FAR = 4096, 32768
"""Bytes between what is read and what is fetched meanwhile, into the first and into the second cache. On two cores and
4096² at 10 %, from memory: one distance of 4096 took 3.0 ms, of 16384 2.3 ms, both 2.0 ms. Of 1024² at 10 %, which just
fits the second cache, the near one alone took 51 µs, both 61 µs."""


@dataclass(frozen=True, kw_only=True)
class Loop(RowLoop):
    """What one generated function is for.

    Attributes:
        kind: of ARGUMENTS. "forward": out[i] = Σ values · x[j], x and out in the type that is computed in; x column by
            column, each of whole chunks, in the order of `Way.splits`; with BITS row by row. "transposed":
            out[j] += values · x[i], likewise, x row by row. "expand": write the chunks begin .. end of the rows as a
            dense panel, and move `starts` on. "compress": read such a panel, write the values, and move `starts` on.
        vectors: columns of x and out, 1, 2 or 4.
        way: how values come into their lanes.
        streams: whether bits and values come from memory, rather than out of the second cache.
    """

    family = "bitmap"
    way: Way
    streams: bool = False

    @property
    def name(self) -> str:
        """Return a name that no other function has."""
        way = self.way
        return f"{super().name}_{way.kind.replace(' ', '-')}_{way.places}_{int(way.loads)}_{int(self.streams)}"


@cache
def address(kind: str, way: Way, columns: int = 1, streams: bool = False) -> int:
    """Compile a function and return its address, which holds as long as the process lives."""
    lanes = columns if way.kind == BITS else way.lanes
    loop = Loop(kind=kind, dtype=way.dtype, lanes=lanes, vectors=columns, way=way, streams=streams)
    return row_loop.compiled(loop, function(loop))


def function(loop: Loop) -> str:
    """Return the IR of a function and of what it needs declared."""
    bodies = _BIT_BODIES if loop.way.kind == BITS else _BODIES
    return row_loop.text(loop, bodies[loop.kind], ARGUMENTS[loop.kind], _DECLARED)


_DECLARED = """declare i64 @llvm.ctpop.i64(i64)
declare i64 @llvm.cttz.i64(i64, i1)
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"""


class _Chunk:
    """The words of one chunk, and where the values of its rows begin."""

    def __init__(self, e: Tailed, loop: Loop, bits: str, number: str, at: str) -> None:
        """Read the words of chunk `number` of the group at `bits`; its first value stands at address `at`."""
        self.e, self.loop = e, loop
        from_ = e.add(bits, e.mul(number, str(8 * ROWS)))
        _prefetch(e, e.add(from_, str(NEAR)), 3)
        self.words = [e.load("i64", e.add(from_, str(8 * row)), 8) for row in range(ROWS)]
        self.begins = [at]
        for word in self.words:
            self.begins.append(e.add(self.begins[-1], e.mul(_count(e, word), str(e.size))))

    def pieces(self) -> Iterator[tuple[int, int, str, str]]:
        """Give (first column, row, bits, address of the first value) of each vector, columns first."""
        e, way = self.e, self.loop.way
        for first in range(0, COLUMNS, way.places):
            for row, (word, begin) in enumerate(zip(self.words, self.begins, strict=False)):
                if first:
                    before = _count(e, e.let(f"and i64 {word}, {(1 << first) - 1}"))
                    at = e.add(begin, e.mul(before, str(e.size)))
                    word = e.let(f"lshr i64 {word}, {first}")
                else:
                    at = begin
                if first * e.size % 64 == 0:  # where everything is stored, a line further than the last time
                    _prefetch(e, e.add(at, str(NEAR)), 3)
                    if self.loop.streams:
                        _prefetch(e, e.add(at, str(FAR)), 2)
                yield first, row, e.let(f"trunc i64 {word} to i{way.places}"), at


def _count(e: Tailed, word: str) -> str:
    return e.let(f"call i64 @llvm.ctpop.i64(i64 {word})")


def _prefetch(e: Tailed, address: str, locality: int) -> None:
    """Fetch a line into the first cache (3) or the second (2)."""
    pointer = e.let(f"inttoptr i64 {address} to ptr")
    e.do(f"call void @llvm.prefetch.p0(ptr {pointer}, i32 0, i32 {locality}, i32 1)")


def _beginnings(e: Tailed, group: str) -> tuple[str, str]:
    """Return where the bits and the values of a group begin."""
    bits = e.add("%bits", e.mul(group, e.mul("%chunks", str(8 * ROWS))))
    return bits, e.add("%values", e.mul(e.index64("%starts", group), str(e.size)))


def _forward(e: Tailed, loop: Loop, group: str) -> None:
    way, columns, kind = loop.way, loop.vectors, e.vector(e.scalar)
    bits, at = _beginnings(e, group)
    start = [("i64", at), *[(kind, e.zero())] * (ROWS * columns)]
    with e.loop("walk", "0", "%chunks", "1", start) as chunks:
        at, *sums = chunks.inside
        chunk = _Chunk(e, loop, bits, chunks.counter, at)
        to = e.add("%x", e.mul(chunks.counter, str(COLUMNS * e.computed_size)))
        across = [e.add(to, e.mul("%x_column", str(c))) for c in range(columns)]
        others: dict[tuple[int, int], str] = {}
        for first, row, piece, address in chunk.pieces():
            for p, part in enumerate(way.read(e, address, piece)):
                for c in range(columns):
                    if row == 0:
                        others[p, c] = e.read_computed(e.add(across[c], str((first + p * way.lanes) * e.computed_size)))
                    n = row * columns + c
                    sums[n] = _added(e, part.mask, part.value, others[p, c], sums[n])
        chunks.after = [chunk.begins[-1], *sums]
    sums = chunks.results[1:]
    row_at = e.add("%out", e.mul(e.mul(group, str(ROWS)), "%out_row"))
    rows_at_once = max(1, min(ROWS, way.lanes // columns))
    for row in range(0, ROWS, rows_at_once):
        vectors = sums[row * columns : (row + rows_at_once) * columns]
        total = e.totals(vectors)
        for r in range(rows_at_once):
            part = e.part(total, r * columns, columns, len(vectors))
            e.write_sums(part, columns, e.add(row_at, e.mul("%out_row", str(row + r))))


def _added(e: Tailed, mask: str, value: str, other: str, total: str) -> str:
    """Return total + value · other; where the mask is off, the total."""
    kind = e.vector(e.scalar)
    added = e.fma(value, other, total)
    return e.let(f"select <{e.lanes} x i1> {mask}, {kind} {added}, {kind} {total}") if mask else added


def _transposed(e: Tailed, loop: Loop, group: str) -> None:
    way, columns = loop.way, loop.vectors
    bits, at = _beginnings(e, group)
    x = e.add("%x", e.mul(e.mul(group, str(ROWS)), "%x_row"))
    rows = [
        [
            e.splat(
                e.load(e.scalar, e.add(e.add(x, e.mul("%x_row", str(r))), str(c * e.computed_size)), e.computed_size)
            )
            for c in range(columns)
        ]
        for r in range(ROWS)
    ]
    with e.loop("walk", "0", "%chunks", "1", [("i64", at)]) as chunks:
        chunk = _Chunk(e, loop, bits, chunks.counter, chunks.inside[0])
        to = e.add("%out", e.mul(chunks.counter, str(COLUMNS * e.computed_size)))
        across = [e.add(to, e.mul("%out_column", str(c))) for c in range(columns)]
        sums: dict[tuple[int, int], str] = {}
        for first, row, piece, address in chunk.pieces():
            for p, part in enumerate(way.read(e, address, piece)):
                for c in range(columns):
                    place = e.add(across[c], str((first + p * way.lanes) * e.computed_size))
                    if row == 0:
                        sums[p, c] = e.read_computed(place)
                    sums[p, c] = _added(e, part.mask, part.value, rows[row][c], sums[p, c])
                    if row == ROWS - 1:
                        e.write_computed(sums[p, c], place)
        chunks.after = [chunk.begins[-1]]


def _panel(e: Tailed, loop: Loop, group: str) -> None:
    """Expand into a panel, or compress from it: chunks begin .. end, from where the group's values go on."""
    way = loop.way
    bits, at = _beginnings(e, group)
    panel = e.add("%panel", e.mul(e.mul(e.let(f"sub i64 {group}, %first"), str(ROWS)), "%panel_row"))
    rows = [e.add(panel, e.mul("%panel_row", str(r))) for r in range(ROWS)]
    with e.loop("walk", "%begin", "%end", "1", [("i64", at)]) as chunks:
        chunk = _Chunk(e, loop, bits, chunks.counter, chunks.inside[0])
        across = e.mul(e.let(f"sub i64 {chunks.counter}, %begin"), "%panel_chunk")
        for first, row, piece, address in chunk.pieces():
            place = e.add(e.add(rows[row], across), str(first * e.size))
            pointer = e.let(f"inttoptr i64 {place} to ptr")
            if loop.kind == "expand":
                kind, value, _ = way.raw(e, address, piece)
                if kind == f"<{way.places} x i32>" and e.size == 2:
                    value, kind = e.let(f"trunc {kind} {value} to <{way.places} x i16>"), f"<{way.places} x i16>"
                e.do(f"store {kind} {value}, ptr {pointer}, align {e.size}")
            else:
                way.compress(e, pointer, address, piece)
        chunks.after = [chunk.begins[-1]]
    _move_on(e, group, chunks.results[0])


def _move_on(e: Tailed, group: str, at: str) -> None:
    """Note in `starts` how far a group has been walked through."""
    done = e.let(f"sub i64 {at}, %values")
    at_start = e.let(f"inttoptr i64 {e.add('%starts', e.mul(group, '8'))} to ptr")
    e.do(f"store i64 {e.let(f'sdiv exact i64 {done}, {e.size}')}, ptr {at_start}, align 8")


Step = Callable[[int, str, str, list[str]], list[str]]
"""Takes a row of the group, a column, the address of a value, and what is carried; returns what is carried then."""


def _walk(
    e: Tailed, group: str, begin: str, end: str, state: list[list[str]], step: Step, before: Callable[[str], None]
) -> tuple[str, list[list[str]]]:
    """Walk over the bits that are set, one by one, which any processor can do.

    Args:
        e: the emitter.
        group: which.
        begin: first chunk.
        end: chunk after the last one.
        state: of each row, vectors that are handed from element to element.
        step: what is done for an element.
        before: what is done for a chunk first.

    Returns:
        the address after the last value, and the state.
    """
    bits, at = _beginnings(e, group)
    kind = e.vector(e.scalar)
    flat = [(kind, value) for values in state for value in values]
    each = len(state[0])
    with e.loop("walk", begin, end, "1", [("i64", at), *flat]) as chunks:
        at, *now = chunks.inside
        before(chunks.counter)
        column = e.mul(chunks.counter, str(COLUMNS))
        from_ = e.add(bits, e.mul(chunks.counter, str(8 * ROWS)))
        for row in range(ROWS):
            word = e.load("i64", e.add(from_, str(8 * row)), 8)
            mine = now[row * each : (row + 1) * each]
            carried = [("i64", word), ("i64", at), *((kind, value) for value in mine)]
            with e.loop(f"row{row}", "0", _count(e, word), "1", carried) as places:
                left, value_at, *inside = places.inside
                place = e.let(f"call i64 @llvm.cttz.i64(i64 {left}, i1 true)")
                after = step(row, e.add(column, place), value_at, inside)
                less = e.let(f"and i64 {left}, {e.let(f'sub i64 {left}, 1')}")
                places.after = [less, e.add(value_at, str(e.size)), *after]
            _, at, *now[row * each : (row + 1) * each] = places.results
        chunks.after = [at, *now]
    at, *now = chunks.results
    return at, [now[row * each : (row + 1) * each] for row in range(ROWS)]


def _nothing(chunk: str) -> None:
    """Do nothing for a chunk."""


def _forward_bits(e: Tailed, loop: Loop, group: str) -> None:
    def step(row: int, column: str, at: str, sums: list[str]) -> list[str]:
        other = e.read_computed(e.add("%x", e.mul(column, "%x_column")))
        return [e.fma(e.splat(e.read(at, 1)), other, sums[0])]

    _, sums = _walk(e, group, "0", "%chunks", [[e.zero()]] * ROWS, step, _nothing)
    row_at = e.add("%out", e.mul(e.mul(group, str(ROWS)), "%out_row"))
    for row, (total,) in enumerate(sums):
        e.write_computed(total, e.add(row_at, e.mul("%out_row", str(row))))


def _transposed_bits(e: Tailed, loop: Loop, group: str) -> None:
    x = e.add("%x", e.mul(e.mul(group, str(ROWS)), "%x_row"))
    rows = [e.read_computed(e.add(x, e.mul("%x_row", str(row)))) for row in range(ROWS)]

    def step(row: int, column: str, at: str, carried: list[str]) -> list[str]:
        to = e.add("%out", e.mul(column, "%out_column"))
        e.write_computed(e.fma(e.splat(e.read(at, 1)), rows[row], e.read_computed(to)), to)
        return carried

    _walk(e, group, "0", "%chunks", [[]] * ROWS, step, _nothing)


def _panel_bits(e: Tailed, loop: Loop, group: str) -> None:
    panel = e.add("%panel", e.mul(e.mul(e.let(f"sub i64 {group}, %first"), str(ROWS)), "%panel_row"))
    rows = [e.add(panel, e.mul("%panel_row", str(row))) for row in range(ROWS)]
    from_first = e.mul("%begin", str(COLUMNS))
    bits = f"i{8 * e.size}"

    def clear(chunk: str) -> None:
        across = e.mul(e.let(f"sub i64 {chunk}, %begin"), "%panel_chunk")
        for row in rows:
            for part in range(0, COLUMNS * e.size, 16):
                pointer = e.let(f"inttoptr i64 {e.add(e.add(row, across), str(part))} to ptr")
                e.do(f"store <2 x i64> zeroinitializer, ptr {pointer}, align {e.size}")

    def step(row: int, column: str, at: str, carried: list[str]) -> list[str]:
        inside = e.let(f"sub i64 {column}, {from_first}")
        chunk, bit = e.let(f"sdiv i64 {inside}, {COLUMNS}"), e.let(f"and i64 {inside}, {COLUMNS - 1}")
        place = e.add(e.add(rows[row], e.mul(chunk, "%panel_chunk")), e.mul(bit, str(e.size)))
        source, target = (at, place) if loop.kind == "expand" else (place, at)
        value = e.load(bits, source, e.size)
        e.do(f"store {bits} {value}, ptr {e.let(f'inttoptr i64 {target} to ptr')}, align {e.size}")
        return carried

    at, _ = _walk(e, group, "%begin", "%end", [[]] * ROWS, step, clear if loop.kind == "expand" else _nothing)
    _move_on(e, group, at)


_BODIES: dict[str, Body[Loop]] = {
    "forward": _forward,
    "transposed": _transposed,
    "expand": _panel,
    "compress": _panel,
}
_BIT_BODIES: dict[str, Body[Loop]] = {
    "forward": _forward_bits,
    "transposed": _transposed_bits,
    "expand": _panel_bits,
    "compress": _panel_bits,
}
