"""Generate the inner loops of the CPU convolutions with LLVM: they read planes by shifting, without an im2col copy.

The planes stand in a buffer with their margins (cpu_buffer.py), so that a tap is nothing but an offset. Four kinds:

- "gather": a tile of `rows` output maps × `vectors` vectors of places stays in registers; every entry of a list adds
  `rows` packed weights times the places that its offset points at.
- "rows": one output map; a tile of `rows` rows × one vector of places stays in registers. A row that was read serves
  all taps above each other, so one load feeds `kernel[0]` multiply-adds: that is what pairs of maps need, which share
  no planes.
- "copy": the places that count of what "gather" left, row by row, to where the output wants them.
- "dots": `rows` planes of the gradient × `vectors` shifted planes; lanes run along the places, and each sum is one
  number of the weight's gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from sparsebench.kernels.common.tailed import Tailed
from sparsebench.kernels.microkernels import host

ARGUMENTS: dict[str, tuple[str, ...]] = {
    "gather": ("weights", "weights_row", "places", "reads", "count", "x", "out", "out_row"),
    "rows": ("values", "places", "reads", "count", "x", "pitch", "out", "out_row", "tail"),
    "copy": ("source", "pitch", "out", "line", "height", "width"),
    "dots": ("g", "g_row", "x", "reads", "length", "batch", "g_batch", "x_batch", "out"),
}
"""What each kind takes, all int64: addresses, strides in bytes, counts.

places and reads are lists of int64 byte offsets.

- gather: an entry has `rows` weights, `weights_row` apart from weights + places[e] on, or packed; it reads at x +
  reads[e]. Whole vectors are written.
- rows: entry e has its taps at values + places[e] and reads at x + reads[e]; `pitch` is from row to row of x; lanes
  from `tail` on are not written.
- copy: `height` rows of `width` elements; of the source every `step`-th.
- dots: plane r of the gradient stands at g + r·g_row, the shifted plane c at x + reads[c]; `length` elements, a whole
  number of vectors, of `batch` samples. The sums (rows, vectors) are written side by side.
"""


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """What one generated function is for.

    Attributes:
        kind: of ARGUMENTS.
        dtype: "float32" or "float64".
        rows: see the module; 1 for "copy".
        vectors: see the module; 1 for "rows" and "copy".
        lanes: elements of a vector.
        taps: (kh, kw) of "rows", else (0, 0).
        dilation: (down, across) of "rows".
        flipped: whether "rows" takes the taps in reverse order, as the gradient of x does.
        step: of "copy", from element to element of the source.
        apart: whether "gather" looks its weights up where they stand; else they are packed, `rows` for every entry.
    """

    kind: str
    dtype: str
    rows: int
    vectors: int
    lanes: int
    taps: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    flipped: bool = False
    step: int = 1
    apart: bool = False

    @property
    def name(self) -> str:
        """Return a name that no other function has."""
        shape = f"{self.rows}x{self.vectors}x{self.lanes}"
        sliding = "_".join(str(n) for n in (*self.taps, *self.dilation, int(self.flipped), self.step, int(self.apart)))
        return f"conv_{self.kind}_{self.dtype}_{shape}_{sliding}"


@cache
def address(kernel: Kernel) -> int:
    """Compile a function and return its address, which holds as long as the process lives."""
    found: int = host.compile_module(function(kernel)).get_function_address(kernel.name)
    return found


def addresses(kernels: Sequence[Kernel]) -> list[int]:
    """Return the addresses of several functions."""
    return [address(kernel) for kernel in kernels]


def function(kernel: Kernel) -> str:
    """Return the IR of a function and of what it needs declared."""
    e = Tailed(kernel.dtype, kernel.lanes)
    e.label("entry")
    {"gather": _gather, "rows": _rows, "copy": _copy, "dots": _dots}[kernel.kind](e, kernel)
    e.do("ret void")
    arguments = ", ".join(f"i64 %{name}" for name in ARGUMENTS[kernel.kind])
    lines = "\n".join(e.lines)
    return f'{e.declarations()}\ndefine void @"{kernel.name}"({arguments}) nounwind {{\n{lines}\n}}\n'


def _gather(e: Tailed, kernel: Kernel) -> None:
    kind, width = e.vector(e.scalar), kernel.lanes * e.size
    steps = [e.mul("%weights_row", str(r)) if kernel.apart else str(r * e.size) for r in range(kernel.rows)]
    start = [("i64", "%weights"), *[(kind, e.zero())] * (kernel.rows * kernel.vectors)]
    with e.loop("entries", "0", "%count", "1", start) as entries:
        following, *sums = entries.inside
        weights = e.add("%weights", e.index64("%places", entries.counter)) if kernel.apart else following
        at = e.add("%x", e.index64("%reads", entries.counter))
        right = [e.read(e.add(at, str(v * width)), kernel.lanes) for v in range(kernel.vectors)]
        added = []
        for r in range(kernel.rows):
            left = e.splat(e.read(e.add(weights, steps[r]), 1))
            added += [e.fma(left, right[v], sums[r * kernel.vectors + v]) for v in range(kernel.vectors)]
        entries.after = [e.add(following, str(kernel.rows * e.size)), *added]
    for r in range(kernel.rows):
        row = e.add("%out", e.mul("%out_row", str(r)))
        for v in range(kernel.vectors):
            e.write(entries.results[1 + r * kernel.vectors + v], e.add(row, str(v * width)), kernel.lanes)


def _rows(e: Tailed, kernel: Kernel) -> None:
    (down, across), (step, shift) = kernel.taps, kernel.dilation
    kind, last = e.vector(e.scalar), down * across - 1
    e.limit("%tail")
    with e.loop("entries", "0", "%count", "1", [(kind, e.zero())] * kernel.rows) as entries:
        weights = e.add("%values", e.index64("%places", entries.counter))
        at = e.add("%x", e.index64("%reads", entries.counter))
        sums = list(entries.inside)
        for j in range(across):
            numbers = [i * across + j for i in range(down)]
            # the weights of one column of taps at a time: more would not fit into the registers beside the sums
            places = [(last - n if kernel.flipped else n) * e.size for n in numbers]
            column = [e.splat(e.read(e.add(weights, str(place)), 1)) for place in places]
            for line in range(kernel.rows + (down - 1) * step):
                hits = [(line - i * step, i) for i in range(down) if 0 <= line - i * step < kernel.rows]
                if hits:
                    row = e.add(e.add(at, e.mul("%pitch", str(line))), str(j * shift * e.size))
                    read = e.read(row, kernel.lanes)
                    for y, i in hits:
                        sums[y] = e.fma(column[i], read, sums[y])
        entries.after = sums
    for y, total in enumerate(entries.results):
        e.write_inside(total, e.add("%out", e.mul("%out_row", str(y))))


def _copy(e: Tailed, kernel: Kernel) -> None:
    whole = e.let(f"and i64 %width, {-kernel.lanes}")
    rest = e.let(f"sub i64 %width, {whole}")
    e.limit(rest)

    def element(source: str, out: str, number: str, count: str) -> None:
        at, to = e.add(source, e.mul(number, str(e.size * kernel.step))), e.add(out, e.mul(number, str(e.size)))
        if count == rest:
            value = e.read_inside(at) if kernel.step == 1 else e.read_every(at, kernel.step, count)
            e.write_inside(value, to)
        else:
            value = e.read(at, kernel.lanes) if kernel.step == 1 else e.read_every(at, kernel.step, count)
            e.write(value, to, kernel.lanes)

    with e.loop("lines", "0", "%height", "1", []) as lines:
        source = e.add("%source", e.mul("%pitch", lines.counter))
        out = e.add("%out", e.mul("%line", lines.counter))
        with e.loop("vectors", "0", whole, str(kernel.lanes), []) as vectors:
            element(source, out, vectors.counter, str(kernel.lanes))
        element(source, out, whole, rest)


def _dots(e: Tailed, kernel: Kernel) -> None:
    kind, lanes = e.vector(e.scalar), kernel.lanes
    count = kernel.rows * kernel.vectors
    shifts = [e.index64("%reads", str(c)) for c in range(kernel.vectors)]
    with e.loop("samples", "0", "%batch", "1", [(kind, e.zero())] * count) as samples:
        g = e.add("%g", e.mul("%g_batch", samples.counter))
        x = e.add("%x", e.mul("%x_batch", samples.counter))
        lefts = [e.add(g, e.mul("%g_row", str(r))) for r in range(kernel.rows)]
        rights = [e.add(x, shift) for shift in shifts]
        with e.loop("line", "0", "%length", str(lanes), [(kind, s) for s in samples.inside]) as places:
            offset = e.mul(places.counter, str(e.size))
            left = [e.read(e.add(base, offset), lanes) for base in lefts]
            right = [e.read(e.add(base, offset), lanes) for base in rights]
            places.after = [
                e.fma(left[n // kernel.vectors], right[n % kernel.vectors], s) for n, s in enumerate(places.inside)
            ]
        samples.after = places.results
    for n, total in enumerate(samples.results):
        e.write_computed_one(e.totals([total]), e.add("%out", str(n * e.computed_size)))
