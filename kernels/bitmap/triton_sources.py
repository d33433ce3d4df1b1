"""Hand out the Triton kernels as they would be launched, to be compiled for GPUs that are not here."""

from __future__ import annotations

from typing import Any

import torch

from sparsebench.kernels.bitmap import triton_kernels as kernels
from sparsebench.kernels.bitmap import triton_narrow as narrow
from sparsebench.kernels.bitmap.triton_tiles import narrow_tile, product_tile, sampled_tile
from sparsebench.kernels.common.triton_launch import ELEMENTS
from sparsebench.kernels.common.triton_sources import Source, source

Options = dict[str, int]


def compile_sources(dtype: torch.dtype, *, nvidia: bool) -> dict[str, Source]:
    """Return every kernel by name: the narrow ones for one column and eight, the others for few columns and many.

    Args:
        dtype: one of DTYPES.
        nvidia: whether for NVIDIA's GPUs.

    Raises:
        RuntimeError: if the kernels were made for the interpreter, which has nothing to compile.
    """
    element = f"*{ELEMENTS[dtype]}"
    types = {"bits": "*i64", "starts": "*i64", "table": "*i32"} | dict.fromkeys(("values", "x", "a", "b"), element)
    found: dict[str, Source] = {}

    def add(name: str, kernel: Any, constants: Options, out: str, options: Options, **ones: int) -> None:
        known = {**constants, **ones}
        unsure = {*kernels.COUNTS, "m", "k"}
        found[name] = source(kernel, {**types, "out": out}, known, options, aligned=lambda one: one not in unsure)

    for transposed, form in ((False, ""), (True, "_transposed")):
        kernel = narrow.narrow_transposed if transposed else narrow.narrow
        for n in (1, narrow.MOST):
            tile = narrow_tile(n, 4096, transposed=transposed)
            ones = {"n": 1, "stride_xr": 1, "stride_or": 1} if n == 1 else {}
            constants = tile.constants(kernel.arg_names)
            add(f"narrow{form} {n}", kernel, constants, element, tile.options(nvidia=nvidia), stride_xc=1, **ones)
        for n, out in ((16, "*fp32"), (64, element), (4096, element)):
            tile = product_tile(n, dtype, transposed=transposed)
            constants = {**tile.constants(kernels.product.arg_names), "TRANSPOSED": int(transposed)}
            sizes = f"{tile.columns}x{4 * tile.groups}" if transposed else f"{4 * tile.groups}x{tile.columns}"
            named = f"multiply{form} 64x{sizes}" if transposed else f"multiply{form} {sizes}x64"
            add(f"{named}{' parts' if n == 16 else ''}", kernels.product, constants, out,
                tile.options(nvidia=nvidia), stride_xc=1)  # fmt: skip
    for n in (16, 4096):
        tile = sampled_tile(n, dtype)
        constants = {"GROUPS": tile.groups, "INNER": tile.columns}
        named = f"sample {4 * tile.groups}x64x{tile.columns}"
        add(named, kernels.sampled, constants, element, tile.options(nvidia=nvidia), stride_ac=1, stride_br=1)
    found["add_parts"] = source(
        kernels.add_parts, {"parts_of": "*fp32", "out": element}, {"BLOCK": 1024}, aligned=lambda one: one != "parts"
    )
    return found
