"""Make operands and results of a CPU convolution: contiguous, in the dtype that is computed in."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

DTYPES: tuple[torch.dtype, ...] = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def numbers(samples: int, maps: int, which: np.ndarray) -> np.ndarray:
    """Return the plane numbers of the chosen maps of every sample, int64."""
    found: np.ndarray = (np.arange(samples)[:, None] * maps + which).ravel()
    return found


def computed(tensor: Tensor) -> str:
    """Return the name of the dtype that is computed in."""
    return "float64" if tensor.dtype == torch.float64 else "float32"


def plain(tensor: Tensor) -> Tensor:
    """Return a detached contiguous tensor in the dtype that is computed in."""
    return tensor.detach().to(getattr(torch, computed(tensor))).contiguous()


def each(out: Tensor) -> int:
    """Return the elements of a sample."""
    return math.prod(out.shape[1:])


def zeros(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return zeros in the dtype that is computed in for `like`."""
    return torch.zeros(shape, dtype=getattr(torch, computed(like)))


def empty(like: Tensor, shape: tuple[int, ...], written: int) -> Tensor:
    """Return memory for a result of which `written` maps will be written; zeros if these are not all."""
    maps = shape[1] if len(shape) == 4 else shape[0]
    return (torch.empty if written == maps else torch.zeros)(shape, dtype=getattr(torch, computed(like)))
