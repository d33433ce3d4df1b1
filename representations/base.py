"""Define Representation, the one interface, and the values that travel with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from sparsebench.kernels.plane_conv.geometry import Pair
from sparsebench.representations import _derived_conv, operations
from sparsebench.representations.operands import check_operand
from sparsebench.representations.pattern import Pattern
from sparsebench.representations.sources import coo_matrix as coo_matrix  # what a plug-in needs, from one module
from sparsebench.representations.sources import strided_matrix as strided_matrix


@dataclass(frozen=True, kw_only=True)
class Storage:
    """Bytes that a representation holds, by what they are for.

    Attributes:
        value_bytes: bytes of stored values, fill (zeros that are stored all the same) included.
        index_bytes: bytes of everything that says where the values stand.
    """

    value_bytes: int
    index_bytes: int

    def __post_init__(self) -> None:
        if self.value_bytes < 0 or self.index_bytes < 0:
            raise ValueError(f"expected byte counts ≥ 0, got {self}; count the arrays that are held")

    @property
    def stored_bytes(self) -> int:
        """Return the bytes of values and indices together."""
        return self.value_bytes + self.index_bytes


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a representation would be asked to do; `Representation.unsupported` judges it before anything is built.

    Attributes:
        operation: "build" or one of `operations.names()`; "train" stands for matmul with both gradients.
        shape: (m, k) of a matrix, (out, in, kh, kw) of a convolution weight, or (n, c, h, w) of activations.
        dtype: of the values.
        device: "cpu" or "cuda".
        pattern: where the zeros are, if known.
    """

    operation: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: str
    pattern: Pattern | None = None


class Representation(ABC):
    """Hold one sparse matrix (m, k), or one 4-D tensor, stored in one way.

    A 4-D tensor is a convolution weight (out, in, kh, kw), or activations (n, c, h, w) for `conv2d_with`. It multiplies
    as the matrix (out, in·kh·kw); `matrix_shape` is that shape.

    A subclass must give `name`, `build`, `to_dense`, `matmul` and `storage`. It gains from giving `rmatmul`,
    `sampled_matmul`, and `values` with `with_values` (with these three products it trains), `conv2d`, `conv2d_input`,
    `conv2d_values`, `conv2d_with`, `transpose`, `requires` and `unsupported`. What it does not give is derived here,
    and `provenance` says so.

    Attributes:
        shape: of the tensor that was stored.
        dtype: of its values.
        device: where its values live.
    """

    name: ClassVar[str]
    """How tables call it: `library-format`."""
    requires: ClassVar[tuple[str, ...]] = ()
    """Importable modules that it needs; where one is missing the status is `not_installed`."""
    dense_storage: ClassVar[bool] = False
    """True if it stores every element by design. Declared, so that nothing densifies silently."""
    traceable: ClassVar[bool] = False
    """True if torch.export can follow its products: they are torch's own operations on strided tensors alone."""

    def __init__(self, source: Tensor) -> None:
        """Remember shape, dtype and device of the tensor that is stored; the tensor itself is not kept."""
        self.shape: tuple[int, ...] = tuple(source.shape)
        self.dtype: torch.dtype = source.dtype
        self.device: torch.device = source.device

    # What every representation gives

    @classmethod
    @abstractmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        """Store a copy of a tensor.

        Args:
            tensor: 2-D (m, k) of any layout, or strided 4-D (out, in, kh, kw). Neither kept nor changed.
            pattern: where its zeros are, as a hint at block sizes; the result is exact without it.

        Raises:
            ValueError: if the tensor is neither 2-D nor 4-D.
        """

    @abstractmethod
    def to_dense(self) -> Tensor:
        """Return the tensor as a new strided tensor of `shape`."""

    @abstractmethod
    def matmul(self, x: Tensor) -> Tensor:
        """Return self @ x, (m, k) @ (k, n) -> (m, n), strided, in `dtype`."""

    @abstractmethod
    def storage(self) -> Storage:
        """Return the bytes that this object really holds."""

    # What it may give

    @classmethod
    def unsupported(cls, spec: Spec) -> str | None:
        """Return why `spec` cannot be done, in one line, or None if it can."""
        return None

    def own_kernel(self, operation: str) -> str:
        """Return the name of the kernel that an operation of the class's own runs on."""
        return f"{self.name}:native"

    def origin(self, operation: str) -> str:
        """Return "native", "derived" or "missing": what `provenance` says of the class, unless this object differs."""
        return self.provenance(operation)

    @property
    def values(self) -> Tensor:
        """Return the stored values, (stored, …), sharing memory with this object. Training updates these."""
        raise NotImplementedError(f"{self.name} gives no values, so it cannot be trained; implement values/with_values")

    def with_values(self, values: Tensor) -> Self:
        """Return the same pattern around other values of the same shape, without copying the index."""
        raise NotImplementedError(f"{self.name} gives no with_values, so it cannot be trained; implement it and values")

    def transpose(self) -> Representation:
        """Return selfᵀ, a matrix (k, m). Derived: built again from the dense transpose."""
        return type(self).build(self.to_dense().reshape(self.matrix_shape).t().contiguous())

    def rmatmul(self, x: Tensor) -> Tensor:
        """Return selfᵀ @ x, (k, m) @ (m, n) -> (k, n). Derived: a native transpose, else through dense."""
        if self.native("transpose"):
            return self.transpose().matmul(x)
        return self.to_dense().reshape(self.matrix_shape).t() @ x

    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Return (a @ b) at the stored positions, laid out as `values` is; a (m, n), b (n, k).

        The literature calls it SDDMM, sampled dense-dense matrix multiplication. It cannot be derived: only the
        representation knows the order of its values.
        """
        raise NotImplementedError(
            f"{self.name} gives no sampled_matmul, so its values have no gradient; implement it to train"
        )

    def conv2d(self, x: Tensor, *, stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1)) -> Tensor:
        """Return the convolution of x (n, in, h, w) with self (out, in, kh, kw) -> (n, out, h', w'), contiguous.

        Groups are a full weight whose planes between groups are absent. Derived: matmul with the windows of x.

        Raises:
            ValueError: if self is no 4-D weight, x does not fit it, or the kernel does not fit into the padded x.
        """
        return _derived_conv.conv2d(self, x, stride, padding, dilation)

    def conv2d_input(
        self, g: Tensor, size: Pair, *, stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1)
    ) -> Tensor:
        """Return the gradient (n, in, h, w) of conv2d with respect to x, contiguous. Derived: rmatmul, added up.

        g is the gradient of conv2d's result, (n, out, h', w'). `size` is (h, w) of x, since several sizes give the same
        (h', w'); stride, padding and dilation are those of the convolution.

        Raises:
            ValueError: if self is no 4-D weight, or g is not what a convolution of such an x gives.
        """
        return _derived_conv.conv2d_input(self, g, size, stride, padding, dilation)

    def conv2d_values(
        self, g: Tensor, x: Tensor, *, stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1)
    ) -> Tensor:
        """Return the gradient of conv2d with respect to the stored values, laid out as `values` is.

        g is the gradient of conv2d's result, (n, out, h', w'), and x what was convolved, (n, in, h, w). Derived:
        sampled_matmul with the windows of x; missing where that is missing.

        Raises:
            ValueError: if self is no 4-D weight, or g and x do not fit each other and it.
            NotImplementedError: if there is no sampled_matmul.
        """
        return _derived_conv.conv2d_values(self, g, x, stride, padding, dilation)

    def conv2d_with(
        self, weight: Tensor, *, stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1)
    ) -> Tensor:
        """Return the convolution of self, stored activations (n, c, h, w), with a dense weight -> (n, out, h', w').

        The weight is (out, c, kh, kw). Derived: through to_dense.

        Raises:
            ValueError: if self is no 4-D tensor, or the weight does not fit it.
        """
        return _derived_conv.conv2d_with(self, weight, stride, padding, dilation)

    # What is the same for all

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Return (m, k): the shape as a matrix; a weight (out, in, kh, kw) is (out, in·kh·kw)."""
        rows, *rest = self.shape
        columns = 1
        for size in rest:
            columns *= size
        return rows, columns

    @classmethod
    def native(cls, method: str) -> bool:
        """Tell whether the class implements `method` itself rather than leaving it to this base class."""
        return getattr(cls, method) is not getattr(Representation, method)

    @classmethod
    def provenance(cls, operation: str) -> str:
        """Return "native", "derived" or "missing" for one of `operations.names()`."""
        way = operations.get(operation).derivation(cls)
        if cls.native(operation) or (way is not None and way.native):
            return "native"
        return "missing" if way is None else "derived"

    def kernel(self, operation: str) -> str:
        """Return the name of the kernel that `operation` runs on; of what is derived, how and from what."""
        origin = self.origin(operation)
        if origin == "native" and self.native(operation):
            return self.own_kernel(operation)
        way = operations.get(operation).derivation(type(self))
        if way is None:
            return f"{self.name}:missing"
        return way.kernel.format(way.base if way.base == operations.TO_DENSE else self.kernel(way.base))

    @classmethod
    def trains(cls) -> bool:
        """Tell whether it has what training needs: values, with_values, and all three products, none through dense."""
        products = (name for name in operations.names() if operations.get(name).trains)
        own = all(cls.native(part) for part in ("values", "with_values"))
        return own and all(cls.provenance(name) == "native" for name in products)

    def check_operands(self, operation: str, *operands: Tensor) -> None:
        """Raise ValueError unless these are strided operands of a matrix product, of its shapes, our dtype and device.

        The dtype is never converted: a product in another one would be another product.
        """
        sizes = dict(zip("mk", self.matrix_shape, strict=True))
        for (name, letters), tensor in zip(operations.get(operation).operands.items(), operands, strict=True):
            check_operand(self, name, tensor, tuple(sizes.get(letter) for letter in letters))
            sizes.update(zip(letters, tensor.shape, strict=True))

    def __repr__(self) -> str:
        return f"<{self.name} {self.shape} {self.dtype} on {self.device}, {self.storage().stored_bytes} bytes>"
