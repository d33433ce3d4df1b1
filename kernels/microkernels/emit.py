"""Write LLVM IR as text: the few things that the micro-kernels are made of.

Everything is done through integers: an address is an i64, a stride counts bytes. Half precision is stored in 16 bits
and computed in float32; bfloat16 is handled as its bits, since it is the upper half of a float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

STORED: dict[str, str] = {"float32": "float", "float64": "double", "float16": "half", "bfloat16": "i16"}
"""LLVM's type in memory, by the name of the dtype."""
COMPUTED: dict[str, str] = {"float32": "float", "float64": "double", "float16": "float", "bfloat16": "float"}
"""LLVM's type in registers."""
SIZES: dict[str, int] = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}
"""Bytes in memory."""

ZERO = "zeroinitializer"


class Emitter:
    """Collect the lines of one function; values are named %v1, %v2 … in the order of their making."""

    def __init__(self, dtype: str, lanes: int) -> None:
        """Prepare for vectors of `lanes` elements of `dtype`."""
        self.dtype, self.lanes = dtype, lanes
        self.size = SIZES[dtype]
        self.scalar = COMPUTED[dtype]
        self.lines: list[str] = []
        self._count = 0
        self._block = "entry"

    def vector(self, kind: str, lanes: int | None = None) -> str:
        """Return the type of a vector, or the scalar type itself for one lane."""
        lanes = self.lanes if lanes is None else lanes
        return kind if lanes == 1 else f"<{lanes} x {kind}>"

    def let(self, text: str) -> str:
        """Name the result of an instruction."""
        self._count += 1
        self.lines.append(f"  %v{self._count} = {text}")
        return f"%v{self._count}"

    def do(self, text: str) -> None:
        """Add an instruction without a result."""
        self.lines.append(f"  {text}")

    def label(self, name: str) -> None:
        """Begin a basic block."""
        self.lines.append(f"{name}:")
        self._block = name

    def add(self, left: str, right: str) -> str:
        """Return left + right, i64."""
        return self.let(f"add i64 {left}, {right}")

    def mul(self, left: str, right: str) -> str:
        """Return left · right, i64."""
        return self.let(f"mul i64 {left}, {right}")

    def load(self, kind: str, address: str, align: int) -> str:
        """Return what stands at an address."""
        pointer = self.let(f"inttoptr i64 {address} to ptr")
        return self.let(f"load {kind}, ptr {pointer}, align {align}")

    def store(self, kind: str, value: str, address: str, align: int) -> None:
        """Store a value as it is."""
        pointer = self.let(f"inttoptr i64 {address} to ptr")
        self.do(f"store {kind} {value}, ptr {pointer}, align {align}")

    def index(self, address: str, number: str) -> str:
        """Return the int32 `number` of the array at `address`, as i64."""
        at = self.add(address, self.mul(number, "4"))
        return self.let(f"sext i32 {self.load('i32', at, 4)} to i64")

    def read(self, address: str, lanes: int) -> str:
        """Return `lanes` consecutive elements in the type that is computed in."""
        raw = self.load(self.vector(STORED[self.dtype], lanes), address, self.size)
        if self.dtype == "float16":
            return self.let(f"fpext {self.vector('half', lanes)} {raw} to {self.vector('float', lanes)}")
        if self.dtype == "bfloat16":
            wide, short, real = self.vector("i32", lanes), self.vector("i16", lanes), self.vector("float", lanes)
            bits = self.let(f"zext {short} {raw} to {wide}")
            high = self.let(f"shl {wide} {bits}, {self.splat_constant('i32', '16', lanes)}")
            return self.let(f"bitcast {wide} {high} to {real}")
        return raw

    def write(self, value: str, address: str, lanes: int) -> None:
        """Store `lanes` elements, rounded to nearest even where the memory is narrower."""
        kind = self.vector(STORED[self.dtype], lanes)
        if self.dtype == "float16":
            value = self.let(f"fptrunc {self.vector('float', lanes)} {value} to {kind}")
        elif self.dtype == "bfloat16":
            value = self._round_bfloat16(value, lanes)
        self.store(kind, value, address, self.size)

    def _round_bfloat16(self, value: str, lanes: int) -> str:
        """Return the upper 16 bits, to nearest even. A NaN is cut off: arithmetic made it quiet, by an upper bit."""
        wide, short, real = self.vector("i32", lanes), self.vector("i16", lanes), self.vector("float", lanes)

        def constant(text: str) -> str:
            return self.splat_constant("i32", text, lanes)

        bits = self.let(f"bitcast {real} {value} to {wide}")
        last = self.let(f"lshr {wide} {bits}, {constant('16')}")
        odd = self.let(f"and {wide} {last}, {constant('1')}")
        nudge = self.let(f"add {wide} {odd}, {constant('32767')}")
        rounded = self.let(f"add {wide} {bits}, {nudge}")
        unordered = self.let(f"fcmp uno {real} {value}, {value}")
        chosen = self.let(f"select {self.vector('i1', lanes)} {unordered}, {wide} {bits}, {wide} {rounded}")
        high = self.let(f"lshr {wide} {chosen}, {constant('16')}")
        return self.let(f"trunc {wide} {high} to {short}")

    def splat_constant(self, kind: str, text: str, lanes: int) -> str:
        """Return a constant in every lane."""
        return text if lanes == 1 else "<" + ", ".join([f"{kind} {text}"] * lanes) + ">"

    def splat(self, value: str) -> str:
        """Return a scalar in every lane."""
        if self.lanes == 1:
            return value
        kind = self.vector(self.scalar)
        first = self.let(f"insertelement {kind} poison, {self.scalar} {value}, i32 0")
        return self.let(f"shufflevector {kind} {first}, {kind} poison, <{self.lanes} x i32> {ZERO}")

    def fma(self, a: str, b: str, c: str) -> str:
        """Return a · b + c, rounded once."""
        kind = self.vector(self.scalar)
        return self.let(f"call {kind} @{self.fma_name()}({kind} {a}, {kind} {b}, {kind} {c})")

    def fma_name(self) -> str:
        """Return the name of LLVM's fused multiply-add of this vector."""
        bits = "f64" if self.scalar == "double" else "f32"
        return f"llvm.fma.{bits}" if self.lanes == 1 else f"llvm.fma.v{self.lanes}{bits}"

    def declarations(self) -> str:
        """Return what the function needs declared."""
        kind = self.vector(self.scalar)
        return f"declare {kind} @{self.fma_name()}({kind}, {kind}, {kind})"

    def zero(self) -> str:
        """Return the constant 0 in every lane."""
        return "0.0" if self.lanes == 1 else ZERO

    @contextmanager
    def loop(self, name: str, first: str, last: str, step: str, carried: Sequence[tuple[str, str]]) -> Iterator[Loop]:
        """Run the body for first, first + step … below last; not at all if first ≥ last.

        Args:
            name: of its basic blocks.
            first: i64 value.
            last: i64 value.
            step: i64 value.
            carried: (type, initial value) of what is handed from one round to the next; the body sets `Loop.after`.
        """
        before = self._block
        enters = self.let(f"icmp slt i64 {first}, {last}")
        self.do(f"br i1 {enters}, label %{name}, label %{name}.done")
        self.label(name)
        latch = f"{name}.latch"
        counter, inside = f"%{name}.i", [f"%{name}.c{n}" for n in range(len(carried))]
        place = len(self.lines)
        loop = Loop(counter, inside)
        yield loop
        following = self.add(counter, step)
        self.do(f"br label %{latch}")
        self.label(latch)
        again = self.let(f"icmp slt i64 {following}, {last}")
        self.do(f"br i1 {again}, label %{name}, label %{name}.done")
        phis = [f"  {counter} = phi i64 [ {first}, %{before} ], [ {following}, %{latch} ]"]
        for (kind, start), value, after in zip(carried, inside, loop.after, strict=True):
            phis.append(f"  {value} = phi {kind} [ {start}, %{before} ], [ {after}, %{latch} ]")
        self.lines[place:place] = phis
        self.label(f"{name}.done")
        loop.results = [
            self.let(f"phi {kind} [ {start}, %{before} ], [ {after}, %{latch} ]")
            for (kind, start), after in zip(carried, loop.after, strict=True)
        ]


class Loop:
    """Hand values through a loop."""

    def __init__(self, counter: str, inside: list[str]) -> None:
        """Remember the counter and the carried values as the body sees them."""
        self.counter, self.inside = counter, inside
        self.after: list[str] = []
        self.results: list[str] = []
