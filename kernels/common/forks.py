"""Know whether this process was forked off another one, where a parallel loop would never return.

OpenMP's threads stay behind in the parent while their pool is inherited: a forked process that enters a parallel region
waits for them for ever, or is ended by numba. So it computes on one thread, as torch's DataLoader has its workers
do. The hook is set by the package `sparsebench.kernels`, so that a process that imported any of it is noticed.
"""

from __future__ import annotations

import multiprocessing
import os


def _started_by_fork() -> bool:
    """Tell whether multiprocessing forked this process, which may import the kernels only after that."""
    if multiprocessing.parent_process() is None:
        return False
    process = multiprocessing.current_process()
    return (getattr(process, "_start_method", None) or multiprocessing.get_start_method(allow_none=True)) == "fork"


_forked = _started_by_fork()


def _note() -> None:
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_note)


def forked() -> bool:
    """Tell whether this process was forked off another one, and runs no program of its own since."""
    return _forked
