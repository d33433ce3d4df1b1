"""Share what generated loops over rows have in common: what one is for, its frame, and the vectors of its tile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from sparsebench.kernels.common.tailed import Tailed
from sparsebench.kernels.microkernels import host


@dataclass(frozen=True, kw_only=True)
class RowLoop:
    """What one generated function is for; a subclass says which kinds there are.

    Attributes:
        family: what names begin with.
        kind: which body it has.
        dtype: of what is read.
        lanes: elements of a vector.
        vectors: of a tile.
        tailed: whether the last vector has lanes that lie outside.
        wide: whether its indices are int64.
        adds: whether it adds to what is there.
    """

    family: ClassVar[str]
    kind: str
    dtype: str
    lanes: int
    vectors: int
    tailed: bool = False
    wide: bool = False
    adds: bool = False

    @property
    def name(self) -> str:
        """Return a name that no other function has."""
        flags = "".join(str(int(flag)) for flag in (self.tailed, self.wide, self.adds))
        return f"{self.family}_{self.kind}_{self.dtype}_{self.vectors}x{self.lanes}_{flags}"


AnyLoop = TypeVar("AnyLoop", bound=RowLoop)
Body = Callable[[Tailed, AnyLoop, str], None]
"""Writes what is done for one row: takes the emitter, the loop, and the row's number."""


def text(loop: AnyLoop, body: Body[AnyLoop], arguments: Sequence[str], declared: str = "") -> str:
    """Return the IR of a function over rows %first .. %last, and of what it needs declared.

    Args:
        loop: which.
        body: of it.
        arguments: names, all int64; with %tail, the lanes of the last vector that lie inside, where it is `tailed`.
        declared: more declarations.
    """
    e = Tailed(loop.dtype, loop.lanes)
    e.label("entry")
    if loop.tailed:
        e.limit("%tail")
    with e.loop("rows", "%first", "%last", "1", []) as rows:
        body(e, loop, rows.counter)
    e.do("ret void")
    taken = ", ".join(f"i64 %{name}" for name in arguments)
    lines = "\n".join(e.lines)
    return f'{e.declarations()}\n{declared}\ndefine void @"{loop.name}"({taken}) nounwind {{\n{lines}\n}}\n'


def compiled(loop: RowLoop, ir: str) -> int:
    """Compile a function and return its address, which holds as long as the process lives."""
    found: int = host.compile_module(ir).get_function_address(loop.name)
    return found


def offsets(e: Tailed, loop: RowLoop, *, computed: bool = False) -> list[str]:
    """Return where the vectors of a tile stand in a row, in bytes."""
    size = e.computed_size if computed else e.size
    return [str(v * loop.lanes * size) for v in range(loop.vectors)]


def tile(e: Tailed, loop: RowLoop, at: str) -> list[str]:
    """Read the vectors of a row; only the last one may have lanes outside, and these are 0."""
    last = loop.vectors - 1
    return [
        e.read_inside(e.add(at, offset)) if loop.tailed and v == last else e.read(e.add(at, offset), loop.lanes)
        for v, offset in enumerate(offsets(e, loop))
    ]


def write(e: Tailed, loop: RowLoop, values: list[str], at: str) -> None:
    """Write the vectors of a row, lanes outside left out."""
    for v, (value, offset) in enumerate(zip(values, offsets(e, loop), strict=True)):
        if loop.tailed and v == loop.vectors - 1:
            e.write_inside(value, e.add(at, offset))
        else:
            e.write(value, e.add(at, offset), loop.lanes)


def halved(e: Tailed, loop: RowLoop, sums: list[str]) -> list[str]:
    """Add up sums until there are as many as a tile has vectors; there are a power of two times as many."""
    kind = e.vector(e.scalar)
    while len(sums) > loop.vectors:
        half = len(sums) // 2
        sums = [e.let(f"fadd {kind} {one}, {two}") for one, two in zip(sums[:half], sums[half:], strict=True)]
    return sums


def in_groups(e: Tailed, loop: RowLoop, begin: str, end: str, dots: Callable[[list[str], str | None], None]) -> None:
    """Go through entries begin .. end in groups: of as many as there are lanes, then of four, then what is left.

    Args:
        e: the emitter.
        loop: which.
        begin: number of the first entry.
        end: number after the last one.
        dots: takes the numbers of a group, and how many of its results are to be stored, None for all. The last group
            has its last entry again for the lanes that are left over.
    """
    done = begin
    for group in sorted({loop.lanes, min(loop.lanes, 4)}, reverse=True):
        count = e.let(f"sub i64 {end}, {done}")
        whole = e.add(done, e.let(f"and i64 {count}, {-group}"))
        with e.loop(f"groups{group}", done, whole, str(group), []) as groups:
            dots([e.add(groups.counter, str(g)) for g in range(group)], None)
        done = whole
    if group == 1:
        return
    with e.loop("left", done, end, str(group), []) as left:
        places, _ = e.clamped(left.counter, group, end)
        dots(places, e.let(f"sub i64 {end}, {left.counter}"))
