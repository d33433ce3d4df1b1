"""Select and multiply sparse codes, on the kernels of the device that they are on.

Codes of exactly k entries a row are two tensors: values (n, k), and places (n, k), the number of the unit of each. A
row of fewer entries ends with pads, of place N. Nothing here is seen by autograd: `representations.autograd` puts the
products together into a function with gradients.
"""

from __future__ import annotations

from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from sparsebench.kernels.common.devices import backend
from sparsebench.kernels.sparse_codes.layout import CodeIndex

Places: TypeAlias = Tensor | CodeIndex
"""Where entries stand: a tensor (n, k) is checked in every call, an index was checked when it was made."""
_kernels = partial(backend, "sparse_codes")


def select(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest of each row of x (n, N): values (n, k) and places int32 (n, k), ascending in place.

    Of equal entries the first ones win, so that the choice is the same on every device. NaN counts as larger than
    every number, as in torch.topk, so that it is seen in the code; NaNs are equal to each other, and −0 to 0.

    Args:
        x: strided, of a dtype that the kernels have; copied only if its rows are not contiguous.
        k: of 0 .. N.

    Raises:
        ValueError: if x is no such tensor, or k is out of range.
    """
    found: tuple[Tensor, Tensor] = _kernels(x.device.type).select(x, k)
    return found


def decode(values: Tensor, places: Places, dictionary: Tensor) -> Tensor:
    """Return codes @ dictionary, (n, N) @ (N, d) -> (n, d), a new contiguous tensor.

    A stored 0 counts as in dense arithmetic, so that 0 × ∞ is NaN; pads count for nothing.

    Args:
        values: (n, k), contiguous.
        places: int32 or int64 (n, k) of 0 .. N − 1, ascending in a row, none twice, and N in pads; or an index.
        dictionary: (N, d); copied only if its last stride is not 1.

    Raises:
        ValueError: if the operands do not fit each other.
    """
    index = _index(places, dictionary.shape[0] if dictionary.dim() == 2 else 0)
    product: Tensor = _kernels(dictionary.device.type).decode(index, values, dictionary)
    return product


def decode_dictionary(values: Tensor, places: Places, error: Tensor, units: int) -> Tensor:
    """Return codesᵀ @ error (N, d), 0 for units that no code uses: the gradient of the dictionary in `decode`.

    Args:
        values: (n, k), contiguous.
        places: as in `decode`.
        error: (n, d), the gradient of the decoded images.
        units: N.

    Raises:
        ValueError: if the operands do not fit each other.
    """
    product: Tensor = _kernels(error.device.type).decode_dictionary(_index(places, units), values, error)
    return product


def decode_active(values: Tensor, places: Places, error: Tensor, units: int) -> tuple[Tensor, Tensor]:
    """Return the units that any code uses, int64 (u) ascending, and their rows (u, d) of `decode_dictionary`.

    Nothing of size (N, d) is made. Arguments and errors as there.
    """
    found: tuple[Tensor, Tensor] = _kernels(error.device.type).decode_active(_index(places, units), values, error)
    return found


def decode_values(places: Places, error: Tensor, dictionary: Tensor) -> Tensor:
    """Return (error @ dictionaryᵀ) at the places (n, k), 0 in pads: the gradient of the values in `decode`.

    Args:
        places: as in `decode`.
        error: (n, d), the gradient of the decoded images.
        dictionary: (N, d).

    Raises:
        ValueError: if the operands do not fit each other.
    """
    index = _index(places, dictionary.shape[0] if dictionary.dim() == 2 else 0)
    product: Tensor = _kernels(dictionary.device.type).decode_values(index, error, dictionary)
    return product


def _index(places: Places, units: int) -> CodeIndex:
    """Return places as an index into `units` units; one that is an index already has to be of so many."""
    if isinstance(places, torch.Tensor):
        return CodeIndex(shape=(len(places) if places.dim() else 0, units), places=places)
    if places.shape[1] != units:
        raise ValueError(f"expected places among {units} units, got an index of {places.shape[1]}; check the shapes")
    return places
