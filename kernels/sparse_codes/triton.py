"""Select, and compute the products on the GPU with Triton: float32, float16 and bfloat16, sums in float32.

Nothing is added by atomics: runs repeat bit for bit. The dictionary's gradient reads the entries in the order by units,
which an index makes when first asked for.

The module imports where there is no GPU. Set TRITON_INTERPRET=1 before importing it to run on CPU tensors, for tests.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sparsebench.kernels.common.triton_launch import DTYPES, check_device, grid, side
from sparsebench.kernels.sparse_codes import triton_kernels as kernels
from sparsebench.kernels.sparse_codes.layout import CodeIndex, check_dense, check_dtypes, check_selection, check_values

COLUMNS, ENTRIES = 128, 16
"""Of a tile: 2,048 elements of rows at a time, 16 for each of 128 threads."""
RESIDENT, CHUNK = 4096, 1024
"""Entries of a row that stay in registers in the selection, 16 for each of 256 threads; else so many at a time."""
WARPS = 8


def name(dtype: torch.dtype = torch.float32) -> str:
    """Return what runs for a dtype, as tables call it."""
    return "triton codes" if dtype == torch.float32 else f"triton codes, {str(dtype)[6:]}, sums in float32"


def select(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest of each row of x (n, N), of any strides; see `products.select`."""
    check_selection(x, k, DTYPES)
    check_device(x.device)
    n, size = x.shape
    values = torch.empty((n, k), dtype=x.dtype, device=x.device)
    places = torch.empty((n, k), dtype=torch.int32, device=x.device)
    if values.numel():
        block, resident = _block(size)
        with torch.cuda.device_of(x):
            kernels.select[grid(n)](
                x.detach(), values, places, size, k, *x.stride(), BLOCK=block, RESIDENT=resident, num_warps=WARPS
            )
    return values, places


def decode(index: CodeIndex, values: Tensor, dictionary: Tensor) -> Tensor:
    """Return codes @ dictionary, (n, N) @ (N, d) -> (n, d), the dictionary of any strides; see `products.decode`."""
    check_values(index, values)
    check_dense(index, "dictionary", dictionary, index.shape[1])
    check_dtypes(DTYPES, values=values, dictionary=dictionary)
    check_device(dictionary.device)
    n, d = index.shape[0], dictionary.shape[1]
    out = torch.empty((n, d), dtype=dictionary.dtype, device=dictionary.device)
    if out.numel():
        width = _width(d)
        with torch.cuda.device_of(out):
            kernels.decode[grid(n * math.ceil(d / width))](
                values.detach(), index.places, dictionary.detach(), out, index.slots, index.shape[1], d,
                *dictionary.stride(), ENTRIES=ENTRIES, COLUMNS=width,
            )  # fmt: skip
    return out


def decode_dictionary(index: CodeIndex, values: Tensor, error: Tensor) -> Tensor:
    """Return codesᵀ @ error, (N, n) @ (n, d) -> (N, d); see `products.decode_dictionary`."""
    _check_gradient(index, values, error)
    begin = index.units.begin
    return _collect(index, begin[:-1], begin[1:], values, error)


def decode_active(index: CodeIndex, values: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """Return the units that any code uses, int64 (u), and their rows (u, d) of `decode_dictionary`."""
    _check_gradient(index, values, error)
    begin = index.units.begin
    active = (begin[1:] > begin[:-1]).nonzero()[:, 0]
    return active, _collect(index, begin[active], begin[active + 1], values, error)


def decode_values(index: CodeIndex, error: Tensor, dictionary: Tensor) -> Tensor:
    """Return (error @ dictionaryᵀ) at the places (n, k), both of any strides; see `products.decode_values`."""
    check_dense(index, "error", error, index.shape[0])
    check_dense(index, "dictionary", dictionary, index.shape[1], error.shape[1])
    check_dtypes(DTYPES, error=error, dictionary=dictionary)
    check_device(dictionary.device)
    n, d = error.shape
    out = torch.empty((n, index.slots), dtype=error.dtype, device=error.device)
    if out.numel():
        with torch.cuda.device_of(out):
            kernels.dots[grid(n * math.ceil(index.slots / ENTRIES))](
                index.places, error.detach(), dictionary.detach(), out, index.slots, index.shape[1], d,
                *error.stride(), *dictionary.stride(), ENTRIES=ENTRIES, COLUMNS=_width(d),
            )  # fmt: skip
    return out


def _check_gradient(index: CodeIndex, values: Tensor, error: Tensor) -> None:
    check_values(index, values)
    check_dense(index, "error", error, index.shape[0])
    check_dtypes(DTYPES, values=values, error=error)
    check_device(error.device)


def _collect(index: CodeIndex, begin: Tensor, end: Tensor, values: Tensor, error: Tensor) -> Tensor:
    rows, d = begin.numel(), error.shape[1]
    out = torch.empty((rows, d), dtype=error.dtype, device=error.device)
    if out.numel():
        width, units = _width(d), index.units
        with torch.cuda.device_of(out):
            kernels.collect[grid(rows * math.ceil(d / width))](
                begin, end, units.row, units.slot, values.detach(), error.detach(), out, d, *error.stride(),
                ENTRIES=ENTRIES, COLUMNS=width,
            )  # fmt: skip
    return out


def _block(size: int) -> tuple[int, bool]:
    """Return how many entries of a row the selection reads at a time, and whether that is all of them."""
    if size <= RESIDENT:
        return side(size, 16, RESIDENT), True
    return CHUNK, False


def _width(d: int) -> int:
    """Return the tile of columns: a power of two, no wider than d needs."""
    return side(d, 1, COLUMNS)
