"""Hand out the Triton kernels as they would be launched, to be compiled for GPUs that are not here."""

from __future__ import annotations

from typing import Any

import torch

from sparsebench.kernels.common.triton_launch import ELEMENTS
from sparsebench.kernels.common.triton_sources import Source, source
from sparsebench.kernels.csr import triton_kernels as kernels
from sparsebench.kernels.csr.triton import COLUMNS


def compile_sources(dtype: torch.dtype) -> dict[str, Source]:
    """Return every kernel by name, for the shortest and the longest rows, and for one column; options are the defaults.

    Args:
        dtype: one of DTYPES.

    Raises:
        RuntimeError: if the kernels were made for the interpreter, which has nothing to compile.
    """
    arrays = dict.fromkeys(("target", "begin", "length", "others", "place", "col", "row", "part"), "*i32")
    operands = dict.fromkeys(("values", "x", "a", "b", "out"), f"*{ELEMENTS[dtype]}")
    types = {**arrays, **operands, "parts": "*fp32"}
    forms: dict[str, tuple[Any, dict[str, int]]] = {"add_parts": (kernels.add_parts, {})}
    for size, rows, entries in (("short", 8, 4), ("long", 1, 32)):
        taken = {"ROWS": rows, "ENTRIES": entries}
        for kind, ordered in (("dsd", 0), ("dsd_transposed", 1)):
            forms[f"{kind}_{size}"] = kernels.product, {**taken, "ORDERED": ordered}
        forms[f"sdd_{size}"] = kernels.sampled, taken
    sources = {}
    for name, (kernel, constants) in forms.items():
        sources[name] = source(kernel, types, {**constants, "COLUMNS": COLUMNS})
        # a launch bakes in sizes and strides that are 1, so a matrix times one vector is a kernel of its own
        ones = {key: 1 for key in ("n", "stride_xr", "stride_xc", "stride_ac", "stride_br") if key in kernel.arg_names}
        sources[f"{name}_vector"] = source(kernel, types, {**constants, **ones, "COLUMNS": 1})
    return sources
