"""Hand out tables of generated micro-kernels, compiled when they are first asked for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from sparsebench.kernels.microkernels import host
from sparsebench.kernels.microkernels.emit import SIZES
from sparsebench.kernels.microkernels.generated import Tile, function


@cache
def dtypes() -> tuple[str, ...]:
    """Return what micro-kernels can be generated for on this processor."""
    halves = ("float16", "bfloat16") if host.has_half() else ("bfloat16",)
    return ("float32", "float64", *halves)


@cache
def lanes(dtype: str) -> int:
    """Return how many elements a vector holds; halves are computed in float32."""
    return host.vector_bytes() // max(4, SIZES[dtype])


def halves(largest: int) -> tuple[int, ...]:
    """Return largest, largest / 2 … 1; `largest` is a power of two."""
    return tuple(largest >> step for step in range(largest.bit_length()))


def used(sizes: Sequence[int], totals: Sequence[int]) -> set[int]:
    """Return which of the descending `sizes` are needed to make up the totals, the largest first."""
    found = set()
    for total in totals:
        for size in sizes:
            if total >= size:
                found.add(size)
                total %= size
    return found


def even(largest: int, totals: Sequence[int]) -> set[int]:
    """Return the heights of the strips, as equal as they can be and of at most `largest`, that totals are cut into."""
    found: set[int] = set()
    for total in totals:
        strips = -(-total // largest)
        found.update({total // strips, -(-total // strips)} if strips else ())
    return found


Table = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Addresses (rows, columns), and the sizes along both; 0 stands where no kernel is needed."""


def table(
    kind: str,
    dtype: str,
    rows: tuple[int, ...],
    columns: tuple[int, ...],
    needed: frozenset[tuple[int, int]],
    ordered: bool,
    strides: tuple[tuple[str, int], ...],
    *,
    adds: bool = False,
) -> Table:
    """Return the addresses of the kernels for tiles of `rows` × `columns`.

    Args:
        kind: "outer" or "dots".
        dtype: one of `dtypes`.
        rows: sizes, descending.
        columns: sizes, descending.
        needed: which pairs of sizes to compile.
        ordered: whether entries look up which stored block they are.
        strides: constants; see `Tile.strides`.
        adds: whether they add to what is there.
    """
    wide = lanes(dtype)
    inner = dict(strides).get("inner", 0) if kind == "dots" else 0
    tiles = {
        (i, j): Tile(
            kind=kind,
            dtype=dtype,
            rows=height,
            columns=width,
            lanes=min(wide, width) if kind == "outer" else _dot_lanes(wide, inner),
            ordered=ordered,
            strides=strides,
            adds=adds,
        )
        for i, height in enumerate(rows)
        for j, width in enumerate(columns)
        if (height, width) in needed
    }
    addresses = np.zeros((len(rows), len(columns)), np.int64)
    _compile([tile for tile in tiles.values() if tile not in _compiled])
    for place, tile in tiles.items():
        addresses[place] = _compiled[tile]
    return addresses, np.array(rows, np.int64), np.array(columns, np.int64)


_compiled: dict[Tile, int] = {}
"""Addresses of the kernels that there are: tables share them."""


def _compile(missing: Sequence[Tile]) -> None:
    """Compile some kernels together, which takes less than one by one."""
    if not missing:
        return
    functions = [function(tile) for tile in missing]
    declarations = sorted({lines for _, lines in functions})
    engine = host.compile_module("\n".join([*declarations, *(text for text, _ in functions)]))
    _compiled.update((tile, engine.get_function_address(tile.name)) for tile in missing)


def _dot_lanes(wide: int, inner: int) -> int:
    """Return the lanes for dot products of `inner` elements: so many that little is left for single steps."""
    fitting = wide
    while inner and fitting > 1 and fitting > inner:
        fitting //= 2
    return fitting
