"""Compile every Triton kernel for GPUs that are not here, and read what the compiler made of it.

`python -m sparsebench.kernels.compile_check` prints one line a kernel: registers of a thread, bytes spilled, bytes of
shared memory, matrix instructions and bulk tensor loads, all read from the binary. It needs no GPU and no driver:
Triton's wheel brings NVIDIA's cuobjdump and nvdisasm; AMD's compiler writes the same into its assembly. It fails where
a kernel spills, needs more than its target has, or lacks the instructions that it was written for: see `faults`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget

from sparsebench.kernels.bitmap import triton_sources as bitmap
from sparsebench.kernels.block_sparse import triton_sources as block_sparse
from sparsebench.kernels.block_sparse.triton_tiles import Limits
from sparsebench.kernels.common.triton_launch import DTYPES
from sparsebench.kernels.common.triton_sources import Source
from sparsebench.kernels.compile_targets import TARGETS, Compiled, Target, faults
from sparsebench.kernels.csr import triton_sources as csr
from sparsebench.kernels.plane_conv import triton_sources as plane_conv
from sparsebench.kernels.sparse_codes import triton_sources as sparse_codes

Blocks = Sequence[tuple[int, int]]
Job = tuple[Target, torch.dtype, Blocks, bool, bool]

BLOCKS: Blocks = ((8, 8), (16, 16), (32, 32), (64, 64), (128, 128), (16, 64))
"""Blocks (height, width) that the block-sparse kernels are compiled for, and blocks of maps for the convolutions."""


def check(
    targets: Sequence[Target] = TARGETS,
    dtypes: Sequence[torch.dtype] = DTYPES,
    *,
    blocks: Blocks = BLOCKS,
    every_candidate: bool = False,
    sampled: bool = False,
    processes: int = 1,
) -> list[Compiled]:
    """Compile all kernels, and return a row for each.

    Args:
        targets: GPUs to compile for.
        dtypes: of the operands.
        blocks: (height, width) of the blocks that the block-sparse kernels are compiled for.
        every_candidate: every tile that tuning would try, and not only the first ones.
        sampled: one form of each kernel only, with descriptors and without.
        processes: how many compile at a time.

    Raises:
        RuntimeError: if TRITON_INTERPRET is set, as there is nothing to compile then.
    """
    if triton.knobs.runtime.interpret:
        raise RuntimeError("expected Triton's compiler, got its interpreter; unset TRITON_INTERPRET")
    jobs = [(target, dtype, blocks, every_candidate, sampled) for target in targets for dtype in dtypes]
    if processes == 1:
        return [row for job in jobs for row in _compile_all(job)]
    # LLVM holds locks and threads of its own, which a forked process would find in the middle of something
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        return [row for rows in pool.map(_compile_all, jobs) for row in rows]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each kernel, and return 1 if any has faults, 2 if nothing can be compiled, else 0."""
    parser = argparse.ArgumentParser(prog="python -m sparsebench.kernels.compile_check", description=main.__doc__)
    parser.add_argument("--target", action="append", choices=[target.name for target in TARGETS])
    parser.add_argument("--dtype", action="append", choices=[str(dtype).removeprefix("torch.") for dtype in DTYPES])
    parser.add_argument("--block", action="append", type=_block, metavar="HEIGHTxWIDTH", help="of the stored blocks")
    parser.add_argument("--every-candidate", action="store_true", help="compile every tile that tuning would try")
    parser.add_argument("--sampled", action="store_true", help="compile one form of each kernel only")
    parser.add_argument("--processes", type=int, default=1, help="how many compile at a time")
    given = parser.parse_args(arguments)
    targets = [target for target in TARGETS if given.target is None or target.name in given.target]
    dtypes = [dtype for dtype in DTYPES if given.dtype is None or str(dtype).removeprefix("torch.") in given.dtype]
    try:
        rows = check(
            targets,
            dtypes,
            blocks=given.block or BLOCKS,
            every_candidate=given.every_candidate,
            sampled=given.sampled,
            processes=given.processes,
        )
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 2
    wrong = [(row, found) for row in rows if (found := faults(row))]
    for row in rows:
        print(row.line())
    for row, found in wrong:
        print(f"{row.target} {row.dtype} {row.kernel}: {', '.join(found)}", file=sys.stderr)
    return int(bool(wrong))


def _block(text: str) -> tuple[int, int]:
    height, width = text.split("x")
    return int(height), int(width)


def _block_sparse(target: Target, dtype: torch.dtype, blocks: Blocks, every_candidate: bool) -> dict[str, Source]:
    limits = Limits(shared=target.shared, descriptors=target.descriptors, deep=target.backend == "cuda")
    return block_sparse.compile_sources(dtype, limits, blocks, every_candidate=every_candidate)


SOURCES: dict[str, Callable[[Target, torch.dtype, Blocks, bool], dict[str, Source]]] = {
    "bitmap": lambda target, dtype, *_: bitmap.compile_sources(dtype, nvidia=target.backend == "cuda"),
    "block_sparse": _block_sparse,
    "csr": lambda target, dtype, *_: csr.compile_sources(dtype),
    "plane_conv": lambda target, dtype, blocks, _: plane_conv.compile_sources(
        dtype, nvidia=target.backend == "cuda", blocks=blocks
    ),
    "sparse_codes": lambda target, dtype, *_: sparse_codes.compile_sources(dtype),
}
"""For each package of kernels, what gives its sources by name, each with the options it is compiled with."""


def _compile_all(job: Job) -> list[Compiled]:
    target, dtype, blocks, every_candidate, sampled = job
    rows = []
    for package, sources in SOURCES.items():
        found = sources(target, dtype, blocks, every_candidate)
        if sampled:
            first = {(made[0].fn.__name__, "descriptors" in name): name for name, made in reversed(found.items())}
            found = {name: found[name] for name in first.values()}
        rows += [_compile(target, dtype, f"{package} {name}", *made) for name, made in found.items()]
    return rows


def _compile(target: Target, dtype: torch.dtype, name: str, source: Any, options: dict[str, int]) -> Compiled:
    labels: dict[str, Any] = {"target": target.name, "dtype": str(dtype).removeprefix("torch."), "kernel": name}
    try:
        made = triton.compile(source, target=GPUTarget(target.backend, target.arch, target.warp), options=options)
    except Exception as error:  # whatever a compiler throws is an answer here
        first = next((line for line in str(error).splitlines() if line.strip()), "")
        return Compiled(**labels, matrix={}, error=f"{type(error).__name__}: {first}")
    shared = int(made.metadata.shared)
    if target.backend == "hip":
        return Compiled(**labels, shared_bytes=shared, **_read_amd(made.asm["amdgcn"], target))
    banned = tuple(name for name, pattern in _BANNED.items() if re.search(pattern, made.asm["ptx"], re.MULTILINE))
    return Compiled(**labels, shared_bytes=shared, banned=banned, **_read_nvidia(made.asm["cubin"], target))


_BANNED = {"atomics": r"^\s*(@\S+\s+)?(atom|red)\.", "TF32": r"\.tf32\b"}
"""Instructions of PTX that no kernel may have."""


def _read_nvidia(cubin: bytes, target: Target) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.cubin")
        path.write_bytes(cubin)
        usage = _tool("cuobjdump", "-res-usage", str(path))
        text = _tool("nvdisasm", "-c", str(path))
    found = {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", usage)}
    return {
        "registers": found["REG"],
        "spill_bytes": found["STACK"] + found["LOCAL"],
        "matrix": dict(_count(text, target.matrix)),
        "bulk_loads": len(re.findall(r"\bUTMALDG\b", text)),
    }


def _read_amd(assembly: str, target: Target) -> dict[str, Any]:
    found = {name: int(value) for name, value in re.findall(r"^[\s-]*\.(\w+):\s+(\d+)\s*$", assembly, re.MULTILINE)}
    return {
        "registers": found["vgpr_count"] + found["agpr_count"],
        # scratch memory is in bytes; spills into other registers are counted, in registers of 4 bytes a thread
        "spill_bytes": found["private_segment_fixed_size"] + 4 * found["vgpr_spill_count"],
        "matrix": dict(_count(assembly, target.matrix)),
    }


def _count(text: str, names: Sequence[str]) -> Iterator[tuple[str, int]]:
    for name in names:
        count = len(re.findall(rf"\b{name}", text))
        if count:
            yield name, count


def _tool(name: str, *arguments: str) -> str:
    """Return what one of the tools in Triton's wheel prints."""
    path = getattr(triton.knobs.nvidia, name).path
    return subprocess.run([path, *arguments], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
