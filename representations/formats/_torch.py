"""Share what the torch and scipy formats have in common: index sizes, chunks, refusals, gathered products."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from torch import Tensor

from sparsebench.representations.base import Representation
from sparsebench.representations.pattern import Pattern

WORKSPACE_ELEMENTS = 1 << 22
"""Elements that a gathering product may hold at a time (16 MiB of float32), however many values are stored."""

_INT32_MAX = 2**31 - 1


def index_dtype(*sizes: int) -> torch.dtype:
    """Return int32 if every size fits, else int64; sizes are rows, columns and the number of stored values."""
    return torch.int32 if max(sizes) <= _INT32_MAX else torch.int64


def nbytes(*tensors: Tensor) -> int:
    """Return the bytes of the tensors' elements."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def chunks(count: int, elements_each: int) -> Iterator[slice]:
    """Cut `count` items into slices whose workspace, `elements_each` an item, stays within WORKSPACE_ELEMENTS."""
    step = max(1, WORKSPACE_ELEMENTS // max(1, elements_each))
    for start in range(0, count, step):
        yield slice(start, start + step)


def check_operand(x: Tensor, rows: int, name: str = "x") -> None:
    """Raise ValueError unless `x` is a matrix of so many rows."""
    if x.dim() != 2 or x.shape[0] != rows:
        raise ValueError(f"expected {name} of shape ({rows}, n), got {tuple(x.shape)}; transpose or cut it")


def check_sampled(a: Tensor, b: Tensor, shape: tuple[int, int]) -> None:
    """Raise ValueError unless a is (m, n) and b is (n, k) for the matrix shape (m, k)."""
    rows, columns = shape
    if a.dim() != 2 or b.dim() != 2 or a.shape[0] != rows or b.shape[1] != columns or a.shape[1] != b.shape[0]:
        raise ValueError(f"expected a ({rows}, n) and b (n, {columns}), got {tuple(a.shape)} and {tuple(b.shape)}")


def check_values(values: Tensor, like: Tensor) -> None:
    """Raise ValueError unless `values` can stand in for the stored values `like`."""
    if values.shape != like.shape:
        raise ValueError(f"expected values of shape {tuple(like.shape)}, got {tuple(values.shape)}")


def gathered_dots(rows: Tensor, columns: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return (a @ b) at (rows[i], columns[i]), gathering rows of a and columns of b in chunks.

    Args:
        rows: (stored,), int32 or int64.
        columns: (stored,), likewise.
        a: (m, n).
        b: (n, k).

    Returns:
        (stored,), in the dtype of a. The workspace is bounded by WORKSPACE_ELEMENTS, not by stored × n.
    """
    right = b.t()
    result = a.new_empty(len(rows))
    for part in chunks(len(rows), 2 * a.shape[1]):
        result[part] = a.index_select(0, rows[part]).mul_(right.index_select(0, columns[part])).sum(1)
    return result


def library(device: torch.device) -> str:
    """Return the library that torch's sparse products call on a device, for the name of a kernel."""
    if device.type == "cuda":
        return "cuSPARSE"
    has_mkl: bool = torch.backends.mkl.is_available()
    return "MKL" if has_mkl else "torch without MKL"


def refusal(
    cls: type[Representation], operation: str, dtype: torch.dtype, device: str, pattern: Pattern | None = None
) -> str | None:
    """Return why this torch build cannot do an operation, or None; found out by doing it once on a 32 × 32 identity.

    Which kernels exist depends on torch's version, on how it was built and on the device: a table would be wrong
    somewhere. Only the blocks of a pattern matter here.
    """
    block = pattern if pattern is not None and pattern.kind == "block" else None
    return _refusal(cls, operation, dtype, device, block)


@functools.cache
def _refusal(
    cls: type[Representation], operation: str, dtype: torch.dtype, device: str, pattern: Pattern | None
) -> str | None:
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        return "torch finds no CUDA device here"
    try:
        built = cls.build(torch.eye(32, dtype=dtype, device=device), pattern)
        x = torch.ones((32, 16), dtype=dtype, device=device)
        if operation in ("matmul", "conv2d", "train"):
            built.matmul(x)
        if operation in ("rmatmul", "train"):
            built.rmatmul(x)
        if operation in ("sampled_matmul", "train"):
            built.sampled_matmul(x, x.t())
    except (RuntimeError, TypeError) as error:  # NotImplementedError is a RuntimeError
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return f"torch {torch.__version__} on {device}: {lines[0]}"
    return None
