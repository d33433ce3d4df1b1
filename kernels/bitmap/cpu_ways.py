"""Know the ways of putting packed values back into their lanes, and write them as LLVM IR.

A way takes the packed values that begin at an address and the bits of so many places, and gives vectors with each value
where its bit stands. Which of them a processor has instructions for is asked of LLVM, never of the processor's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from sparsebench.kernels.common.tailed import Tailed
from sparsebench.kernels.microkernels import host
from sparsebench.kernels.microkernels.emit import COMPUTED, SIZES

EXPAND, PERMUTE, BITS = "expanding loads", "permutations", "bit by bit"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One vector of what `Way.read` gives.

    Attributes:
        value: the vector, in the type that is computed in; 0 where nothing is stored.
        mask: which of its lanes are stored, or "" where that is not known lane by lane.
    """

    value: str
    mask: str


@dataclass(frozen=True, kw_only=True, eq=False)  # compared by identity: a product looks up what was made for it
class Way:
    """How values come into their lanes.

    Attributes:
        kind: EXPAND (AVX-512), PERMUTE (AVX2: a table of permutations) or BITS (a loop over the bits that are set).
        dtype: name of the values' dtype.
        places: how many are read at a time, a divisor of 64.
        lanes: of a vector that is computed with; `places` is once or twice as many.
        loads: whether there is an expanding load of this type; else vectors are loaded whole and expanded in registers.
    """

    kind: str
    dtype: str
    places: int
    lanes: int
    loads: bool = True

    @property
    def parts(self) -> int:
        """Return how many vectors `read` gives."""
        return self.places // self.lanes

    @property
    def splits(self) -> bool:
        """Tell whether the two vectors hold the even and the odd places, rather than the lower and the upper ones."""
        return self.parts == 2 and self.dtype == "bfloat16"

    @property
    def reach(self) -> int:
        """Return how many elements may be read from where a row's begin on, stored or not."""
        return 0 if self.kind == BITS or (self.kind == EXPAND and self.loads) else self.places

    @property
    def exact(self) -> bool:
        """Tell whether what is absent takes no part in a product: else 0 is multiplied, and 0 · ∞ is NaN."""
        return self.kind == BITS or (self.kind == EXPAND and self.parts == 1)

    def mask(self, e: Tailed, piece: str) -> str:
        """Return the bits of an integer of `places` bits as a mask."""
        return e.let(f"bitcast i{self.places} {piece} to <{self.places} x i1>")

    def raw(self, e: Tailed, address: str, piece: str) -> tuple[str, str, str]:
        """Return the type, the values as they are in memory, and the mask, of the places of `piece`."""
        element = {"float32": "float", "float64": "double"}.get(self.dtype, "i16")
        kind = f"<{self.places} x {element}>"
        if self.kind == PERMUTE:
            return kind, self._permuted(e, address, piece, kind), ""
        mask = self.mask(e, piece)
        pointer = e.let(f"inttoptr i64 {address} to ptr")
        if self.loads:
            name = f"llvm.masked.expandload.v{self.places}{_SHORT[element]}"
            e.declare(f"declare {kind} @{name}(ptr, <{self.places} x i1>, {kind})")
            value = e.let(f"call {kind} @{name}(ptr {pointer}, <{self.places} x i1> {mask}, {kind} zeroinitializer)")
            return kind, value, mask
        wide = f"<{self.places} x i32>"
        name = f"llvm.x86.avx512.mask.expand.v{self.places}i32"
        e.declare(f"declare {wide} @{name}({wide}, {wide}, <{self.places} x i1>)")
        loaded = e.let(f"zext {kind} {e.let(f'load {kind}, ptr {pointer}, align 2')} to {wide}")
        value = e.let(f"call {wide} @{name}({wide} {loaded}, {wide} zeroinitializer, <{self.places} x i1> {mask})")
        return wide, value, mask

    def read(self, e: Tailed, address: str, piece: str) -> list[Part]:
        """Return the vectors of the places whose bits are in `piece`, an integer of so many bits."""
        kind, value, mask = self.raw(e, address, piece)
        if self.dtype in ("float32", "float64"):
            return [Part(value=value, mask=mask)]
        if self.parts == 1:
            return [Part(value=_real(e, kind, value, self.dtype, self.lanes), mask=mask)]
        if self.splits:  # a bfloat16 is the upper half of a float32: two instructions for two vectors
            wide = f"<{self.lanes} x i32>"
            both = e.let(f"bitcast {kind} {value} to {wide}")
            even = e.let(f"shl {wide} {both}, {e.splat_constant('i32', '16', self.lanes)}")
            odd = e.let(f"and {wide} {both}, {e.splat_constant('i32', '-65536', self.lanes)}")
            reals = [e.let(f"bitcast {wide} {bits} to <{self.lanes} x float>") for bits in (even, odd)]
        else:
            half = f"<{self.lanes} x i16>"
            reals = []
            for first in (0, self.lanes):
                which = "<" + ", ".join(f"i32 {first + i}" for i in range(self.lanes)) + ">"
                part = e.let(f"shufflevector {kind} {value}, {kind} poison, <{self.lanes} x i32> {which}")
                reals.append(_real(e, half, part, self.dtype, self.lanes))
        return [Part(value=real, mask="") for real in reals]

    @property
    def compresses(self) -> bool:
        """Tell whether there is an instruction that stores the values of set bits side by side."""
        return self.kind == EXPAND and self.loads

    def compress(self, e: Tailed, source: str, address: str, piece: str) -> None:
        """Store the values at pointer `source` whose bits are in `piece` from an address on, side by side."""
        element = {"float32": "float", "float64": "double"}.get(self.dtype, "i16")
        kind, mask = f"<{self.places} x {element}>", self.mask(e, piece)
        name = f"llvm.masked.compressstore.v{self.places}{_SHORT[element]}"
        e.declare(f"declare void @{name}({kind}, ptr, <{self.places} x i1>)")
        value = e.let(f"load {kind}, ptr {source}, align {e.size}")
        pointer = e.let(f"inttoptr i64 {address} to ptr")
        e.do(f"call void @{name}({kind} {value}, ptr {pointer}, <{self.places} x i1> {mask})")

    def _permuted(self, e: Tailed, address: str, piece: str, kind: str) -> str:
        """Return values moved by a table of permutations, 32 bits at a time, and 0 where nothing is stored."""
        words = 8
        wide = f"<{words} x i32>"
        e.declare(_TABLES[8 // self.places])
        e.declare(f"declare {wide} @llvm.x86.avx2.permd({wide}, {wide})")
        pointer = e.let(f"inttoptr i64 {address} to ptr")
        loaded = e.let(f"load {kind}, ptr {pointer}, align {SIZES[self.dtype]}")
        if SIZES[self.dtype] == 2:
            loaded = e.let(f"zext {kind} {loaded} to {wide}")
        else:
            loaded = e.let(f"bitcast {kind} {loaded} to {wide}")
        row = e.let(f"zext i{self.places} {piece} to i64")
        moves, stays = (
            e.let(
                f"load {wide}, ptr {e.let(f'getelementptr {wide}, ptr @{name}{8 // self.places}, i64 {row}')}, align 32"
            )
            for name in ("moves", "stays")
        )
        moved = e.let(f"call {wide} @llvm.x86.avx2.permd({wide} {loaded}, {wide} {moves})")
        found = e.let(f"and {wide} {moved}, {stays}")
        if SIZES[self.dtype] == 2:
            return e.let(f"trunc {wide} {found} to {kind}")
        return e.let(f"bitcast {wide} {found} to {kind}")


_SHORT = {"float": "f32", "double": "f64", "i16": "i16"}


def _real(e: Tailed, kind: str, value: str, dtype: str, lanes: int) -> str:
    """Return halves, held in 16 or 32 bits each, as float32."""
    if dtype == "bfloat16":
        wide = f"<{lanes} x i32>"
        bits = value if kind == wide else e.let(f"zext {kind} {value} to {wide}")
        high = e.let(f"shl {wide} {bits}, {e.splat_constant('i32', '16', lanes)}")
        return e.let(f"bitcast {wide} {high} to <{lanes} x float>")
    short = f"<{lanes} x i16>"
    bits = value if kind == short else e.let(f"trunc {kind} {value} to {short}")
    half = e.let(f"bitcast {short} {bits} to <{lanes} x half>")
    return e.let(f"fpext <{lanes} x half> {half} to <{lanes} x float>")


def _table(words: int) -> str:
    """Return two constants in IR: for each set of bits where values come from, and which lanes keep anything.

    Args:
        words: of 32 bits to a value.
    """
    places = 8 // words
    moves, stays = [], []
    for bits in range(1 << places):
        numbers, kept, done = [], [], 0
        for place in range(places):
            on = bits >> place & 1
            numbers += [done * words + word for word in range(words)]
            kept += [-1 if on else 0] * words
            done += on
        # where nothing is stored the number may be one too many
        moves.append("<8 x i32> <" + ", ".join(f"i32 {min(number, 7)}" for number in numbers) + ">")
        stays.append("<8 x i32> <" + ", ".join(f"i32 {mark}" for mark in kept) + ">")
    rows = 1 << places
    return "\n".join(
        f"@{name}{words} = private unnamed_addr constant [{rows} x <8 x i32>] [{', '.join(lines)}], align 32"
        for name, lines in (("moves", moves), ("stays", stays))
    )


_TABLES = {words: _table(words) for words in (1, 2)}


@cache
def ways(dtype: str) -> tuple[Way, ...]:
    """Return the ways that this processor has, the one that is usually the fastest first.

    Args:
        dtype: name of the values' dtype.
    """
    size, computed = SIZES[dtype], 8 if COMPUTED[dtype] == "double" else 4
    found = []
    if host.has("avx512f") and host.has("avx512bw") and host.has("avx512dq"):
        lanes = 64 // computed
        if size > 2:
            found.append(Way(kind=EXPAND, dtype=dtype, places=lanes, lanes=lanes))
        else:
            if host.has("avx512vbmi2"):
                found.append(Way(kind=EXPAND, dtype=dtype, places=2 * lanes, lanes=lanes))
            found.append(Way(kind=EXPAND, dtype=dtype, places=lanes, lanes=lanes, loads=False))
    if host.has("avx2") and host.has("fma"):
        found.append(Way(kind=PERMUTE, dtype=dtype, places=32 // computed, lanes=32 // computed))
    found.append(Way(kind=BITS, dtype=dtype, places=1, lanes=1))
    return tuple(found)
