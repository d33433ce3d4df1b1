"""Hand out the Triton kernels as they would be launched, to be compiled for GPUs that are not here."""

from __future__ import annotations

from typing import Any

import torch

from sparsebench.kernels.common.triton_launch import ELEMENTS
from sparsebench.kernels.common.triton_sources import Source, source
from sparsebench.kernels.csr import triton_kernels as kernels
from sparsebench.kernels.csr.segments import Bucket
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
    sources = {"add_parts": source(kernels.add_parts, types, {"COLUMNS": COLUMNS})}
    sources["add_parts_vector"] = source(kernels.add_parts, types, {"COLUMNS": 1, "n": 1})
    for size, longest in (("short", 4), ("long", 1024)):
        for form, columns in (("", COLUMNS), ("_narrow", 8), ("_vector", 1)):
            rows, entries = Bucket(first=0, count=1, longest=longest).tile(columns)
            taken: dict[str, Any] = {"ROWS": rows, "ENTRIES": entries, "COLUMNS": columns}
            if columns == 1:  # a launch bakes in sizes and strides that are 1
                taken |= dict.fromkeys(("n", "stride_xr", "stride_xc", "stride_ac", "stride_br"), 1)
            for kind, kernel in (
                ("dsd", kernels.product),
                ("dsd_transposed", kernels.product),
                ("sdd", kernels.sampled),
            ):
                known = {name: one for name, one in taken.items() if name in kernel.arg_names}
                if kernel is kernels.product:
                    known["ORDERED"] = kind != "dsd"
                sources[f"{kind}_{size}{form}"] = source(kernel, types, known)
    return sources
