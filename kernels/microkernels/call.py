"""Call machine code by its address from numba-compiled code, so that numba's cache on disk never holds an address."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _call(typing: Any, address: Any, arguments: Any) -> Any:
    """Call the function (int64 …) -> nothing at `address` with a tuple of int64."""
    tuple_of: Any = types.UniTuple  # numba leaves it without types
    signature = types.void(types.int64, tuple_of(types.int64, len(arguments)))

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        word = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [word] * len(arguments))
        function = builder.inttoptr(values[0], kind.as_pointer())
        parts = [builder.extract_value(values[1], place) for place in range(len(arguments))]
        builder.call(function, parts)
        return context.get_dummy_value()

    return signature, emit


call: Any = intrinsic(_call)
"""call(address, arguments): what numba makes of the function above takes no typing context."""
