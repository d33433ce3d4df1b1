"""Compute the three products on the GPU with Triton: float32, float16 and bfloat16, sums in float32, no TF32.

A first, simple form: one program for each (piece of a block row, column tile) loops over the blocks of its row. Blocks
of any size work: tiles are powers of two of at least 16, as `tl.dot` wants them, and what of a tile lies outside its
block or outside the matrix is masked. Every program owns its part of the result, so runs repeat bit for bit.

The module imports where there is no GPU. Set TRITON_INTERPRET=1 before importing it to run on CPU tensors, for tests.
"""

# ruff: noqa: N803 - Triton writes its compile-time constants in capitals
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparsebench.kernels.block_sparse.layout import BlockIndex, check_operands

DTYPES: tuple[torch.dtype, ...] = (torch.float32, torch.float16, torch.bfloat16)

INTERPRETED: bool = bool(triton.knobs.runtime.interpret)
"""Whether the kernels below were made for Triton's interpreter: `triton.jit` decides it once, when this is imported."""

# triton ships its decorators without types, and a kernel's arguments have none that Python knows: hence the ignores

_TILE = 64
"""The longest side of a tile."""


def dsd(index: BlockIndex, values: Tensor, x: Tensor) -> Tensor:
    """Return self @ x, (m, k) @ (k, n) -> (m, n), new and contiguous.

    Args:
        index: of the stored blocks, on the GPU.
        values: (blocks, height, width), contiguous, one of DTYPES.
        x: (k, n), any strides; never copied.

    Raises:
        ValueError: if the operands do not fit, or lie on the CPU and the interpreter is off.
    """
    return _multiply(index, values, x, transposed=False)


def dsd_transposed(index: BlockIndex, values: Tensor, x: Tensor) -> Tensor:
    """Return selfᵀ @ x, (k, m) @ (m, n) -> (k, n); arguments as in `dsd`, x (m, n). No value is moved."""
    return _multiply(index, values, x, transposed=True)


def sdd(index: BlockIndex, a: Tensor, b: Tensor) -> Tensor:
    """Return (a @ b) at the stored blocks, (m, n) @ (n, k) -> (blocks, height, width), 0 in the padding.

    Args:
        index: of the stored blocks, on the GPU.
        a: (m, n), any strides, one of DTYPES.
        b: (n, k), any strides.

    Raises:
        ValueError: if the operands do not fit, or lie on the CPU and the interpreter is off.
    """
    check_operands(index, [("a", a, (index.shape[0], None)), ("b", b, (None, index.shape[1]))], DTYPES)
    _check_device(index)
    out = torch.empty((index.blocks, *index.block), dtype=a.dtype, device=a.device)
    constants = _constants_sampled(index.block)
    down, across = (-(-side // constants[tile]) for side, tile in zip(index.block, ("ROWS", "COLUMNS"), strict=True))
    programs = index.blocks * down * across
    if programs:
        with torch.cuda.device_of(a):
            _sampled[_launch(programs)](
                a.detach(), b.detach(), index.row, index.order, index.col, out, *index.shape, a.shape[1],
                *a.stride(), *b.stride(), **constants,
            )  # fmt: skip
    return out


def compile_sources(dtype: torch.dtype, block: tuple[int, int]) -> dict[str, Any]:
    """Return the three kernels as `triton.compile` takes them, to compile for GPUs that are not here.

    Args:
        dtype: one of DTYPES.
        block: (height, width).

    Returns:
        `triton.compiler.ASTSource` of "dsd", "dsd_transposed" and "sdd".

    Raises:
        RuntimeError: if this module was imported for the interpreter, which has nothing to compile.
    """
    if INTERPRETED:
        raise RuntimeError("expected Triton's compiler, got its interpreter; import without TRITON_INTERPRET")
    element = {torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16"}[dtype]
    pointers = {"values": element, "x": element, "a": element, "b": element, "out": element}
    arrays = dict.fromkeys(("starts", "others", "order", "row", "col"), "*i32")
    known = {**pointers, **arrays}

    def source(kernel: Any, constants: dict[str, int]) -> Any:
        # sizes fit in 32 bits; strides are taken as 64, the wider of the two forms that a launch can choose
        signature = {
            name: "constexpr" if name in constants else known.get(name, "i64" if name.startswith("stride") else "i32")
            for name in kernel.arg_names
        }
        return triton.compiler.ASTSource(fn=kernel, signature=signature, constexprs=constants)

    return {
        "dsd": source(_product, _constants(block, transposed=False)),
        "dsd_transposed": source(_product, _constants(block, transposed=True)),
        "sdd": source(_sampled, _constants_sampled(block)),
    }


def _multiply(index: BlockIndex, values: Tensor, x: Tensor, *, transposed: bool) -> Tensor:
    inner, rows = index.shape if transposed else index.shape[::-1]
    check_operands(index, [("values", values, (index.blocks, *index.block)), ("x", x, (inner, None))], DTYPES)
    _check_device(index)
    n = x.shape[1]
    out = torch.empty((rows, n), dtype=x.dtype, device=x.device)
    constants = _constants(index.block, transposed=transposed)
    # the row-major order needs no table of places: entry e is block e
    starts, others, order = (index.ccol, index.row, index.order) if transposed else (index.crow, index.col, index.col)
    pieces = -(-constants["HEIGHT"] // constants["ROWS"])
    programs = index.grid[1 if transposed else 0] * pieces * -(-n // constants["COLUMNS"])
    if programs:
        with torch.cuda.device_of(x):
            _product[_launch(programs)](
                values.detach(), starts, others, order, x.detach(), out, rows, inner, n, *x.stride(), **constants
            )
    return out


def _check_device(index: BlockIndex) -> None:
    if index.device.type != "cuda" and not INTERPRETED:
        raise ValueError(
            f"expected CUDA tensors, got {index.device}; use the numba kernels, or set TRITON_INTERPRET=1 for a test"
        )


def _launch(programs: int) -> tuple[int]:
    if programs > 2**31 - 1:
        raise ValueError(f"expected at most 2^31 - 1 programs, got {programs}; split x by columns")
    return (programs,)


def _side(size: int) -> int:
    """Return the tile for a side of a block: a power of two, at least the 16 of `tl.dot`."""
    return min(_TILE, max(16, int(triton.next_power_of_2(size))))


def _constants(block: tuple[int, int], *, transposed: bool) -> dict[str, int]:
    height, width = block[::-1] if transposed else block
    return {
        "HEIGHT": height,
        "WIDTH": width,
        "VALUE_ROW": 1 if transposed else width,
        "VALUE_COLUMN": height if transposed else 1,
        "ORDERED": int(transposed),
        "ROWS": _side(height),
        "INNER": min(32, _side(width)),
        "COLUMNS": _TILE,
    }


def _constants_sampled(block: tuple[int, int]) -> dict[str, int]:
    return {"HEIGHT": block[0], "WIDTH": block[1], "ROWS": _side(block[0]), "COLUMNS": _side(block[1]), "INNER": 32}


@triton.jit  # type: ignore[untyped-decorator]
def _product(  # type: ignore[no-untyped-def]
    values,  # (blocks, height, width); HEIGHT and WIDTH are of a block as it is read, maybe transposed
    starts,  # (block rows of the result + 1)
    others,  # (blocks): which block row of x
    order,  # (blocks): which stored block; read only if ORDERED
    x,  # (inner, n)
    out,  # (rows, n), contiguous
    rows,
    inner,
    n,
    stride_xr,
    stride_xc,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    VALUE_ROW: tl.constexpr,
    VALUE_COLUMN: tl.constexpr,
    ORDERED: tl.constexpr,
    ROWS: tl.constexpr,
    INNER: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Compute one tile of out: (ROWS of one block row, COLUMNS)."""
    pieces: tl.constexpr = (HEIGHT + ROWS - 1) // ROWS
    tiles = tl.cdiv(n, COLUMNS)
    program = tl.program_id(0)
    block_row = program // tiles // pieces
    r = (program // tiles % pieces) * ROWS + tl.arange(0, ROWS)  # in the block
    row = block_row.to(tl.int64) * HEIGHT + r
    row_in = (r < HEIGHT) & (row < rows)
    column = (program % tiles).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    column_in = column < n
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for entry in range(tl.load(starts + block_row), tl.load(starts + block_row + 1)):
        place = tl.load(order + entry).to(tl.int64) if ORDERED else tl.cast(entry, tl.int64)
        first = tl.load(others + entry).to(tl.int64) * WIDTH
        block = values + place * (HEIGHT * WIDTH)
        for begin in range(0, WIDTH, INNER):
            c = begin + tl.arange(0, INNER)  # in the block
            c_in = (c < WIDTH) & (first + c < inner)
            left = tl.load(
                block + r[:, None] * VALUE_ROW + c[None, :] * VALUE_COLUMN,
                mask=row_in[:, None] & c_in[None, :],
                other=0.0,
            )
            right = tl.load(
                x + (first + c)[:, None] * stride_xr + column[None, :] * stride_xc,
                mask=c_in[:, None] & column_in[None, :],
                other=0.0,
            )
            total = tl.dot(left, right, total, input_precision="ieee")
    tl.store(
        out + row[:, None] * n + column[None, :],
        total.to(out.dtype.element_ty),
        mask=row_in[:, None] & column_in[None, :],
    )


@triton.jit  # type: ignore[untyped-decorator]
def _sampled(  # type: ignore[no-untyped-def]
    a,  # (m, n)
    b,  # (n, k)
    row,  # (blocks), by block column
    order,  # (blocks), by block column
    col,  # (blocks), by block row
    out,  # (blocks, HEIGHT, WIDTH), contiguous
    m,
    k,
    n,
    stride_ar,
    stride_ac,
    stride_br,
    stride_bc,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
):
    """Compute one tile of one block of out: (ROWS, COLUMNS)."""
    down: tl.constexpr = (HEIGHT + ROWS - 1) // ROWS
    across: tl.constexpr = (WIDTH + COLUMNS - 1) // COLUMNS
    program = tl.program_id(0)
    entry = program // (down * across)
    place = tl.load(order + entry).to(tl.int64)
    r = (program // across % down) * ROWS + tl.arange(0, ROWS)  # in the block
    c = (program % across) * COLUMNS + tl.arange(0, COLUMNS)
    i = tl.load(row + entry).to(tl.int64) * HEIGHT + r  # in the matrix
    j = tl.load(col + place).to(tl.int64) * WIDTH + c
    i_in = (r < HEIGHT) & (i < m)
    j_in = (c < WIDTH) & (j < k)
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for begin in range(0, n, INNER):
        depth = begin + tl.arange(0, INNER).to(tl.int64)
        left = tl.load(
            a + i[:, None] * stride_ar + depth[None, :] * stride_ac,
            mask=i_in[:, None] & (depth < n)[None, :],
            other=0.0,
        )
        right = tl.load(
            b + depth[:, None] * stride_br + j[None, :] * stride_bc,
            mask=(depth < n)[:, None] & j_in[None, :],
            other=0.0,
        )
        total = tl.dot(left, right, total, input_precision="ieee")
    # a masked row times a NaN column is NaN: padding is set to 0, not computed as 0
    total = tl.where(i_in[:, None] & j_in[None, :], total, 0.0)
    tl.store(
        out + place * (HEIGHT * WIDTH) + r[:, None] * WIDTH + c[None, :],
        total.to(out.dtype.element_ty),
        mask=(r < HEIGHT)[:, None] & (c < WIDTH)[None, :],
    )
