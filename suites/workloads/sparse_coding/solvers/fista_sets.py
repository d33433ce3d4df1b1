"""Solve lasso problems by FISTA on working sets, image by image: numba's threads share the images out.

Few units of thousands are active, so each image gets a working set of its own: the active units and those that violate
the optimality conditions most (Massias, Gramfort and Salmon 2018, Celer). The products among its units fit the cache.
FISTA with restarts (Beck and Teboulle 2009; O'Donoghue and Candès 2015) solves the small problem to a tenth of the
present gap, the correlations with all units are computed anew, and so on until the gap over all units is small enough.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from sparsebench.kernels.common.jit import copy, njit
from sparsebench.kernels.sparse_codes.cpu_select import kth

SERIAL: dict[str, Any] = {
    "fastmath": {"contract", "reassoc", "nsz"},
}
PARALLEL: dict[str, Any] = {**SERIAL, "parallel": True}
CHECK_EVERY = 5
"""Steps between two looks at the small problem's gap."""
INNER = 0.1
"""To which share of the present gap the small problem is solved."""
FINAL = 0.3
"""And to which share of the wanted gap at least."""


@njit(**SERIAL)
def gap_of(x_squared: float, along: float, squared: float, size: float, largest: float, penalty: float,
           positive: bool) -> float:  # fmt: skip
    """Return the duality gap from ‖x‖², xᵀr, ‖r‖², ‖a‖₁ and the largest correlation, as `lasso_gap` defines it."""
    squared = max(squared, 0.0)
    scale = along / squared if squared > 0.0 else 1.0
    if largest > 0.0:
        scale = min(scale, penalty / largest)
        if not positive:
            scale = max(scale, -penalty / largest)
    if positive:
        scale = max(scale, 0.0)
    # ½‖x‖² − ½‖x − s r‖² = s xᵀr − ½ s² ‖r‖²
    return float(0.5 * squared + penalty * size - scale * along + 0.5 * scale * scale * squared)


@njit(**SERIAL)
def _gap(x_squared: float, start: Any, now: Any, values: Any, penalty: float, positive: bool) -> float:
    """Return the gap of a code from Dx, Dr and the code itself, each over the same units; sums are in float64."""
    with_start = with_now = size = 0.0
    largest = 0.0
    for unit in range(values.size):
        value = np.float64(values[unit])
        if value != 0.0:
            with_start += value * start[unit]
            with_now += value * now[unit]
            size += abs(value)
        largest = max(largest, np.float64(now[unit]) if positive else abs(np.float64(now[unit])))
    along = x_squared - with_start
    return float(gap_of(x_squared, along, along - with_now, size, largest, penalty, positive))


@njit(**SERIAL)
def _choose(now: Any, values: Any, penalty: float, positive: bool, width: int) -> Any:
    """Return the working set, ascending: the active units and those that violate most, as many again or `width`."""
    units = values.size
    scores = np.empty(units, now.dtype)
    active = outside = 0
    for unit in range(units):
        scores[unit] = 0.0
        if values[unit] != 0.0:
            active += 1
        else:
            score = now[unit] if positive else abs(now[unit])
            if score > penalty:
                scores[unit] = score
                outside += 1
    wanted = max(width, active)
    least = kth(scores.copy(), units, wanted) if wanted < outside else scores.dtype.type(0.0)
    chosen = np.empty(units, np.int64)
    count = 0
    for unit in range(units):
        if values[unit] != 0.0 or (scores[unit] > 0.0 and scores[unit] >= least):
            chosen[count] = unit
            count += 1
    return chosen[:count]


@njit(**SERIAL)
def _among(chosen: Any, gram: Any, atoms: Any) -> Any:
    """Return the products among the chosen units, read from the Gram matrix if there is one."""
    count = chosen.size
    small = np.empty((count, count), atoms.dtype)
    for i in range(count):
        if gram.shape[0] > 0:
            row = gram[chosen[i]]
            for j in range(count):
                small[i, j] = row[chosen[j]]
        else:
            first = atoms[chosen[i]]
            for j in range(i + 1):
                second = atoms[chosen[j]]
                total = atoms.dtype.type(0.0)
                for pixel in range(first.size):
                    total += first[pixel] * second[pixel]
                small[i, j] = total
                small[j, i] = total
    return small


@njit(**SERIAL)
def _times(small: Any, values: Any, out: Any) -> None:
    """Compute small @ values from the values that are not zero."""
    out[:] = 0
    for j in range(values.size):
        value = values[j]
        if value != 0:
            row = small[j]
            for i in range(out.size):
                out[i] += value * row[i]


@njit(**SERIAL)
def _steepness(small: Any) -> Any:
    """Return an estimate from below and a bound from above of the largest eigenvalue: powers, and sums of rows."""
    count = small.shape[0]
    bound = 0.0
    for i in range(count):
        total = 0.0
        for j in range(count):
            total += abs(small[i, j])
        bound = max(bound, total)
    vector, product = np.ones(count, small.dtype), np.empty(count, small.dtype)
    for i in range(count):  # no eigenvector of a symmetric problem is orthogonal to this by construction
        vector[i] += small.dtype.type(0.3) * small.dtype.type(i % 3)
    for _ in range(6):
        _times(small, vector, product)
        length = 0.0
        for i in range(count):
            length += product[i] * product[i]
        length = np.sqrt(length)
        if length == 0.0:
            break
        for i in range(count):
            vector[i] = product[i] / length
    _times(small, vector, product)
    top = 0.0
    for i in range(count):
        top += vector[i] * product[i]
    if bound == 0.0:  # atoms too short for their products, beside much longer ones
        return 1.0, 1.0
    return max(top, 1e-3 * bound), bound


@njit(**SERIAL)
def accelerated(small: Any, start: Any, z: Any, x_squared: float, penalty: float, positive: bool, goal: float,
                limit: int) -> int:  # fmt: skip
    """Run FISTA on a small problem from z, in place, until its gap is at most `goal`; return the steps taken.

    The step size is 1 ÷ L with L from a few power iterations; a step that shows a greater curvature is taken back and L
    raised, which is exact here, since the objective's smooth part is quadratic and small @ z is at hand.

    Args:
        small: G (m, m), the products among the units.
        start: b (m,), their products with the image.
        z: (m,), the code.
        x_squared: ‖x‖².
        penalty: λ.
        positive: whether a ≥ 0.
        goal: of the gap.
        limit: of the steps.
    """
    count = z.size
    kind = small.dtype.type
    gz, gy = np.empty(count, small.dtype), np.empty(count, small.dtype)
    gnew, now = np.empty(count, small.dtype), np.empty(count, small.dtype)
    _times(small, z, gz)
    copy(gz, gy)
    y, new = z.copy(), z.copy()
    curvature, bound = _steepness(small)
    momentum = 1.0
    for step in range(limit):
        while True:
            inverse, threshold = kind(1.0 / curvature), kind(penalty / curvature)
            for i in range(count):
                v = y[i] + inverse * (start[i] - gy[i])
                up = max(v - threshold, kind(0.0))
                new[i] = up if positive else up + min(v + threshold, kind(0.0))
            _times(small, new, gnew)
            square = bent = 0.0
            for i in range(count):
                difference = new[i] - y[i]
                square += difference * difference
                bent += difference * (gnew[i] - gy[i])
            # NaN has to end this, too, and so has a square that is too small for a number
            if square == 0.0 or curvature >= bound or not bent > 1.0001 * curvature * square:
                break
            curvature = min(bound, max(1.1 * curvature, 1.05 * bent / square))
        turn = 0.0
        for i in range(count):
            turn += (y[i] - new[i]) * (new[i] - z[i])
        if turn > 0.0:
            momentum = 1.0
        following = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * momentum * momentum))
        beta = kind((momentum - 1.0) / following)
        momentum = following
        for i in range(count):
            y[i] = new[i] + beta * (new[i] - z[i])
            gy[i] = gnew[i] + beta * (gnew[i] - gz[i])
            z[i] = new[i]
            gz[i] = gnew[i]
        if (step + 1) % CHECK_EVERY == 0:
            for i in range(count):
                now[i] = start[i] - gz[i]
            if _gap(x_squared, start, now, z, penalty, positive) <= goal:
                return step + 1
    return limit


@njit(**SERIAL)
def _one(start: Any, now: Any, values: Any, gram: Any, atoms: Any, x_squared: float, penalty: float, positive: bool,
         wanted: float, width: int, limit: int) -> Any:  # fmt: skip
    """Improve the code of one image; with a Gram matrix to the end, else for one working set. See `solve`."""
    taken = 0
    gap = _gap(x_squared, start, now, values, penalty, positive)
    while gap > wanted and taken < limit:
        chosen = _choose(now, values, penalty, positive, width)
        if chosen.size == 0:
            break
        small = _among(chosen, gram, atoms)
        z = values[chosen]
        goal = max(FINAL * wanted, INNER * gap)
        taken += accelerated(small, start[chosen], z, x_squared, penalty, positive, goal, limit - taken)
        for i in range(chosen.size):
            values[chosen[i]] = z[i]
        if gram.shape[0] == 0:
            break
        copy(start, now)
        for i in range(chosen.size):
            if z[i] != 0:
                row = gram[chosen[i]]
                value = z[i]
                for unit in range(now.size):
                    now[unit] -= value * row[unit]
        gap = _gap(x_squared, start, now, values, penalty, positive)
    return taken, gap


@njit(**PARALLEL)
def solve(start: Any, now: Any, values: Any, gram: Any, atoms: Any, x_squared: Any, penalty: float, positive: bool,
          wanted: Any, width: int, limit: int, todo: Any, steps: Any, gaps: Any) -> None:  # fmt: skip
    """Improve the codes of the images `todo`, in place.

    Args:
        start: X Dᵀ (n, N).
        now: (X − A D) Dᵀ (n, N); kept right where there is a Gram matrix.
        values: A (n, N), the codes.
        gram: D Dᵀ (N, N), or (0, 0): then one working set is solved, and the caller computes `now` for the next.
        atoms: D (N, d).
        x_squared: ‖x‖², float64 (n,).
        penalty: λ.
        positive: whether A ≥ 0.
        wanted: the gap to reach, float64 (n,).
        width: of a working set's growth, at least.
        limit: of the steps of an image in all.
        todo: int64, the images to look at.
        steps: int64 (n,), the steps taken are added.
        gaps: float64 (n,): the gap over all units, where there is a Gram matrix at the end, else at the beginning.
    """
    for number in prange(todo.size):
        image = todo[number]
        taken, gap = _one(start[image], now[image], values[image], gram, atoms, x_squared[image], penalty, positive,
                          wanted[image], width, limit - steps[image])  # fmt: skip
        steps[image] += taken
        gaps[image] = gap
