"""Choose a micro-kernel and a tile: measured once per machine, on a matrix of our own, and kept on disk.

Every candidate is compared with a plain product before it may win.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import llvmlite
import numba
import scipy
import torch
from torch import Tensor

from sparsebench.kernels.block_sparse import cpu_launch, cpu_sampled
from sparsebench.kernels.block_sparse.cpu_launch import Choice
from sparsebench.kernels.block_sparse.layout import BlockIndex
from sparsebench.kernels.common import choices, jit
from sparsebench.kernels.common.timing import fastest
from sparsebench.kernels.microkernels import blas, host, mkl, tiles

PRODUCTS: tuple[str, ...] = ("dsd", "dsdᵀ", "dds", "ddsᵀ", "sdd", "sddᵀ")
"""What is chosen for: S @ x, Sᵀ @ x, x @ S, x @ Sᵀ, and a @ b sampled with b contiguous, or with bᵀ contiguous."""

_SIDE, _DENSITY = 1024, 0.1
_SMALL = 1 << 22
"""Multiplications below which nothing is measured: the default takes well below a millisecond."""
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-12, torch.float16: 1e-2, torch.bfloat16: 5e-2}


def choose(product: str, index: BlockIndex, dtype: torch.dtype, n: int, micro: str | None = None) -> Choice:
    """Return how to compute a product.

    Args:
        product: one of PRODUCTS.
        index: of the stored blocks; only the size of a block, and how many there are, matter.
        dtype: of the operands.
        n: columns of x, or rows of it in x @ S; the summed axis in a sampled product.
        micro: the only micro-kernel to choose from, None for all.
    """
    height, width = index.block
    if index.blocks * height * width * n < _SMALL:
        return _default(product, index.block, dtype, n, micro)
    bucket = 1 << (min(n, 2048) - 1).bit_length()
    return _measured(product, index.block, dtype, bucket, micro, jit.threads())


@cache
def _default(product: str, block: tuple[int, int], dtype: torch.dtype, n: int, micro: str | None) -> Choice:
    return _candidates(product, block, dtype, n, micro)[0]


@cache
def _measured(
    product: str, block: tuple[int, int], dtype: torch.dtype, n: int, micro: str | None, threads: int
) -> Choice:
    key = f"block {product} {block[0]}×{block[1]} {str(dtype).removeprefix('torch.')} {n} {micro or 'any'}"
    candidates = _candidates(product, block, dtype, n, micro)
    known = choices.recall(_machine(threads), key)
    for candidate in candidates:
        if known == vars(candidate):
            return candidate
    best = _fastest(product, block, dtype, n, candidates)
    choices.remember(_machine(threads), key, vars(best))
    return best


def _machine(threads: int) -> str:
    """Return what a choice depends on."""
    libraries = f"numba {numba.__version__} llvmlite {llvmlite.__version__} scipy {scipy.__version__}"
    extra = "mkl" if mkl.library() is not None else "no mkl"
    return f"{host.processor()} {host.vector_bytes()} {threads} threads {libraries} {extra}"


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


def _fastest(product: str, block: tuple[int, int], dtype: torch.dtype, n: int, candidates: list[Choice]) -> Choice:
    """Return the candidate with the least time among those that are right."""
    run, want = _problem(product, block, dtype, n)
    scale = float(want.abs().max())
    right: list[Choice] = []
    for candidate in candidates:
        got = run(candidate).double()
        if float((got - want).abs().max()) <= _TOLERANCE[dtype] * scale:
            right.append(candidate)
    if not right:
        raise RuntimeError(
            f"expected one of {len(candidates)} candidates for {product} to be right, got none; report it"
        )
    return fastest(right, run)


def _problem(
    product: str, block: tuple[int, int], dtype: torch.dtype, n: int
) -> tuple[Callable[[Choice], Tensor], Tensor]:
    """Return a product on a matrix of our own, and its result in float64."""
    generator = torch.Generator().manual_seed(0)
    down, across = -(-_SIDE // block[0]), -(-_SIDE // block[1])
    shape = (down * block[0], across * block[1])
    keep = torch.rand((down, across), generator=generator) < _DENSITY
    keep[0, 0] = True
    crow = torch.zeros(down + 1, dtype=torch.int32)
    crow[1:] = keep.sum(1).cumsum(0)
    index = BlockIndex.from_rows(crow, keep.nonzero()[:, 1].to(torch.int32), shape, block)
    values = torch.randn((index.blocks, *block), generator=generator).to(dtype)
    transposed = product.endswith("ᵀ")
    from sparsebench.kernels.block_sparse import reference

    if product.startswith("sdd"):
        a = torch.randn((1, shape[0], n), generator=generator).to(dtype)
        b = torch.randn((1, n, shape[1]), generator=generator).to(dtype)
        b = b.mT.contiguous().mT if transposed else b
        return lambda choice: cpu_launch.sdd(index, a, b, choice), reference.sdd(index, a.double(), b.double())
    if product.startswith("dsd"):
        x = torch.randn((1, shape[0 if transposed else 1], n), generator=generator).to(dtype)
        want = reference.dsd(index, values.double(), x.double(), transposed=transposed)
        return lambda choice: cpu_launch.dsd(index, values, x, transposed, choice), want
    x = torch.randn((n, shape[1 if transposed else 0]), generator=generator).to(dtype)
    want = reference.dds(index, values.double(), x.double(), transposed=transposed)
    return lambda choice: cpu_launch.dds(index, values, x, transposed, choice), want
