"""Hand out the Triton kernels as they would be launched, to be compiled for GPUs that are not here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from sparsebench.kernels.common.triton_launch import ELEMENTS, side
from sparsebench.kernels.common.triton_sources import Source, source
from sparsebench.kernels.plane_conv import triton_gather, triton_reduce, triton_vectors
from sparsebench.kernels.plane_conv.triton_steps import Tile, gather_tile, reduce_tile, vector_tile

_INDEX = ("starts", "maps", "order", "others", "place", "col", "row", "block_rows", "block_columns")
_PIXELS = 784
"""Of the planes: 28 × 28."""


def compile_sources(
    dtype: torch.dtype, *, nvidia: bool, blocks: Iterable[tuple[int, int]] = ((32, 32),), kernel: int = 3
) -> dict[str, Source]:
    """Return the kernels by name, each as a launch on contiguous operands would compile it.

    Args:
        dtype: one of DTYPES.
        nvidia: whether they are compiled for NVIDIA's GPUs.
        blocks: (output maps, input maps) of each block.
        kernel: its height and width.

    Raises:
        RuntimeError: if the kernels were made for the interpreter, which has nothing to compile.
    """
    return dict(_sources(dtype, nvidia, tuple(blocks), kernel))


def _sources(
    dtype: torch.dtype, nvidia: bool, blocks: tuple[tuple[int, int], ...], kernel: int
) -> Iterator[tuple[str, Source]]:
    single, taps = dtype == torch.float32, kernel * kernel

    def made(function: Any, constants: dict[str, Any], tile: Tile, **more: str) -> Source:
        """Return a source whose addresses and strides are multiples of 16, as most launches find them."""
        operands = dict.fromkeys(("weight", "source", "out", "values", "g", "x"), f"*{ELEMENTS[dtype]}")
        types = {**dict.fromkeys(_INDEX, "*i32"), **operands, **more}

        def aligned(name: str) -> bool:
            return name in types or name.startswith("stride")

        return source(function, types, constants, tile.options(nvidia=nvidia), aligned=aligned)

    window = {"ACROSS": kernel, "TAPS": taps}
    step = {"DOWN": kernel, "ACROSS": kernel, "KERNEL": kernel}
    wide = {"stride_wm": 1, "stride_sw": 1, "stride_ow": 1}
    forms = [("shared", (1, 1), False), ("planes", (1, 1), False), ("planes_input", (1, 1), False)]
    forms += [("blocks", block, ordered) for block in blocks for ordered in (False, True)]
    for kind, block, ordered in forms:
        maps = block[0] if kind == "blocks" else 256
        known = {**wide, **step, "KIND": kind, "ORDERED": ordered, "HEIGHT": block[0], "WIDTH": block[1]}
        if kind == "planes":
            known["stride_wr"] = known.pop("stride_wm")
        if kind == "planes_input":
            known["stride_on"] = 0
        tile = gather_tile(maps, _PIXELS, single=single)
        sizes = {"ROWS": tile.rows, "PIXELS": tile.columns, "INNER": tile.inner}
        label = f"{kind}{f' {block[0]}x{block[1]}' if kind == 'blocks' else ''}{' transposed' if ordered else ''}"
        yield f"gather {label} {_text(tile)}", made(triton_gather.gather, known | sizes, tile)
    tile = vector_tile(_PIXELS)
    sizes = {"ENTRIES": tile.inner, "PIXELS": tile.columns, "stride_sw": 1, "stride_ow": 1}
    for ordered, elements in ((False, False), (True, False), (True, True)):
        label = f"{'elements' if elements else 'pairs'}{' transposed' if ordered else ''}"
        known = {**step, **sizes, "TAPS": taps, "ELEMENTS": elements, "ORDERED": ordered}
        yield f"vector {label} {_text(tile)}", made(triton_vectors.gather_pairs, known, tile)
    yield (
        f"vector elements {_text(tile)}",
        made(triton_vectors.gather_elements, {**window, **sizes}, tile),
    )
    ends = {**window, "stride_gw": 1, "stride_xw": 1}
    for label, rows, columns, blocked in (
        ("shared", 256, 256, False),
        *((f"blocks {b[0]}x{b[1]}", *b, True) for b in blocks),
    ):
        tile = reduce_tile(rows, columns, single=single)
        sizes = {"ROWS": tile.rows, "COLUMNS": tile.columns, "INNER": tile.inner}
        known = {**ends, **sizes, "BLOCKS": blocked, **({} if blocked else {"stride_ob": 0})}
        yield f"reduce {label} {_text(tile)}", made(triton_reduce.reduce, known, tile)
    tile = reduce_tile(256, taps, single=single)
    known = {**ends, "ROWS": tile.rows, "COLUMNS": side(taps, 16, 2**16), "INNER": tile.inner}
    yield (
        f"reduce planes {_text(tile)}",
        made(triton_reduce.reduce_planes, known, tile, samples="*i32"),
    )
    tile = vector_tile(_PIXELS, most=128)
    for label, pairs in (("pairs", True), ("elements", False)):
        known = {**ends, "PAIRS": pairs, "ENTRIES": tile.inner, "PIXELS": tile.columns}
        yield f"sampled {label} {_text(tile)}", made(triton_reduce.reduce_elements, known, tile)


def _text(tile: Tile) -> str:
    return f"{tile.rows}x{tile.columns}x{tile.inner} {tile.warps} warps {tile.stages} stages"
