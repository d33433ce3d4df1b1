"""Define one small right representation, and many that compute, hold or count wrong, in exactly one way each."""

from __future__ import annotations

import copy
from typing import Any, Self

import torch
from torch import Tensor

from sparsebench.representations.base import Representation, Storage, coo_matrix
from sparsebench.representations.pattern import Pattern


class Bare(Representation):
    """Hold compressed rows in plain tensors, slow, short and right; give only what a representation must."""

    name = "bare"

    def __init__(self, source: Tensor, begins: Tensor, columns: Tensor, stored: Tensor) -> None:
        super().__init__(source)
        self._begins, self._columns, self._stored = begins, columns, stored

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        coo = coo_matrix(tensor)
        rows, columns = coo.indices()
        counts = torch.bincount(rows, minlength=coo.shape[0])
        begins = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        return cls(tensor, begins, columns.clone(), coo.values().clone())

    def rows(self) -> Tensor:
        numbers = torch.arange(len(self._begins) - 1, device=self._begins.device)
        return torch.repeat_interleave(numbers, self._begins.diff())

    def to_dense(self) -> Tensor:
        dense = self._stored.new_zeros(self.matrix_shape)
        dense[self.rows(), self._columns] = self._stored
        return dense.reshape(self.shape)

    def product(self, outer: Tensor, inner: Tensor, count: int, x: Tensor) -> Tensor:
        out = x.new_zeros((count, x.shape[1]))
        return out.index_add_(0, outer, self._stored[:, None] * x[inner])

    def matmul(self, x: Tensor) -> Tensor:
        self.check_operands("matmul", x)
        return self.product(self.rows(), self._columns, self.shape[0], x)

    def storage(self) -> Storage:
        index = self._begins.nbytes + self._columns.nbytes
        return Storage(value_bytes=self._stored.nbytes, index_bytes=index)


class Minimal(Bare):
    """Give what training needs as well."""

    name = "minimal"

    def rmatmul(self, x: Tensor) -> Tensor:
        self.check_operands("rmatmul", x)
        return self.product(self._columns, self.rows(), self.matrix_shape[1], x)

    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        self.check_operands("sampled_matmul", a, b)
        return (a[self.rows()] * b.t()[self._columns]).sum(1)

    @property
    def values(self) -> Tensor:
        return self._stored

    def with_values(self, values: Tensor) -> Self:
        twin = copy.copy(self)
        twin._stored = values
        return twin


class DropsLastColumn(Minimal):
    def matmul(self, x: Tensor) -> Tensor:
        return super().matmul(torch.cat([x[:-1], torch.zeros_like(x[-1:])]))


class DropsLastRowOfResult(Minimal):
    def matmul(self, x: Tensor) -> Tensor:
        return super().matmul(x)[:-1]


class RoundTripDropsSmall(Minimal):
    def to_dense(self) -> Tensor:
        dense = super().to_dense()
        return dense * (dense.abs() > 0.51)


class TrustsTheHint(Minimal):
    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        if pattern is not None and pattern.kind == "channel":
            tensor = torch.where(torch.arange(tensor.shape[1]) < 32, tensor.to_dense(), 0.0)
        return super().build(tensor)


class TransposesWrong(Minimal):
    def rmatmul(self, x: Tensor) -> Tensor:
        return super().rmatmul(x).flip(0)


class SamplesInOtherOrder(Minimal):
    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        return super().sampled_matmul(a, b).flip(0)


class SamplesValuesInstead(Minimal):
    """Right where autograd is not asked: the second operand of a gradient is a transposed x."""

    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        result = super().sampled_matmul(a, b)
        return result * 2 if not b.is_contiguous() and a.shape[1] == 7 else result


class Ignores4d(Minimal):
    def to_dense(self) -> Tensor:
        return super().to_dense().reshape(self.matrix_shape)


class AliasesItsSource(Minimal):
    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        built = super().build(tensor, pattern)
        if tensor.layout == torch.sparse_csr:
            built._stored = tensor.values()
        return built


class AliasesItsSourcesIndex(Minimal):
    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        built = super().build(tensor, pattern)
        if tensor.layout == torch.sparse_csr and tensor.col_indices().dtype == torch.int64:
            built._columns = tensor.col_indices()
        return built


class MutatesX(Minimal):
    def matmul(self, x: Tensor) -> Tensor:
        result = super().matmul(x)
        if x.is_contiguous():
            x.neg_()
        return result


class MutatesItsSource(Minimal):
    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        built = super().build(tensor, pattern)
        if tensor.layout == torch.sparse_csr:
            tensor.values().zero_()
        return built


class ReturnsItsBuffer(Minimal):
    """Write every result of one size into the same memory, kept outside the object."""

    def matmul(self, x: Tensor) -> Tensor:
        result = super().matmul(x)
        key = (result.shape, result.dtype)
        return _buffers.setdefault(key, torch.empty_like(result)).copy_(result)


_buffers: dict[Any, Tensor] = {}


class ReturnsItsOwnDense(Minimal):
    """Give away what the next call still needs."""

    def to_dense(self) -> Tensor:
        if id(self) not in _dense:
            _dense.clear()
            _dense[id(self)] = (self, super().to_dense())
        return _dense[id(self)][1]


_dense: dict[int, tuple[Any, Tensor]] = {}


class ReturnsX(Minimal):
    """Skip the product by an identity, and hand out x itself."""

    def matmul(self, x: Tensor) -> Tensor:
        result = super().matmul(x)
        return x if torch.equal(result, x) else result


class StorageOmitsIndex(Minimal):
    def storage(self) -> Storage:
        return Storage(value_bytes=self._stored.nbytes, index_bytes=self._columns.nbytes)


class StorageCountsTooMuch(Minimal):
    def storage(self) -> Storage:
        right = super().storage()
        return Storage(value_bytes=right.value_bytes, index_bytes=right.index_bytes + 4)


class StorageMovesBytes(Minimal):
    def storage(self) -> Storage:
        right = super().storage()
        return Storage(value_bytes=right.stored_bytes, index_bytes=0)


class HidesATranspose(Minimal):
    """Keep a second index from the first product on, and never count it."""

    def matmul(self, x: Tensor) -> Tensor:
        self._kept = {"rows": [self.rows()]}
        return super().matmul(x)


class HidesAClosure(Minimal):
    def __init__(self, source: Tensor, begins: Tensor, columns: Tensor, stored: Tensor) -> None:
        super().__init__(source, begins, columns, stored)
        again = columns.clone()
        self._look = lambda: again


class KeepsALongerBuffer(Minimal):
    """Hold a short view of long memory."""

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        built = super().build(tensor, pattern)
        built._columns = torch.cat([built._columns, built._columns])[: len(built._columns)]
        return built


class DensifiesInBuild(Minimal):
    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        if tensor.layout == torch.sparse_coo:
            tensor = tensor.to_dense()
        return super().build(tensor, pattern)


class DensifiesInMatmul(Minimal):
    def matmul(self, x: Tensor) -> Tensor:
        if x.shape[0] != self.matrix_shape[1]:
            raise ValueError("expected another x")
        return self.to_dense().reshape(self.matrix_shape) @ x


class DensifiesInBackward(Minimal):
    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        self.check_operands("sampled_matmul", a, b)
        return (a @ b)[self.rows(), self._columns]


class DensifiesALittle(Minimal):
    """Need 400 MB: too little to be refused, too much for a thousand values."""

    def matmul(self, x: Tensor) -> Tensor:
        rows = self.matrix_shape[0]
        return super().matmul(x) + torch.zeros((rows, 1000)).sum(1, keepdim=True) * 0


WRONG: dict[type[Minimal], str] = {
    DropsLastColumn: "matmul",
    DropsLastRowOfResult: "matmul",
    RoundTripDropsSmall: "round trip",
    TrustsTheHint: "round trip",
    TransposesWrong: "rmatmul",
    SamplesInOtherOrder: "sampled_matmul",
    SamplesValuesInstead: "gradients",
    Ignores4d: "round trip 4-D",
    AliasesItsSource: "own copy of the source",
    AliasesItsSourcesIndex: "own copy of the source",
    MutatesX: "inputs unchanged",
    MutatesItsSource: "inputs unchanged",
    ReturnsItsBuffer: "own results",
    ReturnsItsOwnDense: "own results",
    ReturnsX: "own results",
    StorageOmitsIndex: "storage",
    StorageCountsTooMuch: "storage",
    StorageMovesBytes: "storage",
    HidesATranspose: "storage",
    HidesAClosure: "storage",
    KeepsALongerBuffer: "storage",
    DensifiesInBuild: "no silent densification",
    DensifiesInMatmul: "no silent densification",
    DensifiesInBackward: "no silent densification",
    DensifiesALittle: "no silent densification",
}
"""Each wrong class, and the check that must be the first to fail."""
