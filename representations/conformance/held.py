"""Count the bytes of array memory that an object really holds."""

from __future__ import annotations

import array
import gc
from types import BuiltinFunctionType, CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

_ENDS = (type, ModuleType, BuiltinFunctionType, CodeType, FrameType, str, int, float, complex, bool, type(None))
"""Where the walk stops: what everybody shares, and what holds nothing."""
_MACHINERY = frozenset({"numba", "llvmlite", "triton"})
"""Compiled functions of these packages lead to their whole compiler, and hold none of a representation's data."""

_COMPONENTS: dict[torch.layout, tuple[str, ...]] = {
    torch.strided: (),
    torch.sparse_coo: ("_indices", "_values"),
    torch.sparse_csr: ("crow_indices", "col_indices", "values"),
    torch.sparse_bsr: ("crow_indices", "col_indices", "values"),
    torch.sparse_csc: ("ccol_indices", "row_indices", "values"),
    torch.sparse_bsc: ("ccol_indices", "row_indices", "values"),
}


def held_bytes(thing: object) -> int:
    """Return the bytes of every buffer that is reachable from an object, each buffer once and whole.

    Counted are storages of torch tensors (of sparse ones, those of their parts), buffers of NumPy arrays, and of bytes,
    bytearray, memoryview and array.array. A view counts its whole buffer, as it keeps it alive. Attributes, containers,
    slots and closures are followed; modules, classes and what functions find globally are not.
    """
    buffers: dict[tuple[str, int], int] = {}
    seen: dict[int, object] = {}  # keeps what was seen alive, so that no id comes twice
    stack: list[object] = [thing]
    while stack:
        item = stack.pop()
        if id(item) in seen or isinstance(item, _ENDS) or type(item).__module__.partition(".")[0] in _MACHINERY:
            continue
        seen[id(item)] = item
        if isinstance(item, Tensor):
            stack.extend(_tensor(item, buffers))
        elif isinstance(item, np.ndarray):
            stack.extend(_array(item, buffers))
        elif isinstance(item, (bytes, bytearray, memoryview, array.array)):
            view = memoryview(item)
            _add(buffers, "cpu", id(view.obj), view.nbytes)
        elif isinstance(item, FunctionType):
            stack.extend(_function(item))
        else:
            stack.extend(gc.get_referents(item))
    return sum(buffers.values())


def _tensor(tensor: Tensor, buffers: dict[tuple[str, int], int]) -> list[object]:
    """Count a tensor's storage, or return the parts of a sparse one; attributes that hang on it are followed."""
    following: list[object] = [vars(tensor)]
    if tensor.is_leaf and tensor.grad is not None:
        following.append(tensor.grad)
    parts = _COMPONENTS.get(tensor.layout)
    if parts:
        return following + [getattr(tensor, part)() for part in parts]
    storage = tensor.untyped_storage()
    _add(buffers, str(tensor.device), storage.data_ptr(), storage.nbytes())
    return following


def _array(item: np.ndarray[Any, Any], buffers: dict[tuple[str, int], int]) -> list[object]:
    """Count an array's own buffer, or return the object whose buffer it looks at."""
    if item.base is not None:
        return [item.base]
    _add(buffers, "cpu", item.__array_interface__["data"][0], item.nbytes)
    return list(item) if item.dtype == object else []


def _function(function: FunctionType) -> list[object]:
    cells = [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]
    return [*cells, function.__defaults__, function.__kwdefaults__]


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018  # an empty cell says so only when read
    except ValueError:
        return False
    return True


def _add(buffers: dict[tuple[str, int], int], device: str, address: int, size: int) -> None:
    if size:
        buffers[device, address] = max(size, buffers.get((device, address), 0))
