"""Define representations that are wrong at an edge, in a dtype, or in their manners, in exactly one way each."""

from __future__ import annotations

import sys
from typing import Any, NoReturn, Self

import torch
from torch import Tensor
from wrong_representations import Minimal  # the neighbour file wrong.py, as its tests call it

from sparsebench.representations.base import Representation, Spec
from sparsebench.representations.pattern import Pattern


class WrongOnEmptyRows(Minimal):
    """Mark where rows begin and count the marks: an empty row shifts all that follow."""

    def rows(self) -> Tensor:
        marks = torch.zeros_like(self._columns)
        starts = self._begins[:-1]
        marks[starts[starts < len(marks)]] = 1
        return marks.cumsum(0) - 1


class FailsOnNothing(Minimal):
    def matmul(self, x: Tensor) -> Tensor:
        self._stored.max()
        return super().matmul(x)


class FailsWhenFull(Minimal):
    """Take a full row for a row that was not stored."""

    def matmul(self, x: Tensor) -> Tensor:
        full = self._begins.diff() == 64
        return torch.where(full[:, None], 0.0, super().matmul(x)).to(x.dtype)


class FailsOnRagged(Minimal):
    """Walk over whole blocks of 16 columns only."""

    def product(self, outer: Tensor, inner: Tensor, count: int, x: Tensor) -> Tensor:
        out = x.new_zeros((count, x.shape[1]))
        keep = inner < x.shape[0] // 8 * 8
        return out.index_add_(0, outer[keep], self._stored[keep, None] * x[inner[keep]])


class FailsOnOneColumn(Minimal):
    def matmul(self, x: Tensor) -> Tensor:
        return super().matmul(x).squeeze(1)


class ReadsWrongStrides(Minimal):
    """Take every x for contiguous memory."""

    def matmul(self, x: Tensor) -> Tensor:
        if x.is_contiguous() or x.untyped_storage().nbytes() < x.numel() * x.element_size():
            return super().matmul(x)
        return super().matmul(x.as_strided(x.shape, (x.shape[1], 1)))


class IgnoresDuplicates(Minimal):
    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        if tensor.layout == torch.sparse_coo and not tensor.is_coalesced():
            dense = torch.zeros(tensor.shape, dtype=tensor.dtype)
            indices = tensor._indices()
            dense[indices[0], indices[1]] = tensor._values()
            tensor = dense
        return super().build(tensor, pattern)


class LosesFloat64(Minimal):
    def product(self, outer: Tensor, inner: Tensor, count: int, x: Tensor) -> Tensor:
        out = torch.zeros((count, x.shape[1]), dtype=torch.float32)
        return out.index_add_(0, outer, self._stored.float()[:, None] * x[inner].float()).to(x.dtype)


class AlwaysFloat32(Minimal):
    def matmul(self, x: Tensor) -> Tensor:
        return super().matmul(x).float()


class Nondeterministic(Minimal):
    def matmul(self, x: Tensor) -> Tensor:
        result = super().matmul(x)
        return result * (1 + torch.finfo(x.dtype).eps * torch.randint(-1, 2, result.shape))


class BuildsInOtherOrders(Minimal):
    """Give every second object a different order of addition."""

    def matmul(self, x: Tensor) -> Tensor:
        _orders[0] += self not in _seen
        _seen.setdefault(self, _orders[0] % 2)
        scale = 1.0 + _seen[self] * torch.finfo(x.dtype).eps
        return super().matmul(x) * scale


_orders = [0]
_seen: dict[Any, int] = {}


class WithValuesMutates(Minimal):
    def with_values(self, values: Tensor) -> Self:
        twin = super().with_values(values)
        self._stored = values
        return twin


class ValuesAreACopy(Minimal):
    @property
    def values(self) -> Tensor:
        return self._stored.clone()


class ReplacesNan(Minimal):
    def matmul(self, x: Tensor) -> Tensor:
        return super().matmul(x).nan_to_num()


class SpreadsNan(Minimal):
    """Multiply what is not stored as well: zero times NaN."""

    def matmul(self, x: Tensor) -> Tensor:
        result = super().matmul(x)
        return result + result.sum() * 0


class BroadcastsX(Minimal):
    def matmul(self, x: Tensor) -> Tensor:
        return super().matmul(x.expand(self.matrix_shape[1], -1) if x.shape[0] == 1 else x)


class CutsX(Minimal):
    def rmatmul(self, x: Tensor) -> Tensor:
        return super().rmatmul(x[: self.matrix_shape[0]])


class NamesNoKernel(Minimal):
    def kernel(self, operation: str) -> str:
        return None if operation == "conv2d" else "index_add"  # type: ignore[return-value]


class HidesADerivation(Minimal):
    def kernel(self, operation: str) -> str:
        return "index_add"


class WidensToTheOperand(Minimal):
    def matmul(self, x: Tensor) -> Tensor:
        return super().matmul(x.to(self.dtype)).to(x.dtype)


class TransposeForgets(Minimal):
    def transpose(self) -> Representation:
        return self


class RefusesEverything(Minimal):
    @classmethod
    def unsupported(cls, spec: Spec) -> str | None:
        return "not today"


class RefusesWithoutReason(Minimal):
    @classmethod
    def unsupported(cls, spec: Spec) -> str | None:
        return "" if spec.dtype == torch.float64 else None


class LeavesTheProcess(Minimal):
    def matmul(self, x: Tensor) -> NoReturn:
        sys.exit("goodbye")


class RaisesUnprintable(Minimal):
    def to_dense(self) -> NoReturn:
        raise _UnprintableError


class _UnprintableError(BaseException):
    def __str__(self) -> str:
        raise RuntimeError("no text either")


WRONG: dict[type[Minimal], str] = {
    WrongOnEmptyRows: "empty rows",
    FailsOnNothing: "nothing stored",
    FailsWhenFull: "everything stored",
    FailsOnRagged: "ragged shapes",
    FailsOnOneColumn: "one column or none",
    ReadsWrongStrides: "non-contiguous input",
    IgnoresDuplicates: "unsorted input",
    LosesFloat64: "float64",
    AlwaysFloat32: "float64",
    Nondeterministic: "determinism",
    BuildsInOtherOrders: "determinism",
    WithValuesMutates: "with_values",
    ValuesAreACopy: "with_values",
    ReplacesNan: "NaN propagates",
    SpreadsNan: "NaN propagates",
    BroadcastsX: "wrong shapes refused",
    CutsX: "wrong shapes refused",
    NamesNoKernel: "kernel names",
    HidesADerivation: "kernel names",
    WidensToTheOperand: "operands of another dtype",
    TransposeForgets: "transpose",
    RefusesEverything: "scope",
    RefusesWithoutReason: "float64",
    LeavesTheProcess: "matmul",
    RaisesUnprintable: "round trip",
}
"""Each wrong class, and the check that must be the first to fail."""
