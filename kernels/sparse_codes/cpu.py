"""Select, and compute the products on the CPU: loops generated for this processor, shared out among numba's threads.

float32 and float64 are computed as they are. float16 and bfloat16 are read and written in 16 bits and computed in
float32. Each entry of a result is computed by one thread, in one order: runs repeat bit for bit, with any number of
threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsebench.kernels.common import jit
from sparsebench.kernels.common.tiling import kernel_name
from sparsebench.kernels.microkernels import host
from sparsebench.kernels.sparse_codes import cpu_driver as drivers
from sparsebench.kernels.sparse_codes import cpu_scan, cpu_select
from sparsebench.kernels.sparse_codes.cpu_choice import choose
from sparsebench.kernels.sparse_codes.cpu_tiling import Tiling
from sparsebench.kernels.sparse_codes.layout import (
    CodeIndex,
    check_dense,
    check_dtypes,
    check_selection,
    check_values,
)

DTYPES: tuple[torch.dtype, ...] = (
    torch.float32,
    torch.float64,
    *((torch.float16,) if host.has_half() else ()),
    torch.bfloat16,
)
"""What can be computed in here; float16 only where the processor converts it."""
_INTEGERS = {torch.float32: np.int32, torch.float64: np.int64}
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def name(dtype: torch.dtype = torch.float32) -> str:
    """Return what runs for a dtype, as tables call it."""
    return kernel_name(dtype, "gathers")


def select(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest of each row of x (n, N); see `products.select`. Halves are copied to float32 first."""
    check_selection(x, k, DTYPES)
    rows = x.detach()
    rows = rows.float() if rows.dtype.itemsize == 2 else rows
    rows = rows if rows.stride(1) == 1 or rows.shape[1] <= 1 else rows.contiguous()
    values, places = rows.new_empty((len(x), k)), torch.empty((len(x), k), dtype=torch.int32)
    if values.numel():
        dtype = str(rows.dtype).removeprefix("torch.")
        cpu_select.select(
            cpu_scan.maxima(dtype), cpu_scan.larger(dtype), rows.numpy(), np.empty(0, _INTEGERS[rows.dtype]), k,
            _threads(x.numel() * 2, len(x)), values.numpy(), places.numpy(),
        )  # fmt: skip
    return values.to(x.dtype), places


def decode(index: CodeIndex, values: Tensor, dictionary: Tensor) -> Tensor:
    """Return codes @ dictionary, (n, N) @ (N, d) -> (n, d); see `products.decode`."""
    check_values(index, values)
    check_dense(index, "dictionary", dictionary, index.shape[1])
    check_dtypes(DTYPES, values=values, dictionary=dictionary)
    begin, end = _bounds(index)
    return _gather(index.places, begin, end, values, dictionary, min(index.stored, index.shape[1]))


def decode_dictionary(index: CodeIndex, values: Tensor, error: Tensor) -> Tensor:
    """Return codesᵀ @ error, (N, n) @ (n, d) -> (N, d); see `products.decode_dictionary`."""
    begin, row, sorted_values = _by_units(index, values, error)
    return _gather(row, begin[:-1], begin[1:], sorted_values, error, index.shape[0])


def decode_active(index: CodeIndex, values: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """Return the units that any code uses, int64 (u), and their rows (u, d) of `decode_dictionary`."""
    begin, row, sorted_values = _by_units(index, values, error)
    active = np.flatnonzero(begin[1:] > begin[:-1])
    begins, ends = begin[:-1][active], begin[1:][active]
    return torch.from_numpy(active), _gather(row, begins, ends, sorted_values, error, index.shape[0])


def decode_values(index: CodeIndex, error: Tensor, dictionary: Tensor) -> Tensor:
    """Return (error @ dictionaryᵀ) at the places (n, k); see `products.decode_values`."""
    check_dense(index, "error", error, index.shape[0])
    check_dense(index, "dictionary", dictionary, index.shape[1], error.shape[1])
    check_dtypes(DTYPES, error=error, dictionary=dictionary)
    n, d = error.shape
    if d == 0 or index.stored == 0:
        return torch.zeros((n, index.slots), dtype=error.dtype)
    x, a = _side_by_side(dictionary), _side_by_side(error)
    make = torch.zeros if index.ragged else torch.empty
    begin, end = _bounds(index)
    wide = index.places.dtype == torch.int64

    def dots(a: Tensor, x: Tensor, t: Tiling) -> Tensor:
        out = make((n, index.slots), dtype=t.computed)
        drivers.dots(
            t.pair("dots", wide)[0], *t.pair("dots", wide, t.tiles > 1), _threads(index.stored * d, n), t.tiles,
            t.tile_bytes, t.ahead, t.tail, a.data_ptr(), a.stride(0) * t.size, index.places.data_ptr(), begin, end,
            index.places.numel(), x.data_ptr(), x.stride(0) * t.size, out.data_ptr(),
        )  # fmt: skip
        return out

    t = choose(x, min(index.stored, index.shape[1]), index.stored, a, dots, dots=True)
    return dots(a, x, t).to(error.dtype)


def _bounds(index: CodeIndex) -> tuple[Any, Any]:
    """Return where the entries of each row begin and end among n·k slots, int64 (n)."""
    begin = np.arange(index.shape[0] + 1) * index.slots
    return begin[:-1], begin[:-1] + index.lengths().numpy() if index.ragged else begin[1:]


def _gather(others: Tensor, begin: Any, end: Any, values: Tensor, x: Tensor, picked: int) -> Tensor:
    """Return Σ values[e] · x[others[e]] over each row's entries, (rows, d); at most `picked` rows of x are read."""
    rows, d = begin.size, x.shape[1]
    if rows == 0 or d == 0 or others.numel() == 0:
        return torch.zeros((rows, d), dtype=x.dtype)
    x = _side_by_side(x)

    def gather(values: Tensor, x: Tensor, t: Tiling) -> Tensor:
        out = torch.empty((rows, d), dtype=x.dtype)
        drivers.gather(
            *t.pair("gather", others.dtype == torch.int64), _threads(others.numel() * d, rows * t.tiles), t.tiles,
            t.tile_bytes, t.ahead, t.tail, values.data_ptr(), others.data_ptr(), begin, end, others.numel(),
            x.data_ptr(), x.stride(0) * t.size, out.data_ptr(), d * t.size,
        )  # fmt: skip
        return out

    return gather(values, x, choose(x, picked, others.numel(), values, gather))


def _by_units(index: CodeIndex, values: Tensor, error: Tensor) -> tuple[Any, Tensor, Tensor]:
    """Return where each unit's entries begin, their rows and their values."""
    check_values(index, values)
    check_dense(index, "error", error, index.shape[0])
    check_dtypes(DTYPES, values=values, error=error)
    begin = np.zeros(index.shape[1] + 1, np.int64)
    row = torch.empty(index.places.numel(), dtype=torch.int32)
    bits = _BITS[values.dtype.itemsize]
    moved = torch.empty(index.places.numel(), dtype=bits)
    drivers.by_units(
        index.places.numpy(), values.detach().view(bits).numpy(), index.shape[1], begin, row.numpy(), moved.numpy()
    )
    return begin, row, moved.view(values.dtype)


def _side_by_side(x: Tensor) -> Tensor:
    """Return x with the entries of a row side by side, copied only if they are not."""
    return x if x.stride(1) == 1 or x.shape[1] == 1 else x.contiguous()


def _threads(work: int, parts: int) -> int:
    """Return how many threads run: a short job is done before a second one has woken up."""
    return max(1, min(jit.threads(), parts, work >> 16))
