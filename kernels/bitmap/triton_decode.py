"""Decode bits and packed values into registers, by Triton functions that the kernels of this folder call.

An octet is eight neighbouring places of a row: a lane decodes one octet of each of the four rows of a group at a time,
so that 32 loads are under way, and neighbouring lanes read neighbouring values. Where an octet's values begin is what
the table says of its chunk, and the bits set in the chunk before it.
"""

# ruff: noqa: N803 - Triton writes its compile-time constants in capitals
from __future__ import annotations

import triton
import triton.language as tl

# triton ships its decorators without types, and a kernel's arguments have none that Python knows: hence the ignores


@triton.jit
def count(word):  # type: ignore[no-untyped-def]
    """Return how many bits of each uint64 are set, as int32; by halves, which LLVM knows for what it is."""
    word = word - ((word >> 1) & 0x5555555555555555)
    word = (word & 0x3333333333333333) + ((word >> 2) & 0x3333333333333333)
    word = (word + (word >> 4)) & 0x0F0F0F0F0F0F0F0F
    return ((word * 0x0101010101010101) >> 56).to(tl.int32)


@triton.jit
def load_word(words, inside):  # type: ignore[no-untyped-def]
    """Return words of bits as uint64; none of their bits outside."""
    return tl.load(words, mask=inside, other=0).to(tl.uint64, bitcast=True)


@triton.jit
def octet_of(word, shift, first):  # type: ignore[no-untyped-def]
    """Return the octet of a word at a shift of 0, 8 … 56, and where its values begin if the word's begin at `first`."""
    one = tl.full((), 1, dtype=tl.uint64)
    below = word & ((one << shift) - one)
    return ((word >> shift) & 255).to(tl.int32), first + count(below)


@triton.jit  # type: ignore[untyped-decorator]
def take(values, at, octet, BIT: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the value at one place of an octet (0 if none is stored), whether one is, and where the next one lies."""
    bit = (octet >> BIT) & 1
    stored = bit != 0
    return tl.load(values + at, mask=stored, other=0.0), stored, at + bit


@triton.jit
def _eight(values, at, octet):  # type: ignore[no-untyped-def]
    """Return the eight values of an octet side by side: (…, 8)."""
    v0, _, at = take(values, at, octet, 0)
    v1, _, at = take(values, at, octet, 1)
    v2, _, at = take(values, at, octet, 2)
    v3, _, at = take(values, at, octet, 3)
    v4, _, at = take(values, at, octet, 4)
    v5, _, at = take(values, at, octet, 5)
    v6, _, at = take(values, at, octet, 6)
    v7, _, at = take(values, at, octet, 7)
    even = tl.join(tl.join(v0, v4), tl.join(v2, v6))
    odd = tl.join(tl.join(v1, v5), tl.join(v3, v7))
    return tl.join(even, odd)  # (…, 2, 2, 2): the bits of the place's number, the highest first


@triton.jit  # type: ignore[untyped-decorator]
def tile_of(values, bits, starts, table, group, group_in, chunk, chunks, GROUPS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the values (4 · GROUPS, 64) of one chunk of GROUPS groups; 0 where none is stored.

    Args:
        values: (nnz).
        bits: (groups, chunks, 4).
        starts: (groups + 1).
        table: (groups, chunks).
        group: int64 (GROUPS).
        group_in: (GROUPS), whether there is such a group.
        chunk: its number.
        chunks: how many there are.
        GROUPS: how many groups.
    """
    block = (group * chunks + chunk)[:, None] + tl.zeros((GROUPS, 8), dtype=tl.int64)
    inside = group_in[:, None] & (tl.arange(0, 8) >= 0)[None, :]
    shift = (tl.arange(0, 8) * 8).to(tl.uint64)[None, :]
    held = values + tl.load(starts + group, mask=group_in, other=0)[:, None]
    first = tl.load(table + block, mask=inside, other=0)
    words = bits + block * 4
    w0 = load_word(words, inside)
    w1 = load_word(words + 1, inside)
    w2 = load_word(words + 2, inside)
    w3 = load_word(words + 3, inside)
    octet, at = octet_of(w0, shift, first)
    r0 = _eight(held, at, octet)
    first += count(w0)
    octet, at = octet_of(w1, shift, first)
    r1 = _eight(held, at, octet)
    first += count(w1)
    octet, at = octet_of(w2, shift, first)
    r2 = _eight(held, at, octet)
    first += count(w2)
    octet, at = octet_of(w3, shift, first)
    r3 = _eight(held, at, octet)
    rows = tl.join(tl.join(r0, r2), tl.join(r1, r3))  # (GROUPS, 8, 2, 2, 2, 2, 2)
    return tl.reshape(tl.permute(rows, (0, 5, 6, 1, 2, 3, 4)), (GROUPS * 4, 64))
