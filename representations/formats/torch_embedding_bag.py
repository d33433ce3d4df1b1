"""Hold rows as bags of weighted columns, multiplied by torch's `embedding_bag`: the peer of `ell`."""

from __future__ import annotations

import copy
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from sparsebench.representations.base import Representation, Spec, Storage, coo_matrix
from sparsebench.representations.formats._torch import index_dtype, nbytes, refusal
from sparsebench.representations.operands import check_values
from sparsebench.representations.pattern import Pattern

_SUM = 0
"""What torch calls the mode "sum" inside."""


class TorchEmbeddingBag(Representation):
    """Store places and values of the non-zeros row by row: (m, k) where all rows have k, else 1-D with offsets.

    The products are those of `torch.nn.functional.embedding_bag` and of its own backward pass: what a decoder of top-k
    codes is commonly written with.
    """

    name = "torch-embedding-bag"
    traceable = True

    def __init__(self, source: Tensor, places: Tensor, values: Tensor, offsets: Tensor | None) -> None:
        """Take the arrays, not copied; offsets (m) say where rows begin if places and values are 1-D."""
        super().__init__(source)
        self._places, self._values, self._offsets = places, values, offsets

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        """Copy the non-zeros; see `Representation.build`."""
        coo = coo_matrix(tensor)
        rows, columns = coo.indices()
        m = int(coo.shape[0])
        lengths = torch.bincount(rows, minlength=m)
        dtype = index_dtype(*coo.shape, columns.numel())
        places, values = columns.to(dtype, copy=True), coo.values().contiguous()
        if m and bool((lengths == lengths[0]).all()):
            slots = columns.numel() // m
            return cls(tensor, places.reshape(m, slots).contiguous(), values.reshape(m, slots), None)
        return cls(tensor, places.contiguous(), values, (lengths.cumsum(0) - lengths).to(dtype))

    @classmethod
    def unsupported(cls, spec: Spec) -> str | None:
        """Refuse what torch has no kernel for on that device and in that dtype."""
        return refusal(cls, spec)

    def _rows(self) -> Tensor:
        """Return the row of every entry, which torch's backward pass wants; made anew in each call."""
        m = self.shape[0]
        numbers = torch.arange(m, dtype=self._places.dtype, device=self.device)
        if self._offsets is None:
            return numbers.repeat_interleave(self._places.shape[1])
        ends = torch.cat([self._offsets[1:], self._offsets.new_tensor([self._places.numel()])])
        return numbers.repeat_interleave(ends - self._offsets, output_size=self._places.numel())

    def _starts(self) -> Tensor:
        if self._offsets is not None:
            return self._offsets
        return torch.arange(self.shape[0], dtype=self._places.dtype, device=self.device) * self._places.shape[1]

    def to_dense(self) -> Tensor:
        """Return a new strided tensor."""
        dense = self._values.new_zeros(self.matrix_shape)
        dense[self._rows().long(), self._places.reshape(-1).long()] = self._values.detach().reshape(-1)
        return dense.reshape(self.shape)

    def matmul(self, x: Tensor) -> Tensor:
        """Return self @ x by `embedding_bag` with the values as per-sample weights."""
        self.check_operands("matmul", x)
        rows = self.shape[0]
        if self._values.numel() == 0 or x.shape[1] == 0:
            return x.new_zeros((rows, x.shape[1]))
        return embedding_bag(
            self._places, x, self._offsets, mode="sum", per_sample_weights=self._values.detach()
        )  # fmt: skip

    def rmatmul(self, x: Tensor) -> Tensor:
        """Return selfᵀ @ x by the gradient that `embedding_bag` has for its table."""
        self.check_operands("rmatmul", x)
        columns = self.matrix_shape[1]
        if self._values.numel() == 0 or x.shape[1] == 0:
            return x.new_zeros((columns, x.shape[1]))
        bags = self._rows()
        sizes = torch.empty(0, dtype=bags.dtype, device=self.device)  # read for means and maxima only
        product: Tensor = torch.ops.aten._embedding_bag_dense_backward(
            x.contiguous(), self._places.reshape(-1), bags, sizes, sizes, columns, False, _SUM,
            self._values.detach().reshape(-1),
        )  # fmt: skip
        return product

    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Return (a @ b) at the stored places, shaped as `values`, by the gradient that it has for its weights."""
        self.check_operands("sampled_matmul", a, b)
        if self._values.numel() == 0 or a.shape[1] == 0:
            return torch.zeros_like(self._values, dtype=a.dtype)
        product: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            a.contiguous(), b.t().contiguous(), self._places.reshape(-1), self._starts(), self._rows(), _SUM
        )
        return product.reshape(self._values.shape)

    def own_kernel(self, operation: str) -> str:
        """Return which of torch's functions runs."""
        return {
            "matmul": "torch embedding_bag, sum",
            "rmatmul": "torch _embedding_bag_dense_backward",
            "sampled_matmul": "torch _embedding_bag_per_sample_weights_backward",
        }[operation]

    @property
    def values(self) -> Tensor:
        """Return the stored values, (m, k) or (stored,), row by row."""
        return self._values

    def with_values(self, values: Tensor) -> Self:
        """Return the same places around other values, sharing both."""
        check_values(values, self._values)
        twin = copy.copy(self)
        twin._values, twin.dtype = values.contiguous(), values.dtype
        return twin

    def storage(self) -> Storage:
        """Return the bytes of the values, and of places and offsets."""
        held = [self._places] if self._offsets is None else [self._places, self._offsets]
        return Storage(value_bytes=nbytes(self._values), index_bytes=nbytes(*held))
