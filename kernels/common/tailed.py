"""Extend the emitter by what tiles of any width need: vectors with lanes outside, and sums over lanes."""

from __future__ import annotations

from sparsebench.kernels.microkernels.emit import COMPUTED, STORED, Emitter


class Tailed(Emitter):
    """Read and write vectors of which some lanes lie outside of memory, and fold vectors into their sums."""

    def __init__(self, dtype: str, lanes: int) -> None:
        """Prepare for vectors of `lanes` elements of `dtype`."""
        super().__init__(dtype, lanes)
        self.computed_size = 8 if self.scalar == "double" else 4
        self._mask = ""
        self._declared: set[str] = {super().declarations()}

    def declarations(self) -> str:
        """Return what the function needs declared."""
        return "\n".join(sorted(self._declared))

    def declare(self, text: str) -> None:
        """Ask for a declaration, or a constant, once."""
        self._declared.add(text)

    def index64(self, address: str, number: str) -> str:
        """Return the int64 `number` of the array at `address`."""
        return self.load("i64", self.add(address, self.mul(number, "8")), 8)

    def short(self, address: str, number: str) -> str:
        """Return the uint16 `number` of the array at `address`, as i64."""
        return self.let(f"zext i16 {self.load('i16', self.add(address, self.mul(number, '2')), 2)} to i64")

    def picked(self, first: str, count: str | None, total: str) -> str:
        """Return total + %values[e] · %x[%col[e]] for e = first, first + 1 … in lanes, the first `count` or all.

        float32 and float64 only; %col holds int32, and x is of adjacent elements.
        """
        kind, numbers, flags = self.vector(self.scalar), f"<{self.lanes} x i32>", f"<{self.lanes} x i1>"
        mask = self._first(count, self.lanes) if count is not None else self.splat_constant("i1", "true", self.lanes)
        at, where = self.add("%values", self.mul(first, str(self.size))), self.add("%col", self.mul(first, "4"))
        if count is None:
            values, columns = self.load(kind, at, self.size), self.load(numbers, where, 4)
        else:
            values = self._masked_load(kind, at, mask, self.size)
            columns = self._masked_load(numbers, where, mask, 4)
        pointers = f"<{self.lanes} x ptr>"
        base = self.let("inttoptr i64 %x to ptr")
        at = self.let(f"getelementptr {self.scalar}, ptr {base}, {numbers} {columns}")
        name = f"llvm.masked.gather.v{self.lanes}{'f32' if self.scalar == 'float' else 'f64'}.v{self.lanes}p0"
        self._declared.add(f"declare {kind} @{name}({pointers}, i32, {flags}, {kind})")
        others = self.let(
            f"call {kind} @{name}({pointers} {at}, i32 {self.size}, {flags} {mask}, {kind} zeroinitializer)"
        )
        return self.fma(values, others, total)

    def copy_first(self, source: str, target: str, count: str) -> None:
        """Copy the first `count` elements of a vector as they are, none if `count` is 0 or less."""
        kind, mask = f"<{self.lanes} x {self._bits()}>", self._first(count, self.lanes)
        raw = self._masked_load(kind, source, mask, self.size)
        self._masked_store(kind, raw, target, mask, self.size)

    def clamped(self, first: str, count: int, end: str) -> tuple[list[str], list[str]]:
        """Return the numbers first, first + 1 …, those past the end replaced by the last one, and which were inside."""
        final = self.let(f"sub i64 {end}, 1")
        places, inside = [first], [self.let(f"icmp slt i64 {first}, {end}")]
        for n in range(1, count):
            place = self.add(first, str(n))
            inside.append(self.let(f"icmp slt i64 {place}, {end}"))
            places.append(self.let(f"select i1 {inside[-1]}, i64 {place}, i64 {final}"))
        return places, inside

    def limit(self, count: str) -> None:
        """Say how many lanes, an i64, lie inside for `read_inside` and `write_inside`."""
        self._mask = self._first(count, self.lanes)

    def _first(self, count: str, lanes: int) -> str:
        """Return the mask of the first `count` lanes."""
        kind = f"<{lanes} x i32>"
        short = self.let(f"trunc i64 {count} to i32")
        one = self.let(f"insertelement {kind} poison, i32 {short}, i32 0")
        every = self.let(f"shufflevector {kind} {one}, {kind} poison, {kind} zeroinitializer")
        numbers = "<" + ", ".join(f"i32 {i}" for i in range(lanes)) + ">"
        return self.let(f"icmp slt {kind} {numbers}, {every}")

    def _bits(self) -> str:
        """Return the type in memory; float16 as its bits, which masks need no float16 arithmetic for."""
        return "i16" if self.dtype == "float16" else STORED[self.dtype]

    def read_inside(self, address: str) -> str:
        """Return a vector, 0 in the lanes outside, in the type that is computed in."""
        kind = f"<{self.lanes} x {self._bits()}>"
        raw = self._masked_load(kind, address, self._mask, self.size)
        if self.dtype == "float16":
            half = self.let(f"bitcast {kind} {raw} to <{self.lanes} x half>")
            return self.let(f"fpext <{self.lanes} x half> {half} to {self.vector(self.scalar)}")
        if self.dtype == "bfloat16":
            wide = f"<{self.lanes} x i32>"
            bits = self.let(f"zext {kind} {raw} to {wide}")
            high = self.let(f"shl {wide} {bits}, {self.splat_constant('i32', '16', self.lanes)}")
            return self.let(f"bitcast {wide} {high} to {self.vector(self.scalar)}")
        return raw

    def write_inside(self, value: str, address: str) -> None:
        """Store the lanes inside, rounded to nearest even where the memory is narrower."""
        kind = f"<{self.lanes} x {self._bits()}>"
        if self.dtype == "float16":
            half = self.let(f"fptrunc {self.vector(self.scalar)} {value} to <{self.lanes} x half>")
            value = self.let(f"bitcast <{self.lanes} x half> {half} to {kind}")
        elif self.dtype == "bfloat16":
            value = self._round_bfloat16(value, self.lanes)
        self._masked_store(kind, value, address, self._mask, self.size)

    def read_every(self, address: str, step: int, count: str) -> str:
        """Return the first `count` of every `step`-th element from an address on, 0 in the lanes behind them."""
        kind = f"<{self.lanes} x {self._bits()}>"
        reach = self.add(self.mul(count, str(step)), str(1 - step))  # elements from the first to the last one
        found = "zeroinitializer"
        for part in range(step):
            # a vector at a time, as far as it lies inside; of it the lanes that are asked for take their places
            inside = self._first(self.let(f"sub i64 {reach}, {part * self.lanes}"), self.lanes)
            at = self.add(address, str(part * self.lanes * self.size))
            raw = self._masked_load(kind, at, inside, self.size)
            lanes = [
                self.lanes + i * step - part * self.lanes if i * step // self.lanes == part else i
                for i in range(self.lanes)
            ]
            which = "<" + ", ".join(f"i32 {lane}" for lane in lanes) + ">"
            found = self.let(f"shufflevector {kind} {found}, {kind} {raw}, <{self.lanes} x i32> {which}")
        return found

    def read_computed(self, address: str) -> str:
        """Return a vector of sums."""
        return self.load(self.vector(self.scalar), address, self.computed_size)

    def write_computed(self, value: str, address: str) -> None:
        """Store a vector of sums."""
        pointer = self.let(f"inttoptr i64 {address} to ptr")
        self.do(f"store {self.vector(self.scalar)} {value}, ptr {pointer}, align {self.computed_size}")

    def write_computed_one(self, value: str, address: str) -> None:
        """Store one sum: a scalar, or the only lane of a vector."""
        kind = self.scalar if self.lanes == 1 else f"<1 x {self.scalar}>"
        pointer = self.let(f"inttoptr i64 {address} to ptr")
        self.do(f"store {kind} {value}, ptr {pointer}, align {self.computed_size}")

    def totals(self, vectors: list[str]) -> str:
        """Return the sum over the lanes of each of 1, 2, 4 … vectors, side by side in one of as many lanes.

        Two vectors become one of their pairwise sums, alternating, then two of these, until all are in one; what is
        left is folded in halves. That takes lanes - 1 additions for lanes vectors.
        """
        kind, lanes, step = self.vector(self.scalar), self.lanes, 1
        if lanes == 1:
            return vectors[0]
        while len(vectors) > 1:
            # lane i of `low` comes from the first vector where bit `step` of i is 0, from the second where it is 1
            low = [(i & ~step) + (lanes if i & step else 0) for i in range(lanes)]
            joined = []
            for left, right in zip(vectors[::2], vectors[1::2], strict=True):
                parts = [self._shuffle(left, right, [i + extra for i in low]) for extra in (0, step)]
                joined.append(self.let(f"fadd {kind} {parts[0]}, {parts[1]}"))
            vectors, step = joined, 2 * step
        total = vectors[0]
        while lanes > step:
            lanes //= 2
            narrow = f"<{lanes} x {self.scalar}>"
            halves = [self._shuffle(total, total, list(range(at, at + lanes)), 2 * lanes) for at in (0, lanes)]
            total = self.let(f"fadd {narrow} {halves[0]}, {halves[1]}")
        return total

    def part(self, total: str, first: int, count: int, of: int) -> str:
        """Return `count` lanes of what `totals` gave for `of` vectors."""
        if count == of:
            return total
        which = "<" + ", ".join(f"i32 {first + i}" for i in range(count)) + ">"
        kind = f"<{of} x {self.scalar}>"
        return self.let(f"shufflevector {kind} {total}, {kind} poison, <{count} x i32> {which}")

    def write_sums(self, value: str, count: int, address: str) -> None:
        """Store a vector of `count` sums."""
        pointer = self.let(f"inttoptr i64 {address} to ptr")
        self.do(f"store <{count} x {self.scalar}> {value}, ptr {pointer}, align {self.computed_size}")

    def write_group(self, sums: str, address: str, count: int, stored: str | None, *, adds: bool) -> None:
        """Store `count` sums, or their first `stored`, or add them to what stands there."""
        kind = self.vector(self.scalar, count)
        mask = None if stored is None else self._first(stored, count)
        if adds:
            before = (
                self.load(kind, address, self.computed_size)
                if mask is None
                else self._masked_load(kind, address, mask, self.computed_size)
            )
            sums = self.let(f"fadd {kind} {sums}, {before}")
        if mask is None:
            pointer = self.let(f"inttoptr i64 {address} to ptr")
            self.do(f"store {kind} {sums}, ptr {pointer}, align {self.computed_size}")
        else:
            self._masked_store(kind, sums, address, mask, self.computed_size)

    def _shuffle(self, left: str, right: str, lanes: list[int], width: int | None = None) -> str:
        kind = f"<{self.lanes if width is None else width} x {self.scalar}>"
        which = "<" + ", ".join(f"i32 {lane}" for lane in lanes) + ">"
        return self.let(f"shufflevector {kind} {left}, {kind} {right}, <{len(lanes)} x i32> {which}")

    def _masked_load(self, kind: str, address: str, mask: str, align: int) -> str:
        name, mask_kind = self._masked("load", kind)
        self._declared.add(f"declare {kind} @{name}(ptr, i32, {mask_kind}, {kind})")
        pointer = self.let(f"inttoptr i64 {address} to ptr")
        return self.let(f"call {kind} @{name}(ptr {pointer}, i32 {align}, {mask_kind} {mask}, {kind} zeroinitializer)")

    def _masked_store(self, kind: str, value: str, address: str, mask: str, align: int) -> None:
        name, mask_kind = self._masked("store", kind)
        self._declared.add(f"declare void @{name}({kind}, ptr, i32, {mask_kind})")
        pointer = self.let(f"inttoptr i64 {address} to ptr")
        self.do(f"call void @{name}({kind} {value}, ptr {pointer}, i32 {align}, {mask_kind} {mask})")

    @staticmethod
    def _masked(what: str, kind: str) -> tuple[str, str]:
        """Return the name of LLVM's masked load or store of a vector, and the type of its mask."""
        lanes, _, element = kind.strip("<>").split()
        short = {"float": "f32", "double": "f64", "i16": "i16", "i32": "i32"}[element]
        return f"llvm.masked.{what}.v{lanes}{short}.p0", f"<{lanes} x i1>"


def computed(dtype: str) -> str:
    """Return the name of the dtype that sums of `dtype` are in."""
    return "float64" if COMPUTED[dtype] == "double" else "float32"
