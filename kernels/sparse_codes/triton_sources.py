"""Hand out the Triton kernels as they would be launched, to be compiled for GPUs that are not here."""

from __future__ import annotations

import torch

from sparsebench.kernels.common.triton_launch import ELEMENTS
from sparsebench.kernels.common.triton_sources import Source, source
from sparsebench.kernels.sparse_codes import triton_kernels as kernels
from sparsebench.kernels.sparse_codes.triton import CHUNK, COLUMNS, ENTRIES, RESIDENT, WARPS


def compile_sources(dtype: torch.dtype) -> dict[str, Source]:
    """Return every kernel by name, the selection for rows that stay in registers and for others.

    Args:
        dtype: one of DTYPES.

    Raises:
        RuntimeError: if the kernels were made for the interpreter, which has nothing to compile.
    """
    types = {"places": "*i32", "row": "*i32", "begin": "*i64", "end": "*i64", "slot": "*i64"}
    types |= dict.fromkeys(("values", "x", "a", "out"), f"*{ELEMENTS[dtype]}")
    tile, warps = {"ENTRIES": ENTRIES, "COLUMNS": COLUMNS}, {"num_warps": WARPS}
    return {
        "select_short": source(kernels.select, types, {"BLOCK": RESIDENT, "RESIDENT": True}, warps),
        "select_long": source(kernels.select, types, {"BLOCK": CHUNK, "RESIDENT": False}, warps),
        "decode": source(kernels.decode, types, tile),
        "collect": source(kernels.collect, types, tile),
        "dots": source(kernels.dots, types, tile),
    }
