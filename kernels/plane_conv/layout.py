"""Define which maps are stored, and check what the kernels are handed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sparsebench.kernels.block_sparse.layout import BlockIndex
from sparsebench.kernels.plane_conv.geometry import Geometry, Pair


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedMaps:
    """All pairs of some output maps and some input maps of a weight (out, in, kh, kw).

    The values are (rows, maps, kh, kw). Both lists are int32, 1-D, contiguous, strictly ascending, on one device.

    Attributes:
        shape: (out, in) of the whole weight.
        rows: the output maps that are stored.
        maps: the input maps that are stored.
        made: what kernels worked out about these maps and hold; counted in `nbytes`.

    Raises:
        ValueError: if a list is of another dtype or shape, is not ascending, or names a map that is not there.
    """

    shape: Pair
    rows: Tensor
    maps: Tensor
    made: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if len(self.shape) != 2 or min(self.shape) < 0:
            raise ValueError(f"expected a shape (out, in), got {self.shape}")
        for name, numbers, limit in (("rows", self.rows, self.shape[0]), ("maps", self.maps, self.shape[1])):
            if numbers.dtype != torch.int32 or numbers.dim() != 1 or not numbers.is_contiguous():
                raise ValueError(
                    f"expected {name} as a contiguous 1-D int32 tensor, got {numbers.dim()}-D {numbers.dtype}; convert"
                )
            if numbers.numel() and (
                int(numbers[0]) < 0 or int(numbers[-1]) >= limit or bool((numbers.diff() <= 0).any())
            ):
                raise ValueError(f"expected {name} ascending, none twice, of 0 .. {limit - 1}, got otherwise; sort")
        if self.rows.device != self.maps.device:
            raise ValueError(f"expected maps on {self.rows.device} as rows are, got {self.maps.device}; move them")

    @property
    def device(self) -> torch.device:
        """Return where the lists live."""
        return self.rows.device

    @property
    def nbytes(self) -> int:
        """Return the bytes of both lists, and of what kernels hold by now."""
        held = [part for made in self.made.values() if isinstance(made, list) for part in made if part is not None]
        arrays: dict[int, int] = {id(array): array.nbytes for part in held for array in part.arrays}
        return 4 * (self.rows.numel() + self.maps.numel()) + sum(arrays.values())


def check(
    name: str,
    tensor: Tensor,
    sizes: tuple[int | None, ...],
    like: Tensor,
    dtypes: Collection[torch.dtype] | None,
) -> None:
    """Raise ValueError unless a tensor is strided with the given sizes (None: any), in dtype and place as `like`."""
    fits = tensor.dim() == len(sizes) and all(s in (None, got) for s, got in zip(sizes, tensor.shape, strict=True))
    if tensor.layout != torch.strided or not fits:
        want = ", ".join("any" if size is None else str(size) for size in sizes)
        raise ValueError(f"expected strided {name} ({want}), got {tensor.layout} {tuple(tensor.shape)}; reshape it")
    if tensor.dtype != like.dtype or tensor.device != like.device:
        raise ValueError(
            f"expected {name} in {like.dtype} on {like.device}, got {tensor.dtype} on {tensor.device}; convert it"
        )
    if dtypes is not None and tensor.dtype not in dtypes:
        known = ", ".join(str(dtype) for dtype in dtypes)
        raise ValueError(f"expected {name} in one of {known}, got {tensor.dtype}; convert it")


def maps_of(shape: Pair, geometry: Geometry) -> int:
    """Return how many input maps a matrix (out, in · taps) has.

    Raises:
        ValueError: if its columns are no whole number of kernels.
    """
    if shape[1] % geometry.taps:
        raise ValueError(
            f"expected a matrix (out, in · {geometry.taps}) for kernel {geometry.kernel}, got {shape}; check the kernel"
        )
    return shape[1] // geometry.taps


def whole_planes(index: BlockIndex, geometry: Geometry) -> int:
    """Return how many input maps a blocked matrix (out, in · taps) has.

    Raises:
        ValueError: if its columns, or a block's, are no whole number of kernels.
    """
    if index.block[1] % geometry.taps:
        raise ValueError(
            f"expected blocks of whole kernels, a multiple of {geometry.taps} wide, got {index.block}; choose another "
            "block or unfold"
        )
    return maps_of(index.shape, geometry)


def check_gradient(g: Tensor, out: int, size: Pair, geometry: Geometry, batch: int | None = None) -> None:
    """Raise ValueError unless g is (n, out, h', w') for planes of `size` (h, w)."""
    check("g", g, (batch, out, *geometry.output(size)), g, None)
