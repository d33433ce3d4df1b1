"""Choose the tile of a Triton product: every candidate is compared with a plain computation before it may be taken.

A pipeline of two stages has given wrong results before now (pytorch issue 113587), and of the many configurations
that a compiler is handed few are ever tested. So a candidate that is wrong on this device is never timed, the fastest
right one is kept on disk for this device, and if none is right that is an error, not a slower kernel. One that costs
the process its device ends the tuning: every later one would fail too, whatever it computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache, partial
from statistics import median
from typing import Any

import torch
import triton
from torch import Tensor
from triton.errors import TritonError

from sparsebench.kernels.block_sparse.layout import BlockIndex
from sparsebench.kernels.block_sparse.triton_launch import splits_rows
from sparsebench.kernels.block_sparse.triton_planes import product_described, sampled_described
from sparsebench.kernels.block_sparse.triton_product import multiply
from sparsebench.kernels.block_sparse.triton_sampled import sample
from sparsebench.kernels.block_sparse.triton_tiles import Limits, Tile, product_tiles, sampled_tiles
from sparsebench.kernels.block_sparse.triton_trial import Trial, compiled_for, order, try_product, try_sampled
from sparsebench.kernels.block_sparse.triton_union import unite
from sparsebench.kernels.common.choices import recall, remember
from sparsebench.kernels.common.gpu import cold_cache, device_is_lost, device_times
from sparsebench.kernels.common.triton_launch import INTERPRETED, processors

_WORTH_TIMING = 2**31
"""Multiplications below which the launch outweighs the kernel, so that the first candidate that is right is taken."""

_CALLS = 10
"""Of a candidate, of which the median counts."""

_SIBLINGS = {torch.float16: torch.bfloat16, torch.bfloat16: torch.float16}

Key = tuple[Any, ...]

_chosen: dict[tuple[torch.device, Key], Tile] = {}


def product_tile(index: BlockIndex, values: Tensor, x: Tensor, out: Tensor, *, transposed: bool) -> Tile:
    """Return the tile for S @ x, or Sᵀ @ x: kept, or chosen now. Arguments are those of `run_product`.

    Raises:
        RuntimeError: if no candidate gives the right result.
    """
    limits = device_limits(x.device)
    described = limits.descriptors and product_described(index, values, x, transposed=transposed)
    split = splits_rows(index, x, transposed=transposed)
    large = values.numel() * x.shape[0] * x.shape[2] > _WORTH_TIMING
    height, width = index.block[::-1] if transposed else index.block
    tiles = product_tiles(height, width, x.shape[2], x.dtype, limits, described=described, split=split)
    ranked = busiest(tiles, index.grid[1 if transposed else 0] * x.shape[0], height, x.shape[2], processors(x.device))
    key = (
        "block-sparse transposed product" if transposed else "block-sparse product", x.dtype, index.block,
        _size_class(x.shape[2]), order(x), order(out), *_compiled_for(x.shape[2], values, x, out),
        "described" if described else "plain", "split" if split else "whole",
        "large" if large else f"small for {tiles.index(ranked[0])}",
    )  # fmt: skip
    known = _chosen.get((x.device, key))
    if known is not None:
        return known
    if not x.is_cuda:
        return tiles[0]

    def trial(tile: Tile) -> Trial:
        return try_product(index, values, x, out, tile, transposed=transposed)

    return _choose(x.device, key, ranked, trial, timed=large)


def busiest(tiles: list[Tile], rows: int, height: int, n: int, most: int) -> list[Tile]:
    """Return the tiles of a product with those first that keep the most multiprocessors busy.

    Args:
        tiles: candidates, the likeliest first, which decides among equals.
        rows: block rows of all matrices of the batch.
        height: of a block.
        n: columns of the result.
        most: multiprocessors of the device.
    """

    def tasks(one: Tile) -> int:
        down = -(-rows * height // one.rows) if one.union else rows * -(-height // one.rows)
        return down * -(-n // one.columns)

    return sorted(tiles, key=lambda one: -min(most, tasks(one)))


def sampled_tile(index: BlockIndex, a: Tensor, b: Tensor) -> Tile:
    """Return the tile for the sampled product, as `product_tile` does; arguments are those of `run_sampled`."""
    limits = device_limits(a.device)
    described = limits.descriptors and sampled_described(index, a, b)
    large = index.blocks * index.block[0] * index.block[1] * a.shape[0] * a.shape[2] > _WORTH_TIMING
    key = (
        "block-sparse sampled product", a.dtype, index.block, order(a), order(b), *_compiled_for(a.shape[2], a, b),
        "described" if described else "plain", "large" if large else "small",
    )  # fmt: skip
    known = _chosen.get((a.device, key))
    if known is not None:
        return known
    tiles = sampled_tiles(*index.block, a.dtype, limits, described=described)
    if not a.is_cuda:
        return tiles[0]
    return _choose(a.device, key, tiles, lambda tile: try_sampled(index, a, b, tile), timed=large)


@cache
def device_limits(device: torch.device) -> Limits:
    """Return what a device allows; the interpreter allows what a Hopper GPU does."""
    if device.type != "cuda":
        return Limits(shared=227 * 1024, descriptors=True, deep=True)
    facts = torch.cuda.get_device_properties(device)
    if torch.version.hip is not None:
        return Limits(shared=64 * 1024, descriptors=False, deep=False)
    # Blackwell's and Hopper's copy engine; older ones have descriptors only in the compiler, which reads pointers then
    shared = int(getattr(facts, "shared_memory_per_block_optin", 48 * 1024))
    return Limits(shared=shared, descriptors=facts.major >= 9, deep=facts.major >= 8)


def _choose(device: torch.device, key: Key, tiles: list[Tile], trial: Callable[[Tile], Trial], *, timed: bool) -> Tile:
    """Return the kept tile, else the fastest right one, or, if not timed, the first right one."""
    name = _fingerprint(device)
    tile = _kept(name, key, tiles)
    if tile is None:
        # float16 and bfloat16 take equally long: what one of them chose has only to be right for the other
        sibling = tuple(_SIBLINGS.get(part, part) if isinstance(part, torch.dtype) else part for part in key)
        same = _kept(name, sibling, tiles) if sibling != key else None
        tile = fastest([same, *tiles] if same else tiles, trial, timed=timed and same is None)
        remember(name, _text(key), tile.as_dict())
    _chosen[device, key] = tile
    return tile


def _kept(name: str, key: Key, tiles: list[Tile]) -> Tile | None:
    """Return what was kept; a tile that is no candidate any more was chosen by other code, and may not suit this."""
    kept = recall(name, _text(key))
    tile = None if kept is None else Tile.from_dict(kept)
    # how many programs fit on a multiprocessor is found out when a tile is tried
    known = [replace(one, programs=1) for one in tiles]
    return tile if tile is not None and replace(tile, programs=1) in known else None


def fastest(tiles: Iterable[Tile], trial: Callable[[Tile], Trial], *, timed: bool) -> Tile:
    """Return the fastest tile of those that are right; if not timed, the first one.

    Args:
        tiles: candidates; one that does not compile, or needs more than the device has, is passed over.
        trial: runs a tile.
        timed: whether to time them at all.

    Raises:
        RuntimeError: if no tile is right, or one has cost this process its device.
    """
    best: tuple[float, Tile] | None = None
    failures = []
    scratch = cold_cache() if timed else None
    for tile in tiles:
        try:
            right, run, compiled = trial(tile)
            if not right:
                failures.append(f"{tile}: wrong result")
                continue
            resident = replace(tile, programs=_programs(compiled, tile))
            if not timed:
                return resident
            for form in (resident, replace(tile, programs=0)):
                seconds = median(device_times(partial(run, form), _CALLS, scratch))
                if best is None or seconds < best[0]:
                    best = seconds, form
        except torch.cuda.OutOfMemoryError:
            raise
        except (TritonError, RuntimeError) as error:
            if device_is_lost("cuda" if torch.cuda.is_initialized() else "cpu"):
                raise RuntimeError(
                    f"expected a device that answers, got {_first_line(error)} from {tile}; start anew, and report it"
                ) from error
            failures.append(f"{tile}: {_first_line(error)}")
    if best is None:
        raise RuntimeError(
            f"expected a tile that computes the right result, got none; report it: {'; '.join(failures)}"
        )
    return best[1]


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def _programs(compiled: Any, tile: Tile) -> int:
    """Return how many programs fit on a multiprocessor at a time, by registers, shared memory and threads."""
    registers, shared = getattr(compiled, "n_regs", None), getattr(getattr(compiled, "metadata", None), "shared", None)
    if not isinstance(registers, int) or not isinstance(shared, int) or INTERPRETED or torch.version.hip is not None:
        return tile.programs
    facts = torch.cuda.get_device_properties(torch.cuda.current_device())
    threads = 32 * tile.warps
    by_registers = int(getattr(facts, "regs_per_multiprocessor", 65536)) // (max(8, -(-registers // 8) * 8) * threads)
    by_shared = int(facts.shared_memory_per_multiprocessor) // (shared + 1024)  # of which the driver keeps 1 KiB
    return max(1, min(by_registers, by_shared, int(facts.max_threads_per_multi_processor) // threads))


def _compiled_for(n: int, *tensors: Tensor) -> tuple[str, ...]:
    """Return what of n and the tensors decides what a kernel is compiled to: a tile is right for that only."""
    return ("1" if n == 1 else "-" if n % 16 else "d", *map(compiled_for, tensors))


def _size_class(n: int) -> int:
    """Return the class of n for which `product_tiles` lists the same candidates."""
    return next((size for size in (16, 32, 64, 128) if n <= size), 256)


def _text(key: Key) -> str:
    parts = ("x".join(map(str, part)) if isinstance(part, tuple) else str(part) for part in key)
    return " ".join(part.removeprefix("torch.") for part in parts)


@cache
def _fingerprint(device: torch.device) -> str:
    """Return the device, Triton's version and the kernels' sources in a few words: a choice depends on them all."""
    facts = torch.cuda.get_device_properties(device)
    sources = f"{multiply.cache_key[:8]}{sample.cache_key[:8]}{unite.cache_key[:8]}"
    return f"{facts.name} {facts.multi_processor_count} triton-{triton.__version__} {sources}"
