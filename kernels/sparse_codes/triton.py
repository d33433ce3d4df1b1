"""Select, and compute the products on the GPU with Triton: float32, float16 and bfloat16, sums in float32.

Nothing is added by atomics: runs repeat bit for bit. The dictionary's gradient reads the entries in the order by units,
which an index makes when first asked for.

The module imports where there is no GPU. Set TRITON_INTERPRET=1 before importing it to run on CPU tensors, for tests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsebench.kernels.common.triton_launch import DTYPES, check_device, grid, side
from sparsebench.kernels.common.triton_plan import OPERAND, Launch, keep, recall, signature
from sparsebench.kernels.sparse_codes import triton_kernels as kernels
from sparsebench.kernels.sparse_codes.layout import CodeIndex, check_dense, check_dtypes, check_selection, check_values

COLUMNS, ENTRIES = 128, 16
"""Of a tile: 2,048 elements of rows at a time, 16 for each of 128 threads."""
RESIDENT, CHUNK = 4096, 1024
"""Entries of a row that stay in registers in the selection, 16 for each of 256 threads; else so many at a time."""
WARPS = 8


class _Selections:
    """What plans of the selection are kept with, which has no index."""


_SELECTIONS = _Selections()


def name(dtype: torch.dtype = torch.float32) -> str:
    """Return what runs for a dtype, as tables call it."""
    return "triton codes" if dtype == torch.float32 else f"triton codes, {str(dtype)[6:]}, sums in float32"


def select(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest of each row of x (n, N), of any strides; see `products.select`."""
    key = signature(("select", k), x)
    known = recall(_SELECTIONS, key)
    if known is None:
        check_selection(x, k, DTYPES)
        check_device(x.device)
        n, size = x.shape
        block, resident = _block(size)
        launch = Launch(
            kernels.select,
            grid(max(1, n)),
            (OPERAND, OPERAND, OPERAND, size, k, *x.stride()),
            {"BLOCK": block, "RESIDENT": resident},
            {"num_warps": WARPS},
            device=x.device,
        )
        known = keep(_SELECTIONS, key, launch)
    values = x.new_empty((x.shape[0], k))
    places = torch.empty((x.shape[0], k), dtype=torch.int32, device=x.device)
    if values.numel():
        known(x, values, places)
    return values, places


def decode(index: CodeIndex, values: Tensor, dictionary: Tensor) -> Tensor:
    """Return codes @ dictionary, (n, N) @ (N, d) -> (n, d), the dictionary of any strides; see `products.decode`."""
    key = signature(("decode",), values, dictionary)
    known = recall(index, key)
    if known is not None:
        return known(values, dictionary)
    check_values(index, values)
    check_dense(index, "dictionary", dictionary, index.shape[1])
    check_dtypes(DTYPES, values=values, dictionary=dictionary)
    check_device(dictionary.device)
    n, d = index.shape[0], dictionary.shape[1]
    width = _width(d)
    launch = Launch(
        kernels.decode,
        grid(max(1, n * math.ceil(d / width))),
        (OPERAND, index.places, OPERAND, OPERAND, index.slots, index.shape[1], d, *dictionary.stride()),
        {"ENTRIES": ENTRIES, "COLUMNS": width},
        device=dictionary.device,
    )
    return keep(index, key, _Plan(shape=(n, d), launch=launch))(values, dictionary)


def decode_dictionary(index: CodeIndex, values: Tensor, error: Tensor) -> Tensor:
    """Return codesᵀ @ error, (N, n) @ (n, d) -> (N, d); see `products.decode_dictionary`."""
    key = signature(("dictionary",), values, error)
    known = recall(index, key)
    if known is not None:
        return known(values, error)
    _check_gradient(index, values, error)
    begin = index.units.begin
    plan = _collect(index, begin[:-1], begin[1:], error)
    return keep(index, key, plan)(values, error)


def decode_active(index: CodeIndex, values: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """Return the units that any code uses, int64 (u), and their rows (u, d) of `decode_dictionary`."""
    _check_gradient(index, values, error)
    begin = index.units.begin
    active = (begin[1:] > begin[:-1]).nonzero()[:, 0]
    return active, _collect(index, begin[active], begin[active + 1], error)(values, error)


def decode_values(index: CodeIndex, error: Tensor, dictionary: Tensor) -> Tensor:
    """Return (error @ dictionaryᵀ) at the places (n, k), both of any strides; see `products.decode_values`."""
    key = signature(("values",), error, dictionary)
    known = recall(index, key)
    if known is not None:
        return known(error, dictionary)
    check_dense(index, "error", error, index.shape[0])
    check_dense(index, "dictionary", dictionary, index.shape[1], error.shape[1])
    check_dtypes(DTYPES, error=error, dictionary=dictionary)
    check_device(dictionary.device)
    n, d = error.shape
    launch = Launch(
        kernels.dots,
        grid(max(1, n * math.ceil(index.slots / ENTRIES))),
        (
            index.places, OPERAND, OPERAND, OPERAND, index.slots, index.shape[1], d,
            *error.stride(), *dictionary.stride(),
        ),
        {"ENTRIES": ENTRIES, "COLUMNS": _width(d)},
        device=error.device,
    )  # fmt: skip
    plan = _Plan(shape=(n, index.slots), launch=launch)
    return keep(index, key, plan)(error, dictionary)


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """A product of operands of one signature: the shape of its result, and the launch that writes it from two."""

    shape: tuple[int, int]
    launch: Launch

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        out = second.new_empty(self.shape)
        if out.numel():
            self.launch(first, second, out)
        return out


def _check_gradient(index: CodeIndex, values: Tensor, error: Tensor) -> None:
    check_values(index, values)
    check_dense(index, "error", error, index.shape[0])
    check_dtypes(DTYPES, values=values, error=error)
    check_device(error.device)


def _collect(index: CodeIndex, begin: Tensor, end: Tensor, error: Tensor) -> _Plan:
    """Return what adds up the entries begin[u] .. end[u] of each row u, times rows of tensors like `error`."""
    rows, d = begin.numel(), error.shape[1]
    width, units = _width(d), index.units
    launch = Launch(
        kernels.collect,
        grid(max(1, rows * math.ceil(d / width))),
        (begin, end, units.row, units.slot, OPERAND, OPERAND, OPERAND, d, *error.stride()),
        {"ENTRIES": ENTRIES, "COLUMNS": width},
        device=error.device,
    )
    return _Plan(shape=(rows, d), launch=launch)


def _block(size: int) -> tuple[int, bool]:
    """Return how many entries of a row the selection reads at a time, and whether that is all of them."""
    if size <= RESIDENT:
        return side(size, 16, RESIDENT), True
    return CHUNK, False


def _width(d: int) -> int:
    """Return the tile of columns: a power of two, no wider than d needs."""
    return side(d, 1, COLUMNS)
