"""Keep `torch.compile` out of a layer: its kernels are called by address, and cannot be traced."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch


def opaque(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that `torch.compile` calls as it is, at a graph break; called eagerly it costs nothing.

    `torch.compiler.disable` alone would do, but imports the compiler, a second of work, where nobody compiles.
    """

    @wraps(function)
    def run(*arguments: Any, **options: Any) -> Any:
        if torch.compiler.is_dynamo_compiling():
            return torch.compiler.disable(function)(*arguments, **options)
        return function(*arguments, **options)

    return run
