"""Share what the formats on our own kernels have in common: refusals, and tensors that stand in for a dense one."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from types import ModuleType

from torch import Tensor

from sparsebench.representations.base import Representation, Spec
from sparsebench.representations.pattern import Pattern

LIBRARIES = {"cpu": "numba", "cuda": "triton"}
"""What the kernels of a type of device are written in."""


def kernels_unsupported(what: str, kernels: Callable[[str], ModuleType], spec: Spec) -> str | None:
    """Return why kernels cannot do `spec`, in one line, or None if they can.

    Args:
        what: the kernels' name in that line.
        kernels: takes a type of device; its modules have DTYPES.
        spec: asked for.
    """
    library = LIBRARIES.get(spec.device)
    if library is None:
        return f"{what} kernels run on cpu and cuda, not on {spec.device}"
    if importlib.util.find_spec(library) is None:
        return f"{what} kernels on {spec.device} need {library}, which is not installed"
    dtypes = kernels(spec.device).DTYPES
    if spec.dtype not in dtypes:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        return f"the {library} kernels compute in {known}, not in {str(spec.dtype).removeprefix('torch.')}"
    return None


def refuse_unsupported(cls: type[Representation], tensor: Tensor, pattern: Pattern | None) -> None:
    """Raise ValueError with the reason if `cls` cannot build from `tensor`."""
    spec = Spec(
        operation="build", shape=tuple(tensor.shape), dtype=tensor.dtype, device=tensor.device.type, pattern=pattern
    )
    reason = cls.unsupported(spec)
    if reason is not None:
        raise ValueError(f"expected a tensor that {cls.name} supports, got {tensor.dtype} on {tensor.device}: {reason}")


def refuse_other_values(values: Tensor, like: Tensor) -> None:
    """Raise ValueError unless `values` can stand where the stored values `like` do: of their shape, on their device."""
    if values.shape != like.shape or values.device != like.device:
        raise ValueError(
            f"expected values {tuple(like.shape)} on {like.device}, got {tuple(values.shape)} on {values.device}; "
            "start from .values"
        )


def stand_in(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return a tensor of `shape` on the device and in the dtype of `values` that takes one element of memory."""
    return values.detach().new_empty(()).expand(shape)
