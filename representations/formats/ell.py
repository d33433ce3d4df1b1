"""Hold as many slots for every row, as top-k codes have entries; multiplied by our own kernels."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from sparsebench.kernels.sparse_codes.layout import CodeIndex, place_dtype
from sparsebench.kernels.sparse_codes.products import kernels
from sparsebench.representations.base import Representation, Spec, Storage, coo_matrix
from sparsebench.representations.formats._own import (
    kernels_unsupported,
    refuse_other_values,
    refuse_unsupported,
    stand_in,
)
from sparsebench.representations.formats._torch import check_sampled
from sparsebench.representations.pattern import Pattern


class Ell(Representation):
    """Store k slots a row, k the entries of the longest one: values and places, each (m, k); ELLPACK in the literature.

    It suits rows of the same length, as top-k codes have. A shorter row ends with pads, which cost memory and nothing
    else: `fill` says how much. On the GPU the transposed product needs the order by columns, which is made with the
    first such call, held from then on and counted in `storage`.
    """

    name = "ell"

    def __init__(self, source: Tensor, index: CodeIndex, values: Tensor) -> None:
        """Take an index and values, not copied."""
        super().__init__(source)
        self._index = index
        self._values = values

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        """Copy the non-zeros; see `Representation.build`.

        A `sparse_csr` source of rows of the same length is copied as it stands, zeros that it stores included: a top-k
        code keeps its k slots, which can be trained then, whatever their values.

        Raises:
            ValueError: if the tensor is neither 2-D nor 4-D, `unsupported` has a reason, or a CSR source is unsorted or
                has duplicates, which torch forbids too.
        """
        refuse_unsupported(cls, tensor, pattern)
        even = _even(tensor)
        if even is not None:
            return cls(tensor, *even)
        coo = coo_matrix(tensor)
        rows, columns = coo.indices()
        index, slot = CodeIndex.from_elements(rows, columns, (int(coo.shape[0]), int(coo.shape[1])))
        values = coo.values().new_zeros(index.places.shape)
        values.view(-1)[slot] = coo.values()
        return cls(tensor, index, values)

    @classmethod
    def unsupported(cls, spec: Spec) -> str | None:
        """Refuse devices and dtypes that the kernels do not have."""
        return kernels_unsupported("ell", kernels, spec)

    @property
    def fill(self) -> float:
        """Return slots ÷ entries: 1 where all rows are equally long, and also where nothing is stored."""
        return self._values.numel() / self._index.stored if self._index.stored else 1.0

    def kernel(self, operation: str) -> str:
        """Return what the kernels of this device call themselves, and what comes before them."""
        name: str = kernels(self.device.type).name(self.dtype)
        if operation == "rmatmul":
            sorts = "in each call" if self.device.type == "cpu" else "once"
            return f"entries sorted by columns {sorts} + {name}"
        if operation.startswith("conv2d"):
            return f"torch unfold + {name}" if operation != "conv2d_with" else super().kernel(operation)
        return name

    def to_dense(self) -> Tensor:
        """Return a new strided tensor."""
        # one column more than there are takes up the pads
        rows, columns = self.matrix_shape
        dense = self._values.new_zeros((rows, columns + 1))
        dense.scatter_(1, self._index.places.long(), self._values.detach())
        return dense[:, :columns].reshape(self.shape).contiguous()

    def matmul(self, x: Tensor) -> Tensor:
        """Return self @ x, (m, k) @ (k, n) -> (m, n).

        Raises:
            ValueError: if shape, dtype or device of x do not fit.
        """
        product: Tensor = kernels(self.device.type).decode(self._index, self._values, x)
        return product

    def rmatmul(self, x: Tensor) -> Tensor:
        """Return selfᵀ @ x, (k, m) @ (m, n) -> (k, n); errors as in `matmul`."""
        product: Tensor = kernels(self.device.type).decode_dictionary(self._index, self._values, x)
        return product

    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Return (a @ b) at the stored places, (m, n) @ (n, k) -> shaped as `values`, 0 in pads.

        Best handed b as the transpose of a contiguous tensor, as in x.t().

        Raises:
            ValueError: if shape, dtype or device of a or b do not fit.
        """
        check_sampled(a, b, self.matrix_shape)
        product: Tensor = kernels(self.device.type).decode_values(self._index, a, b.t())
        return product

    @property
    def values(self) -> Tensor:
        """Return the values, one a slot; those of pads are never read."""
        return self._values

    def with_values(self, values: Tensor) -> Self:
        """Return a matrix of other values with the same places; they are copied only if they are not contiguous.

        Raises:
            ValueError: if shape or device are not those of `values`.
        """
        refuse_other_values(values, self._values)
        return type(self)(stand_in(values, self.shape), self._index, values.contiguous())

    def storage(self) -> Storage:
        """Return the bytes of the values, pads included, and of every index array that is held by now."""
        return Storage(value_bytes=self._values.numel() * self._values.element_size(), index_bytes=self._index.nbytes)


def _even(tensor: Tensor) -> tuple[CodeIndex, Tensor] | None:
    """Return a copy of a CSR source as index and values if its rows are equally long, else None."""
    if tensor.layout != torch.sparse_csr or tensor.dim() != 2:
        return None
    crow, col, values = tensor.crow_indices(), tensor.col_indices(), tensor.values()
    rows, units = int(tensor.shape[0]), int(tensor.shape[1])
    if values.dim() != 1 or rows == 0 or values.numel() % rows:
        return None
    slots = values.numel() // rows
    if not bool((crow.diff() == slots).all()):
        return None
    places = col.to(place_dtype(units), copy=True).reshape(rows, slots).contiguous()
    index = CodeIndex(shape=(rows, units), places=places)
    return index, values.detach().clone().reshape(rows, slots).contiguous()
