"""Generate the loops of the forward product by blocks of columns: of one block, and of bringing values in its order.

While a block is worked on, the rows of x that it needs lie in the first-level cache, as a panel of the tile's width. A
row has few elements there; what it adds up goes to a panel of sums in the second-level cache until its last block.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from sparsebench.kernels.common import row_loop
from sparsebench.kernels.common.row_loop import RowLoop, offsets, write
from sparsebench.kernels.common.tailed import Tailed

ARGUMENTS: dict[str, tuple[str, ...]] = {
    "block": ("values", "col", "rows", "counts", "place", "panel", "sums", "sums_row", "out", "out_row", "first",
              "last", "tail"),
    "order": ("values", "cursors", "rows", "counts", "target", "first", "last"),
}  # fmt: skip
"""What each kind of function takes, all int64: addresses, strides in bytes, and numbers.

Entries first .. last of a ColumnBlocks stand at `rows` and `counts`. "block": `place` is the number of the first
element; `out` is where the group's first row goes. "order": `cursors` says where the next element of each row stands,
`target` where the block's first one goes.
"""


@dataclass(frozen=True, kw_only=True)
class Loop(RowLoop):
    """What one generated function is for.

    Attributes:
        kind: of ARGUMENTS. "block": sums[i] += Σ values · panel[col] in rows i. "order": copy values in that order.
        adds: whether there are sums from earlier blocks.
        ends: whether this is the last block, whose sums go to `out`.
    """

    family = "csr_blocks"
    ends: bool = False

    @property
    def name(self) -> str:
        """Return a name that no other function has."""
        return f"{super().name}{int(self.ends)}"


@cache
def address(loop: Loop) -> int:
    """Compile a function and return its address, which holds as long as the process lives."""
    return row_loop.compiled(loop, function(loop))


def function(loop: Loop) -> str:
    """Return the IR of a function and of what it needs declared."""
    e = Tailed(loop.dtype, loop.lanes)
    e.label("entry")
    if loop.tailed and loop.ends:
        e.limit("%tail")
    body, start = (_block, "%place") if loop.kind == "block" else (_order, "%target")
    with e.loop("entries", "%first", "%last", "1", [("i64", start)]) as entries:
        row = e.index("%rows", entries.counter)
        count = e.short("%counts", entries.counter)
        entries.after = [body(e, loop, row, count, entries.inside[0])]
    e.do("ret void")
    taken = ", ".join(f"i64 %{name}" for name in ARGUMENTS[loop.kind])
    lines = "\n".join(e.lines)
    return f'{e.declarations()}\ndefine void @"{loop.name}"({taken}) nounwind {{\n{lines}\n}}\n'


def _block(e: Tailed, loop: Loop, row: str, count: str, begin: str) -> str:
    """Add up one row's elements of the block; return where the next row's begin."""
    kind = e.vector(e.scalar)
    end = e.add(begin, count)
    sums = e.add("%sums", e.mul(row, "%sums_row"))
    start = [
        (kind, e.read_computed(e.add(sums, offset)) if loop.adds else e.zero())
        for offset in offsets(e, loop, computed=True)
    ]
    with e.loop("elements", begin, end, "1", start) as elements:
        place = elements.counter
        value = e.splat(e.read(e.add("%values", e.mul(place, str(e.size))), 1))
        # the panel's rows are as long as the tile, a constant: the compiler makes a shift of it
        at = e.add("%panel", e.mul(e.short("%col", place), str(loop.vectors * loop.lanes * e.size)))
        elements.after = [
            e.fma(value, e.read(e.add(at, offset), loop.lanes), total)
            for offset, total in zip(offsets(e, loop), elements.inside, strict=True)
        ]
    if loop.ends:
        write(e, loop, elements.results, e.add("%out", e.mul(row, "%out_row")))
    else:
        for value, offset in zip(elements.results, offsets(e, loop, computed=True), strict=True):
            e.write_computed(value, e.add(sums, offset))
    return end


def _order(e: Tailed, loop: Loop, row: str, count: str, target: str) -> str:
    """Copy one row's values of the block, and return where the next row's go: a vector or two, masked at the end."""
    at = e.add("%cursors", e.mul(row, "8"))
    source = e.load("i64", at, 8)
    with e.loop("run", "0", count, str(loop.lanes), []) as run:
        here = e.add("%values", e.mul(e.add(source, run.counter), str(e.size)))
        there = e.add(target, e.mul(run.counter, str(e.size)))
        e.copy_first(here, there, e.let(f"sub i64 {count}, {run.counter}"))
    pointer = e.let(f"inttoptr i64 {at} to ptr")
    e.do(f"store i64 {e.add(source, count)}, ptr {pointer}, align 8")
    return e.add(target, e.mul(count, str(e.size)))
