"""Generate what brings operands near before they are used: copying rows side by side, and asking for lines in time.

A dense operand whose rows lie a power of two apart meets itself in a few sets of every cache; copied into a panel, its
rows fill the cache evenly. What a loop will read soon, or write, is asked for beforehand, so that memory works while
the multiply-add units do (as Goto and van de Geijn pack: https://doi.org/10.1145/1356052.1356053).
"""

from __future__ import annotations

from functools import cache

from sparsebench.kernels.microkernels import host
from sparsebench.kernels.microkernels.emit import SIZES, Emitter

LINE = 64
"""Bytes of a cache line that are asked for at a time; where lines are longer, some are asked for twice."""
AHEAD = 3
"""Rows between the one that is copied and the one that is asked for."""
_PREFETCH = "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"
_NEAREST, _SECOND = 3, 2
"""LLVM's words for the first-level cache, and for the second."""


@cache
def copier(width: int) -> int:
    """Return the address of a function (source, source_row, target, target_row, rows) that copies rows.

    All its arguments are int64: addresses, strides in bytes, and how many rows. Of each row `width` bytes are copied.
    """
    name = f"copy_{width}"
    e = Emitter("bfloat16", 1)  # bytes are moved as they are, whatever they mean
    e.label("entry")
    rows = [("i64", "%source"), ("i64", "%target")]
    with e.loop("each", "0", "%rows", "1", rows) as loop:
        source, target = loop.inside
        _ask(e, e.add(source, e.mul("%source_row", str(AHEAD))), width, write=False, level=_NEAREST)
        for offset, kind in _pieces(width):
            value = e.load(kind, e.add(source, str(offset)), 1)
            e.store(kind, value, e.add(target, str(offset)), 1)
        loop.after = [e.add(source, "%source_row"), e.add(target, "%target_row")]
    return _compiled(e, name, ("source", "source_row", "target", "target_row", "rows"))


@cache
def asker(*, write: bool) -> int:
    """Return the address of a function (address, row, rows, bytes) that asks for lines.

    All its arguments are int64: where the first row begins, the rows' distance in bytes, how many rows, and how many
    bytes of each.

    Args:
        write: whether they will be written, very soon; else they are read a little later, from the second-level cache.
    """
    e = Emitter("bfloat16", 1)
    e.label("entry")
    with e.loop("each", "0", "%rows", "1", [("i64", "%address")]) as rows:
        (start,) = rows.inside
        with e.loop("line", "0", "%bytes", str(LINE), []) as lines:
            _line(e, e.add(start, lines.counter), write=write, level=_NEAREST if write else _SECOND)
        rows.after = [e.add(start, "%row")]
    return _compiled(e, f"ask_{'write' if write else 'read'}", ("address", "row", "rows", "bytes"))


@cache
def turner(dtype: str) -> int:
    """Return the address of a function (source, source_row, target, target_row, rows, columns) that transposes.

    All its arguments are int64: addresses, strides in bytes, and the size of the source; target[c, r] = source[r, c].

    Args:
        dtype: name of that of the elements, which are moved as they are.
    """
    size = SIZES[dtype]
    lanes, kind = host.vector_bytes() // size, f"i{8 * size}"
    e = Emitter(dtype, lanes)

    def move(name: str, rows: tuple[str, str], columns: tuple[str, str]) -> None:
        with (
            e.loop(f"{name}.row", *rows, "1", []) as row,
            e.loop(f"{name}.column", *columns, "1", []) as column,
        ):
            value = e.load(kind, _place(e, "source", row.counter, column.counter, size), size)
            e.store(kind, value, _place(e, "target", column.counter, row.counter, size), size)

    e.label("entry")
    whole_rows, whole_columns = (e.let(f"and i64 %{count}, {-lanes}") for count in ("rows", "columns"))
    with (
        e.loop("down", "0", whole_rows, str(lanes), []) as down,
        e.loop("across", "0", whole_columns, str(lanes), []) as across,
    ):
        vectors = []
        for r in range(lanes):
            at = _place(e, "source", e.add(down.counter, str(r)), across.counter, size)
            _line(e, e.add(at, str(2 * LINE)), write=False, level=_NEAREST)
            vectors.append(e.load(f"<{lanes} x {kind}>", at, size))
        for c, vector in enumerate(_turned(e, vectors, kind)):
            at = _place(e, "target", e.add(across.counter, str(c)), down.counter, size)
            e.store(f"<{lanes} x {kind}>", vector, at, size)
    move("edge", ("0", whole_rows), (whole_columns, "%columns"))
    move("rest", (whole_rows, "%rows"), ("0", "%columns"))
    return _compiled(e, f"turn_{dtype}", ("source", "source_row", "target", "target_row", "rows", "columns"))


def _place(e: Emitter, name: str, row: str, column: str, size: int) -> str:
    return e.add(e.add(f"%{name}", e.mul(row, f"%{name}_row")), e.mul(column, str(size)))


def _turned(e: Emitter, vectors: list[str], kind: str) -> list[str]:
    """Return the transpose of as many vectors as they have lanes, in log2 steps that swap ever larger quarters."""
    lanes, step = len(vectors), 1
    whole = f"<{lanes} x {kind}>"
    while step < lanes:
        result = list(vectors)
        for i in (i for i in range(lanes) if not i & step):
            low = [p if not p & step else lanes + p - step for p in range(lanes)]
            for place, which in ((i, low), (i + step, [p + step for p in low])):
                mask = ", ".join(f"i32 {p}" for p in which)
                result[place] = e.let(
                    f"shufflevector {whole} {vectors[i]}, {whole} {vectors[i + step]}, <{lanes} x i32> <{mask}>"
                )
        vectors, step = result, 2 * step
    return vectors


def _pieces(width: int) -> list[tuple[int, str]]:
    """Return (offset, LLVM type) of the vectors that cover so many bytes; the last may lie over the one before."""
    size = min(host.vector_bytes(), 1 << (width.bit_length() - 1))
    offsets = [*range(0, width - size + 1, size), *([width - size] if width % size else [])]
    return [(offset, f"<{size} x i8>") for offset in offsets]


def _ask(e: Emitter, address: str, width: int, *, write: bool, level: int) -> None:
    for offset in range(0, width, LINE):
        _line(e, e.add(address, str(offset)), write=write, level=level)


def _line(e: Emitter, address: str, *, write: bool, level: int) -> None:
    """Ask for the line at an address; one that does not exist is ignored by the processor."""
    pointer = e.let(f"inttoptr i64 {address} to ptr")
    e.do(f"call void @llvm.prefetch.p0(ptr {pointer}, i32 {int(write)}, i32 {level}, i32 1)")


def _compiled(e: Emitter, name: str, arguments: tuple[str, ...]) -> int:
    e.do("ret void")
    taken, lines = ", ".join(f"i64 %{argument}" for argument in arguments), "\n".join(e.lines)
    text = f'{_PREFETCH}\ndefine void @"{name}"({taken}) nounwind {{\n{lines}\n}}\n'
    address: int = host.compile_module(text).get_function_address(name)
    return address
