"""Check what a product is called with, before any kernel runs."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from sparsebench.kernels.block_sparse.layout import BlockIndex


def check_product(
    index: BlockIndex,
    values: Tensor,
    x: Tensor,
    *,
    axis: int,
    transposed: bool,
    dtypes: Collection[torch.dtype] | None = None,
) -> None:
    """Raise ValueError unless values and x fit a product with S (m, k) or its transpose.

    Args:
        index: of the stored blocks; it was checked when it was made.
        values: (blocks, height, width), contiguous.
        x: (..., r, c): leading dimensions are a batch.
        axis: which of the last two axes of x meets the matrix: -2 in S @ x, -1 in x @ S.
        transposed: whether that axis has m elements (Sᵀ @ x, x @ S) rather than k.
        dtypes: what the kernel can compute in; None for any.
    """
    _check_tensor(index, "values", values, values, (index.blocks, *index.block), batched=False)
    if not values.is_contiguous():
        raise ValueError(f"expected contiguous values, got strides {values.stride()}; call .contiguous()")
    inner = index.shape[0 if transposed else 1]
    _check_tensor(index, "x", x, values, (inner, None) if axis == -2 else (None, inner), like="values")
    _check_dtype("values", values, dtypes)


def check_sampled(
    index: BlockIndex, a: Tensor, b: Tensor, *, transposed: bool, dtypes: Collection[torch.dtype] | None = None
) -> None:
    """Raise ValueError unless a (..., m, n) and b (..., n, k) fit, or a (..., k, n) and b (..., n, m) if transposed."""
    rows, columns = index.shape[::-1] if transposed else index.shape
    _check_tensor(index, "a", a, a, (rows, None))
    _check_tensor(index, "b", b, a, (a.shape[-1], columns), like="a")
    if a.shape[:-2] != b.shape[:-2]:
        raise ValueError(f"expected b in the batch {tuple(a.shape[:-2])} as a is, got {tuple(b.shape[:-2])}; expand it")
    _check_dtype("a", a, dtypes)


def _check_tensor(
    index: BlockIndex,
    name: str,
    tensor: Tensor,
    first: Tensor,
    sizes: tuple[int | None, ...],
    *,
    like: str = "",
    batched: bool = True,
) -> None:
    """Raise ValueError unless a tensor is strided, ends in `sizes` (None for any), and is of the first one's dtype."""
    if tensor.layout != torch.strided or tensor.dim() < len(sizes) or (tensor.dim() > len(sizes) and not batched):
        raise ValueError(
            f"expected {name} strided and {len(sizes)}-D, got {tensor.dim()}-D {tensor.layout}; convert it first"
        )
    got = tensor.shape[tensor.dim() - len(sizes) :]
    if any(size not in (None, found) for size, found in zip(sizes, got, strict=True)):
        want = ", ".join("n" if size is None else str(size) for size in sizes)
        raise ValueError(
            f"expected {name} of shape ({'..., ' if batched else ''}{want}), got {tuple(tensor.shape)}; "
            f"the matrix is {index.shape} in {index.blocks} blocks of {index.block}"
        )
    if tensor.dtype != first.dtype:
        raise ValueError(f"expected {name} in {first.dtype} as {like} is, got {tensor.dtype}; convert one")
    if tensor.device != index.device:
        raise ValueError(f"expected {name} on {index.device} as the index is, got {tensor.device}; move one")


def _check_dtype(name: str, tensor: Tensor, dtypes: Collection[torch.dtype] | None) -> None:
    if dtypes is not None and tensor.dtype not in dtypes:
        known = ", ".join(str(dtype) for dtype in dtypes)
        raise ValueError(f"expected {name} in one of {known}, got {tensor.dtype}; convert it or use another kernel")
