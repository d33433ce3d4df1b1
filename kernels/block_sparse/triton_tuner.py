"""Choose the tile of a Triton product: every candidate is compared with a plain computation before it may be taken.

A pipeline of two stages has given wrong results before now (pytorch issue 113587), and of the many configurations that a
compiler is handed few are ever tested. So a candidate that is wrong on this device is never timed, the fastest right
one is kept on disk for this device, and if none is right that is an error, not a slower kernel.

Random values stand in for the operands, of the same sizes and the same order in memory, one matrix of a batch: twice
the operands' memory for the moment. What the products compare with is float64 arithmetic on some of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
import triton
from torch import Tensor
from triton.errors import TritonError

from sparsebench.kernels.block_sparse.layout import BlockIndex
from sparsebench.kernels.block_sparse.triton_launch import (
    INTERPRETED,
    product_described,
    run_product,
    run_sampled,
    sampled_described,
    splits_rows,
)
from sparsebench.kernels.block_sparse.triton_product import multiply
from sparsebench.kernels.block_sparse.triton_sampled import sample
from sparsebench.kernels.block_sparse.triton_tiles import Limits, Tile, product_tiles, sampled_tiles
from sparsebench.kernels.choices import recall, remember

_WORTH_TIMING = 2**31
"""Multiplications below which the launch outweighs the kernel, so that the first candidate that is right is taken."""

_SAMPLED_ROWS = 8
"""Block rows, or stored blocks, that are compared."""

_SAMPLED_COLUMNS = 512
"""Columns that are compared."""

_SIBLINGS = {"float16": "bfloat16", "bfloat16": "float16"}

_chosen: dict[tuple[str, str], Tile] = {}


def product_tile(index: BlockIndex, values: Tensor, x: Tensor, out: Tensor, *, transposed: bool) -> Tile:
    """Return the tile for S @ x, or Sᵀ @ x: kept, or chosen now. Arguments are those of `run_product`.

    Raises:
        RuntimeError: if no candidate gives the right result.
    """
    height, width = index.block[::-1] if transposed else index.block
    limits = device_limits(x.device)
    described = limits.descriptors and product_described(index, values, x, transposed=transposed)
    split = splits_rows(index, x, transposed=transposed)
    tiles = product_tiles(height, width, x.shape[2], x.dtype, limits, described=described, split=split)
    if not x.is_cuda:
        return tiles[0]
    work = values.numel() * x.shape[0] * x.shape[2]
    key = " ".join((
        "block-sparse transposed product" if transposed else "block-sparse product", _text(x.dtype),
        f"{index.block[0]}x{index.block[1]}", f"columns-{_size_class(x.shape[2])}", _order(x), _order(out),
        "described" if described else "plain", "split" if split else "whole",
        "large" if work > _WORTH_TIMING else "small",
    ))  # fmt: skip

    def trial(tile: Tile) -> tuple[bool, Callable[[], Any], Any]:
        return try_product(index, values, x, out, tile, transposed=transposed)

    return _choose(x.device, key, tiles, trial, timed=work > _WORTH_TIMING)


def sampled_tile(index: BlockIndex, a: Tensor, b: Tensor) -> Tile:
    """Return the tile for the sampled product, as `product_tile` does; arguments are those of `run_sampled`."""
    limits = device_limits(a.device)
    described = limits.descriptors and sampled_described(index, a, b)
    tiles = sampled_tiles(*index.block, a.dtype, limits, described=described)
    if not a.is_cuda:
        return tiles[0]
    work = index.blocks * index.block[0] * index.block[1] * a.shape[0] * a.shape[2]
    key = " ".join((
        "block-sparse sampled product", _text(a.dtype), f"{index.block[0]}x{index.block[1]}", _order(a), _order(b),
        "described" if described else "plain", "large" if work > _WORTH_TIMING else "small",
    ))  # fmt: skip
    return _choose(a.device, key, tiles, lambda tile: try_sampled(index, a, b, tile), timed=work > _WORTH_TIMING)


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


def try_product(
    index: BlockIndex, values: Tensor, x: Tensor, out: Tensor, tile: Tile, *, transposed: bool
) -> tuple[bool, Callable[[], Any], Any]:
    """Run a tile on random stand-ins and compare some block rows with float64.

    Returns:
        whether it was right, the same run to be timed, and the compiled kernel (None in the interpreter).
    """
    generator = torch.Generator(x.device).manual_seed(0)
    held, given = _like(values, generator), _like(x[:1], generator)
    result = torch.full_like(_empty_like(out[:1]), torch.nan)

    def run() -> Any:
        return run_product(index, held, given, result, tile, transposed=transposed)

    compiled = run()
    height, width = index.block[::-1] if transposed else index.block
    starts, others = (index.ccol, index.row) if transposed else (index.crow, index.col)
    n = x.shape[2]
    spread = torch.linspace(0, n - 1, min(n, _SAMPLED_COLUMNS), device=x.device).long()
    lengths = starts.diff()
    every = torch.linspace(0, lengths.numel() - 1, min(lengths.numel(), _SAMPLED_ROWS), device=x.device).long()
    chosen = [int(lengths.argmax()), int(lengths.argmin()), *every.tolist()]
    right = True
    for row in dict.fromkeys(chosen):
        begin, end = int(starts[row]), int(starts[row + 1])
        stored = index.order[begin:end].long() if transposed else torch.arange(begin, end, device=x.device)
        blocks = held[stored].transpose(1, 2) if transposed else held[stored]
        left = blocks.permute(1, 0, 2).reshape(height, -1).double()
        inner = (others[begin:end].long()[:, None] * width + torch.arange(width, device=x.device)).reshape(-1)
        kept = inner < x.shape[1]
        met = given[0][inner[kept]][:, spread].double()
        top, bottom = row * height, min(out.shape[1], (row + 1) * height)
        left = left[: bottom - top, kept]
        got = result[0, top:bottom][:, spread]
        right = right and _close(got, left @ met, left.abs() @ met.abs(), left.shape[1])
    return right, run, compiled


def try_sampled(index: BlockIndex, a: Tensor, b: Tensor, tile: Tile) -> tuple[bool, Callable[[], Any], Any]:
    """Run a tile on random stand-ins and compare some stored blocks with float64; returns as `try_product` does."""
    generator = torch.Generator(a.device).manual_seed(0)
    left, right_hand = _like(a[:1], generator), _like(b[:1], generator)
    result = torch.full((index.blocks, *index.block), torch.nan, dtype=a.dtype, device=a.device)

    def run() -> Any:
        return run_sampled(index, left, right_hand, result, tile)

    compiled = run()
    (height, width), (m, k) = index.block, index.shape
    block_rows = index.block_rows()
    right = True
    for place in dict.fromkeys(torch.linspace(0, index.blocks - 1, min(index.blocks, _SAMPLED_ROWS)).long().tolist()):
        top, first = int(block_rows[place]) * height, int(index.col[place]) * width
        rows, columns = left[0, top : top + height].double(), right_hand[0, :, first : first + width].double()
        want = torch.zeros(index.block, dtype=torch.float64, device=a.device)
        bound = torch.zeros_like(want)
        want[: min(m - top, height), : min(k - first, width)] = rows @ columns
        bound[: min(m - top, height), : min(k - first, width)] = rows.abs() @ columns.abs()
        right = right and _close(result[place], want, bound, a.shape[2])
    return right, run, compiled


def _choose(
    device: torch.device,
    key: str,
    tiles: list[Tile],
    trial: Callable[[Tile], tuple[bool, Callable[[], Any], Any]],
    *,
    timed: bool,
) -> Tile:
    """Return the kept tile, else the fastest right one, or, if not timed, the first right one."""
    name = _fingerprint(device)
    known = _chosen.get((name, key))
    if known is not None:
        return known
    tile = _kept(name, key, tiles)
    if tile is None:
        # float16 and bfloat16 take equally long: what one of them chose has only to be right for the other
        mine = next((text for text in _SIBLINGS if f" {text} " in key), None)
        same = _kept(name, key.replace(f" {mine} ", f" {_SIBLINGS[mine]} "), tiles) if mine else None
        tile = fastest([same, *tiles] if same else tiles, trial, timed=timed and same is None)
        remember(name, key, tile.as_dict())
    _chosen[name, key] = tile
    return tile


def _kept(name: str, key: str, tiles: list[Tile]) -> Tile | None:
    """Return what was kept; a tile that is no candidate any more was chosen by other code, and may not suit this."""
    kept = recall(name, key)
    tile = None if kept is None else Tile.from_dict(kept)
    return (
        tile if tile is not None and replace(tile, programs=1) in [replace(one, programs=1) for one in tiles] else None
    )


def fastest(
    tiles: Iterable[Tile], trial: Callable[[Tile], tuple[bool, Callable[[], Any], Any]], *, timed: bool
) -> Tile:
    """Return the fastest tile of those that are right; if not timed, the first one.

    Args:
        tiles: candidates; one that does not compile, or needs more than the device has, is passed over.
        trial: runs a tile: whether it was right, the run to be timed, the compiled kernel or None.
        timed: whether to time them at all.

    Raises:
        RuntimeError: if no tile is right.
    """
    best: tuple[float, Tile] | None = None
    failures = []
    for tile in tiles:
        try:
            right, run, compiled = trial(tile)
            if not right:
                failures.append(f"{tile}: wrong result")
                continue
            tile = replace(tile, programs=_programs(compiled, tile))
            if not timed:
                return tile
            seconds = float(triton.testing.do_bench(run, warmup=5, rep=20, return_mode="median"))
        except torch.cuda.OutOfMemoryError:
            raise
        except (TritonError, RuntimeError) as error:
            failures.append(f"{tile}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
            continue
        if best is None or seconds < best[0]:
            best = seconds, tile
    if best is None:
        raise RuntimeError(
            f"expected a tile that computes the right result, got none; report it: {'; '.join(failures)}"
        )
    return best[1]


def _programs(compiled: Any, tile: Tile) -> int:
    """Return how many programs fit on a multiprocessor at a time, by registers, shared memory and threads."""
    registers, shared = getattr(compiled, "n_regs", None), getattr(getattr(compiled, "metadata", None), "shared", None)
    if not isinstance(registers, int) or not isinstance(shared, int) or INTERPRETED or torch.version.hip is not None:
        return tile.programs
    facts = torch.cuda.get_device_properties(torch.cuda.current_device())
    threads = 32 * tile.warps
    by_registers = int(facts.regs_per_multiprocessor) // (max(8, -(-registers // 8) * 8) * threads)
    by_shared = int(facts.shared_memory_per_multiprocessor) // (shared + 1024)  # of which the driver keeps 1 KiB
    return max(1, min(by_registers, by_shared, int(facts.max_threads_per_multi_processor) // threads))


def _close(got: Tensor, want: Tensor, magnitude: Tensor, terms: int) -> bool:
    """Compare with float64: sums are in float32, then the result is rounded to its dtype once. NaN is never close."""
    single, own = torch.finfo(torch.float32).eps, torch.finfo(got.dtype)
    bound = magnitude * single * (terms + 2) + want.abs() * own.eps + own.smallest_normal
    return bool(((got.double() - want).abs() <= bound).all())


def _like(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Return random numbers of the same shape and dtype in the same order in memory, without its larger gaps."""
    return _empty_like(tensor).normal_(generator=generator)


def _empty_like(tensor: Tensor) -> Tensor:
    """Return an uninitialised (batch, p, q) whose lines are as far apart as those of `tensor`, modulo 16 elements.

    That decides whether descriptors and wide loads may be used, and so which kernel is compiled.
    """
    by_columns = _order(tensor) == "columns"
    batch, lines, run = (tensor.mT if by_columns else tensor).shape
    stride = run + (tensor.stride(2 if by_columns else 1) - run) % 16
    made = torch.empty((batch, lines, stride), dtype=tensor.dtype, device=tensor.device)[..., :run]
    return made.mT if by_columns else made


def _order(tensor: Tensor) -> str:
    return "columns" if tensor.stride(-1) != 1 and tensor.stride(-2) == 1 else "rows"


def _size_class(n: int) -> int:
    """Return the class of n for which `product_tiles` lists the same candidates."""
    return next((size for size in (16, 32, 64, 128) if n <= size), 256)


def _text(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _fingerprint(device: torch.device) -> str:
    """Return the device, Triton's version and the kernels' sources in a few words: a choice depends on them all."""
    facts = torch.cuda.get_device_properties(device)
    sources = f"{multiply.cache_key[:8]}{sample.cache_key[:8]}"
    return f"{facts.name} {facts.multi_processor_count} triton-{triton.__version__} {sources}"
