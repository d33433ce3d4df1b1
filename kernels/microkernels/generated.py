"""Generate two micro-kernels with LLVM: a reduction over pairs of small blocks, in outer and in dot products.

Both compute one tile C (rows, columns) = Σ_e A_e B_e, the sum over entries e of a list, and keep C in registers until
the list is at its end: a "batch-reduce GEMM" (Georganas et al., Harnessing Deep Learning via a Single Building Block,
IPDPS 2020). A GEMM per block, as BLAS offers it, reads and writes C once per block instead.
"""

from __future__ import annotations

from dataclasses import dataclass

from sparsebench.kernels.microkernels.emit import Emitter

ARGUMENTS: tuple[str, ...] = (
    "a", "b", "c", "others", "order", "first", "last",
    "a_place", "a_other", "b_place", "b_other", "inner", "limit",
    "a_row", "a_inner", "b_inner", "b_column", "c_row", "c_column",
)  # fmt: skip
"""What a micro-kernel takes, all int64.

Addresses: a, b, c; others and order (int32 arrays). Entries first .. last: entry e stands for stored block p = order[e]
(p = e in a kernel that is not `ordered`) and for number q = others[e] along the axis that is summed over. A_e begins at
a + p·a_place + q·a_other, B_e at b + p·b_place + q·b_other, and their common axis has min(inner, limit − q·inner)
elements. The rest are strides in bytes.
"""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """What one generated kernel is for.

    Attributes:
        kind: "outer": lanes run along the columns, so B and C have them side by side; A has any strides. "dots": lanes
            run along the summed axis, so A and B have it side by side; C has any strides.
        dtype: of all three in memory; halves are computed in float32.
        rows: of the tile.
        columns: of the tile; in "outer" a multiple of `lanes`.
        lanes: elements of a vector.
        ordered: whether `order` is read.
        strides: constants in bytes for some of the strides in ARGUMENTS, as (name, value).
        adds: whether it adds to what is in C; "outer" only.
    """

    kind: str
    dtype: str
    rows: int
    columns: int
    lanes: int
    ordered: bool
    strides: tuple[tuple[str, int], ...] = ()
    adds: bool = False

    @property
    def name(self) -> str:
        """Return a name that no other tile has."""
        constants = "_".join(f"{name}{value}" for name, value in self.strides)
        flags = f"{int(self.ordered)}{int(self.adds)}"
        return f"{self.kind}_{self.dtype}_{self.rows}x{self.columns}x{self.lanes}_{flags}_{constants}"


def function(tile: Tile) -> tuple[str, str]:
    """Return the IR of a tile's function, and the declarations that it needs."""
    e = Emitter(tile.dtype, tile.lanes)
    given = {name: f"%{name}" for name in ARGUMENTS} | {name: str(value) for name, value in tile.strides}
    vectors = tile.columns // tile.lanes if tile.kind == "outer" else tile.columns
    kind = e.vector(e.scalar)
    e.label("entry")
    start = [
        (kind, value)
        for value in (_present(e, tile, given, vectors) if tile.adds else [e.zero()] * tile.rows * vectors)
    ]
    with e.loop("entries", given["first"], given["last"], "1", start) as entries:
        other = e.index(given["others"], entries.counter)
        place = e.index(given["order"], entries.counter) if tile.ordered else entries.counter
        a, b = (
            e.add(e.add(given[side], e.mul(place, given[f"{side}_place"])), e.mul(other, given[f"{side}_other"]))
            for side in ("a", "b")
        )
        rest = e.let(f"sub i64 {given['limit']}, {e.mul(other, given['inner'])}")
        fewer = e.let(f"icmp slt i64 {rest}, {given['inner']}")
        depth = e.let(f"select i1 {fewer}, i64 {rest}, i64 {given['inner']}")
        body = _outer if tile.kind == "outer" else _dots
        entries.after = body(e, tile, given, vectors, a, b, depth, entries.inside)
    (_store_outer if tile.kind == "outer" else _store_dots)(e, tile, given, vectors, entries.results)
    e.do("ret void")
    arguments = ", ".join(f"i64 %{name}" for name in ARGUMENTS)
    lines = "\n".join(e.lines)
    return f'define void @"{tile.name}"({arguments}) nounwind {{\n{lines}\n}}\n', e.declarations()


def _outer(
    e: Emitter, tile: Tile, given: dict[str, str], vectors: int, a: str, b: str, depth: str, sums: list[str]
) -> list[str]:
    """Add A_e B_e: for each place on the summed axis, one element of each row of A times a row of B."""
    kind = e.vector(e.scalar)
    rows = [e.mul(given["a_row"], str(r)) for r in range(tile.rows)]
    with e.loop("depth", "0", depth, "1", [("i64", a), ("i64", b), *((kind, value) for value in sums)]) as depths:
        at_a, at_b, *current = depths.inside
        right = [e.read(e.add(at_b, str(v * tile.lanes * e.size)), tile.lanes) for v in range(vectors)]
        added = []
        for r in range(tile.rows):
            left = e.splat(e.read(e.add(at_a, rows[r]), 1))
            added += [e.fma(left, right[v], current[r * vectors + v]) for v in range(vectors)]
        depths.after = [e.add(at_a, given["a_inner"]), e.add(at_b, given["b_inner"]), *added]
    return depths.results[2:]


def _dots(
    e: Emitter, tile: Tile, given: dict[str, str], vectors: int, a: str, b: str, depth: str, sums: list[str]
) -> list[str]:
    """Add A_e B_e: `lanes` places of the summed axis at a time, then the ones that are left in the first lane."""
    kind, step = e.vector(e.scalar), str(tile.lanes)
    whole = e.let(f"and i64 {depth}, {-tile.lanes}")
    rows = [e.add(a, e.mul(given["a_row"], str(r))) for r in range(tile.rows)]
    columns = [e.add(b, e.mul(given["b_column"], str(c))) for c in range(vectors)]

    def products(at: str, lanes: int, current: list[str]) -> list[str]:
        offset = e.mul(at, str(e.size))
        left, right = ([_widened(e, e.read(e.add(base, offset), lanes), lanes) for base in s] for s in (rows, columns))
        return [e.fma(left[n // vectors], right[n % vectors], value) for n, value in enumerate(current)]

    with e.loop("depth", "0", whole, step, [(kind, value) for value in sums]) as depths:
        depths.after = products(depths.counter, tile.lanes, depths.inside)
    if tile.lanes == 1:
        return depths.results
    with e.loop("rest", whole, depth, "1", [(kind, value) for value in depths.results]) as singles:
        singles.after = products(singles.counter, 1, singles.inside)
    return singles.results


def _widened(e: Emitter, value: str, lanes: int) -> str:
    """Return a vector: a single element stands in the first lane, zeros in the others add nothing."""
    if lanes == e.lanes:
        return value
    return e.let(f"insertelement {e.vector(e.scalar)} zeroinitializer, {e.scalar} {value}, i32 0")


def _present(e: Emitter, tile: Tile, given: dict[str, str], vectors: int) -> list[str]:
    """Return what stands in C."""
    rows = [e.add(given["c"], e.mul(given["c_row"], str(r))) for r in range(tile.rows)]
    return [e.read(e.add(row, str(v * tile.lanes * e.size)), tile.lanes) for row in rows for v in range(vectors)]


def _store_outer(e: Emitter, tile: Tile, given: dict[str, str], vectors: int, sums: list[str]) -> None:
    for r in range(tile.rows):
        row = e.add(given["c"], e.mul(given["c_row"], str(r)))
        for v in range(vectors):
            e.write(sums[r * vectors + v], e.add(row, str(v * tile.lanes * e.size)), tile.lanes)


def _store_dots(e: Emitter, tile: Tile, given: dict[str, str], vectors: int, sums: list[str]) -> None:
    for r in range(tile.rows):
        row = e.add(given["c"], e.mul(given["c_row"], str(r)))
        for c in range(vectors):
            total = _total(e, sums[r * vectors + c])
            e.write(total, e.add(row, e.mul(given["c_column"], str(c))), 1)


def _total(e: Emitter, value: str) -> str:
    """Return the sum over the lanes, in halves: lane i and lane i + n/2 first."""
    lanes = e.lanes
    while lanes > 1:
        kind, half = e.vector(e.scalar, lanes), lanes // 2
        low, high = (
            e.let(
                f"shufflevector {kind} {value}, {kind} poison, "
                f"<{half} x i32> <{', '.join(f'i32 {i}' for i in range(begin, begin + half))}>"
            )
            for begin in (0, half)
        )
        value = e.let(f"fadd {e.vector(e.scalar, half) if half > 1 else f'<1 x {e.scalar}>'} {low}, {high}")
        lanes = half
        if half == 1:
            return e.let(f"extractelement <1 x {e.scalar}> {value}, i32 0")
    return value
