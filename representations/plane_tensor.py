"""Hold a 4-D tensor as stored planes and an index: a plane is kept whole, or not at all."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from sparsebench.representations._plane_scores import SCORES as SCORES
from sparsebench.representations._plane_scores import above, check_dense, checked, score_of
from sparsebench.representations.base import Storage


@dataclass(frozen=True, kw_only=True, eq=False)
class PlaneTensor:
    """A tensor (d0, d1, h, w), activations (n, c, h, w) or a weight (out, in, kh, kw), of which some planes are stored.

    What is not stored is 0. A stored plane may be 0 too, until `threshold` drops it. Values are an ordinary tensor:
    gradients flow to and through them, and never to a plane that is not stored.

    Attributes:
        shape: (d0, d1, h, w).
        crow: int32 (d0 + 1): where the planes of each row begin, and where the last ones end.
        col: int32 (planes): the column of each plane, ascending within its row.
        values: (planes, h, w).
    """

    shape: tuple[int, int, int, int]
    crow: Tensor
    col: Tensor
    values: Tensor

    def __post_init__(self) -> None:
        if len(self.shape) != 4 or min(self.shape) < 0:
            raise ValueError(f"expected a shape (d0, d1, h, w), got {self.shape}; reshape it first")
        rows, _, height, width = self.shape
        planes = self.col.shape[0] if self.col.dim() == 1 else -1
        for name, tensor, want in (
            ("crow", self.crow, (rows + 1,)),
            ("col", self.col, (planes,)),
            ("planes as values", self.values, (planes, height, width)),
        ):
            if tuple(tensor.shape) != want:
                raise ValueError(f"expected {name} {want}, got {tuple(tensor.shape)}; cut or reshape")
            if name != "planes as values" and tensor.dtype != torch.int32:
                raise ValueError(f"expected {name} in torch.int32, got {tensor.dtype}; convert it")
            if tensor.device != self.values.device:
                raise ValueError(f"expected {name} on {self.values.device}, got {tensor.device}; move it")

    @classmethod
    def from_dense(cls, x: Tensor, tolerance: float = 0.0) -> Self:
        """Copy the planes of a strided tensor (d0, d1, h, w) in which some |x| is above the tolerance; NaN is.

        Raises:
            ValueError: if x is not 4-D and strided, or the tolerance is negative.
        """
        check_dense(x)
        return cls._pick(x, above(x, checked(tolerance)))

    @classmethod
    def top_k(cls, x: Tensor, k: int, by: str = "max") -> Self:
        """Copy the k best planes of each row of a strided tensor (d0, d1, h, w), NaN first, then by a score.

        Of equal planes those of the lowest columns are kept; a plane of zeros never is.

        Args:
            x: the tensor.
            k: in [0, d1].
            by: one of SCORES.

        Raises:
            ValueError: if x is not 4-D and strided, k lies outside its range, or there is no such score.
        """
        check_dense(x)
        if by not in SCORES:
            raise ValueError(f"expected a score of {', '.join(SCORES)}, got {by!r}; choose one")
        if not 0 <= k <= x.shape[1]:
            raise ValueError(f"expected k in [0, {x.shape[1]}], as there are so many planes in a row, got {k}")
        stored = above(x, 0.0)
        if k == 0 or not x.numel():
            return cls._pick(x, torch.zeros_like(stored))
        score = torch.where(stored, score_of(x, by), -1.0)
        least = score.topk(k, dim=1).values[:, -1:]
        better, equal = score > least, score == least
        # topk breaks ties anyhow; here the first of equals win, whatever the device
        first = equal.cumsum(1) <= k - better.sum(1, keepdim=True)
        return cls._pick(x, (better | (equal & first)) & stored)

    @property
    def planes(self) -> int:
        """Return how many planes are stored."""
        return int(self.col.shape[0])

    @property
    def density(self) -> float:
        """Return the share of planes that are stored; 0 of none."""
        return self.planes / max(1, self.shape[0] * self.shape[1])

    @property
    def nbytes(self) -> int:
        """Return the bytes of values and index."""
        return self.storage().stored_bytes

    def storage(self) -> Storage:
        """Return the bytes of the values, and of crow and col; those of a slice are its own part."""
        return Storage(value_bytes=self.values.nbytes, index_bytes=self.crow.nbytes + self.col.nbytes)

    def rows(self) -> Tensor:
        """Return the row of each stored plane, int64."""
        numbers = torch.arange(self.shape[0], device=self.crow.device)
        return torch.repeat_interleave(numbers, self.crow.diff(), output_size=self.planes)

    def places(self) -> Tensor:
        """Return row · d1 + column of each stored plane, int64, ascending."""
        return self.rows() * self.shape[1] + self.col

    def to_dense(self) -> Tensor:
        """Return a new strided tensor of `shape`."""
        rows, columns, *plane = self.shape
        dense = self.values.new_zeros((rows * columns, *plane)).index_copy(0, self.places(), self.values)
        return dense.reshape(self.shape)

    def add(self, other: PlaneTensor) -> Self:
        """Return self + other: a plane is stored where either has one.

        Raises:
            ValueError: if shape, dtype or device differ.
        """
        self._check_like(other)
        places, where = torch.cat([self.places(), other.places()]).unique(return_inverse=True)
        total = self.values.new_zeros((places.numel(), *self.shape[2:]))
        total = total.index_copy(0, where[: self.planes], self.values)
        return self._at(self.shape, places, total.index_add(0, where[self.planes :], other.values))

    def mul(self, other: PlaneTensor) -> Self:
        """Return self · other by elements: a plane is stored where both have one, and 0 times anything absent is 0.

        Raises:
            ValueError: if shape, dtype or device differ.
        """
        self._check_like(other)
        mine, theirs = self.places(), other.places()
        common = torch.isin(mine, theirs, assume_unique=True).nonzero().flatten()
        places = mine[common]
        twin = torch.searchsorted(theirs, places)
        return self._at(self.shape, places, self.values.index_select(0, common) * other.values.index_select(0, twin))

    def relu(self) -> Self:
        """Return max(self, 0) in the same planes, those that became 0 included; `threshold` drops them."""
        return dataclasses.replace(self, values=self.values.relu())

    def scale(self, factor: float | Tensor) -> Self:
        """Return factor · self in the same planes; a tensor factor is a scalar (0-D)."""
        if isinstance(factor, Tensor) and factor.dim():
            raise ValueError(f"expected a scalar factor, got a tensor {tuple(factor.shape)}; use mul for planes")
        return dataclasses.replace(self, values=self.values * factor)

    def threshold(self, tolerance: float = 0.0) -> Self:
        """Return the planes in which some |x| is above the tolerance, copied; NaN is.

        Raises:
            ValueError: if the tolerance is negative.
        """
        keep = above(self.values[:, None], checked(tolerance)).flatten().nonzero().flatten()
        return self._at(self.shape, self.places()[keep], self.values.index_select(0, keep))

    def largest(self, k: int, by: str = "max") -> Self:
        """Return the k best stored planes of each row, copied; scores and ties as in `top_k`.

        Raises:
            ValueError: if k is negative, or there is no such score.
        """
        if by not in SCORES or k < 0:
            raise ValueError(f"expected k of at least 0 and a score of {', '.join(SCORES)}, got {k} and {by!r}")
        score = score_of(self.values[:, None], by).flatten()
        order = torch.argsort(score, descending=True, stable=True)
        order = order[torch.argsort(self.rows()[order], stable=True)]
        starts = torch.repeat_interleave(self.crow[:-1].long(), self.crow.diff(), output_size=self.planes)
        rank = torch.arange(self.planes, device=order.device) - starts
        keep = order[rank < k].sort().values
        return self._at(self.shape, self.places()[keep], self.values.index_select(0, keep))

    def columns(self, numbers: Tensor) -> Self:
        """Return the tensor of some columns, x[:, numbers], copied.

        Args:
            numbers: ascending, none twice.
        """
        place = torch.full((self.shape[1],), -1, dtype=torch.int64, device=self.col.device)
        place[numbers.long()] = torch.arange(numbers.numel(), device=place.device)
        column = place[self.col.long()]
        keep = (column >= 0).nonzero().flatten()
        rows, _, height, width = self.shape
        places = self.rows()[keep] * numbers.numel() + column[keep]
        return self._at((rows, numbers.numel(), height, width), places, self.values.index_select(0, keep))

    def shifted(self, first: int, count: int) -> Self:
        """Return the same planes as columns first, first + 1 … of a tensor with `count` columns, sharing the values.

        Raises:
            ValueError: if they do not fit in there.
        """
        if not 0 <= first <= count - self.shape[1]:
            raise ValueError(f"expected {self.shape[1]} columns to fit into {count} from {first} on; choose others")
        rows, _, height, width = self.shape
        return dataclasses.replace(self, shape=(rows, count, height, width), col=self.col + first)

    def transpose_planes(self) -> Self:
        """Return the tensor (d1, d0, h, w) with rows and columns of planes exchanged, copied."""
        rows, columns, height, width = self.shape
        order = torch.argsort(self.col, stable=True)
        places = self.col[order].long() * rows + self.rows()[order]
        return self._at((columns, rows, height, width), places, self.values.index_select(0, order))

    def __len__(self) -> int:
        """Return d0, the number of samples of activations."""
        return self.shape[0]

    def __getitem__(self, rows: int | slice) -> Self:
        """Return some rows, as samples of a batch: x[i] is (1, d1, h, w). Neighbours share values and columns with x.

        Raises:
            IndexError: if there is no such row.
            TypeError: if `rows` is neither an int nor a slice.
        """
        if isinstance(rows, slice):
            chosen = range(*rows.indices(self.shape[0]))
        elif isinstance(rows, int):
            if not -self.shape[0] <= rows < self.shape[0]:
                raise IndexError(f"expected a row in [0, {self.shape[0]}), got {rows}")
            chosen = range(rows % self.shape[0], rows % self.shape[0] + 1)
        else:
            raise TypeError(f"expected an int or a slice of rows, got {type(rows).__name__}; use to_dense for others")
        if chosen.step == 1:
            crow = self.crow[chosen.start : max(chosen.start, chosen.stop) + 1]
            first, last = int(crow[0]), int(crow[-1])
            within = slice(first, last)
            return self._with(len(chosen), crow - first, self.col[within], self.values[within])
        starts, counts = self.crow[:-1].long(), self.crow.diff().long()
        picked = torch.tensor(list(chosen), dtype=torch.int64, device=self.crow.device)
        ends = counts[picked].cumsum(0)
        shift = torch.repeat_interleave(starts[picked] - (ends - counts[picked]), counts[picked])
        order = torch.arange(shift.numel(), device=shift.device) + shift
        crow = torch.nn.functional.pad(ends, (1, 0)).to(torch.int32)
        return self._with(len(chosen), crow, self.col[order], self.values.index_select(0, order))

    def __repr__(self) -> str:
        return f"<PlaneTensor {self.shape} {self.values.dtype}, {self.planes} planes, {self.nbytes} bytes>"

    def _with(self, rows: int, crow: Tensor, col: Tensor, values: Tensor) -> Self:
        return dataclasses.replace(self, shape=(rows, *self.shape[1:]), crow=crow, col=col, values=values)

    @classmethod
    def _at(cls, shape: tuple[int, int, int, int], places: Tensor, values: Tensor) -> Self:
        """Return planes at ascending places, numbered row by row; both are taken, not copied."""
        rows, columns, *_ = shape
        if places.numel() > torch.iinfo(torch.int32).max:
            raise ValueError(f"expected fewer than 2^31 planes, as the index is int32, got {places.numel()}; split it")
        borders = torch.arange(rows + 1, device=places.device) * columns
        crow = torch.searchsorted(places, borders, out_int32=True)
        col = (places % max(1, columns)).to(torch.int32)
        return cls(shape=shape, crow=crow, col=col, values=values)

    @classmethod
    def _pick(cls, x: Tensor, keep: Tensor) -> Self:
        """Copy the planes of x (d0, d1, h, w) at True in keep (d0, d1)."""
        rows, columns, height, width = x.shape
        places = keep.flatten().nonzero().flatten()
        if x.is_contiguous():  # whole planes are copied at once
            values = x.reshape(rows * columns, height, width).index_select(0, places)
        else:
            values = x[places // max(1, columns), places % max(1, columns)].contiguous()
        return cls._at((rows, columns, height, width), places, values)

    def _check_like(self, other: PlaneTensor) -> None:
        for name, mine, theirs in (
            ("shape", self.shape, other.shape),
            ("dtype", self.values.dtype, other.values.dtype),
            ("device", self.values.device, other.values.device),
        ):
            if mine != theirs:
                raise ValueError(f"expected an operand of {name} {mine}, got {theirs}; convert it")
