"""Launch the Triton kernels with a given tile: work table, descriptors, strides and grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from sparsebench.kernels.block_sparse.layout import BlockIndex
from sparsebench.kernels.block_sparse.schedule import longest_row, segment_limit, union_table, work_table
from sparsebench.kernels.block_sparse.triton_planes import describe, plane, value_plane
from sparsebench.kernels.block_sparse.triton_product import add_up, multiply
from sparsebench.kernels.block_sparse.triton_sampled import sample
from sparsebench.kernels.block_sparse.triton_tiles import Tile
from sparsebench.kernels.block_sparse.triton_union import unite
from sparsebench.kernels.common.triton_launch import grid, processors
from sparsebench.kernels.common.triton_plan import OPERAND, Launch

_MOST_TASKS = 2**31 - 2**20
"""Tasks are counted in 32 bits, and a program steps past the last one by up to the size of the grid."""


def product_limit(index: BlockIndex, x: Tensor, tile: Tile, *, transposed: bool) -> int:
    """Return how many blocks a segment may hold, for x (batch, inner, n)."""
    height, width = index.block[::-1] if transposed else index.block
    tiles = triton.cdiv(height, tile.rows) * triton.cdiv(x.shape[2], tile.columns) * x.shape[0]
    return segment_limit(index.blocks, width, tiles, 2 * processors(x.device))


def splits_rows(index: BlockIndex, x: Tensor, *, transposed: bool) -> bool:
    """Return whether a product with x (batch, inner, n) splits rows, whichever of its tiles is taken."""
    smallest = Tile(rows=128, columns=256, inner=16)  # the fewest tasks, so the lowest limit
    return longest_row(index, transposed=transposed) > product_limit(index, x, smallest, transposed=transposed)


def run_product(
    index: BlockIndex,
    values: Tensor,
    x: Tensor,
    out: Tensor,
    tile: Tile,
    *,
    transposed: bool,
    limit: int | None = None,
) -> Any:
    """Write S @ x, or Sᵀ @ x, to out, all of it; arguments, result and errors as in `plan_product` and its `run`."""
    return plan_product(index, values, x, out, tile, transposed=transposed, limit=limit).run(values, x, out)


@dataclass(frozen=True, kw_only=True)
class ProductPlan:
    """A product worked out up to its launch, for operands of the shapes, strides and alignments that it was made for.

    A small product takes the device less time than all this takes the host. It holds an index' arrays, not the index.

    Attributes:
        launch: of the kernel; brought are values, x, out and, but for a union, the partial results.
        partial: shape of the partial results, or what stands for none; None for a union, which has none.
        add_up: launch of the second pass, with the partial results and out; None if no row is split.
    """

    launch: Launch
    partial: tuple[int, ...] | Tensor | None
    add_up: Launch | None

    def run(self, values: Tensor, x: Tensor, out: Tensor) -> Any:
        """Write the product to out, all of it, and return the compiled kernel; None in the interpreter.

        Args:
            values: (blocks, height, width), contiguous.
            x: (batch, inner, n), or another view that begins at the same address.
            out: (batch, rows, n), or another view of the same.
        """
        partial = self.partial
        if partial is None:
            return self.launch(values, x, out)
        if not isinstance(partial, Tensor):
            partial = torch.empty(partial, dtype=torch.float32, device=out.device)
        compiled = self.launch(values, x, out, partial)
        if self.add_up is not None:
            self.add_up(partial, out)
        return compiled


def plan_product(
    index: BlockIndex,
    values: Tensor,
    x: Tensor,
    out: Tensor,
    tile: Tile,
    *,
    transposed: bool,
    limit: int | None = None,
) -> ProductPlan:
    """Return what writes S @ x, or Sᵀ @ x, to out.

    Args:
        index: with one stored block or more.
        values: (blocks, height, width), contiguous.
        x: (batch, inner, n), any strides.
        out: (batch, rows, n), its rows or its columns contiguous.
        tile: how to cut; one with descriptors only where `product_described`.
        transposed: multiply by Sᵀ.
        limit: the most blocks of a segment; by default what `product_limit` says.

    Raises:
        ValueError: if there are too many tasks.
    """
    (batch, inner, n), rows = x.shape, out.shape[1]
    height = index.block[1 if transposed else 0]
    if tile.union:
        return ProductPlan(launch=_union(index, x, out, tile, transposed=transposed), partial=None, add_up=None)
    limit = product_limit(index, x, tile, transposed=transposed) if limit is None else limit
    table = work_table(index, limit, transposed=transposed)
    pieces, tiles = triton.cdiv(height, tile.rows), triton.cdiv(n, tile.columns)
    tasks = table.segments.shape[0] * pieces * tiles * batch
    # partial results run the way that the result does
    along = (n, 1) if out.stride(2) == 1 else (1, height)
    seen = plane(x)
    second = None
    if table.slots:
        r, c = add_up_tile(height)
        second = Launch(
            add_up,
            grid(table.split.shape[0] * batch * triton.cdiv(height, r) * triton.cdiv(n, c)),
            (OPERAND, table.split, OPERAND, batch, rows, n, *out.stride(), *along),
            {"HEIGHT": height, "ROWS": r, "COLUMNS": c},
            device=x.device,
        )
    launch = Launch(
        multiply,
        _grid(tasks, tile, x),
        # the row-major order needs no table of places: entry e is block e
        (
            *[OPERAND] * 4, table.segments, index.row if transposed else index.col, index.order,
            tasks, table.segments.shape[0], batch, rows, inner, n, seen.step if seen else 0,
            *x.stride(), *out.stride(), *along,
        ),
        {
            **product_constants(index.block, index.shape, transposed=transposed),
            "SPLIT": table.slots > 0,
            "BY_COLUMNS": bool(tile.descriptors and seen and seen.by_columns),
            **tile.constants(),
        },
        tile.options(nvidia=torch.version.hip is None),
        device=x.device,
        boxes=(
            describe(values, value_plane(values), (tile.rows, tile.inner), turned=transposed),
            describe(x, seen, (tile.inner, tile.columns)),
        ) if tile.descriptors else (),
    )  # fmt: skip
    return ProductPlan(
        launch=launch,
        partial=(table.slots, batch, height * n) if table.slots else x.new_empty(0, dtype=torch.float32),
        add_up=second,
    )


def _union(index: BlockIndex, x: Tensor, out: Tensor, tile: Tile, *, transposed: bool) -> Launch:
    """Return the launch of `triton_union.unite`; arguments as in `plan_product`."""
    (batch, inner, n), rows = x.shape, out.shape[1]
    together = tile.rows // index.block[1 if transposed else 0]
    table = union_table(index, together, transposed=transposed)
    segments = table.starts.numel() - 1
    return Launch(
        unite,
        grid(_tasks(segments * triton.cdiv(n, tile.columns) * batch)),
        (
            OPERAND, OPERAND, OPERAND, table.starts, table.others, table.blocks, segments, rows, inner, n,
            *x.stride(), *out.stride(),
        ),
        union_constants(index.block, tile, transposed=transposed),
        tile.options(nvidia=torch.version.hip is None),
        device=x.device,
    )  # fmt: skip


def union_constants(block: tuple[int, int], tile: Tile, *, transposed: bool) -> dict[str, int | bool]:
    """Return the compile-time constants of a union of rows of such blocks."""
    known = product_constants(block, block, transposed=transposed)
    shape = {name: known[name] for name in ("HEIGHT", "WIDTH", "VALUE_ROW", "VALUE_COLUMN")}
    together = tile.rows // known["HEIGHT"]
    return {**shape, "TOGETHER": together, "COLUMNS": tile.columns, "INNER": tile.inner, "STAGES": tile.stages}


def product_constants(block: tuple[int, int], shape: tuple[int, int], *, transposed: bool) -> dict[str, int | bool]:
    """Return the compile-time constants of a product that a matrix of `shape` in blocks sets."""
    (height, width), (rows, inner) = (block[::-1], shape[::-1]) if transposed else (block, shape)
    return {
        "HEIGHT": height,
        "WIDTH": width,
        "VALUE_ROW": 1 if transposed else width,
        "VALUE_COLUMN": height if transposed else 1,
        "ORDERED": transposed,
        "RAGGED": inner % width != 0,
        "RAGGED_ROWS": rows % height != 0,
    }


def add_up_tile(height: int) -> tuple[int, int]:
    """Return the rows and columns that a program of the second pass adds up."""
    return min(16, int(triton.next_power_of_2(height))), 64


def run_sampled(index: BlockIndex, a: Tensor, b: Tensor, out: Tensor, tile: Tile, *, shares: int | None = None) -> Any:
    """Write a @ b at the stored blocks to out, all of it; arguments, result and errors as in `plan_sampled`."""
    return plan_sampled(index, a, b, out, tile, shares=shares).run(a, b, out)


@dataclass(frozen=True, kw_only=True)
class SampledPlan:
    """A sampled product worked out up to its launch, as `ProductPlan` is.

    Attributes:
        launch: of the kernel; brought are a, b and what it writes to.
        shares: how many parts of the sum are written apart, and then added up.
    """

    launch: Launch
    shares: int

    def run(self, a: Tensor, b: Tensor, out: Tensor) -> Any:
        """Write the product to out (blocks, height, width), all of it; a and b or views that begin where they do."""
        if self.shares == 1:
            return self.launch(a, b, out)
        held = torch.empty((self.shares, *out.shape), dtype=torch.float32, device=out.device)
        compiled = self.launch(a, b, held)
        torch.sum(held, 0, out=out) if out.dtype == torch.float32 else out.copy_(held.sum(0))
        return compiled


def plan_sampled(
    index: BlockIndex, a: Tensor, b: Tensor, out: Tensor, tile: Tile, *, shares: int | None = None
) -> SampledPlan:
    """Return what writes a @ b at the stored blocks, summed over the batch.

    Args:
        index: with one stored block or more.
        a: (batch, m, n), any strides.
        b: (batch, n, k), any strides.
        out: (blocks, height, width), contiguous.
        tile: how to cut; one with descriptors only where `sampled_described`.
        shares: into how many parts batch and n are cut, which a second pass adds up in their order; by default as many
            as fill the device once.

    Raises:
        ValueError: if there are too many tasks or steps.
    """
    (batch, m, n), k, (height, width) = a.shape, b.shape[2], index.block
    table = work_table(index, tile.merge)
    across = triton.cdiv(width, tile.columns) if tile.merge == 1 else 1
    tasks = table.filled * triton.cdiv(height, tile.rows) * across
    every = batch * triton.cdiv(n, tile.inner)
    if shares is None:  # a share of at least 1024 elements, so that it outweighs what is added up
        shares = max(1, min(processors(a.device) * max(1, tile.programs) // tasks, every * tile.inner // 1024))
    steps = max(1, triton.cdiv(every, shares))
    shares = max(1, triton.cdiv(every, steps))
    first, second = plane(a), plane(b)
    launch = Launch(
        sample,
        _grid(tasks * shares, tile, a),
        (
            *[OPERAND] * 3, table.segments, index.col, tasks * shares, table.filled, index.blocks,
            _tasks(every), steps, m, k, n, first.step if first else 0, second.step if second else 0,
            *a.stride(), *b.stride(),
        ),
        {
            "HEIGHT": height, "WIDTH": width, "RAGGED": m % height != 0 or k % width != 0,
            "A_BY_COLUMNS": bool(tile.descriptors and first and first.by_columns),
            "B_BY_COLUMNS": bool(tile.descriptors and second and second.by_columns),
            **tile.constants(),
        },
        tile.options(nvidia=torch.version.hip is None),
        device=a.device,
        boxes=(
            describe(a, first, (tile.rows, tile.inner)),
            describe(b, second, (tile.inner, tile.columns)),
        ) if tile.descriptors else (),
    )  # fmt: skip
    return SampledPlan(launch=launch, shares=shares)


def _grid(tasks: int, tile: Tile, tensor: Tensor) -> tuple[int, int]:
    most = processors(tensor.device) * tile.programs if tile.programs else tasks
    return grid(max(1, min(_tasks(tasks), most)))


def _tasks(tasks: int) -> int:
    return grid(tasks, most=_MOST_TASKS)[0]
