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
    """Return how many rows tell each visit of each cell for the first time, and again."""
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


def killed(run: Path, after_s: float) -> None:
    """Begin or resume a run, and kill its runner after some seconds, or let it end before that."""
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


def test_kills_at_any_moment_lose_nothing_and_count_nothing_twice(tmp_path: Path) -> None:
    run, rng = tmp_path / "run", random.Random(2)
    done: dict[str, int] = {}
    for _ in range(KILLS):
        killed(run, rng.uniform(2.0, 14.0))
        folder = RunFolder(path=run)
        now = folder.visits()
        assert all(now.get(key, 0) >= visits for key, visits in done.items())  # what was finished stays
        done = now
    result = sparsebench(*WORDS, "--out", run)
    assert result.returncode == 0, result.stdout + result.stderr
    found = rows(run)
    visits = EFFORTS["quick"].visits
    assert len(found) == CELLS
    assert {row["status"] for row in found} == {"ok"}
    assert {row["visits"] for row in found} == {visits}  # as many as a run that nothing disturbed
    assert {len(row["visit_speedups"]) for row in found} == {visits}
    made = visits_made(run)
    assert set(made) == {(cell_key(row), number) for row in found for number in range(1, visits + 1)}
    again = sum(count - 1 for count in made.values())
    print(f"{KILLS} kills, {len(made)} visits, {again} measured again after their rounds were written")
    assert again <= KILLS  # at most one a kill
    earlier = RunFolder(path=run).earlier()
    assert {len(one.visits) for one in earlier.values()} == {visits}
    assert processes_of(run) == []
