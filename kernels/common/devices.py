"""Hand out the kernels of a folder for a device: on the CPU numba and LLVM, on the GPU Triton."""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType

MODULES: dict[str, str] = {"cpu": "cpu", "cuda": "triton"}
"""The module of a folder of kernels that computes on a type of device."""


@cache
def backend(folder: str, device: str) -> ModuleType:
    """Return the kernels of a folder, as "csr", for a type of device; who computes and who says what did ask here.

    It is a module with DTYPES and the functions of the folder's reference.py.

    Raises:
        ValueError: if there are none for it.
    """
    if device not in MODULES:
        raise ValueError(f"expected a device of {', '.join(MODULES)}, got {device!r}; move the tensor")
    # imported late: neither library needs to be installed where the other one is used, and both take a while to import
    return importlib.import_module(f"sparsebench.kernels.{folder}.{MODULES[device]}")
