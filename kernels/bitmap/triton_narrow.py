"""Multiply in Triton by a matrix of bits and packed values, for up to eight columns: no matrix instructions.

Every lane decodes octets, multiplies what is stored with x, and keeps sums of its own over all steps; lanes add theirs
up once, behind the last step. What is not stored is never multiplied, so that no infinity of x can become NaN.
"""

# ruff: noqa: N803 - Triton writes its compile-time constants in capitals
from __future__ import annotations

import triton
import triton.language as tl

from sparsebench.kernels.bitmap.triton_decode import count, load_word, octet_of, take
from sparsebench.kernels.bitmap.triton_kernels import COUNTS

MOST = 8
"""Columns: more of them are worth matrix instructions."""

# triton ships its decorators without types, and a kernel's arguments have none that Python knows: hence the ignores


@triton.jit
def _add(total, value, stored, met):  # type: ignore[no-untyped-def]
    """Return total (…, COLUMNS) plus value · met where a value is stored."""
    wide = tl.expand_dims(value, len(value.shape)).to(tl.float32)
    return tl.where(tl.expand_dims(stored, len(stored.shape)), total + wide * met, total)


@triton.jit(do_not_specialize=COUNTS)  # type: ignore[untyped-decorator]
def narrow(  # type: ignore[no-untyped-def]
    values,  # (nnz)
    bits,  # (groups, chunks, 4)
    starts,  # (groups + 1): first value of each group
    table,  # (groups, chunks): values of the group before each chunk
    x,  # (batch, k, n)
    out,  # (parts, batch, m, n), float32 if there are several parts
    groups,
    chunks,
    m,
    k,
    n,
    steps,  # of a part of the sum, each of OCTETS octets
    stride_xb,
    stride_xr,
    stride_xc,
    stride_op,
    stride_ob,
    stride_or,
    OCTETS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute the four rows of a group of S @ x over a part of the columns of S; n ≤ COLUMNS."""
    group = tl.program_id(0).to(tl.int64)
    item = tl.program_id(1).to(tl.int64)
    part = tl.program_id(2)
    column = tl.arange(0, COLUMNS)
    column_in = column < n
    from_x = x + item * stride_xb + column.to(tl.int64)[None, :] * stride_xc
    held = values + tl.load(starts + group)
    words = bits + group * chunks * 4
    total0 = tl.zeros((OCTETS, COLUMNS), dtype=tl.float32)
    total1 = tl.zeros((OCTETS, COLUMNS), dtype=tl.float32)
    total2 = tl.zeros((OCTETS, COLUMNS), dtype=tl.float32)
    total3 = tl.zeros((OCTETS, COLUMNS), dtype=tl.float32)
    for step in range(part * steps, tl.minimum((part + 1) * steps, tl.cdiv(chunks * 8, OCTETS))):
        number = step * OCTETS + tl.arange(0, OCTETS)
        chunk = number // 8
        inside = chunk < chunks
        shift = (number % 8 * 8).to(tl.uint64)
        first = tl.load(table + group * chunks + chunk, mask=inside, other=0)
        w0 = load_word(words + chunk.to(tl.int64) * 4, inside)
        w1 = load_word(words + chunk.to(tl.int64) * 4 + 1, inside)
        w2 = load_word(words + chunk.to(tl.int64) * 4 + 2, inside)
        w3 = load_word(words + chunk.to(tl.int64) * 4 + 3, inside)
        octet0, at0 = octet_of(w0, shift, first)
        first += count(w0)
        octet1, at1 = octet_of(w1, shift, first)
        first += count(w1)
        octet2, at2 = octet_of(w2, shift, first)
        first += count(w2)
        octet3, at3 = octet_of(w3, shift, first)
        for bit in tl.static_range(8):
            row = number.to(tl.int64) * 8 + bit
            met = tl.load(
                from_x + row[:, None] * stride_xr, mask=(row < k)[:, None] & column_in[None, :], other=0.0
            ).to(tl.float32)
            value0, stored0, at0 = take(held, at0, octet0, bit)
            value1, stored1, at1 = take(held, at1, octet1, bit)
            value2, stored2, at2 = take(held, at2, octet2, bit)
            value3, stored3, at3 = take(held, at3, octet3, bit)
            total0 = _add(total0, value0, stored0, met)
            total1 = _add(total1, value1, stored1, met)
            total2 = _add(total2, value2, stored2, met)
            total3 = _add(total3, value3, stored3, met)
    to = out + part.to(tl.int64) * stride_op + item * stride_ob + group * 4 * stride_or + column
    kind = out.dtype.element_ty
    tl.store(to, tl.sum(total0, axis=0).to(kind), mask=column_in)
    tl.store(to + stride_or, tl.sum(total1, axis=0).to(kind), mask=column_in & (group * 4 + 1 < m))
    tl.store(to + 2 * stride_or, tl.sum(total2, axis=0).to(kind), mask=column_in & (group * 4 + 2 < m))
    tl.store(to + 3 * stride_or, tl.sum(total3, axis=0).to(kind), mask=column_in & (group * 4 + 3 < m))


@triton.jit  # type: ignore[untyped-decorator]
def _store(to, total, row, k, stride_or, column_in, BIT: tl.constexpr):  # type: ignore[no-untyped-def]
    """Store the sums over groups of one place of each octet: total (GROUPS, 8, COLUMNS) at rows row + BIT."""
    mask = (row + BIT < k)[:, None] & column_in[None, :]
    tl.store(to + BIT * stride_or, tl.sum(total, axis=0).to(to.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=COUNTS)  # type: ignore[untyped-decorator]
def narrow_transposed(  # type: ignore[no-untyped-def]
    values,
    bits,
    starts,
    table,
    x,  # (batch, m, n)
    out,  # (parts, batch, k, n)
    groups,
    chunks,
    m,
    k,
    n,
    steps,  # of a part of the sum, each of GROUPS groups
    stride_xb,
    stride_xr,
    stride_xc,
    stride_op,
    stride_ob,
    stride_or,
    GROUPS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute the 64 rows of Sᵀ @ x that a chunk's columns are, over a part of the groups, for COLUMNS of x."""
    tiles = tl.cdiv(n, COLUMNS)
    chunk = (tl.program_id(0) // tiles).to(tl.int64)
    item = tl.program_id(1).to(tl.int64)
    part = tl.program_id(2)
    column = (tl.program_id(0) % tiles) * COLUMNS + tl.arange(0, COLUMNS)
    column_in = column < n
    from_x = x + item * stride_xb + column.to(tl.int64)[None, :] * stride_xc
    shift = (tl.arange(0, 8) * 8).to(tl.uint64)[None, :]
    total0 = tl.zeros((GROUPS, 8, COLUMNS), dtype=tl.float32)
    total1 = tl.zeros((GROUPS, 8, COLUMNS), dtype=tl.float32)
    total2 = tl.zeros((GROUPS, 8, COLUMNS), dtype=tl.float32)
    total3 = tl.zeros((GROUPS, 8, COLUMNS), dtype=tl.float32)
    total4 = tl.zeros((GROUPS, 8, COLUMNS), dtype=tl.float32)
    total5 = tl.zeros((GROUPS, 8, COLUMNS), dtype=tl.float32)
    total6 = tl.zeros((GROUPS, 8, COLUMNS), dtype=tl.float32)
    total7 = tl.zeros((GROUPS, 8, COLUMNS), dtype=tl.float32)
    for step in range(part * steps, tl.minimum((part + 1) * steps, tl.cdiv(groups, GROUPS))):
        group = tl.cast(step, tl.int64) * GROUPS + tl.arange(0, GROUPS)
        group_in = group < groups
        block = (group * chunks + chunk)[:, None] + tl.zeros((GROUPS, 8), dtype=tl.int64)
        inside = group_in[:, None] & (tl.arange(0, 8) >= 0)[None, :]
        held = values + tl.load(starts + group, mask=group_in, other=0)[:, None]
        first = tl.load(table + block, mask=inside, other=0)
        for r in tl.static_range(4):
            word = load_word(bits + block * 4 + r, inside)
            octet, at = octet_of(word, shift, first)
            first += count(word)
            row = group * 4 + r
            met = tl.load(from_x + row[:, None] * stride_xr, mask=(row < m)[:, None] & column_in[None, :], other=0.0)
            met = met.to(tl.float32)[:, None, :]
            value, stored, at = take(held, at, octet, 0)
            total0 = _add(total0, value, stored, met)
            value, stored, at = take(held, at, octet, 1)
            total1 = _add(total1, value, stored, met)
            value, stored, at = take(held, at, octet, 2)
            total2 = _add(total2, value, stored, met)
            value, stored, at = take(held, at, octet, 3)
            total3 = _add(total3, value, stored, met)
            value, stored, at = take(held, at, octet, 4)
            total4 = _add(total4, value, stored, met)
            value, stored, at = take(held, at, octet, 5)
            total5 = _add(total5, value, stored, met)
            value, stored, at = take(held, at, octet, 6)
            total6 = _add(total6, value, stored, met)
            value, stored, at = take(held, at, octet, 7)
            total7 = _add(total7, value, stored, met)
    row = chunk * 64 + tl.arange(0, 8) * 8
    to = out + part.to(tl.int64) * stride_op + item * stride_ob + row[:, None] * stride_or + column[None, :]
    _store(to, total0, row, k, stride_or, column_in, 0)
    _store(to, total1, row, k, stride_or, column_in, 1)
    _store(to, total2, row, k, stride_or, column_in, 2)
    _store(to, total3, row, k, stride_or, column_in, 3)
    _store(to, total4, row, k, stride_or, column_in, 4)
    _store(to, total5, row, k, stride_or, column_in, 5)
    _store(to, total6, row, k, stride_or, column_in, 6)
    _store(to, total7, row, k, stride_or, column_in, 7)
