"""Find scipy's BLAS: a GEMM that is there wherever scipy is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import threadpoolctl
from numba.extending import get_cython_function_address

DTYPES: tuple[str, ...] = ("float32", "float64")

_ROUTINES = {"float32": "sgemm", "float64": "dgemm"}
_LETTERS = np.frombuffer(b"NT", dtype=np.uint8)
_NUMBERS = {dtype: np.array([1, 0], dtype=dtype) for dtype in DTYPES}
_lock = threading.Lock()
_callers = 0


@cache
def addresses(dtype: str) -> tuple[int, int, int, int, int]:
    """Return the addresses of gemm, of the numbers 1 and 0, and of the letters N and T, as gemm is called with."""
    numbers, letters = _NUMBERS[dtype].ctypes.data, _LETTERS.ctypes.data
    gemm: int = get_cython_function_address("scipy.linalg.cython_blas", _ROUTINES[dtype])
    return gemm, numbers, numbers + _NUMBERS[dtype].itemsize, letters, letters + 1


@cache
def _pools() -> list[Any]:
    """Return threadpoolctl's handles of the BLAS libraries in this process; looking for them takes milliseconds."""
    return list(threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep every BLAS to one thread: the loop that calls it already has one on each processor."""
    global _callers
    with _lock:
        _callers += 1
        if _callers == 1:
            _earlier[:] = [(pool, pool.num_threads) for pool in _pools()]
            for pool, _ in _earlier:
                pool.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _callers -= 1
            if _callers == 0:
                for pool, threads in _earlier:
                    pool.set_num_threads(threads)


_earlier: list[tuple[Any, int]] = []
