"""Share rows, or block rows, out to threads: so that each has about as many entries, and few threads wait."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sparsebench.kernels.common.jit import njit

_IDLE = 0.1
"""Share of the threads' time that may be idle."""


@njit()
def share(starts: Any, shares: int, number: int, cost: int) -> Any:
    """Return the first row of a share, int64: shares hold about as many entries, whatever the rows' lengths.

    Args:
        starts: int32 or int64 (rows + 1): where the entries of each row begin.
        shares: how many there are.
        number: of the share; from `shares` on, the number of rows is returned.
        cost: what beginning a row takes, in entries: shares are balanced by entries + cost · rows.
    """
    rows = starts.size - 1
    if number >= shares:
        return rows
    total = np.int64(starts[rows]) + cost * rows
    goal = total // shares * number + total % shares * number // shares
    low, high = np.int64(0), np.int64(rows)
    while low < high:  # the first row that begins at the goal or after it
        middle = (low + high) // 2
        if np.int64(starts[middle]) + cost * middle < goal:
            low = middle + 1
        else:
            high = middle
    return low


def shares_for(tasks: int, threads: int) -> int:
    """Return into how many shares each task is cut, so that no more than a tenth of the threads' time is idle."""
    shares = 1
    while math.ceil(tasks * shares / threads) * threads > (1 + _IDLE) * tasks * shares:
        shares += 1
    return shares
