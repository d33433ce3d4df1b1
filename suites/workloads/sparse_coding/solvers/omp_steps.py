"""Grow the supports of orthogonal matching pursuit, one image a thread, with progressive Cholesky factors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from sparsebench.kernels.common.jit import copy, njit

_SERIAL: dict[str, Any] = {
    "fastmath": {"contract", "reassoc", "nsz"},
}
_PARALLEL: dict[str, Any] = {**_SERIAL, "parallel": True}


@njit(**_SERIAL)
def _product(gram: Any, atoms: Any, first: int, second: int) -> Any:
    """Return the product of two atoms, read from the Gram matrix if there is one."""
    if gram.shape[0] > 0:
        return gram[first, second]
    total = atoms.dtype.type(0.0)
    for pixel in range(atoms.shape[1]):
        total += atoms[first, pixel] * atoms[second, pixel]
    return total


@njit(**_SERIAL)
def _grow(start: Any, now: Any, places: Any, values: Any, factor: Any, size: int, gram: Any, atoms: Any,
          dependent: float) -> bool:  # fmt: skip
    """Add the atom that the residual agrees with most and solve for all values; return whether there was one."""
    best, top = -1, now.dtype.type(0.0)
    for unit in range(now.size):
        score = abs(now[unit])
        if score > top:
            best, top = unit, score
    if best < 0:
        return False
    row = factor[size]
    square = np.float64(_product(gram, atoms, best, best))
    for i in range(size):
        if places[i] == best:
            return False
        total = np.float64(_product(gram, atoms, best, places[i]))
        for j in range(i):
            total -= row[j] * factor[i, j]
        row[i] = total / factor[i, i]
        square -= row[i] * row[i]
    if square <= dependent:
        return False
    row[size] = np.sqrt(square)
    places[size] = best
    size += 1
    for i in range(size):  # L w = D_S x, then Lᵀ a = w
        total = np.float64(start[places[i]])
        for j in range(i):
            total -= factor[i, j] * values[j]
        values[i] = total / factor[i, i]
    for i in range(size - 1, -1, -1):
        total = values[i]
        for j in range(i + 1, size):
            total -= factor[j, i] * values[j]
        values[i] = total / factor[i, i]
    return True


@njit(**_PARALLEL)
def pursue(start: Any, now: Any, places: Any, values: Any, factors: Any, sizes: Any, going: Any, gram: Any,
           atoms: Any, wanted: int, dependent: float) -> None:  # fmt: skip
    """Add atoms to the support of every image that is `going`: up to `wanted` with a Gram matrix, else one.

    Args:
        start: X Dᵀ (n, N); the atoms have norm 1 or 0.
        now: (X − A D) Dᵀ (n, N), kept right between atoms where there is a Gram matrix.
        places: int64 (n, k), the support in the order it grew.
        values: float64 (n, k), the code there.
        factors: float64 (n, k, k), lower Cholesky factors of the products in the support.
        sizes: int64 (n,), of the supports.
        going: bool (n,), unset where no atom is left that would help.
        gram: D Dᵀ (N, N), or (0, 0).
        atoms: D (N, d).
        wanted: k.
        dependent: an atom whose squared distance from those in the support is below this adds nothing.
    """
    for image in prange(start.shape[0]):
        if not going[image]:
            continue
        limit = wanted if gram.shape[0] > 0 else sizes[image] + 1
        while sizes[image] < limit:
            size = sizes[image]
            if not _grow(start[image], now[image], places[image], values[image], factors[image], size, gram, atoms,
                         dependent):  # fmt: skip
                going[image] = False
                break
            sizes[image] = size + 1
            if gram.shape[0] > 0 and size + 1 < wanted:
                row = now[image]
                copy(start[image], row)
                for i in range(size + 1):
                    products = gram[places[image, i]]
                    value = row.dtype.type(values[image, i])
                    for unit in range(row.size):
                        row[unit] -= value * products[unit]


@njit(**_PARALLEL)
def settle(places: Any, values: Any, sizes: Any, units: int) -> None:
    """Sort every support and fill it up with the first other units, at value 0, so that every row has k places."""
    k = places.shape[1]
    for image in prange(places.shape[0]):
        size = sizes[image]
        candidate = 0
        while size < k:
            taken = False
            for i in range(size):
                taken = taken or places[image, i] == candidate
            if not taken:
                places[image, size] = candidate
                values[image, size] = 0.0
                size += 1
            candidate += 1
        order = np.argsort(places[image])
        places[image] = places[image][order]
        values[image] = values[image][order]
