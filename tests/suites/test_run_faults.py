"""What a plug-in does wrong beside its results costs no other cell, and leaves nothing running."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import psutil
from command_line import GRID, HERE, ONE, SPARSEBENCH, environment, rows, sparsebench


def test_what_a_plug_in_does_to_its_inputs_costs_no_other(tmp_path: Path) -> None:
    run = tmp_path / "run"
    bad = ("ChangesTheTensor", "ChangesTheOperand", "RightWhenJudged", "Remembers", "Instant")
    result = sparsebench(*ONE, *(f"--representation=bad_representations:{name}" for name in bad),
                         "--representation=dense", "--representation=torch-csr", "--out", run)  # fmt: skip
    assert result.returncode == 1, result.stderr
    found = {row["representation"].rpartition(":")[2]: row for row in rows(run)}
    assert {name: row["status"] for name, row in found.items()} == dict.fromkeys(bad, "wrong") | {
        "dense": "ok", "torch-csr": "ok",
    }  # fmt: skip
    assert found["ChangesTheTensor"]["reason"].startswith("changed its input: tensor;")
    assert found["ChangesTheOperand"]["reason"].startswith("changed its input: x;")
    assert "after it was timed" in found["RightWhenJudged"]["reason"]
    assert "after it was timed" in found["Remembers"]["reason"]
    assert re.fullmatch(
        r"impossible: .* at least .*\(6.82e\+06 operations at .* Gflop/s, .*\)", found["Instant"]["reason"]
    )
    assert found["Instant"]["time_s"] is found["Remembers"]["speedup"] is found["RightWhenJudged"]["speedup"] is None


def workers_of(run: Path) -> list[int]:
    """Return the processes that measure into a run folder, the runner itself not counted."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if (f"--out={run}" in line and "pytest" in line) or f"left by {run}" in line:
            found.append(process.info["pid"])
    return found


def test_a_worker_ends_with_its_runner_whatever_ends_that(tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [str(SPARSEBENCH), *GRID, "--representation=dense", "--representation=bad_representations:Hangs",
             "--out", str(run)]  # fmt: skip
    process = subprocess.Popen(words, env=environment(HERE), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not (run / "cells.jsonl").exists():
            assert time.monotonic() < deadline, "no cell was finished in two minutes"
            time.sleep(0.2)
        assert workers_of(run)
    finally:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 20
    while workers_of(run):
        assert time.monotonic() < deadline, "a worker lives on without its runner"
        time.sleep(0.2)


def test_what_a_worker_leaves_running_ends_with_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = sparsebench(*ONE, "--representation=bad_representations:LeavesAChild", "--out", run)
    assert result.returncode == 0, result.stdout + result.stderr
    assert [row["status"] for row in rows(run)] == ["ok"]
    left = [line for process in psutil.process_iter(["cmdline"]) if "left behind by a plug-in" in
            (line := " ".join(process.info["cmdline"] or ()))]  # fmt: skip
    assert left == []
