"""Hold the non-zeros in JAX's batched coordinate format."""

from __future__ import annotations

import os
from functools import cache
from types import ModuleType
from typing import Any, Self

import torch
from torch import Tensor

from sparsebench.representations.base import Representation, Spec, Storage, coo_matrix
from sparsebench.representations.pattern import Pattern


@cache
def _jax() -> ModuleType:
    """Import JAX and wake its device; what it writes into the environment is taken back, as others read it."""
    before = dict(os.environ)
    import jax

    jax.devices("cpu")
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)
    return jax


@cache
def _product() -> Any:
    """Return the compiled product; JAX compiles it anew for every shape."""
    return _jax().jit(lambda matrix, dense: matrix @ dense)


class JaxBcoo(Representation):
    """Store `jax.experimental.sparse.BCOO`: values, and a pair of int32 for each of them."""

    name = "jax-bcoo"
    requires = ("jax", "jaxlib")

    def __init__(self, source: Tensor, matrix: Any, arrays: tuple[Tensor, Tensor]) -> None:
        """Remember the matrix, and the tensors (values, places) whose memory it looks at."""
        super().__init__(source)
        self._matrix, self._arrays = matrix, arrays

    @classmethod
    def unsupported(cls, spec: Spec) -> str | None:
        """Refuse float64, which JAX has only where the whole process asks for it, and other devices than the CPU."""
        if spec.device != "cpu" or spec.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            return f"JAX's BCOO holds float32, float16 and bfloat16 here, on the CPU, not {spec.dtype} on {spec.device}"
        return None

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        """Copy the non-zeros; see `Representation.build`."""
        numpy = _jax().numpy
        from jax.experimental import sparse

        coo = coo_matrix(tensor)
        places, values = coo.indices().t().to(torch.int32).contiguous(), coo.values().clone()
        # JAX looks at torch's memory: it is what is held, and can be seen
        arrays = numpy.from_dlpack(values), numpy.from_dlpack(places)
        matrix = sparse.BCOO(arrays, shape=tuple(coo.shape), indices_sorted=True, unique_indices=True)
        return cls(tensor, matrix, (values, places))

    def to_dense(self) -> Tensor:
        """Return a new strided tensor."""
        return torch.from_dlpack(self._matrix.todense()).clone().reshape(self.shape)

    def matmul(self, x: Tensor) -> Tensor:
        """Return self @ x by what XLA compiles of bcoo_dot_general."""
        self.check_operands("matmul", x)
        if not x.numel() or not self._matrix.nse:
            return torch.zeros(self.matrix_shape[0], x.shape[1], dtype=self.dtype)
        return torch.from_dlpack(_product()(self._matrix, _jax().numpy.from_dlpack(x.detach().contiguous())))

    def own_kernel(self, operation: str) -> str:
        """Return which routine runs."""
        return "JAX bcoo_dot_general, XLA on the CPU"

    def storage(self) -> Storage:
        """Return the bytes of both arrays."""
        values, places = (one.untyped_storage().nbytes() for one in self._arrays)
        return Storage(value_bytes=values, index_bytes=places)
