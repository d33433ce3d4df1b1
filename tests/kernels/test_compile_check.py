"""Compile the Triton kernels for GPUs that are not here, and read from the binaries that they are what they should be.

In processes of their own: where there is no GPU, this one has the kernels made for Triton's interpreter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton")

from sparsebench.kernels import compile_check
from sparsebench.kernels.compile_check import TARGETS, Compiled, Target

# which blocks in which dtype: all of both is the command's business, as it takes minutes
ROWS = """
import dataclasses, json, sys, torch
from sparsebench.kernels.compile_check import SOURCES, TARGETS, check

if __name__ == "__main__":
    named = [target for target in TARGETS if target.name == sys.argv[1]]
    rows = []
    for dtype, blocks in ((torch.bfloat16, ((16, 16),)), (torch.float16, ((64, 64),)),
                          (torch.float32, ((32, 32),))):
        if dtype is torch.float16:  # the same code as bfloat16's but for the type: left to the command
            kept = SOURCES.pop("plane_conv")
        rows += check(named, [dtype], blocks=blocks)
        if dtype is torch.float16:
            SOURCES["plane_conv"] = kept
    if sys.argv[1] == "sm_90":
        del SOURCES["csr"], SOURCES["plane_conv"]
        rows += check(named, [torch.bfloat16], blocks=((128, 128),))
        rows += check(named, [torch.bfloat16], blocks=((32, 32),), every_candidate=True)
    print(json.dumps([dataclasses.asdict(row) for row in rows]))
"""


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    return kept | {"TRITON_CACHE_DIR": str(tmp_path / "cache"), "CUDA_VISIBLE_DEVICES": ""} | more


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Future[subprocess.CompletedProcess[str]]]:
    """Compile for all targets, two at a time; each is a minute's work or less."""
    folder = tmp_path_factory.mktemp("compiled")
    script = folder / "rows.py"
    script.write_text(ROWS, encoding="utf-8")
    with ThreadPoolExecutor(2) as pool:
        return {
            target.name: pool.submit(
                subprocess.run, [sys.executable, str(script), target.name], env=environment(folder), cwd=folder,
                capture_output=True, text=True,
            )
            for target in sorted(TARGETS, key=lambda target: target.name != "sm_90")  # the longest one first
        }  # fmt: skip


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_kernels_compile_and_are_what_they_should_be(
    target: Target, compiled: dict[str, Future[subprocess.CompletedProcess[str]]]
) -> None:
    done = compiled[target.name].result()
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [Compiled(**row) for row in json.loads(done.stdout.splitlines()[-1])]
    for package in compile_check.SOURCES:
        wanted = {"bfloat16", "float32"} | ({"float16"} if package != "plane_conv" else set())
        assert {row.dtype for row in rows if row.kernel.startswith(f"{package} ")} == wanted
    for row in rows:
        assert row.error is None, row.line()
        assert row.registers > 0, row.line()
        assert row.spill_bytes == 0, row.line()
        assert 0 <= row.shared_bytes <= target.shared, row.line()
        if "descriptors" in row.kernel:
            assert row.bulk_loads > 0, row.line()
        if row.kernel.split()[1] in ("multiply", "sample", "gather", "reduce"):
            assert row.shared_bytes > 0, row.line()
            # float32 products are exact to float32, which matrix instructions are on AMD's GPUs only
            assert bool(row.matrix) == (row.dtype != "float32" or target.backend == "hip"), row.line()
    described = {row.dtype for row in rows if row.bulk_loads}
    assert described == ({"bfloat16", "float16"} if target.descriptors else set())
    loaded = {row.kernel.split()[1] for row in rows if row.bulk_loads}
    assert loaded == ({"multiply", "sample"} if target.descriptors else set())
    large = [row for row in rows if "128x256x64" in row.kernel or "64x256x64" in row.kernel]
    matrix = {"sm_80": "HMMA", "sm_90": "HGMMA", "sm_100": "UTCHMMA", "gfx942": "v_mfma"}[target.name]
    assert all(matrix in row.matrix for row in large), [row.line() for row in large]
    assert large or not target.descriptors


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
    row = Compiled(target="sm_90", dtype="float16", kernel="multiply", registers=40, matrix={"HGMMA": 8}, error=error)
    asked: list[Any] = []
    monkeypatch.setattr(compile_check, "check", lambda targets, **named: asked.extend(targets) or [row])
    assert compile_check.main(["--target", "sm_90"]) == int(error is not None)
    assert [target.name for target in asked] == ["sm_90"]
    line = "does not compile: CompilationError: no" if error else "40 registers, 0 B spilled, 0 B shared, 8 HGMMA, "
    assert f"sm_90  float16  multiply: {line}" in capsys.readouterr().out


def test_what_does_not_compile_is_a_row(tmp_path: Path) -> None:
    script = tmp_path / "broken.py"
    script.write_text(BROKEN, encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], env=environment(tmp_path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


BROKEN = """
import torch, triton, triton.language as tl
from sparsebench.kernels import compile_check as c

@triton.jit
def broken(out, SIZE: tl.constexpr):
    tl.store(out + tl.arange(0, SIZE), tl.zeros((SIZE + 1,), tl.float32))

@triton.jit
def spilling(out, x, SIZE: tl.constexpr):
    a = tl.load(x + tl.arange(0, SIZE)[:, None] * SIZE + tl.arange(0, SIZE)[None, :])
    square = tl.dot(a, a, input_precision="ieee")
    tl.store(out + tl.arange(0, SIZE)[:, None] * SIZE + tl.arange(0, SIZE)[None, :], square)

def source(kernel, size):
    signature = {name: "constexpr" if name == "SIZE" else "*fp32" for name in kernel.arg_names}
    return triton.compiler.ASTSource(fn=kernel, signature=signature, constexprs={"SIZE": size}), {"num_warps": 1}

c.SOURCES = {"test": lambda *_: {"broken": source(broken, 16), "spilling": source(spilling, 64)}}
first, second = c.check([target for target in c.TARGETS if target.name == "sm_80"], [torch.float32])
assert first.error is not None and "\\n" not in first.error, first
assert second.error is None and second.spill_bytes > 0, second
"""
