"""Hold blocks as `block-sparse` does, computed by one micro-kernel only: to compare them, as "module:Class".

sparsebench run --representation sparsebench.representations.formats.block_sparse_micro:BlockSparseBlas
"""

from __future__ import annotations

from sparsebench.kernels.microkernels import mkl
from sparsebench.representations.base import Spec
from sparsebench.representations.formats.block_sparse import BlockSparse


class BlockSparseGenerated(BlockSparse):
    """Use the kernels that LLVM generates for this processor."""

    name = "block-sparse-generated"
    micro = "generated"

    @classmethod
    def unsupported(cls, spec: Spec) -> str | None:
        """Refuse other devices than the CPU."""
        return _unsupported(cls, spec)


class BlockSparseBlas(BlockSparse):
    """Use scipy's BLAS, a GEMM a block."""

    name = "block-sparse-blas"
    micro = "blas"

    @classmethod
    def unsupported(cls, spec: Spec) -> str | None:
        """Refuse other devices than the CPU, and halves."""
        return _unsupported(cls, spec)


class BlockSparseMkl(BlockSparse):
    """Use MKL's JIT GEMM, a GEMM a block."""

    name = "block-sparse-mkl"
    micro = "mkl"

    @classmethod
    def unsupported(cls, spec: Spec) -> str | None:
        """Refuse other devices than the CPU, halves, and an environment without MKL."""
        return _unsupported(cls, spec)


def _unsupported(cls: type[BlockSparse], spec: Spec) -> str | None:
    if spec.device != "cpu":
        return "micro-kernels are for the CPU"
    if cls.micro == "mkl" and mkl.library() is None:
        return "the package mkl is not installed; pip install sparsebench[mkl]"
    if cls.micro != "generated" and str(spec.dtype).removeprefix("torch.") not in mkl.DTYPES:
        return f"{cls.name} computes in {', '.join(mkl.DTYPES)}, not in {str(spec.dtype).removeprefix('torch.')}"
    return super(cls, cls).unsupported(spec)
