"""Hold two of every four neighbours of a row for NVIDIA's sparse tensor cores, through torch."""

from __future__ import annotations

import functools
import math
import warnings
from typing import Any, Self

import torch
from torch import Tensor

from sparsebench.representations.base import Representation, Spec, Storage, strided_matrix
from sparsebench.representations.formats._own import refuse_unsupported
from sparsebench.representations.formats._torch import nbytes
from sparsebench.representations.pattern import Pattern

GROUP, KEPT = 4, 2
"""Of every GROUP neighbours in a row at most KEPT are other than 0."""
DTYPES: tuple[torch.dtype, ...] = (torch.float16, torch.bfloat16)
"""What both backends of torch take. int8 and float8 are no arithmetic of ours; CUTLASS rounds float32 to TF32."""


class TorchSemiStructured(Representation):
    """Store the kept half of a 2:4 matrix and 2 bits of place for each kept value, as torch compresses them.

    torch.sparse.SparseSemiStructuredTensor multiplies by cuSPARSELt, on compute capability 8.0 or later, or where
    torch was built without it by CUTLASS, on 8.x. n:4 patterns with n < 2 fit too, filled up with zeros. The transpose
    of a 2:4 matrix is none, and torch cannot take its own layout apart, so selfᵀ @ x goes through dense, where one
    stored NaN reaches its whole row; there is no sampled product, so it does not train.
    """

    name = "torch-semi-structured"

    def __init__(self, source: Tensor, sparse: Any) -> None:
        """Take torch's tensor, not copied."""
        super().__init__(source)
        self._sparse = sparse

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        """Compress a copy of the matrix; see `Representation.build`. The data are judged, whatever `pattern` says.

        torch drops silently what does not fit 2:4, so the groups are counted first: that is part of the build.

        Raises:
            ValueError: if the tensor is neither 2-D nor 4-D, `unsupported` has a reason, or a group holds more than 2.
        """
        refuse_unsupported(cls, tensor, None)
        matrix = strided_matrix(tensor).contiguous()
        most = fullest_group(matrix)
        if most > KEPT:
            raise ValueError(
                f"expected at most {KEPT} of every {GROUP} neighbours in a row other than 0, got {most}; prune it first"
            )
        return cls(tensor, _compress(matrix))

    @classmethod
    def unsupported(cls, spec: Spec) -> str | None:
        """Refuse devices, dtypes, patterns and sizes that the sparse tensor cores, or torch's way to them, lack."""
        if spec.device != "cuda":
            return f"2:4 products need the sparse tensor cores of a CUDA device, there are none on {spec.device}"
        if spec.dtype not in DTYPES:
            known = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
            return f"torch multiplies 2:4 matrices of {known}, not of {str(spec.dtype).removeprefix('torch.')}"
        if spec.pattern is not None and (spec.pattern.kind != "n:m" or spec.pattern.m != GROUP):
            return f"holds n:4 patterns of at most 2 in 4, not {spec.pattern.label}"
        if spec.operation == "sampled_matmul":
            return "torch has no sampled product for its 2:4 layout"
        if not torch.cuda.is_available():
            return "torch finds no CUDA device here"
        backend = _backend()
        if isinstance(backend, str):
            return backend
        return size_problem(spec.shape, _smallest(backend, spec.dtype)) or _probe(spec.dtype, spec.device)

    def to_dense(self) -> Tensor:
        """Return a new strided tensor: torch multiplies by the identity, which leaves every finite value as it is."""
        dense: Tensor = self._sparse.to_dense()
        return dense.reshape(self.shape)

    def matmul(self, x: Tensor) -> Tensor:
        """Return self @ x by torch's product of the layout; n is filled up to a multiple of 8 inside torch."""
        self.check_operands("matmul", x)
        if x.shape[1] == 0:
            return x.new_empty((self.matrix_shape[0], 0))
        return torch.mm(self._sparse, x.detach().contiguous())

    def own_kernel(self, operation: str) -> str:
        """Return the library that multiplies; to_dense is a product by the identity."""
        library = {"cusparselt": "cuSPARSELt", "cutlass": "CUTLASS"}[self._sparse.BACKEND]
        return f"torch.mm 2:4 ({library})"

    def storage(self) -> Storage:
        """Return half of the elements as values; the rest of what torch holds says where they stand."""
        held = nbytes(*(part for part in (self._sparse.packed, self._sparse.meta) if part is not None))
        values = math.prod(self.matrix_shape) // GROUP * KEPT * self.dtype.itemsize
        return Storage(value_bytes=values, index_bytes=held - values)


def fullest_group(matrix: Tensor) -> int:
    """Return the largest number of elements other than 0 (NaN is one) in any group of a row.

    Args:
        matrix: strided (m, k), k a multiple of GROUP.
    """
    groups = (matrix != 0).unflatten(1, (-1, GROUP)).sum(2)
    return int(groups.max()) if groups.numel() else 0


def size_problem(shape: tuple[int, ...], smallest: tuple[int, int]) -> str | None:
    """Return why a matrix (m, k), or a weight (out, in, kh, kw), does not divide into (rows, columns), or None."""
    rows, columns = shape[0], math.prod(shape[1:])
    if min(rows, columns) > 0 and rows % smallest[0] == 0 and columns % smallest[1] == 0:
        return None
    return f"torch compresses multiples of {smallest[0]}×{smallest[1]}, not {rows}×{columns}"


def _backend() -> Any:
    """Return torch's class for the device at hand, or one line on why there is none."""
    if torch.version.cuda is None:
        return "torch was built without CUDA, and 2:4 needs NVIDIA's sparse tensor cores"
    capability = torch.cuda.get_device_capability()
    if capability < (8, 0):
        return f"2:4 needs compute capability 8.0, this device has {capability[0]}.{capability[1]}"
    if torch.backends.cusparselt.is_available():
        return torch.sparse.SparseSemiStructuredTensorCUSPARSELT
    if capability[0] == 8:
        return torch.sparse.SparseSemiStructuredTensorCUTLASS
    return f"torch was built without cuSPARSELt, and CUTLASS multiplies 2:4 on 8.x, not on {capability[0]}.x"


def _smallest(backend: Any, dtype: torch.dtype) -> tuple[int, int]:
    """Return what rows and columns have to be multiples of; torch has the numbers nowhere but in this table."""
    limits = backend._DTYPE_SHAPE_CONSTRAINTS[dtype]
    return limits.sparse_min_rows, limits.sparse_min_cols


def _compress(matrix: Tensor) -> Any:
    with warnings.catch_warnings():
        # said once a process; who compares layouts knows, or reads it in torch's own documentation
        warnings.filterwarnings("ignore", message="The PyTorch API of SparseSemiStructuredTensor is in prototype")
        return _backend().from_dense(matrix)


@functools.cache
def _probe(dtype: torch.dtype, device: str) -> str | None:
    """Return why this torch build cannot multiply 2:4 there, or None; found out by doing it once on an identity."""
    eye = torch.eye(64, dtype=dtype, device=device)
    try:
        same = torch.equal(torch.mm(_compress(eye), eye), eye)
    except (RuntimeError, TypeError) as error:  # NotImplementedError is a RuntimeError
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return f"torch {torch.__version__} on {device}: {lines[0]}"
    return None if same else f"torch {torch.__version__} on {device}: 2:4 identity times identity is none"
