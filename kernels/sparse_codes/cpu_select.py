"""Select the k largest entries of each row on the CPU: a floor from the maxima of groups, then one scan above it.

A short row is left to `cpu_bisect`. A long one is cut into four groups or more for each entry that is wanted. The
k-th largest of the groups' maxima is reached by k entries at least, and by few more: in random data
−4k·ln(1 − 1/4) = 1.15 k. Both passes go a vector at a time. What the scan finds is collected; when the collection is
full, the k largest of it are kept, and their least is what the scan compares with from then on: an entry that only
equals it comes later than k that are as large, and loses. So no data makes it slower than a small multiple of N a row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from sparsebench.kernels.common.jit import copy, njit
from sparsebench.kernels.microkernels.call import call
from sparsebench.kernels.sparse_codes import cpu_bisect
from sparsebench.kernels.sparse_codes.cpu_scan import CHUNK

SHORT = 8
"""Groups times this many entries make a short row, selected by `cpu_bisect`; about there the two are equally fast."""


@njit(inline="always")
def _above(a: Any, b: Any) -> Any:
    """Tell whether a counts as larger: NaN is above all numbers and level with NaN; −0 is level with 0."""
    return a > b or (a != a and b == b)


@njit()
def kth(work: Any, count: int, k: int) -> Any:
    """Return the k-th largest of the first `count` numbers, which are reordered (Hoare's quickselect)."""
    low, high, goal = 0, count - 1, k - 1
    while low < high:
        a, b, c = work[low], work[(low + high) // 2], work[high]
        pivot = b
        if _above(a, b) != _above(a, c):
            pivot = a
        elif _above(c, a) != _above(c, b):
            pivot = c
        i, j = low, high
        while i <= j:
            while _above(work[i], pivot):
                i += 1
            while _above(pivot, work[j]):
                j -= 1
            if i <= j:
                work[i], work[j] = work[j], work[i]
                i += 1
                j -= 1
        if goal <= j:
            high = j
        elif goal >= i:
            low = i
        else:
            break
    return work[goal]


@njit()
def _keep(found: Any, at: Any, count: int, k: int, work: Any) -> Any:
    """Keep the k largest of `count` ≥ k found entries in their order, the first of equal ones; return their least."""
    copy(found, work[:count])
    least = kth(work, count, k)
    above = 0
    for i in range(count):
        above += _above(found[i], least)
    level, kept = k - above, 0
    for i in range(count):
        value = found[i]
        wanted = _above(value, least)
        if not wanted and level > 0 and not _above(least, value):
            wanted = True
            level -= 1
        if wanted:
            found[kept], at[kept] = value, at[i]
            kept += 1
    return least


@njit()
def _scan(x: Any, masks: Any, start: int, k: int, least: Any, found: Any, at: Any, work: Any) -> Any:
    """Add the entries of x from `start` on that `masks` allow and that are larger than the least to `start` found ones.

    Whenever the collection is full, only the k largest are kept, and the least of these is the least from then on.

    Returns:
        how many there are.
    """
    size, room, count = x.size, found.size, start
    for i in range(start // CHUNK, masks.size):
        mask = masks[i]
        if mask == 0:
            continue
        if count > room - CHUNK:
            least = _keep(found, at, count, k, work)
            count = k
        for j in range(i * CHUNK, min(i * CHUNK + CHUNK, size)):
            if mask & 1 and j >= start and _above(x[j], least):
                found[count], at[count] = x[j], j
                count += 1
            mask >>= 1
    return count


@njit()
def _mark(larger: int, x: Any, least: Any, masks: Any) -> None:
    """Let bits of `masks` tell which entries may be larger than the least; of those past whole chunks all may."""
    whole = x.size // CHUNK
    if whole > 0:
        call(larger, (x.ctypes.data, least.ctypes.data, whole, masks.ctypes.data))
    masks[whole:] = -1


@njit()
def _select_row(
    maxima: int, larger: int, top: int, x: Any, k: int, best: Any, least: Any, masks: Any, found: Any, at: Any,
    work: Any,
) -> None:  # fmt: skip
    count = 0
    call(maxima, (x.ctypes.data, best.size, x.size // best.size, best.ctypes.data))
    key = kth(best, best.size, k)
    best[0] = key if key >= 0 else key ^ top  # the bits of the number: turning is its own reverse
    floor = best.view(x.dtype)[0]
    if floor > -np.inf:  # neither that nor NaN
        # what reaches the floor is what is larger than the number before it
        least[0] = np.nextafter(floor, x.dtype.type(-np.inf))
        _mark(larger, x, least, masks)
        count = _scan(x, masks, 0, k, least[0], found, at, work)
    if count < k:  # no floor, or one so near to 0 that the processor was told to take the number before it for 0
        for j in range(k):
            found[j], at[j] = x[j], j
        copy(found, work[:k])
        least[0] = kth(work, k, k)
        _mark(larger, x, least, masks)
        count = _scan(x, masks, k, k, least[0], found, at, work)
    _keep(found, at, count, k, work)


@njit(parallel=True)
def select(
    maxima: int, larger: int, x: Any, integers: Any, k: int, threads: int, values: Any, places: Any
) -> None:  # fmt: skip
    """Write the k largest of each row of x (n, N), values (n, k) and places (n, k), ascending in place; 0 < k ≤ N.

    Args:
        maxima: address of the function of that name in `cpu_scan`, for the dtype of x.
        larger: likewise.
        x: (n, N), rows contiguous.
        integers: of any length; its dtype is that of integers as wide as the numbers of x.
        k: how many.
        threads: that rows are shared out among.
        values: (n, k).
        places: int32 (n, k).
    """
    rows, size = x.shape
    room = 2 * k + 4 * CHUNK
    groups = -(-4 * k // CHUNK) * CHUNK
    short = size <= SHORT * groups
    top = np.iinfo(integers.dtype).max
    for thread in prange(threads):
        keys = cpu_bisect.make_keys(size if short else 0, integers)
        found, work, least = np.empty(room, x.dtype), np.empty(room, x.dtype), np.empty(1, x.dtype)
        at, best = np.empty(room, np.int32), np.empty(groups, integers.dtype)
        masks = np.empty(-(-size // CHUNK), np.int64)
        for i in range(rows * thread // threads, rows * (thread + 1) // threads):
            if short:
                cpu_bisect.select_row(x[i], k, keys, found, at)
            else:
                _select_row(maxima, larger, top, x[i], k, best, least, masks, found, at, work)
            copy(found, values[i])
            copy(at, places[i])
