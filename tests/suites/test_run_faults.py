"""What a plug-in does wrong beside its results costs no other cell, and leaves nothing running."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import psutil
from command_line import GRID, HERE, ONE, SPARSEBENCH, environment, rows, sparsebench

from sparsebench.suites.measure.timing import EFFORTS
from sparsebench.suites.runner.journal import RunFolder


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


def left_behind() -> list[int]:
    return [process.pid for process in psutil.process_iter(["cmdline"])
            if "left behind by a plug-in" in " ".join(process.info["cmdline"] or ())]  # fmt: skip


def test_what_a_plug_in_leaves_or_changes_is_told_and_costs_no_other(tmp_path: Path) -> None:
    run = tmp_path / "run"
    changes = ("default-dtype", "closed-file", "environment")
    bad = (*changes, "LeavesAChild", "LeavesADaemon", "Forks", "Exits", "Grows")
    result = sparsebench(*ONE, *(f"--representation=bad_representations:{name}" for name in bad),
                         "--representation=dense", "--cell-memory", "2GiB", "--out", run)  # fmt: skip
    assert result.returncode == 1, result.stderr
    found = {row["representation"].rpartition(":")[2]: row for row in rows(run)}
    assert {name: row["status"] for name, row in found.items()} == dict.fromkeys(bad, "wrong") | {
        "Exits": "crashed", "Grows": "oom", "Forks": found["Forks"]["status"], "dense": "ok",
    }  # fmt: skip
    said = {name: row["reason"] for name, row in found.items()}
    assert said["default-dtype"] == "changed global state: torch's default dtype (torch.float32 → torch.float64)"
    assert said["closed-file"] == "changed global state: the files behind the standard streams"
    assert said["environment"] == "changed global state: the environment (LEFT_BY, OMP_NUM_THREADS)"
    assert re.fullmatch(r"left \d processes running \(python.*\), ended now", said["LeavesAChild"])
    assert re.fullmatch(r"left \d processes running \(python.*\), ended now", said["LeavesADaemon"])
    assert said["Exits"] == "SystemExit: enough"
    assert said["Grows"] == "held more than 2.00 GiB of memory; give --cell-memory if that is too little"
    # a child that has come to its end in time leaves nothing, one that has not is ended
    assert found["Forks"]["status"] == "ok" or said["Forks"].startswith("left ")
    visits = [json.loads(line)["representation"] for line in (run / "cells.jsonl").read_text().splitlines()]
    assert visits.count("bad_representations:Forks") == (found["Forks"]["visits"] or 1)  # its child wrote no row
    assert left_behind() == []


SAID = {
    "default-dtype": "torch's default dtype (torch.float32 → torch.float64)",
    "default-device": "torch's default device (cpu → meta)",
    "torch-threads": "torch's threads (1 → 2)",
    "gradient-mode": "torch's gradient mode ((True, False) → (False, False))",
    "deterministic": "torch's deterministic algorithms",
    "signal-handler": "signal handlers (SIGUSR1)",
    "folder": "the current folder",
    "environment": "the environment (LEFT_BY, OMP_NUM_THREADS)",
    "closed-stream": "the standard streams",
    "closed-file": "the files behind the standard streams",
    "warnings": "the warnings filters",
    "flood": "what is printed (20 MiB)",
    "busy-thread": "threads that work on (spinner)",
}
"""What is found of each of `bad_representations.CHANGES`."""
EACH = """
import os
from bad_representations import CHANGES
from sparsebench.suites.measure import machine, surroundings
machine.set_threads(1)
before = surroundings.noted()
assert surroundings.changed(before) == []
for name, change in CHANGES.items():
    told, tell = os.pipe()
    if os.fork() == 0:
        change()
        os.write(tell, " & ".join(surroundings.changed(before)).encode())
        os._exit(0)
    os.close(tell)
    os.wait()
    os.write(2, f"{name}: {os.read(told, 999).decode()}\\n".encode())
"""


def test_each_change_of_what_all_share_is_found(tmp_path: Path) -> None:
    with (tmp_path / "printed").open("wb") as printed:
        done = subprocess.run([sys.executable, "-c", EACH], env=environment(HERE), stdout=printed, check=False,
                              stderr=subprocess.PIPE, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = dict(line.split(": ", 1) for line in done.stderr.splitlines())
    assert found.keys() == SAID.keys()
    assert {name: said for name, said in found.items() if not said.startswith(SAID[name]) or " & " in said} == {}


def test_a_disk_without_room_stops_a_run_in_one_line_and_keeps_its_rows(tmp_path: Path) -> None:
    """The room is that of one file: a limit that the system keeps without any rights, and every write meets it."""
    run, room = tmp_path / "run", 4 << 20
    words = [*GRID, "--representation=dense", "--out", str(run)]
    run.mkdir()
    line = json.dumps({"cell": "another", "times": [1.0] * 100}) + "\n"
    (run / "samples.jsonl").write_text(line * ((room - 3000) // len(line)))
    done = subprocess.run(
        [str(SPARSEBENCH), *words], env=environment(HERE), capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY)),
    )  # fmt: skip
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"expected room to write into {run}, got " in done.stderr
    assert f"; free some and resume with --out {run}; every finished cell is kept" in done.stderr
    kept = RunFolder(path=run).visits()
    assert 0 < sum(kept.values()) < 4 * EFFORTS["quick"].visits
    again = sparsebench(*words)
    assert again.returncode == 0, again.stderr
    assert [row["visits"] for row in rows(run)] == [EFFORTS["quick"].visits] * 4
