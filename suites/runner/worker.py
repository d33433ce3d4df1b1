"""Run one suite's pending cells in a process of its own, and find out what became of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from sparsebench.suites import text
from sparsebench.suites.measure import processes
from sparsebench.suites.runner.journal import RunFolder

POLL_S = 0.5
LOOK_S = 0.05
"""Between two looks at a worker's memory: a plug-in fills some hundred megabytes in as long."""
GRACE_S = 10.0
"""How long a worker may take to stop once it was asked to."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a worker ended.

    Attributes:
        returncode: of the process; negative is a signal.
        timed_out: whether it was stopped because a cell took too long.
        too_large: the bytes that it held when it was stopped for them; 0 if it was not.
        last_words: the last line that it printed.
    """

    returncode: int
    timed_out: bool
    too_large: int
    last_words: str


def run_worker(
    suite: str,
    suite_path: Path,
    arguments: list[str],
    out: RunFolder,
    *,
    attempt: int,
    cell_timeout_s: float,
    cell_memory_bytes: int,
    on_tick: Callable[[], None],
) -> Verdict:
    """Run pytest on one bench file until it ends, or a cell passes its limit of time or memory.

    Args:
        suite: names the files that the worker leaves.
        suite_path: the bench file.
        arguments: the suites' pytest options.
        out: the run folder.
        attempt: counts the workers of this suite, so that none overwrites another's JSON.
        cell_timeout_s: seconds for one cell, everything about it included.
        cell_memory_bytes: that a worker and what it has started may hold together.
        on_tick: called a few times a second, for progress.
    """
    name = f"{suite}-{attempt}"
    log, report = out.path / f"worker-{name}.log", out.path / f"benchmark-{name}.json"
    command = [
        sys.executable, "-m", "pytest", str(suite_path), "-c", str(suite_path.parent / "pytest.ini"), "--rootdir",
        str(suite_path.parent), "-q", "--no-header", "--tb=short", "--benchmark-only", "--benchmark-columns=median",
        f"--benchmark-json={report}", *arguments,
    ]  # fmt: skip
    # the worker ends when the other end of this pipe is closed: the kernel closes it whatever ends the runner
    listening, held = os.pipe()
    with log.open("wb") as sink, os.fdopen(held, "wb"):
        # a session of its own: Ctrl-C reaches the runner alone, which then stops the worker in an orderly way
        process = subprocess.Popen(
            [*command, f"--lifeline={listening}"],
            stdout=sink, stderr=subprocess.STDOUT, start_new_session=True, pass_fds=(listening,),
        )  # fmt: skip
        os.close(listening)
        timed_out, too_large = False, 0
        started: dict[int, psutil.Process] = {}
        try:
            while process.poll() is None and not (timed_out or too_large):
                too_large = _watch(process, started, cell_memory_bytes)
                on_tick()
                current = out.in_progress()
                timed_out = current is not None and time.time() - current[0] > cell_timeout_s
            if timed_out or too_large:
                _kill(process)
        except BaseException:
            _stop(process)
            raise
        finally:
            _end_group(process)
            processes.end(started.values())  # those that have left the group
    if report.exists() and report.stat().st_size == 0:
        report.unlink()  # a worker that dies leaves an empty file, which would read as a broken result
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    errors = [line for line in lines if line.startswith(("ERROR", "E  "))]
    return Verdict(
        returncode=process.returncode,
        timed_out=timed_out,
        too_large=too_large,
        last_words=(errors or lines or ["(nothing)"])[-1].strip(),
    )


def _watch(process: subprocess.Popen[bytes], started: dict[int, psutil.Process], limit: int) -> int:
    """Wait for POLL_S or until a worker ends; return the bytes that it holds as soon as they are more than a limit.

    What it has started is counted along, and noted; new ones are looked for once, at the end: that takes milliseconds.
    """
    deadline = time.monotonic() + POLL_S
    while time.monotonic() < deadline and process.poll() is None:
        held = processes.held_bytes(process.pid) + sum(map(processes.held_bytes, started))
        if held > limit:
            return held
        time.sleep(LOOK_S)
    started.clear()
    started.update((one.pid, one) for one in processes.running(process.pid))
    return 0


def how_it_died(verdict: Verdict, cell_timeout_s: float, cell_memory_bytes: int) -> tuple[str, str]:
    """Return the status and the reason of the cell during which a worker ended."""
    if verdict.too_large:
        most = text.size(cell_memory_bytes).replace(text.SPACE, " ")
        return "oom", f"held more than {most} of memory; give --cell-memory if that is too little"
    if verdict.timed_out:
        return "timeout", f"took longer than {cell_timeout_s:g} s; give --cell-timeout if that is too short"
    if verdict.returncode == -signal.SIGKILL:
        return "oom", "the worker was killed by SIGKILL, as the kernel does where memory runs out"
    if verdict.returncode < 0:
        return "crashed", f"the worker died of {signal.Signals(-verdict.returncode).name}"
    return "crashed", f"the worker ended with status {verdict.returncode}: {verdict.last_words}"


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a worker to stop as Ctrl-C would, and kill it if it does not."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        _kill(process)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """End what a worker that is gone has left running: it would disturb every later cell."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
