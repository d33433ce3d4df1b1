"""Name what convolves, for the column `kernel`."""

from __future__ import annotations

NAMES: dict[str, str] = {"cpu": "numba + LLVM shifted planes", "cuda": "triton implicit gemm"}
"""What runs on a type of device."""
LIBRARY = "gather + torch convolution"
"""What runs on the CPU for shared maps where torch's convolution of a smaller weight was measured to be faster."""
