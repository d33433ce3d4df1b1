"""A run that is killed again and again, at moments that nobody chose, loses no visit and counts none twice.

`SPARSEBENCH_KILLS=20 pytest tests/suites/test_run_kills.py` kills as often as it says; without it, three times.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from collections import Counter
from pathlib import Path

import psutil
from command_line import GRID, HERE, SPARSEBENCH, environment, rows, sparsebench

from sparsebench.suites.cell import cell_key
from sparsebench.suites.measure.timing import EFFORTS
from sparsebench.suites.runner.journal import RunFolder

KILLS = int(os.environ.get("SPARSEBENCH_KILLS", "3"))
WORDS = (*GRID, "--representation=dense", "--representation=torch-csr", "--representation=scipy-bsr")
CELLS = 4 * 3


def processes_of(run: Path) -> list[psutil.Process]:
    """Return the processes that name a run folder among their words."""
    return [
        one for one in psutil.process_iter(["cmdline"]) if any(str(run) in word for word in one.info["cmdline"] or ())
    ]


def visits_made(run: Path) -> Counter[tuple[str, int]]:
    """Return how often the rounds of each visit of each cell were written."""
    if not (run / "samples.jsonl").exists():
        return Counter()
    lines = (run / "samples.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
    found: Counter[tuple[str, int]] = Counter()
    for line in lines:
        try:
            noted = json.loads(line)
        except ValueError:
            continue  # what a kill cut short
        found[noted["cell"], noted["visit"]] += 1
    return found


def killed(run: Path, after_s: float) -> bool:
    """Begin or resume a run, and kill its runner after some seconds; return False if it had ended before that."""
    process = subprocess.Popen([str(SPARSEBENCH), *WORDS, "--out", str(run)], env=environment(HERE),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    try:
        process.wait(after_s)
    except subprocess.TimeoutExpired:
        process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while left := processes_of(run):
        assert time.monotonic() < deadline, f"left running: {[one.info['cmdline'] for one in left]}"
        time.sleep(0.05)
    return process.returncode < 0


def measured_again(run: Path) -> int:
    """See that a run that has come to its end is as one that nothing disturbed; return the visits made once more."""
    visits, found = EFFORTS["quick"].visits, rows(run)
    assert len(found) == CELLS
    assert {row["status"] for row in found} == {"ok"}
    assert {row["visits"] for row in found} == {visits}
    assert {len(row["visit_speedups"]) for row in found} == {visits}
    assert {len(one.visits) for one in RunFolder(path=run).earlier().values()} == {visits}
    made = visits_made(run)
    assert set(made) == {(cell_key(row), number) for row in found for number in range(1, visits + 1)}
    return sum(count - 1 for count in made.values())


def test_kills_at_any_moment_lose_nothing_and_count_nothing_twice(tmp_path: Path) -> None:
    rng, hits, again, number = random.Random(2), 0, 0, 0
    while hits < KILLS:  # a run that reaches its end is judged, and the next one begun
        run, hits_before, done = tmp_path / f"run-{number}", hits, {}
        while hits < KILLS and killed(run, rng.uniform(1.0, 16.0)):
            hits += 1
            now = RunFolder(path=run).visits()
            assert all(now.get(key, 0) >= visits for key, visits in done.items())  # what was finished stays
            done = now
        result = sparsebench(*WORDS, "--out", run)
        assert result.returncode == 0, result.stdout + result.stderr
        twice = measured_again(run)
        assert twice <= hits - hits_before  # at most one a kill
        again, number = again + twice, number + 1
        assert processes_of(run) == []
    print(f"{hits} kills in {number} runs, {again} visits made again after their rounds were written")
