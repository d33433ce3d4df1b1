"""Judge whether a result is right, against a float64 oracle."""

from __future__ import annotations

import torch
from torch import Tensor

TOLERANCES: dict[torch.dtype, float] = {
    torch.float64: 1e-12,
    torch.float32: 1e-5,
    torch.float16: 5e-3,
    torch.bfloat16: 2e-2,
}
"""Largest relative error that passes: some tens of roundings of the type, as sums over thousands of terms give."""


def relative_error(output: Tensor, expected: Tensor) -> float:
    """Return ‖output − expected‖ ÷ ‖expected‖ (Frobenius, in float64); infinite where NaNs do not coincide.

    Where expected is all zero, the norm of the output itself is returned.

    Args:
        output: strided, any dtype.
        expected: strided float64, the same shape.

    Raises:
        ValueError: if shapes differ.
    """
    if output.shape != expected.shape:
        raise ValueError(f"expected a result of shape {tuple(expected.shape)}, got {tuple(output.shape)}")
    result = output.detach().to(device=expected.device, dtype=torch.float64)
    nans = torch.isnan(expected)
    if not torch.equal(nans, torch.isnan(result)):
        return float("inf")
    difference = torch.where(nans | (result == expected), 0.0, result - expected)
    scale = float(torch.linalg.vector_norm(torch.where(nans, 0.0, expected)))
    error = float(torch.linalg.vector_norm(difference))
    return error / scale if scale > 0 else error


def worst_error(outputs: tuple[Tensor, ...], oracle: tuple[Tensor, ...]) -> float:
    """Return the largest relative error of several outputs.

    Raises:
        ValueError: if their number or shapes differ.
    """
    if len(outputs) != len(oracle):
        raise ValueError(f"expected {len(oracle)} outputs, got {len(outputs)}")
    return max(relative_error(output, expected) for output, expected in zip(outputs, oracle, strict=True))


def fingerprints(problem: object) -> dict[str, int]:
    """Return a number for each tensor that an object holds, another one if its bits are changed.

    Args:
        problem: of any class; attributes that are no strided tensors are passed over.
    """
    found = {}
    for name, value in vars(problem).items():
        if isinstance(value, Tensor) and value.layout == torch.strided and value.numel():
            flat = value.detach().reshape(-1).contiguous()
            found[name] = int(flat.view(torch.uint8 if flat.element_size() % 4 else torch.int32).sum(dtype=torch.int64))
    return found
