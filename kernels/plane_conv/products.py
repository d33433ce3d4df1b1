"""Hand out the convolutions for a device: on the CPU numba and LLVM, on the GPU Triton."""

from __future__ import annotations

import importlib
from types import ModuleType

BACKENDS: dict[str, str] = {"cpu": "cpu", "cuda": "triton"}
NAMES: dict[str, str] = {"cpu": "numba + LLVM shifted planes", "cuda": "triton implicit gemm"}
"""What runs, for the column `kernel`."""
LIBRARY = "gather + torch convolution"
"""What runs on the CPU for shared maps where torch's convolution of a smaller weight was measured to be faster."""


def backend(device: str) -> ModuleType:
    """Return the kernels for a type of device: a module with DTYPES and the twelve functions of reference.py.

    Raises:
        ValueError: if there are none for it.
    """
    if device not in BACKENDS:
        raise ValueError(f"expected a device of {', '.join(BACKENDS)}, got {device!r}; move the tensor")
    # imported late: neither library needs to be installed where the other one is used, and both take a while to import
    return importlib.import_module(f"sparsebench.kernels.plane_conv.{BACKENDS[device]}")
