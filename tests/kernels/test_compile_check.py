"""Compile the Triton kernels for GPUs that are not here, and read from the binaries that they are what they should be.

In processes of their own: where there is no GPU, this one has the kernels made for Triton's interpreter.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton")

import torch

from sparsebench.kernels import compile_check
from sparsebench.kernels.common.triton_launch import INTERPRETED
from sparsebench.kernels.compile_targets import TARGETS, Compiled, Target, faults
from sparsebench.kernels.csr import triton_sources as csr
from sparsebench.kernels.sparse_codes import triton_sources as sparse_codes

# what a target is sampled in, a dtype and folders of kernels; all of everything is the command's business, in .ci/run
SAMPLED = {
    "sm_80": ("float32", "plane_conv", "sparse_codes"),
    "sm_90": ("bfloat16", "bitmap", "block_sparse", "csr"),
    "sm_100": ("float16", "block_sparse"),
    "gfx942": ("bfloat16", "csr", "plane_conv", "sparse_codes"),
}

ROWS = """
import dataclasses, json, sys, torch
from sparsebench.kernels.compile_check import SOURCES, check
from sparsebench.kernels.compile_targets import TARGETS

for folder in set(SOURCES) - set(sys.argv[3:]):
    del SOURCES[folder]
named = [target for target in TARGETS if target.name == sys.argv[1]]
rows = check(named, [getattr(torch, sys.argv[2])], blocks=((128, 128),), sampled=True)
print(json.dumps([dataclasses.asdict(row) for row in rows]))
"""


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    return kept | {"TRITON_CACHE_DIR": str(tmp_path / "cache"), "CUDA_VISIBLE_DEVICES": ""} | more


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Future[subprocess.CompletedProcess[str]]]:
    """Compile for all targets, two at a time; each is ten seconds' work or less."""
    folder = tmp_path_factory.mktemp("compiled")
    script = folder / "rows.py"
    script.write_text(ROWS, encoding="utf-8")
    with ThreadPoolExecutor(2) as pool:
        return {
            target: pool.submit(
                subprocess.run, [sys.executable, str(script), target, *words], env=environment(folder), cwd=folder,
                capture_output=True, text=True,
            )
            for target, words in SAMPLED.items()
        }  # fmt: skip


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_kernels_compile_and_are_what_they_should_be(
    target: Target, compiled: dict[str, Future[subprocess.CompletedProcess[str]]]
) -> None:
    done = compiled[target.name].result()
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [Compiled(**row) for row in json.loads(done.stdout.splitlines()[-1])]
    dtype, *folders = SAMPLED[target.name]
    assert {(row.target, row.dtype) for row in rows} == {(target.name, dtype)}
    assert {row.kernel.split()[0] for row in rows} == set(folders)
    assert {folder for _, *some in SAMPLED.values() for folder in some} == set(compile_check.SOURCES)
    for row in rows:
        assert not faults(row), row.line()
    loaded = {row.kernel.split()[1] for row in rows if row.bulk_loads}
    assert loaded == ({"multiply", "sample"} if target.descriptors else set())
    wide = [row for row in rows if "128x256x64" in row.kernel]
    assert bool(wide) == target.descriptors


ROW = Compiled(
    target="sm_90", dtype="bfloat16", kernel="block_sparse multiply 128x128 128x256x64 descriptors 8 warps 5 stages",
    registers=192, shared_bytes=147496, matrix={"HGMMA": 4}, bulk_loads=6,
)  # fmt: skip
AMD = {"target": "gfx942", "dtype": "float32", "bulk_loads": 0, "shared_bytes": 9}


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, None),
        ({"error": "CompilationError: no"}, "does not compile"),
        ({"registers": 0}, "no registers"),
        ({"spill_bytes": 4}, "spilled registers"),
        ({"shared_bytes": 2**18}, "more shared memory than there is"),
        ({"shared_bytes": 0}, "no shared memory"),
        ({"matrix": {}}, "no matrix instructions"),
        ({"matrix": {}, "kernel": "plane_conv reduce blocks 8x8 8x16x16", **AMD}, None),
        ({"matrix": {}, "kernel": "plane_conv reduce blocks 8x8 8x64x16", **AMD}, "no matrix instructions"),
        ({"matrix": {}, "kernel": "plane_conv reduce blocks 8x8 16x16x16", **AMD}, "no matrix instructions"),
        ({"matrix": {"HMMA": 4}}, "no HGMMA"),
        ({"dtype": "float32"}, "matrix instructions in float32"),
        ({"kernel": "csr x", **AMD}, None),
        ({"bulk_loads": 0}, "no bulk loads"),
        ({"kernel": "block_sparse sample pointers"}, "bulk loads without descriptors"),
        ({"banned": ("atomics",)}, "atomics"),
    ],
)
def test_a_kernel_is_judged_by_what_it_became(changes: dict[str, Any], fault: str | None) -> None:
    found = faults(dataclasses.replace(ROW, **changes))
    assert fault in found if fault else not found


def test_the_command_says_why_it_cannot_compile(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sparsebench.kernels.compile_check"]
    given = environment(tmp_path, TRITON_INTERPRET="1")
    done = subprocess.run(command, env=given, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "expected Triton's compiler, got its interpreter; unset TRITON_INTERPRET\n"


@pytest.mark.parametrize("error", [None, "CompilationError: no"])
def test_the_command_tells_of_what_does_not_compile(
    error: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []
    row = dataclasses.replace(ROW, error=error)
    monkeypatch.setattr(compile_check, "check", lambda *given, **named: asked.append((given, named)) or [row])
    given = ["--target", "sm_90", "--dtype", "bfloat16", "--block", "32x16"]
    assert compile_check.main(given) == int(error is not None)
    (((targets, dtypes), named),) = asked
    assert ([target.name for target in targets], dtypes) == (["sm_90"], [torch.bfloat16])
    assert named["blocks"] == [(32, 16)]
    line = "does not compile: CompilationError: no" if error else "192 registers, 0 B spilled, 147496 B shared, 4 HGMMA"
    written = capsys.readouterr()
    assert f"sm_90  bfloat16 {ROW.kernel}: {line}" in written.out
    assert written.err == (f"sm_90 bfloat16 {ROW.kernel}: does not compile\n" if error else "")


def test_what_does_not_compile_is_a_row(tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text(BROKEN, encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], env=environment(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


BROKEN = """
import torch, triton, triton.language as tl
from sparsebench.kernels import compile_check as c
from sparsebench.kernels.common.triton_sources import source

@triton.jit
def broken(out, SIZE: tl.constexpr):
    tl.store(out + tl.arange(0, SIZE), tl.zeros((SIZE + 1,), tl.float32))

@triton.jit
def spilling(out, x, SIZE: tl.constexpr):
    a = tl.load(x + tl.arange(0, SIZE)[:, None] * SIZE + tl.arange(0, SIZE)[None, :])
    square = tl.dot(a, a, input_precision="ieee")
    tl.store(out + tl.arange(0, SIZE)[:, None] * SIZE + tl.arange(0, SIZE)[None, :], square)

@triton.jit
def adding(out, x, SIZE: tl.constexpr):
    a = tl.load(x + tl.arange(0, SIZE)[:, None] * SIZE + tl.arange(0, SIZE)[None, :])
    tl.atomic_add(out + tl.arange(0, SIZE), tl.sum(tl.dot(a, a, input_precision="tf32"), axis=0))

def made(kernel, size):
    return source(kernel, {"out": "*fp32", "x": "*fp32"}, {"SIZE": size}, {"num_warps": 1})

sizes = {broken: 16, spilling: 64, adding: 16}
c.SOURCES = {"test": lambda *_: {kernel.__name__: made(kernel, size) for kernel, size in sizes.items()}}
first, second, third = c.check([target for target in c.TARGETS if target.name == "sm_80"], [torch.float32])
assert first.error is not None and "\\n" not in first.error, first
assert second.error is None and second.spill_bytes > 0, second
assert third.banned == ("atomics", "TF32"), third
"""


@pytest.mark.skipif(not INTERPRETED, reason="the kernels are compiled here, as a GPU is")
def test_kernels_made_for_the_interpreter_are_not_compiled() -> None:
    for package in (csr, sparse_codes):
        with pytest.raises(RuntimeError, match="import without TRITON_INTERPRET"):
            package.compile_sources(torch.float32)


def test_cpu_tensors_are_refused_without_the_interpreter(tmp_path: Path) -> None:
    """In a process of its own: this one has the kernels made for the interpreter where there is no GPU."""
    given = environment(tmp_path)
    done = subprocess.run([sys.executable, "-c", REFUSED], env=given, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


REFUSED = """
import torch
from sparsebench.kernels.bitmap import triton as bitmap
from sparsebench.kernels.bitmap.layout import BitmapIndex
from sparsebench.kernels.block_sparse import triton as blocks
from sparsebench.kernels.block_sparse.layout import BlockIndex
from sparsebench.kernels.csr import triton as csr
from sparsebench.kernels.csr.layout import RowIndex
from sparsebench.kernels.plane_conv import triton as convolve
from sparsebench.kernels.plane_conv.geometry import Geometry
from sparsebench.kernels.sparse_codes import triton as codes
from sparsebench.kernels.sparse_codes.layout import CodeIndex

one, starts, place = torch.ones(1, 1), torch.tensor([0, 1], dtype=torch.int32), torch.zeros(1, dtype=torch.int32)
block = BlockIndex.from_rows(starts, place, (1, 1), (1, 1))
row = RowIndex(shape=(1, 1), crow=starts, col=place)
code = CodeIndex(shape=(1, 1), places=place[None])
bits = BitmapIndex.from_elements(place, place, (1, 1))
for call in (
    lambda: bitmap.dsd(bits, one[0], one), lambda: bitmap.sdd(bits, one, one),
    lambda: blocks.dsd(block, one[None], one), lambda: blocks.dds(block, one[None], one),
    lambda: blocks.sdd(block, one, one), lambda: csr.dsd(row, one[0], one), lambda: csr.sdd(row, one, one),
    lambda: convolve.elements(Geometry(kernel=(1, 1)), row, one[0], torch.ones(1, 1, 2, 2)),
    lambda: codes.select(one, 1), lambda: codes.decode(code, one, one),
    lambda: codes.decode_dictionary(code, one, one), lambda: codes.decode_values(code, one, one),
):
    try:
        call()
    except ValueError as error:
        assert "expected CUDA tensors, got cpu" in str(error) and "\\n" not in str(error)
    else:
        raise SystemExit("CPU tensors were not refused")
"""
