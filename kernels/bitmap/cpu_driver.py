"""Share the groups out among numba's threads and call the generated functions on them.

All numbers are addresses, byte counts or counts; functions come by their address. `bounds` says which groups a thread
has: bounds[t] .. bounds[t + 1]. One thread computes without `prange`, for which numba would wake up all of its threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from sparsebench.kernels.common.jit import njit
from sparsebench.kernels.microkernels.call import call


@njit()
def _forward(
    whole: int, final: int, passes: int, step: int, values: int, bits: int, starts: int, chunks: int,
    x: int, x_column: int, x_pass: int, out: int, out_row: int, out_pass: int, first: int, last: int,
) -> None:  # fmt: skip
    for group in range(first, last, step):
        end = min(group + step, last)
        for number in range(passes):
            function = final if number == passes - 1 else whole
            source, target = x + number * x_pass, out + number * out_pass
            call(function, (values, bits, starts, chunks, source, x_column, target, out_row, group, end))


@njit(parallel=True)
def forward(
    whole: int, final: int, passes: int, step: int, values: int, bits: int, starts: int, chunks: int,
    x: int, x_column: int, x_pass: int, out: int, out_row: int, out_pass: int, bounds: Any,
) -> None:  # fmt: skip
    """Compute self @ x by passes of a few columns each; so many groups at a time, which stay in the cache."""
    threads = bounds.size - 1
    if threads == 1:
        _forward(
            whole, final, passes, step, values, bits, starts, chunks,
            x, x_column, x_pass, out, out_row, out_pass, bounds[0], bounds[1],
        )  # fmt: skip
        return
    for thread in prange(threads):
        _forward(
            whole, final, passes, step, values, bits, starts, chunks,
            x, x_column, x_pass, out, out_row, out_pass, bounds[thread], bounds[thread + 1],
        )  # fmt: skip


@njit(parallel=True)
def transposed(
    whole: int, final: int, passes: int, step: int, values: int, bits: int, starts: int, chunks: int,
    x: int, x_row: int, x_pass: int, out: int, out_column: int, out_pass: int, out_part: int, bounds: Any,
) -> None:  # fmt: skip
    """Compute selfᵀ @ x as `forward` does; thread t adds to the result at out + t · out_part."""
    threads = bounds.size - 1
    if threads == 1:
        _forward(
            whole, final, passes, step, values, bits, starts, chunks,
            x, x_row, x_pass, out, out_column, out_pass, bounds[0], bounds[1],
        )  # fmt: skip
        return
    for thread in prange(threads):
        _forward(
            whole, final, passes, step, values, bits, starts, chunks,
            x, x_row, x_pass, out + np.int64(thread) * out_part, out_column, out_pass,
            bounds[thread], bounds[thread + 1],
        )  # fmt: skip


@njit(parallel=True)
def panel(
    function: int, values: int, bits: int, starts: int, chunks: int, panel: int, panel_row: int,
    begin: int, end: int, rows: int, bounds: Any,
) -> None:  # fmt: skip
    """Expand chunks begin .. end of groups into a panel, or compress a panel into values; `rows` of a group."""
    threads = bounds.size - 1
    base = bounds[0]
    if threads == 1:
        call(function, (values, bits, starts, chunks, panel, panel_row, begin, end, base, bounds[1]))
        return
    for thread in prange(threads):
        first, last = bounds[thread], bounds[thread + 1]
        if first < last:
            target = panel + (first - base) * rows * panel_row
            call(function, (values, bits, starts, chunks, target, panel_row, begin, end, first, last))
