"""Hold as many slots for every row, as top-k codes have entries; multiplied by our own kernels."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from sparsebench.kernels.sparse_codes.layout import CodeIndex, place_dtype
from sparsebench.representations.base import coo_matrix
from sparsebench.representations.formats._own import Indexed, refuse_unsupported
from sparsebench.representations.pattern import Pattern


class Ell(Indexed):
    """Store k slots a row, k the entries of the longest one: values and places, each (m, k); ELLPACK in the literature.

    It suits rows of the same length, as top-k codes have. A shorter row ends with pads, which cost memory and nothing
    else: `fill` says how much. On the GPU the transposed product needs the order by columns, which is made with the
    first such call, held from then on and counted in `storage`.
    """

    name = "ell"
    folder = "sparse_codes"
    _index: CodeIndex

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

    @property
    def fill(self) -> float:
        """Return slots ÷ entries: 1 where all rows are equally long, and also where nothing is stored."""
        return self._values.numel() / self._index.stored if self._index.stored else 1.0

    def own_kernel(self, operation: str) -> str:
        """Return what the kernels of this device call themselves, and what comes before them."""
        name: str = self._backend.name(self.dtype)
        if operation == "rmatmul":
            sorts = "in each call" if self.device.type == "cpu" else "once"
            return f"entries sorted by columns {sorts} + {name}"
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
        product: Tensor = self._backend.decode(self._index, self._values, x)
        return product

    def rmatmul(self, x: Tensor) -> Tensor:
        """Return selfᵀ @ x, (k, m) @ (m, n) -> (k, n); errors as in `matmul`."""
        product: Tensor = self._backend.decode_dictionary(self._index, self._values, x)
        return product

    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Return (a @ b) at the stored places, (m, n) @ (n, k) -> shaped as `values`, 0 in pads.

        Best handed b as the transpose of a contiguous tensor, as in x.t().

        Raises:
            ValueError: if shape, dtype or device of a or b do not fit.
        """
        self.check_operands("sampled_matmul", a, b)
        product: Tensor = self._backend.decode_values(self._index, a, b.t())
        return product


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
