"""Share what the formats on our own kernels have in common: an index beside values, and what they refuse."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any, ClassVar, Self

from torch import Tensor

from sparsebench.kernels.common.devices import backend
from sparsebench.kernels.plane_conv.geometry import Pair
from sparsebench.representations.base import Representation, Spec, Storage
from sparsebench.representations.formats import _conv
from sparsebench.representations.operands import check_values
from sparsebench.representations.pattern import Pattern
from sparsebench.representations.sources import check_source

LIBRARIES = {"cpu": "numba", "cuda": "triton"}
"""What the kernels of a type of device are written in."""


class Indexed(Representation):
    """Hold values, and an index that says where they stand; products are the folder's `dsd` and `sdd`."""

    folder: ClassVar[str]
    """Of the kernels, as "csr"."""

    def __init__(self, source: Tensor, index: Any, values: Tensor) -> None:
        """Take an index and values, not copied."""
        super().__init__(source)
        self._index = index
        self._values = values

    @classmethod
    def unsupported(cls, spec: Spec) -> str | None:
        """Refuse devices and dtypes that the kernels do not have."""
        return kernels_unsupported(cls.folder, spec)

    @property
    def _backend(self) -> ModuleType:
        return backend(self.folder, self.device.type)

    @property
    def values(self) -> Tensor:
        """Return the stored values, in the order of the index."""
        return self._values

    def with_values(self, values: Tensor) -> Self:
        """Return a matrix of other values with the same index; they are copied only if they are not contiguous.

        Raises:
            ValueError: if shape or device are not those of `values`.
        """
        check_values(values, self._values)
        return type(self)(stand_in(values, self.shape), self._index, values.contiguous())

    def matmul(self, x: Tensor) -> Tensor:
        """Return self @ x, (m, k) @ (k, n) -> (m, n).

        Raises:
            ValueError: if shape, dtype or device of x do not fit.
        """
        product: Tensor = self._backend.dsd(self._index, self._values, x)
        return product

    def rmatmul(self, x: Tensor) -> Tensor:
        """Return selfᵀ @ x, (k, m) @ (m, n) -> (k, n); errors as in `matmul`."""
        product: Tensor = self._backend.dsd(self._index, self._values, x, transposed=True)
        return product

    def sampled_matmul(self, a: Tensor, b: Tensor) -> Tensor:
        """Return (a @ b) at the stored places, (m, n) @ (n, k) -> shaped as `values`.

        Raises:
            ValueError: if shape, dtype or device of a or b do not fit.
        """
        self.check_operands("sampled_matmul", a, b)
        product: Tensor = self._backend.sdd(self._index, a, b)
        return product

    def storage(self) -> Storage:
        """Return the bytes of the values, and of every index array that is held by now."""
        return Storage(value_bytes=self._values.nbytes, index_bytes=self._index.nbytes)


class Sliding(Indexed):
    """Convolve what is stored by the kernels of kernels/plane_conv, unless a subclass says that it cannot slide."""

    @property
    def slides(self) -> bool:
        """Tell whether these kernels can convolve what this object holds."""
        return True

    def origin(self, operation: str) -> str:
        """Return "derived" for a convolution that goes by unfolding, else what the class says."""
        return "derived" if operation in _conv.CONVOLUTIONS and not self.slides else self.provenance(operation)

    def conv2d(self, x: Tensor, *, stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1)) -> Tensor:
        """Return the convolution of x (n, in, h, w) -> (n, out, h', w'), without an im2col copy if this slides.

        Raises:
            ValueError: if self is no 4-D weight, or x does not fit.
        """
        geometry = _conv.geometry_of(self, "conv2d", stride, padding, dilation)
        if not self.slides:
            return super().conv2d(x, stride=stride, padding=padding, dilation=dilation)
        return _conv.conv2d(geometry, self._index, self._values, x)

    def conv2d_input(
        self, g: Tensor, size: Pair, *, stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1)
    ) -> Tensor:
        """Return the gradient of conv2d with respect to x (n, in, h, w); errors as in `conv2d`.

        Elements want the order by columns, which is made with the first such call, held and counted in `storage`.
        """
        geometry = _conv.geometry_of(self, "conv2d_input", stride, padding, dilation)
        if not self.slides:
            return super().conv2d_input(g, size, stride=stride, padding=padding, dilation=dilation)
        return _conv.conv2d_input(geometry, self._index, self._values, g, size)

    def conv2d_values(
        self, g: Tensor, x: Tensor, *, stride: Pair = (1, 1), padding: Pair = (0, 0), dilation: Pair = (1, 1)
    ) -> Tensor:
        """Return the gradient of conv2d with respect to the stored values, shaped so; errors as in `conv2d`."""
        geometry = _conv.geometry_of(self, "conv2d_values", stride, padding, dilation)
        if not self.slides:
            return super().conv2d_values(g, x, stride=stride, padding=padding, dilation=dilation)
        return _conv.conv2d_values(geometry, self._index, self._values, g, x)


def kernels_unsupported(folder: str, spec: Spec) -> str | None:
    """Return why kernels cannot do `spec`, in one line, or None if they can.

    Args:
        folder: of the kernels, as "csr".
        spec: asked for.
    """
    library = LIBRARIES.get(spec.device)
    if library is None:
        return f"{folder} kernels run on cpu and cuda, not on {spec.device}"
    if importlib.util.find_spec(library) is None:
        return f"{folder} kernels on {spec.device} need {library}, which is not installed"
    dtypes = backend(folder, spec.device).DTYPES
    if spec.dtype not in dtypes:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        return f"the {library} kernels compute in {known}, not in {str(spec.dtype).removeprefix('torch.')}"
    return None


def refuse_unsupported(cls: type[Representation], tensor: Tensor, pattern: Pattern | None) -> None:
    """Raise ValueError with the reason if `cls` cannot build from `tensor`; errors also as in `check_source`."""
    check_source(tensor)
    spec = Spec(
        operation="build", shape=tuple(tensor.shape), dtype=tensor.dtype, device=tensor.device.type, pattern=pattern
    )
    reason = cls.unsupported(spec)
    if reason is not None:
        raise ValueError(f"expected a tensor that {cls.name} supports, got {tensor.dtype} on {tensor.device}: {reason}")


def stand_in(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a tensor of `shape` on the device and in the dtype of `values` that takes one element of memory."""
    return values.detach().new_empty(()).expand(shape)
