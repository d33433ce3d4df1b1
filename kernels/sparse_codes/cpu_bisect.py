"""Select the k largest entries of a short row on the CPU: bisect for the k-th largest, then collect in one pass.

A row is turned into integers that are in the numbers' order, as `cpu_scan.maxima` does. Halving the range between the
least and the largest of them takes as many passes as it needs to part the k-th from the next, about 15 in random data
and never more than a number has bits. A pass only compares and counts, so that the compiler makes vectors of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sparsebench.kernels.common.jit import njit
from sparsebench.kernels.sparse_codes.cpu_scan import CHUNK


@njit()
def make_keys(size: int, integers: Any) -> Any:
    """Return room for the keys of a row, whole chunks of them; what is past the row counts as less than all numbers."""
    info = np.iinfo(integers.dtype)
    return np.full(-(-size // CHUNK) * CHUNK, info.min, integers.dtype)


@njit()
def _fill(x: Any, numbers: Any, keys: Any) -> None:
    """Write the keys of x: of −0 that of 0, of every NaN the largest; `numbers` are the keys' own memory as floats."""
    top = np.iinfo(keys.dtype).max
    zero = x.dtype.type(0.0)
    for i in range(x.size):
        numbers[i] = x[i] + zero
    for i in range(x.size):
        bits = keys[i]
        keys[i] = bits ^ (top if bits < 0 else 0)
    for i in range(x.size):
        if x[i] != x[i]:
            keys[i] = top


@njit()
def _at_least(keys: Any, bound: Any) -> int:
    count = 0
    for i in range(keys.size):
        count += keys[i] >= bound
    return count


@njit()
def _bound(keys: Any, size: int, k: int) -> Any:
    """Return a key that k of the keys reach, or the k-th largest, which more may reach."""
    kind = keys.dtype.type
    low, high = keys[0], keys[0]
    for i in range(1, size):
        low, high = min(low, keys[i]), max(high, keys[i])
    while low < high:  # k keys at least reach `low`, fewer than k are above `high`
        middle = kind((low | high) - ((low ^ high) >> 1))  # the upper one of two, without an overflow
        count = _at_least(keys, middle)
        if count == k:
            return middle
        if count > k:
            low = middle
        else:
            high = kind(middle - 1)
    return low


@njit()
def select_row(x: Any, k: int, keys: Any, found: Any, at: Any) -> None:
    """Write the k largest of x in their order, the first of equal ones; 0 < k ≤ N.

    Args:
        x: (N,).
        k: how many.
        keys: from `make_keys`.
        found: of the dtype of x, more than k long.
        at: int32, likewise; where they stand.
    """
    _fill(x, keys.view(x.dtype), keys)
    bound = _bound(keys, x.size, k)
    level = k
    for i in range(keys.size):
        level -= keys[i] > bound
    kept = 0
    for i in range(x.size):
        found[kept], at[kept] = x[i], i
        equal = keys[i] == bound
        kept += (keys[i] > bound) | (equal & (level > 0))
        level -= equal
