"""Kinds of GPU that the Triton kernels are compiled for, and what a kernel has to have become on each."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Target:
    """A kind of GPU to compile for.

    Attributes:
        name: "sm_90".
        backend: "cuda" or "hip".
        arch: what Triton calls it.
        warp: threads of a warp.
        shared: bytes of shared memory that a program may use: 163 KiB on sm_80, 227 KiB on sm_90 and sm_100 (NVIDIA,
            CUDA C++ Programming Guide, compute capabilities), 64 KiB on gfx942 (AMD, CDNA 3 ISA, local data share).
        descriptors: whether tiles are copied in bulk (TMA).
        matrix: what its matrix instructions start with.
    """

    name: str
    backend: str
    arch: int | str
    warp: int
    shared: int
    descriptors: bool
    matrix: tuple[str, ...]


TARGETS: tuple[Target, ...] = (
    Target(name="sm_80", backend="cuda", arch=80, warp=32, shared=163 * 1024, descriptors=False, matrix=("HMMA",)),
    Target(name="sm_90", backend="cuda", arch=90, warp=32, shared=227 * 1024, descriptors=True,
           matrix=("HGMMA", "HMMA")),
    Target(name="sm_100", backend="cuda", arch=100, warp=32, shared=227 * 1024, descriptors=True,
           matrix=("UTCHMMA", "HMMA")),
    Target(name="gfx942", backend="hip", arch="gfx942", warp=64, shared=64 * 1024, descriptors=False,
           matrix=("v_mfma",)),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """What a kernel became on a target.

    Attributes:
        target: "sm_90".
        dtype: "bfloat16".
        kernel: its name, block and tile.
        registers: of a thread; vector registers on gfx942.
        spill_bytes: of a thread's stack; Triton's kernels have no arrays there, so all of it is spilled registers.
        shared_bytes: of a program.
        matrix: the matrix instructions that occur, as "HGMMA", each with how often it stands in the code.
        bulk_loads: how often a bulk tensor load (UTMALDG) stands in the code.
        banned: what no kernel may have that it has: "atomics", which add in any order, and "TF32".
        error: why it does not compile, in one line, or None; the numbers are 0 then.
    """

    target: str
    dtype: str
    kernel: str
    registers: int = 0
    spill_bytes: int = 0
    shared_bytes: int = 0
    matrix: dict[str, int]
    bulk_loads: int = 0
    banned: tuple[str, ...] = ()
    error: str | None = None

    def line(self) -> str:
        """Return this as one line."""
        head = f"{self.target:6} {self.dtype:8} {self.kernel}: "
        if self.error is not None:
            return f"{head}does not compile: {self.error}"
        matrix = ", ".join(f"{count} {name}" for name, count in self.matrix.items()) or "no matrix instructions"
        return (
            f"{head}{self.registers} registers, {self.spill_bytes} B spilled, {self.shared_bytes} B shared, "
            f"{matrix}, {self.bulk_loads} bulk loads"
        )


def faults(row: Compiled) -> list[str]:
    """Return what is wrong with a kernel on its target, each in a few words; nothing where all is as it should be."""
    target = next(target for target in TARGETS if target.name == row.target)
    if row.error is not None:
        return ["does not compile"]
    product, wide = row.kernel.split()[1] in _PRODUCTS, any(tile in row.kernel for tile in _WIDE)
    # float32 products are exact to float32, which matrix instructions are on AMD's GPUs only
    instructions = row.dtype != "float32" or target.backend == "hip"
    small = row.dtype == "float32" and product and _below_mfma(row.kernel)
    found = {
        "no registers": row.registers <= 0,
        "spilled registers": row.spill_bytes != 0,
        "more shared memory than there is": not 0 <= row.shared_bytes <= target.shared,
        "no shared memory": product and row.shared_bytes == 0,
        "no matrix instructions": product and instructions and not small and not row.matrix,
        "matrix instructions in float32": product and not instructions and bool(row.matrix),
        f"no {target.matrix[0]}": wide and target.matrix[0] not in row.matrix,
        "no bulk loads": "descriptors" in row.kernel and row.bulk_loads == 0,
        "bulk loads without descriptors": "descriptors" not in row.kernel and row.bulk_loads != 0,
    }
    return [*(name for name, wrong in found.items() if wrong), *row.banned]


_PRODUCTS = ("multiply", "unite", "sample", "gather", "reduce")
"""Kernels that multiply tiles with each other."""
_WIDE = ("128x256x64", "64x256x64")
"""Tiles that only the newest matrix instructions of a target make sense for."""


def _below_mfma(kernel: str) -> bool:
    """Return whether a tile is smaller than AMD's matrix instructions in float32 (CDNA 3 ISA: 16 by 16, 4 by 64)."""
    rows, columns = (int(side) for side in re.findall(r"\b(\d+)x(\d+)x\d+\b", kernel)[-1])
    return min(rows, columns) < 16 and max(rows, columns) < 64
