"""Hand out Triton kernels as launches would compile them, to be compiled for GPUs that are not here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import triton

from sparsebench.kernels.common.triton_launch import INTERPRETED

Source = tuple[Any, dict[str, int]]
"""A `triton.compiler.ASTSource`, and the options (warps, stages) that it is compiled with."""


def source(
    kernel: Any,
    types: Mapping[str, str],
    constants: Mapping[str, Any],
    options: Mapping[str, int] | None = None,
    *,
    aligned: Callable[[str], bool] = lambda name: False,
) -> Source:
    """Return a kernel as a launch with such arguments would compile it.

    Args:
        kernel: made by `triton.jit`.
        types: Triton's names of types by argument. By default strides are of 64 bits, the wider of the two forms that a
            launch can choose, and all other arguments are sizes, which fit in 32.
        constants: what is known when it is compiled, by argument.
        options: warps and stages; the compiler's own by default.
        aligned: whether an argument, by its name, is a multiple of 16, as addresses and strides mostly are.

    Raises:
        RuntimeError: if the kernels were made for the interpreter, which has nothing to compile.
    """
    if INTERPRETED:
        raise RuntimeError("expected Triton's compiler, got its interpreter; import without TRITON_INTERPRET")
    signature = {
        name: "constexpr" if name in constants else types.get(name, "i64" if name.startswith("stride") else "i32")
        for name in kernel.arg_names
    }
    attributes = {
        (place,): [["tt.divisibility", 16]]
        for place, (name, kind) in enumerate(signature.items())
        if kind != "constexpr" and not kind.startswith("tensordesc") and aligned(name)
    }
    made = triton.compiler.ASTSource(fn=kernel, signature=signature, constexprs=dict(constants), attrs=attributes)
    return made, dict(options or {})
