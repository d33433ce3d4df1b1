"""Choose a micro-kernel and a tile: measured once a machine and kind of problem, and kept on disk.

Every candidate is compared with a plain product before it may win.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import scipy
import torch

from sparsebench.kernels.block_sparse import cpu_sampled
from sparsebench.kernels.block_sparse.cpu_launch import Choice
from sparsebench.kernels.block_sparse.cpu_trial import trial
from sparsebench.kernels.block_sparse.layout import BlockIndex
from sparsebench.kernels.common import chooser, jit, processor
from sparsebench.kernels.microkernels import blas, host, mkl, tiles

PRODUCTS: tuple[str, ...] = ("dsd", "dsdᵀ", "dds", "ddsᵀ", "sdd", "sddᵀ")
"""What is chosen for: S @ x, Sᵀ @ x, x @ S, x @ Sᵀ, and a @ b sampled with b contiguous, or with bᵀ contiguous."""

_SMALL = 1 << 16
"""Multiplications below which nothing is measured: what surrounds the kernel takes longer."""
_DOTS = 32
"""Elements that dot products must be long for, to be what little is multiplied by."""


def choose(product: str, index: BlockIndex, dtype: torch.dtype, n: int, micro: str | None = None) -> Choice:
    """Return how to compute a product.

    Args:
        product: one of PRODUCTS.
        index: of the stored blocks; what is chosen depends on their size, the matrix's, and their share of it.
        dtype: of the operands.
        n: columns of x, or rows of it in x @ S; the summed axis in a sampled product.
        micro: the only micro-kernel to choose from, None for all.
    """
    height, width = index.block
    if index.blocks * height * width * n < _SMALL:
        return _default(product, index.block, dtype, n, micro)
    problem = (product, index.shape, index.block, index.blocks, dtype, n, micro, jit.threads())
    found = _known.get(problem)
    if found is None or found[0] != chooser.changes():
        key = key_of(product, index, dtype, n, micro)
        chosen = chooser.choose(
            machine(),
            key,
            candidates(product, index.block, dtype, n, micro),
            lambda: trial(product, index, dtype, n),
            family=key[: key.index("×")],
        )
        if len(_known) >= _MANY:
            _known.clear()
        _known[problem] = found = chooser.changes(), chosen
    return found[1]


_MANY = 4096
_known: dict[tuple[Any, ...], tuple[int, Choice]] = {}
"""What was chosen, beside the number of changes that the chooser knew of then: a call must not wait for the rest."""


def candidates(
    product: str, block: tuple[int, int], dtype: torch.dtype, n: int, micro: str | None = None
) -> list[Choice]:
    """Return what is chosen from, those that promise most first."""
    return _candidates(product, block, dtype, _rounded(n), micro)


def key_of(product: str, index: BlockIndex, dtype: torch.dtype, n: int, micro: str | None = None) -> str:
    """Return what a choice is kept under; arguments as in `choose`."""
    height, width = index.block
    sizes = bucket(index.shape, index.blocks * height * width, n, dtype.itemsize)
    rows, columns, share, length, aligned = sizes
    where = f"~{rows}×{columns} 1/{share} stored, n {length}{' aligned' if aligned else ''}"
    return f"block {product} {height}×{width} {str(dtype).removeprefix('torch.')} {where} {micro or 'any'}"


def bucket(shape: tuple[int, int], stored: int, n: int, size: int) -> tuple[int, int, int, int, bool]:
    """Return the kind of problem, of which one choice serves all.

    Rows and columns, as √2 times the power of 4 that is next (1024 and 2048 are of a kind); the inverse of the share
    that is stored, as a power of 4; n rounded up to a power of two; and whether rows of n elements lie whole pages
    apart, where they meet in few sets of a cache.
    """
    rows, columns = (int(math.sqrt(2) * _fourth(side / math.sqrt(2))) for side in shape)
    return rows, columns, _fourth(shape[0] * shape[1] / max(1, stored)), _rounded(n), n * size % 4096 == 0


def _fourth(number: float) -> int:
    return int(4 ** max(0, round(math.log(max(number, 1), 4))))


def _rounded(n: int) -> int:
    return int(1 << (min(n, 2048) - 1).bit_length())


@cache
def _default(product: str, block: tuple[int, int], dtype: torch.dtype, n: int, micro: str | None) -> Choice:
    """Return what is best where little is multiplied: copying into panels first pays late."""
    found = _candidates(product, block, dtype, n, micro)
    short = product.startswith("sdd") and n < _DOTS  # dot products run along n there, along a block elsewhere
    return next((choice for choice in found if not choice.near and not (choice.dots and short)), found[0])


def machine() -> str:
    """Return what a choice depends on."""
    return f"{processor.machine()} scipy {scipy.__version__} {'mkl' if mkl.library() is not None else 'no mkl'}"


def _candidates(product: str, block: tuple[int, int], dtype: torch.dtype, n: int, micro: str | None) -> list[Choice]:
    """Return what may win, the default first."""
    name = str(dtype).removeprefix("torch.")
    shapes = _shapes({"dsd": block[0], "dsdᵀ": block[1], "sdd": block[0], "sddᵀ": block[0]}.get(product, n))
    spans = [tile for tile in (128, 64, 256, 512) if tile < 2 * n] or [64]
    sampled = product.startswith("sdd")
    # with fewer columns than fill four vectors, asking for what comes next takes longer than it saves
    panelled = product.startswith("dsd") and n > 3 * tiles.lanes(name)
    dots = [Choice(micro="generated", tile=tile, dots=True) for tile in (128, 32)]
    if panelled:
        made = [
            Choice(micro="generated", tile=tile, rows=rows, vectors=vectors, near=True)
            for tile in (256, 128)
            for rows, vectors in _near_shapes(shapes)
        ]
    else:
        made = [
            Choice(micro="generated", tile=tile, rows=rows, vectors=vectors)
            for rows, vectors in shapes
            for tile in (spans[:1] if sampled else spans)
        ]
    if sampled and name in cpu_sampled.DTYPES:
        near = [Choice(micro="generated", rows=r, vectors=v, near=True) for r, v in _sampled_shapes(block)]
        made = near + (made[:1] if near else made)
    if product == "ddsᵀ":
        made = (dots + made) if n < 64 else (made + dots)
    elif product == "sddᵀ":
        made = made + dots[:1] if made[0].near else dots[:1] + made
    libraries = [
        Choice(micro=library, tile=tile)
        for library, known in (("mkl", mkl.DTYPES if mkl.library() is not None else ()), ("blas", blas.DTYPES))
        if name in known
        for tile in (spans[:1] if sampled else spans)
    ]
    found = [choice for choice in (*made, *libraries) if micro in (None, choice.micro)]
    if not found:
        raise ValueError(f"expected a micro-kernel for {name} of generated, blas, mkl that is installed, got {micro!r}")
    return found


def _shapes(rows: int) -> tuple[tuple[int, int], ...]:
    """Return (rows, vectors) of generated tiles, for products with so many rows to a tile.

    As many sums as the registers hold beside the operands (32 with AVX-512, else 16), and at least the 8 or so that
    keep the multiply-add units busy while each takes its 4 cycles.
    """
    if rows < 4:
        return ((2, 4), (1, 8), (1, 4)) if rows > 1 else ((1, 8), (1, 4))
    if host.vector_bytes() == 64:
        return (8, 2), (8, 3), (4, 4), (8, 1)
    return (4, 2), (8, 1), (4, 3), (2, 4)


def _near_shapes(shapes: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    """Return (rows, vectors) of tiles that read from a panel: few loads a multiplication count for more there."""
    if shapes[0][0] < 4:
        return shapes
    return ((6, 4), (8, 3), (9, 3), (8, 2)) if host.vector_bytes() == 64 else ((6, 2), (4, 3), (4, 2))


def _sampled_shapes(block: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Return (rows, vectors) of tiles of a sampled product from panels: as few loads as a block of this size allows."""
    if block[0] < 4:
        return ()
    return ((12, 2), (16, 1), (6, 4)) if host.vector_bytes() == 64 else ((6, 2), (12, 1), (4, 3))
