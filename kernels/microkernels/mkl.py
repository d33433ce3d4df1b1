"""Ask Intel MKL for GEMM kernels made for one size each (its JIT GEMM): the extra `mkl`.

Interface: https://www.intel.com/content/www/us/en/docs/onemkl/developer-reference-c/2025-0/mkl-jit-create-gemm.html
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import threading
from functools import cache
from typing import Any

import threadpoolctl

DTYPES: tuple[str, ...] = ("float32", "float64")

_ROW_MAJOR, _PLAIN, _TRANSPOSED, _SEQUENTIAL = 101, 111, 112, 1
_lock = threading.Lock()


@cache
def library() -> Any | None:
    """Return MKL's library, or None where the package `mkl` is not installed."""
    try:
        files = importlib.metadata.files("mkl") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    paths = [str(file.locate()) for file in files if file.name.startswith(("libmkl_rt", "mkl_rt"))]
    loaded = any("mkl_rt" in str(pool.get("filepath")) for pool in threadpoolctl.threadpool_info())
    for path in paths:
        try:
            found = ctypes.CDLL(path)
        except OSError:  # a wheel that does not fit this system
            continue
        if not loaded:
            # nobody else has MKL here, and the kernels run on one thread each: no second OpenMP need come along
            found.MKL_Set_Threading_Layer(_SEQUENTIAL)
        return found
    return None


@cache
def makes_code() -> bool:
    """Tell whether MKL generates code on this processor; elsewhere the same interface calls its general GEMM."""
    return library() is not None and _create("float32", 8, 8, 8, True, True, 8, 8, 8, 0)[0] == 0


@cache
def kernel(
    dtype: str,
    rows: int,
    columns: int,
    inner: int,
    a_plain: bool,
    b_plain: bool,
    lda: int,
    ldb: int,
    ldc: int,
    beta: int,
) -> tuple[int, int] | None:
    """Return (handle, address) of a function (handle, A, B, C): C = A B + beta C, or None if MKL refuses.

    Args:
        dtype: one of DTYPES.
        rows: of A and C.
        columns: of B and C.
        inner: of A and B.
        a_plain: A is stored as (rows, inner) with rows lda apart, else as (inner, rows).
        b_plain: B is stored as (inner, columns) with rows ldb apart, else as (columns, inner).
        lda: elements.
        ldb: elements.
        ldc: elements.
        beta: 0 or 1.
    """
    if library() is None:
        return None
    status, handle = _create(dtype, rows, columns, inner, a_plain, b_plain, lda, ldb, ldc, beta)
    pointer = getattr(library(), f"mkl_jit_get_{_LETTERS[dtype][0]}gemm_ptr")
    pointer.argtypes, pointer.restype = [ctypes.c_void_p], ctypes.c_void_p
    # status 1, "no JIT": the function is MKL's general GEMM, as on processors that are not Intel's; 2: an error
    address = pointer(handle) if status in (0, 1) and handle else None
    return (handle, address) if handle and address else None


_LETTERS: dict[str, tuple[str, Any]] = {"float32": ("s", ctypes.c_float), "float64": ("d", ctypes.c_double)}


def _create(
    dtype: str,
    rows: int,
    columns: int,
    inner: int,
    a_plain: bool,
    b_plain: bool,
    lda: int,
    ldb: int,
    ldc: int,
    beta: int,
) -> tuple[int, int | None]:
    """Return MKL's status and handle; the handle lives as long as the process."""
    letter, real = _LETTERS[dtype]
    create = getattr(library(), f"mkl_cblas_jit_create_{letter}gemm")
    number = ctypes.c_int
    create.argtypes = [ctypes.POINTER(ctypes.c_void_p), number, number, number, number, number, number, real, number]
    create.argtypes += [number, real, number]
    create.restype = number
    kinds = (_PLAIN if a_plain else _TRANSPOSED, _PLAIN if b_plain else _TRANSPOSED)
    handle = ctypes.c_void_p()
    with _lock:
        status = create(ctypes.byref(handle), _ROW_MAJOR, *kinds, rows, columns, inner, 1, lda, ldb, beta, ldc)
    return int(status), handle.value
