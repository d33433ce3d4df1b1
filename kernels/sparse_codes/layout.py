"""Define where the entries of a code stand, and check everything that a kernel is handed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

_LARGEST = 2**31 - 1


@dataclass(frozen=True, kw_only=True, eq=False)
class UnitOrder:
    """List the entries of a CodeIndex by units.

    Attributes:
        begin: int64 (N + 1): unit u has the entries begin[u] .. begin[u + 1] of the next two.
        row: int32 (entries): their rows, ascending in a unit.
        slot: int64 (entries): where values (n, k), seen as one row, holds that entry.
    """

    begin: Tensor
    row: Tensor
    slot: Tensor

    @property
    def nbytes(self) -> int:
        """Return the bytes of the three arrays."""
        return _nbytes(self.begin, self.row, self.slot)


@dataclass(frozen=True, kw_only=True, eq=False)
class CodeIndex:
    """Where the entries of codes (n, N) stand: k slots a row, the literature's ELLPACK format without its values.

    The values that go with it are one contiguous tensor (n, k). A row of fewer than k entries ends with pads: their
    place is N, one behind the last, and neither their values nor anything else is ever read for them, so that no NaN or
    infinity of a dictionary can enter through a pad. An index cannot be made wrong: everything is checked when it is
    made, so that the kernels, which check no bounds, need not look at it again. Do not change the array afterwards.

    Attributes:
        shape: (n, N) of the codes.
        places: int32 or int64 (n, k), contiguous: ascending in a row, none twice, and N in pads.

    Raises:
        ValueError: if places are of another dtype or shape, out of range, unsorted or duplicate.
    """

    shape: tuple[int, int]
    places: Tensor

    def __post_init__(self) -> None:
        rows, units = _checked_shape(self.shape)
        places = self.places
        if places.dtype not in (torch.int32, torch.int64) or places.dim() != 2 or not places.is_contiguous():
            raise ValueError(
                f"expected places as a contiguous int32 or int64 (n, k), got {tuple(places.shape)} of {places.dtype} "
                f"with strides {places.stride()}; convert them first"
            )
        if places.shape[0] != rows:
            raise ValueError(f"expected places of {rows} rows, got {places.shape[0]}; check the shape")
        if places.numel() and not in_order(places, units):
            low, high = int(places.min()), int(places.max())
            raise ValueError(
                f"expected places of 0 .. {units - 1}, ascending in each row and none twice, pads of {units} last, "
                f"got otherwise (the least is {low}, the largest {high}); sort the entries and check the shape"
            )

    @cached_property
    def slots(self) -> int:
        """Return k, the slots of a row."""
        return int(self.places.shape[1])

    @property
    def device(self) -> torch.device:
        """Return where the places live."""
        return self.places.device

    @cached_property
    def ragged(self) -> bool:
        """Tell whether any row has pads; a row's pads are its last slots, so that the last column tells."""
        return self.places.numel() > 0 and bool((self.places[:, -1] == self.shape[1]).any())

    def lengths(self) -> Tensor:
        """Return how many entries each row has, a new int64 tensor (n)."""
        if not self.ragged:
            return torch.full((self.shape[0],), self.slots, device=self.device)
        return (self.places < self.shape[1]).sum(1)

    @cached_property
    def stored(self) -> int:
        """Return how many entries there are, pads left out."""
        return int(self.lengths().sum()) if self.ragged else self.places.numel()

    @cached_property
    def units(self) -> UnitOrder:
        """Return the order by units; made when first asked for, held from then on and counted in `nbytes`."""
        flat = self.places.reshape(-1)
        place, slot = torch.sort(flat, stable=True)  # stable: rows stay ascending within a unit; pads come last
        place, slot = place[: self.stored], slot[: self.stored]
        bounds = torch.arange(self.shape[1] + 1, device=self.device, dtype=place.dtype)
        return UnitOrder(
            begin=torch.searchsorted(place, bounds),
            row=(slot // max(1, self.slots)).to(torch.int32),
            slot=slot,
        )

    @property
    def nbytes(self) -> int:
        """Return the bytes of all that is held: `places`, and `units` if they were made since."""
        return _nbytes(self.places) + (self.units.nbytes if "units" in self.__dict__ else 0)

    @classmethod
    def from_elements(cls, rows: Tensor, columns: Tensor, shape: tuple[int, int]) -> tuple[CodeIndex, Tensor]:
        """Make an index of as many slots as the longest row has entries; places are int32 where N fits.

        Args:
            rows: int64 (entries), sorted.
            columns: int64 (entries), ascending in a row.
            shape: (n, N).

        Returns:
            the index, and int64 (entries): where the values (n, k), seen as one row, hold each entry.
        """
        n, units = _checked_shape(shape)
        lengths = torch.bincount(rows, minlength=n) if n else rows
        slots = int(lengths.max()) if n else 0
        starts = lengths.cumsum(0) - lengths
        slot = rows * slots + torch.arange(rows.numel(), device=rows.device) - starts[rows]
        places = torch.full((n, slots), units, dtype=place_dtype(units), device=rows.device)
        places.view(-1)[slot] = columns.to(places.dtype)
        return cls(shape=shape, places=places), slot


def place_dtype(units: int) -> torch.dtype:
    """Return int32 where it holds every place of so many units and that of a pad, else int64."""
    return torch.int32 if units <= _LARGEST else torch.int64


def in_order(places: Tensor, units: int) -> bool:
    """Tell whether places (n, k) ascend strictly in each row within 0 .. units - 1, with pads of `units` at the end."""
    if places.device.type == "cpu":
        # imported late: who computes on a GPU need not wait for it. One pass instead of six: this is done in every call
        from sparsebench.kernels.sparse_codes import cpu_driver

        return bool(cpu_driver.in_order(places.numpy(), units))
    return in_order_by_torch(places, units)


def in_order_by_torch(places: Tensor, units: int) -> bool:
    """Tell the same on any device."""
    if int(places[:, 0].min()) < 0 or int(places[:, -1].max()) > units:
        return False
    left, right = places[:, :-1], places[:, 1:]
    return bool(((left < right) | (right == units)).all()) and bool((right <= units).all())


def check_values(index: CodeIndex, values: Tensor) -> None:
    """Raise ValueError unless `values` (n, k) belong to the index."""
    want = (index.shape[0], index.slots)
    if values.layout != torch.strided or tuple(values.shape) != want or not values.is_contiguous():
        raise ValueError(
            f"expected contiguous values {want} as the places are, got {tuple(values.shape)} {values.layout}; "
            "call .contiguous()"
        )
    _same_device(index, "values", values)


def check_dense(index: CodeIndex, name: str, x: Tensor, rows: int, columns: int | None = None) -> None:
    """Raise ValueError unless x is a strided matrix of so many rows (and columns), on the device of the index."""
    if x.layout != torch.strided or x.dim() != 2 or x.shape[0] != rows or columns not in (None, x.shape[1]):
        want = f"({rows}, {'d' if columns is None else columns})"
        raise ValueError(
            f"expected {name} strided {want} for codes {index.shape}, got {tuple(x.shape)} {x.layout}; "
            "transpose, cut or convert it"
        )
    _same_device(index, name, x)


def check_dtypes(dtypes: Collection[torch.dtype] | None, **operands: Tensor) -> None:
    """Raise ValueError unless the operands share a dtype, and that is one of `dtypes` where these are given."""
    (first_name, first), *others = operands.items()
    for name, tensor in others:
        if tensor.dtype != first.dtype:
            raise ValueError(f"expected {name} in {first.dtype} as {first_name} is, got {tensor.dtype}; convert one")
    if dtypes is not None and first.dtype not in dtypes:
        known = ", ".join(str(dtype) for dtype in dtypes)
        raise ValueError(
            f"expected {first_name} in one of {known}, got {first.dtype}; convert it or use another kernel"
        )


def check_selection(x: Tensor, k: int, dtypes: Collection[torch.dtype] | None) -> None:
    """Raise ValueError unless the k largest of each row of x (n, N) can be selected."""
    if x.layout != torch.strided or x.dim() != 2:
        raise ValueError(f"expected x strided (n, N), got {tuple(x.shape)} {x.layout}; reshape or convert it")
    if not 0 <= k <= x.shape[1]:
        raise ValueError(f"expected k of 0 .. {x.shape[1]}, the entries of a row, got {k}; lower it or add units")
    if x.shape[1] > _LARGEST:
        raise ValueError(f"expected rows of at most 2^31 - 1 entries, got {x.shape[1]}; split x")
    check_dtypes(dtypes, x=x)


def _same_device(index: CodeIndex, name: str, tensor: Tensor) -> None:
    if tensor.device != index.device:
        raise ValueError(f"expected {name} on {index.device} as the places are, got {tensor.device}; move one")


def _checked_shape(shape: tuple[int, int]) -> tuple[int, int]:
    if len(shape) != 2 or min(shape) < 0:
        raise ValueError(f"expected a shape (n, N) of sizes of at least 0, got {shape}")
    return shape


def _nbytes(*arrays: Tensor) -> int:
    return sum(array.numel() * array.element_size() for array in arrays)
