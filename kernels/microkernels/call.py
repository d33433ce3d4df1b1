"""Call machine code by its address from numba-compiled code, so that numba's cache on disk never holds an address."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

# numba ships its decorators without types: that alone is what the ignore below is for


@intrinsic  # type: ignore[untyped-decorator]
def call(typing: Any, address: Any, arguments: Any) -> Any:
    """Call the function (int64 …) -> nothing at `address` with a tuple of int64."""
    signature = types.void(types.int64, types.UniTuple(types.int64, len(arguments)))

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        word = ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [word] * len(arguments))
        function = builder.inttoptr(values[0], kind.as_pointer())
        parts = [builder.extract_value(values[1], place) for place in range(len(arguments))]
        builder.call(function, parts)
        return context.get_dummy_value()

    return signature, emit
