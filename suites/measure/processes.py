"""Find and end the processes that a cell leaves running: they would run beside every later one."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from contextlib import suppress

import psutil

HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver", "_inductor/compile_worker")
"""Of a library's own, which sleep until they are asked and are there for the next cell too: these may stay."""
_PR_SET_CHILD_SUBREAPER = 36
"""man 2 prctl."""


def adopt_orphans() -> None:
    """Have what this process's children leave behind handed to it, daemons too, so that `running` finds them."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def running(root: int | None = None) -> list[psutil.Process]:
    """Return the processes that descend from a process, those that have ended and HELPERS left out.

    Args:
        root: its id; this process if None.
    """
    try:
        return [child for child in psutil.Process(root).children(recursive=True) if _counts(child)]
    except psutil.Error:
        return []


def end(processes: Iterable[psutil.Process]) -> list[str]:
    """Kill processes at once, and return the names of those that were still running."""
    names, ended = [], []
    for process in processes:
        with suppress(psutil.Error):
            name = process.name()
            process.kill()  # psutil looks at the time it began, and takes no other of the same number for it
            names.append(name)
            ended.append(process)
    psutil.wait_procs(ended, timeout=2.0)
    return names


def first_to_go() -> None:
    """Have the kernel end this process before any other, should the machine run out of memory."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
        score.write("1000")


def held_bytes(root: int) -> int:
    """Return the bytes of memory that a process has touched and still holds; 0 if it is gone."""
    try:
        with open(f"/proc/{root}/statm", encoding="ascii") as sizes:
            return int(sizes.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        with suppress(psutil.Error):
            return int(psutil.Process(root).memory_info().rss)
        return 0


def free_bytes() -> int:
    """Return the bytes of memory that are free on this machine, or in the container that this is."""
    free = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as most:
            limit = int(most.read())  # "max" is no number
        with open("/sys/fs/cgroup/memory.current", encoding="ascii") as used:
            free = min(free, limit - int(used.read()))
    return max(0, free)


def _counts(process: psutil.Process) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        line = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return not any(helper in line for helper in HELPERS)
