"""Compile the project's loops by numba: cached where the disk takes it, and without threads in a forked process."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from types import FunctionType
from typing import Any

import numba

from sparsebench.kernels.common import forks

_SHARED = dict.fromkeys(
    ("comprehension", "fusion", "inplace_binop", "numpy", "reduction", "setitem", "stencil"), False
) | {"prange": True}  # fmt: skip
"""What of a parallel function numba shares out: its `prange` alone; looking for more takes a fifth of the compiling."""


def njit(*, parallel: bool = False, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a function without the interpreter's lock, dividing as NumPy does.

    What was compiled is kept on disk, unless the folder of the source and the user's cache folder both take no files. A
    parallel function has a twin without threads, compiled in the first forked process that calls it.

    Args:
        parallel: whether `prange` shares work out to threads; such a function is called from Python, by position.
        options: more of `numba.njit`'s.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        usual = _compiled(function, parallel=_SHARED if parallel else False, **options)
        if not parallel:
            return usual

        @cache
        def alone() -> Any:
            if not isinstance(function, FunctionType):
                raise TypeError(f"expected a plain function to compile, got {type(function).__name__}; wrap it in one")
            twin = FunctionType(function.__code__, function.__globals__, function.__name__, function.__defaults__)
            twin.__qualname__ = f"{function.__qualname__}_alone"  # numba names its file after it; options are not told
            return _compiled(twin, **options)

        @wraps(function)
        def run(*arguments: Any) -> Any:
            return (alone() if forks.forked() else usual)(*arguments)

        return run

    return decorate


def threads() -> int:
    """Return how many threads a loop may run on: numba's number, and one in a forked process."""
    return 1 if forks.forked() else int(numba.get_num_threads())


def _compiled(function: Callable[..., Any], **options: Any) -> Any:
    options = {"nogil": True, "error_model": "numpy", **options}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba finds no folder to write to: an installation of root's, and no home
        return numba.njit(**options)(function)


@njit()
def copy(source: Any, target: Any) -> None:
    """Copy a vector in a compiled loop; the assignment of a slice takes seconds to compile, for its errors' texts."""
    for i in range(target.size):
        target[i] = source[i]
