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

from sparsebench.suites.runner.journal import RunFolder

POLL_S = 0.5
GRACE_S = 10.0
"""How long a worker may take to stop once it was asked to."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a worker ended.

    Attributes:
        returncode: of the process; negative is a signal.
        timed_out: whether it was stopped because a cell took too long.
        last_words: the last line that it printed.
    """

    returncode: int
    timed_out: bool
    last_words: str


def run_worker(
    suite: str,
    suite_path: Path,
    arguments: list[str],
    out: RunFolder,
    *,
    attempt: int,
    cell_timeout_s: float,
    on_tick: Callable[[], None],
) -> Verdict:
    """Run pytest on one bench file until it ends or a cell passes its time limit.

    Args:
        suite: names the files that the worker leaves.
        suite_path: the bench file.
        arguments: the suites' pytest options.
        out: the run folder.
        attempt: counts the workers of this suite, so that none overwrites another's JSON.
        cell_timeout_s: seconds for one cell, everything about it included.
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
        timed_out = False
        try:
            while process.poll() is None:
                time.sleep(POLL_S)
                on_tick()
                current = out.in_progress()
                if current is not None and time.time() - current[0] > cell_timeout_s:
                    timed_out = True
                    _kill(process)
        except BaseException:
            _stop(process)
            raise
        finally:
            _end_group(process)
    if report.exists() and report.stat().st_size == 0:
        report.unlink()  # a worker that dies leaves an empty file, which would read as a broken result
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    errors = [line for line in lines if line.startswith(("ERROR", "E  "))]
    return Verdict(
        returncode=process.returncode,
        timed_out=timed_out,
        last_words=(errors or lines or ["(nothing)"])[-1].strip(),
    )


def how_it_died(verdict: Verdict, cell_timeout_s: float) -> tuple[str, str]:
    """Return the status and the reason of the cell during which a worker ended."""
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
