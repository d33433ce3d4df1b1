"""Write what the Triton kernels of several folders call."""

from __future__ import annotations

import triton
import triton.language as tl

# triton ships its decorators without types, and a kernel's arguments have none that Python knows: hence the ignores


@triton.jit
def load_tile(down, across, down_in, across_in):  # type: ignore[no-untyped-def]
    """Return the tile at down[:, None] + across[None, :], one of them addresses and one offsets; 0 outside of it."""
    return tl.load(down[:, None] + across[None, :], mask=down_in[:, None] & across_in[None, :], other=0.0)


@triton.jit
def store_tile(down, across, tile, down_in, across_in):  # type: ignore[no-untyped-def]
    """Store a tile at down[:, None] + across[None, :], rounded to what lies there."""
    to = down[:, None] + across[None, :]
    tl.store(to, tile.to(to.dtype.element_ty), mask=down_in[:, None] & across_in[None, :])
