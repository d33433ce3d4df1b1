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
    mkl = library()
    if mkl is None:
        return None
    letter, real = {"float32": ("s", ctypes.c_float), "float64": ("d", ctypes.c_double)}[dtype]
    create, pointer = getattr(mkl, f"mkl_cblas_jit_create_{letter}gemm"), getattr(mkl, f"mkl_jit_get_{letter}gemm_ptr")
    number = ctypes.c_int
    create.argtypes = [ctypes.POINTER(ctypes.c_void_p), number, number, number, number, number, number, real, number]
    create.argtypes += [number, real, number]
    create.restype, pointer.argtypes, pointer.restype = number, [ctypes.c_void_p], ctypes.c_void_p
    kinds = (_PLAIN if a_plain else _TRANSPOSED, _PLAIN if b_plain else _TRANSPOSED)
    handle = ctypes.c_void_p()
    with _lock:
        status = create(ctypes.byref(handle), _ROW_MAJOR, *kinds, rows, columns, inner, 1, lda, ldb, beta, ldc)
        address = pointer(handle) if status == 0 and handle.value else None  # 1: MKL would fall back to its plain GEMM
    return (handle.value, address) if handle.value and address else None
