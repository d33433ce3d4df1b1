"""Tell how unquiet the machine is: by how much the same short work, on all threads, takes longer at times."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numba import prange

from sparsebench.kernels.common import jit
from sparsebench.kernels.common.jit import njit

_LOOKS = 60
_STEPS = 40_000
"""Of a thread in one look: about 40 µs."""


def unrest() -> float:
    """Return by what share looks take longer than the shortest, on average; a few hundredths if nothing else runs."""
    threads = jit.threads()
    sums = np.zeros(8 * threads, np.int64)
    _work(sums, threads, _STEPS)
    taken = []
    for _ in range(_LOOKS):
        begin = time.perf_counter()
        _work(sums, threads, _STEPS)
        taken.append(time.perf_counter() - begin)
    return float(np.mean(taken) / min(taken) - 1)


@njit(parallel=True)
def _work(sums: Any, threads: int, steps: int) -> None:
    for thread in prange(threads):
        value = sums[8 * thread]
        for step in range(steps):  # each step waits for the one before, so that no compiler makes it shorter
            value = value * 6364136223846793005 + step
        sums[8 * thread] = value
