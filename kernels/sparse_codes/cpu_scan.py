"""Generate the two passes of the selection with LLVM: maxima of groups, and which entries of a row are larger."""

from __future__ import annotations

from functools import cache

from sparsebench.kernels.microkernels import host

CHUNK = 64
"""Entries that one step takes: as many as a mask has bits."""

_TYPES = {"float32": ("float", "i32", 4, 2**31 - 1), "float64": ("double", "i64", 8, 2**63 - 1)}

_MAXIMA = """
declare <{n} x {integer}> @llvm.smax.v{n}{integer}(<{n} x {integer}>, <{n} x {integer}>)
define void @maxima_{real}(i64 %bits, i64 %groups, i64 %repeats, i64 %out) nounwind {{
entry:
  %sign = insertelement <{n} x {integer}> poison, {integer} {sign}, i32 0
  %signs = shufflevector <{n} x {integer}> %sign, <{n} x {integer}> poison, <{n} x i32> zeroinitializer
  %mask = insertelement <{n} x {integer}> poison, {integer} {mask}, i32 0
  %masks = shufflevector <{n} x {integer}> %mask, <{n} x {integer}> poison, <{n} x i32> zeroinitializer
  %low = insertelement <{n} x {integer}> poison, {integer} {least}, i32 0
  %lows = shufflevector <{n} x {integer}> %low, <{n} x {integer}> poison, <{n} x i32> zeroinitializer
  %from = inttoptr i64 %bits to ptr
  %to = inttoptr i64 %out to ptr
  br label %group
group:
  %g = phi i64 [ 0, %entry ], [ %next, %write ]
  br label %repeat
repeat:
  %r = phi i64 [ 0, %group ], [ %following, %repeat ]
  %best = phi <{n} x {integer}> [ %lows, %group ], [ %better, %repeat ]
  %row = mul i64 %r, %groups
  %at = add i64 %row, %g
  %address = getelementptr {integer}, ptr %from, i64 %at
  %value = load <{n} x {integer}>, ptr %address, align {size}
  %spread = ashr <{n} x {integer}> %value, %signs
  %turn = and <{n} x {integer}> %spread, %masks
  %key = xor <{n} x {integer}> %value, %turn
  %better = call <{n} x {integer}> @llvm.smax.v{n}{integer}(<{n} x {integer}> %best, <{n} x {integer}> %key)
  %following = add i64 %r, 1
  %again = icmp slt i64 %following, %repeats
  br i1 %again, label %repeat, label %write
write:
  %target = getelementptr {integer}, ptr %to, i64 %g
  store <{n} x {integer}> %better, ptr %target, align {size}
  %next = add i64 %g, {n}
  %more = icmp slt i64 %next, %groups
  br i1 %more, label %group, label %done
done:
  ret void
}}
"""
_LARGER = """
define void @larger_{real}(i64 %x, i64 %least, i64 %chunks, i64 %out) nounwind {{
entry:
  %from = inttoptr i64 %x to ptr
  %to = inttoptr i64 %out to ptr
  %bound = inttoptr i64 %least to ptr
  %one = load {real}, ptr %bound, align {size}
  %first = insertelement <{n} x {real}> poison, {real} %one, i32 0
  %every = shufflevector <{n} x {real}> %first, <{n} x {real}> poison, <{n} x i32> zeroinitializer
  br label %chunk
chunk:
  %i = phi i64 [ 0, %entry ], [ %next, %chunk ]
  %address = getelementptr <{n} x {real}>, ptr %from, i64 %i
  %value = load <{n} x {real}>, ptr %address, align {size}
  %larger = fcmp ugt <{n} x {real}> %value, %every
  %mask = bitcast <{n} x i1> %larger to i{n}
  %target = getelementptr i{n}, ptr %to, i64 %i
  store i{n} %mask, ptr %target, align 8
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %chunks
  br i1 %more, label %chunk, label %done
done:
  ret void
}}
"""


@cache
def maxima(dtype: str) -> int:
    """Return the address of a function of (bits, groups, repeats, out), for rows of "float32" or "float64".

    With the row seen as integers, out[g] becomes the largest key of bits[g], bits[g + groups] …, repeats ≥ 1 of them;
    groups is a multiple of CHUNK. A key is the bits with all but the sign turned over where that is set, so that keys
    are in the numbers' order.
    """
    return _compiled(_MAXIMA, "maxima", dtype)


@cache
def larger(dtype: str) -> int:
    """Return the address of a function of (x, least, chunks, out), for rows of "float32" or "float64".

    Bit j of out[i], int64, tells of x[64·i + j], for chunks ≥ 1 of them. `least` is the address of a number. The bit is
    set where x is larger or NaN; with a NaN as the least, everywhere.
    """
    return _compiled(_LARGER, "larger", dtype)


def _compiled(template: str, name: str, dtype: str) -> int:
    real, integer, size, mask = _TYPES[dtype]
    text = template.format(
        n=CHUNK, real=real, integer=integer, size=size, mask=mask, sign=8 * size - 1, least=-mask - 1
    )
    address: int = host.compile_module(text).get_function_address(f"{name}_{real}")
    return address
