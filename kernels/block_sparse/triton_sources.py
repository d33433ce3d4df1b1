"""Hand out the Triton kernels as they would be launched, to be compiled for GPUs that are not here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from sparsebench.kernels.block_sparse import triton_product, triton_sampled, triton_union
from sparsebench.kernels.block_sparse.triton_launch import add_up_tile, product_constants, union_constants
from sparsebench.kernels.block_sparse.triton_product import add_up, multiply
from sparsebench.kernels.block_sparse.triton_sampled import sample
from sparsebench.kernels.block_sparse.triton_tiles import Limits, Tile, product_tiles, sampled_tiles
from sparsebench.kernels.block_sparse.triton_union import unite
from sparsebench.kernels.common.triton_launch import ELEMENTS
from sparsebench.kernels.common.triton_sources import Source, source

_WIDE, _NARROW = 4096, 16
_INDEX = ("segments", "split", "others", "order", "col", "starts")
_UNSURE = {*triton_product.COUNTS, *triton_sampled.COUNTS, *triton_union.COUNTS}


def compile_sources(
    dtype: torch.dtype,
    limits: Limits,
    blocks: Iterable[tuple[int, int]],
    *,
    every_candidate: bool = False,
) -> dict[str, Source]:
    """Return the kernels by name, each as a launch with aligned operands would compile it.

    Args:
        dtype: one of DTYPES.
        limits: of the device that they are compiled for.
        blocks: (height, width) of each block.
        every_candidate: all tiles that tuning would try, and not only the first one with and without descriptors.

    Raises:
        RuntimeError: if the kernels were made for the interpreter, which has nothing to compile.
    """
    found: dict[str, Source] = {}
    for block in blocks:
        found |= dict(_products(dtype, limits, block, every_candidate=every_candidate))
        found |= dict(_sampled(dtype, limits, block, every_candidate=every_candidate))
    rows, columns = add_up_tile(64)
    found["add_up 64"] = _source(
        add_up,
        {"HEIGHT": 64, "ROWS": rows, "COLUMNS": columns, "stride_oc": 1, "stride_pc": 1},
        {"out": f"*{ELEMENTS[dtype]}", "partial": "*fp32"},
        {},
    )
    return found


def _products(
    dtype: torch.dtype, limits: Limits, block: tuple[int, int], *, every_candidate: bool
) -> Iterator[tuple[str, Source]]:
    element = ELEMENTS[dtype]
    for transposed, n, split, by_columns in (
        (False, _WIDE, False, False),
        *([(True, _WIDE, False, False)] if every_candidate else []),
        (False, _NARROW, True, False),
        (True, _WIDE, False, True),  # x @ S
    ):
        height, width = block[::-1] if transposed else block
        described = block[1] * dtype.itemsize % 16 == 0
        tiles = product_tiles(height, width, n, dtype, limits, described=described, split=split)
        for tile in [tile for tile in tiles if tile.union][: 2 if every_candidate else 1]:
            form = f"{'ᵀ' if transposed else ''}{' by columns' if by_columns else ''}"
            ones = ("stride_xr", "stride_or") if by_columns else ("stride_xc", "stride_oc")
            united = {**union_constants(block, tile, transposed=transposed), **dict.fromkeys(ones, 1)}
            yield (
                f"unite {block[0]}x{block[1]}{form} {_text(tile)}",
                _source(unite, united, {**dict.fromkeys(("values", "x", "out"), f"*{element}"), "blocks": "*i32"},
                        tile.options(nvidia=limits.deep)),
            )  # fmt: skip
        tiles = [tile for tile in tiles if not tile.union]
        for tile in tiles if every_candidate else _first(tiles):
            known: dict[str, Any] = {
                **product_constants(block, block, transposed=transposed),
                **tile.constants(),
                "SPLIT": split,
                "BY_COLUMNS": tile.descriptors and by_columns,
                **dict.fromkeys(("stride_xr", "stride_or", "stride_pr") if by_columns
                                else ("stride_xc", "stride_oc", "stride_pc"), 1),
            }  # fmt: skip
            value_box, box = (tile.rows, tile.inner), (tile.inner, tile.columns)
            types = {"out": f"*{element}", "partial": "*fp32"}
            types["values"] = _type(element, tile, value_box, turned=transposed)
            types["x"] = _type(element, tile, box, turned=by_columns)
            name = f"multiply {block[0]}x{block[1]}{'ᵀ' if transposed else ''}{' by columns' if by_columns else ''}"
            yield (
                f"{name}{' split' if split else ''} {_text(tile)}",
                _source(multiply, known, types, tile.options(nvidia=limits.deep)),
            )


def _sampled(
    dtype: torch.dtype, limits: Limits, block: tuple[int, int], *, every_candidate: bool
) -> Iterator[tuple[str, Source]]:
    element = ELEMENTS[dtype]
    described = all(size * dtype.itemsize % 16 == 0 for size in block)
    tiles = sampled_tiles(*block, dtype, limits, described=described)
    for tile in tiles if every_candidate else _first(tiles):
        known: dict[str, Any] = {
            **tile.constants(), "HEIGHT": block[0], "WIDTH": block[1], "RAGGED": False, "A_BY_COLUMNS": False,
            "B_BY_COLUMNS": tile.descriptors, "stride_ac": 1, "stride_br": 1,  # b is the transpose of a dense operand
        }  # fmt: skip
        types = {"out": f"*{element}"}
        types["a"] = _type(element, tile, (tile.rows, tile.inner), turned=False)
        types["b"] = _type(element, tile, (tile.inner, tile.columns), turned=True)
        yield (
            f"sample {block[0]}x{block[1]} {_text(tile)}",
            _source(sample, known, types, tile.options(nvidia=limits.deep)),
        )


def _first(tiles: list[Tile]) -> list[Tile]:
    """Return the first tile with descriptors and the first one without."""
    kinds = [next((tile for tile in tiles if tile.descriptors is kind), None) for kind in (True, False)]
    return [tile for tile in kinds if tile is not None]


def _type(element: str, tile: Tile, box: tuple[int, int], *, turned: bool) -> str:
    lines, run = box[::-1] if turned else box
    return f"tensordesc<{element}[{lines},{run}]>" if tile.descriptors else f"*{element}"


def _text(tile: Tile) -> str:
    flags = f"{' merge ' + str(tile.merge) if tile.merge > 1 else ''}{' swap' if tile.swap else ''}"
    kind = "descriptors" if tile.descriptors else "pointers"
    return f"{tile.rows}x{tile.columns}x{tile.inner}{flags} {kind} {tile.warps} warps {tile.stages} stages"


def _source(kernel: Any, known: dict[str, Any], types: dict[str, str], options: dict[str, int]) -> Source:
    """Return a source whose sizes, strides and addresses are multiples of 16, as a launch finds them."""
    named = {**dict.fromkeys(_INDEX, "*i32"), **types}
    return source(kernel, named, known, options, aligned=lambda name: name not in _UNSURE)
