"""Run generated code on the threads that torch's own products run on.

Two pools of threads in one process disturb each other. After its work a thread of OpenMP spins for a while in wait of
more, libgomp's for 300,000 pauses, which are 17 ms where a pause takes 140 cycles; torch and numba bring a libgomp
each. On two cores a product of 83 µs on numba's threads took 138 µs in the 8 ms after one of torch's, and torch's 91 µs
instead of 60 after it. So what is called in turn with torch's products runs on torch's threads.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
import torch

from sparsebench.kernels.common import forks, jit
from sparsebench.kernels.microkernels import host
from sparsebench.kernels.microkernels.call import call

_TASK = """
define void @task(ptr %data) nounwind {
  %function.at = getelementptr i64, ptr %data, i64 0
  %function.bits = load i64, ptr %function.at, align 8
  %number.at = getelementptr i64, ptr %data, i64 1
  %number.bits = load i64, ptr %number.at, align 8
  %function = inttoptr i64 %function.bits to ptr
  %number = inttoptr i64 %number.bits to ptr
  %thread = call i32 %number()
  %wide = zext i32 %thread to i64
  %address = ptrtoint ptr %data to i64
  call void %function(i64 %address, i64 %wide)
  ret void
}
"""
"""What OpenMP calls on every thread: data begin with the address of a function, and of what tells a thread's number."""

HEAD = 2
"""Entries of the data that are filled in here."""


def threads() -> int:
    """Return how many threads a product may run on: as many as torch's own, and one in a forked process."""
    return 1 if forks.forked() else torch.get_num_threads()


def run(function: int, data: array[int], threads: int) -> None:
    """Call a function once for each thread, at the same time, and wait for all of them.

    Args:
        function: address of a function of (address of the data, number of the thread), both int64.
        data: of typecode "q", with HEAD entries in front that are filled in here; the caller keeps the arrays alive
            that it holds addresses of.
        threads: how many; 1 calls it on this thread.
    """
    runner(function, threads)(data)


@cache
def runner(function: int, threads: int) -> Callable[[array[int]], None]:
    """Return `run` for a function and a number of threads, for whom its microseconds count."""
    direct = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(function)
    opened = _openmp()

    def alone(data: array[int]) -> None:
        for thread in range(threads):
            direct(data.buffer_info()[0], thread)

    def together(data: array[int]) -> None:
        if forks.forked():
            alone(data)
        elif opened is None:
            _by_numba(function, data.buffer_info()[0], threads)
        else:
            data[0], data[1] = function, opened[1]
            opened[0](opened[2], data.buffer_info()[0], threads, 0)

    return alone if threads == 1 else together


@cache
def _openmp() -> tuple[Callable[..., None], int, int] | None:
    """Return OpenMP's entry point as torch is linked to it, and two addresses; None if torch has another pool.

    LLVM's and Intel's OpenMP have GCC's entry point too.
    """
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        parallel, number = library.GOMP_parallel, library.omp_get_thread_num
    except (OSError, AttributeError):
        return None
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    task = host.compile_module(_TASK).get_function_address("task")
    return parallel, ctypes.cast(number, ctypes.c_void_p).value or 0, task


@jit.njit(parallel=True)
def _by_numba(function: Any, data: Any, threads: Any) -> None:
    for thread in numba.prange(threads):
        call(function, (data, thread))
