"""Run each part of .ci/gpu as far as its first launches, on a stand-in for a GPU that lacks what a machine may lack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

pytest.importorskip("triton")

HERE = Path(__file__).parent
SMALL = "|4096x4096x16|block-128x128|0.9|bfloat16"


def part(tmp_path: Path, name: str, *arguments: str, **more: str) -> tuple[str, dict[str, bytes], set[str]]:
    """Return what a part prints, the files of its archive, and the kernels that it launched."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(HERE / "stand_in"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "STAND_IN_LAUNCHES": str(tmp_path / "launches"),
        **more,
    }
    out = tmp_path / "out"
    command = ["bash", str(HERE.parent / ".ci" / "gpu"), name, str(out), "0123abc", *arguments]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert (out / f"gpu-{name}.tar.gz").exists(), done.stdout[-2000:] + done.stderr[-2000:]
    with tarfile.open(out / f"gpu-{name}.tar.gz") as archive:
        files = {
            member.name.removeprefix("./"): held.read()
            for member in archive
            if (held := archive.extractfile(member)) is not None
        }
    launched = tmp_path / "launches"
    return done.stdout, files, set(launched.read_text().split()) if launched.exists() else set()


def test_facts(tmp_path: Path) -> None:
    _, files, _ = part(tmp_path, "facts", "--side", "32", "--megabytes", "1")
    found = json.loads(files["facts.json"])
    assert found["machine"]["commit"]
    assert found["machine"]["gpu"]["multiprocessors"] == 132
    assert not found["machine"]["gpu"]["cudnn_allow_tf32"]  # cuDNN's default would make a float32 reference none
    assert found["ceilings"]["dense_bfloat16_32_tflops"] == pytest.approx(2 * 32**3 / 1e-4 * 1e-12)
    assert found["versions"]["torch"].startswith("2.")


def test_tests(tmp_path: Path) -> None:
    chosen = "not bitmap and (test_batches or test_runs_repeat or test_sums_are_shared_out) or test_every_place"
    text, files, launched = part(tmp_path, "tests", "-n", "0", "-k", chosen)
    assert " passed" in text
    assert "failed" not in text
    assert set(files) == {"tests.xml", "tests.log"}
    assert launched >= {"multiply", "add_up", "sample", "product", "add_parts", "sampled", "reduce", "decode", "narrow"}


def test_bench(tmp_path: Path) -> None:
    text, files, launched = part(tmp_path, "bench", "--only", SMALL, STAND_IN_STOPS="1")
    assert launched == {"multiply", "product"}
    rows = {row["representation"]: row for row in map(json.loads, files["run/cells.jsonl"].splitlines())}
    assert rows["dense"]["status"] == "ok", text
    assert rows["dense"]["wall_time_s"] > 0
    for name, kernel in (("block-sparse", "multiply"), ("csr", "product")):
        assert rows[name]["reason"] == f"OutOfMemoryError: the stand-in ends at {kernel}"
    assert files["run/commit"] == b"0123abc\n"
    assert "run/report.html" in files


def test_narrow(tmp_path: Path) -> None:
    one = "|4096x4096x1|element|0.95|float16"
    text, files, launched = part(tmp_path, "narrow", "--only", one, STAND_IN_STOPS="1")
    assert launched == {"narrow", "product"}
    rows = {row["representation"]: row for row in map(json.loads, files["run/cells.jsonl"].splitlines())}
    assert set(rows) == {"dense", "torch-csr", "csr", "bitmap"}, text
    assert rows["dense"]["status"] == "ok"
    assert rows["bitmap"]["reason"] == "OutOfMemoryError: the stand-in ends at narrow"


def test_what_is_no_part_is_refused(tmp_path: Path) -> None:
    for given in ([], ["facts"], ["nothing", str(tmp_path)]):
        done = subprocess.run(["bash", str(HERE.parent / ".ci" / "gpu"), *given], capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr.startswith(
            "gpu: expected facts, tests, bench, narrow or all, then a folder for the archive, got: "
        )
