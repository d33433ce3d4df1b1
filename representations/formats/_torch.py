"""Share what the torch and scipy formats have in common: index sizes, chunks, refusals, gathered products."""

from __future__ import annotations

import copy
import functools
from abc import abstractmethod
from collections.abc import Iterator
from typing import Self

import torch
from torch import Tensor

from sparsebench.representations import operations
from sparsebench.representations.base import Representation, Spec, Storage
from sparsebench.representations.operands import check_values
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


class TorchSparse(Representation):
    """Hold one sparse torch tensor of the matrix (m, k), or of one that is filled up to whole blocks."""

    def __init__(self, source: Tensor, sparse: Tensor) -> None:
        """Take torch's tensor, not copied."""
        super().__init__(source)
        self._sparse = sparse

    @abstractmethod
    def around(self, values: Tensor) -> Tensor:
        """Return a torch tensor of other values that shares the index arrays."""

    @abstractmethod
    def index_arrays(self) -> tuple[Tensor, ...]:
        """Return every index array that is held."""

    @classmethod
    def unsupported(cls, spec: Spec) -> str | None:
        """Refuse what torch has no kernel for on that device, in that dtype and with that block."""
        return refusal(cls, spec)

    def matmul(self, x: Tensor) -> Tensor:
        """Return self @ x by torch's product of the layout; `kernel` says what runs."""
        self.check_operands("matmul", x)
        return torch.mm(self._sparse, x)

    def rmatmul(self, x: Tensor) -> Tensor:
        """Return selfᵀ @ x by torch's product of the transposed view; `kernel` says what it does on the way."""
        self.check_operands("rmatmul", x)
        return torch.mm(self._sparse.t(), x)

    def to_dense(self) -> Tensor:
        """Return a new strided tensor."""
        rows, columns = self.matrix_shape
        return self._sparse.to_dense()[:rows, :columns].contiguous().reshape(self.shape)

    @property
    def values(self) -> Tensor:
        """Return the stored values, in the order of the layout, sharing torch's memory."""
        return self._sparse.values()

    def with_values(self, values: Tensor) -> Self:
        """Return the same places around other values, sharing both."""
        check_values(values, self.values)
        twin = copy.copy(self)
        twin._sparse, twin.dtype = self.around(values), values.dtype
        return twin

    def storage(self) -> Storage:
        """Return the bytes of the values, fill included, and of the index arrays."""
        return Storage(value_bytes=nbytes(self.values), index_bytes=nbytes(*self.index_arrays()))


def refusal(cls: type[Representation], spec: Spec) -> str | None:
    """Return why this torch build cannot do an operation, or None; found out by doing it once on a 32 × 32 identity.

    Which kernels exist depends on torch's version, on how it was built and on the device: a table would be wrong
    somewhere. Only the blocks of a pattern matter here.
    """
    block = spec.pattern if spec.pattern is not None and spec.pattern.kind == "block" else None
    return _refusal(cls, spec.operation, spec.dtype, spec.device, block)


@functools.cache
def _refusal(
    cls: type[Representation], operation: str, dtype: torch.dtype, device: str, pattern: Pattern | None
) -> str | None:
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        return "torch finds no CUDA device here"
    try:
        built = cls.build(torch.eye(32, dtype=dtype, device=device), pattern)
        trained = (name for name in operations.names() if operations.get(name).trains)
        for product in trained if operation == "train" else (operations.product_of(operation, cls),):
            if cls.native(product) and product in operations.names():
                sizes = operations.get(product).operands.values()
                getattr(built, product)(*(torch.ones((32, 32), dtype=dtype, device=device) for _ in sizes))
    except (RuntimeError, TypeError) as error:  # NotImplementedError is a RuntimeError
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return f"torch {torch.__version__} on {device}: {lines[0]}"
    return None
