"""Say where the zeros are: patterns with exact counts, drawn from a seeded generator."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

KINDS: tuple[str, ...] = ("element", "power-law", "block", "plane", "channel", "filter-channel", "n:m")

_Places = tuple[np.ndarray, np.ndarray]
"""Row and column numbers (int64) of the non-zeros of a matrix."""


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """Where the zeros of a matrix (m, k) are.

    Whole units are kept or dropped, and how many are kept is exact: round(density × units). The units are

    - element: single elements, uniformly.
    - power-law: single elements; row lengths fall as rank^-exponent (at most k), ranks dealt to rows at random.
    - block: blocks of `block` = (height, width), aligned; those at the edge may be cut.
    - plane: 1 × width segments, `block` = (1, width): a random pair of output and input map. In the matrix of a
      convolution weight width is kh·kw, in that of activations (n, c·h·w) it is h·w.
    - channel: whole input maps, m × width, `block` = (1, width): the same maps are absent for every row.
    - filter-channel: whole output maps (rows) and whole input maps (columns of planes), `block` = (1, width). Each of
      the two loses the share `sparsity`, counted exactly by itself, so (1 − sparsity)² of the planes are kept.
    - n:m: of every m neighbours in a row, n are kept; `m` is given, n = (1 − sparsity)·m must be whole. Where k is no
      multiple of m the last group keeps its share, rounded down.

    Attributes:
        kind: one of KINDS.
        block: (height, width) of a unit; (1, 1) for single elements.
        m: group length of n:m, else None.
        exponent: of the power law.
    """

    kind: str
    block: tuple[int, int] = (1, 1)
    m: int | None = None
    exponent: float = 1.0

    SINGLE: ClassVar[tuple[str, ...]] = ("element", "power-law", "n:m")
    MAPS: ClassVar[tuple[str, ...]] = ("plane", "channel", "filter-channel")

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"expected a pattern of {', '.join(KINDS)}, got {self.kind!r}")
        if min(self.block) < 1:
            raise ValueError(f"expected a block of at least (1, 1), got {self.block}")
        if self.kind in self.SINGLE and self.block != (1, 1):
            raise ValueError(f"expected no block for pattern {self.kind}, got {self.block}; use kind='block'")
        if self.kind in self.MAPS and self.block[0] != 1:
            raise ValueError(f"expected block=(1, width) for pattern {self.kind}, got {self.block}")
        if (self.kind == "n:m") != (self.m is not None) or (self.m is not None and self.m < 2):
            raise ValueError(f"expected m ≥ 2 for pattern n:m and m=None for others, got kind={self.kind} m={self.m}")
        if self.exponent <= 0:
            raise ValueError(f"expected an exponent > 0, got {self.exponent}")

    @property
    def label(self) -> str:
        """Return a short name for tables: the kind and what it needs to be unambiguous."""
        if self.kind == "n:m":
            return f"n:{self.m}"
        return self.kind if self.block == (1, 1) else f"{self.kind} {self.block[0]}×{self.block[1]}"

    def units(self, shape: tuple[int, int]) -> int:
        """Return how many units a matrix (m, k) has; for n:m, elements; for filter-channel, planes."""
        rows, columns = _matrix(shape)
        height, width = self.block
        across = math.ceil(columns / width)
        return across if self.kind == "channel" else math.ceil(rows / height) * across

    def levels(self, shape: tuple[int, int]) -> tuple[float, ...]:
        """Return the sparsities that a matrix (m, k) can have with this pattern, 1 % apart where it can, up to 99 %.

        Some units are kept at each of them, and some are not: n:m has its m − 1 levels, 16 maps have 15.
        """
        if self.m is not None:
            return tuple(n / self.m for n in range(1, self.m))
        rows, columns = _matrix(shape)
        maps = math.ceil(columns / self.block[1])
        units = min(rows, maps) if self.kind == "filter-channel" else self.units((rows, columns))
        absent = {min(max(1, round(units * share / 100)), units - 1) for share in range(5, 100)}
        return tuple(count / units for count in sorted(absent)) if units > 1 else ()

    def places(self, shape: tuple[int, int], sparsity: float, rng: np.random.Generator) -> _Places:
        """Draw the non-zeros' places, row-major, without ever making anything dense (except for n:m).

        Args:
            shape: (m, k).
            sparsity: the share of units that are absent, in [0, 1]; for filter-channel, of rows and of maps alike.
            rng: NumPy's seeded generator.

        Returns:
            rows and columns, int64, sorted by row and then column, no pair twice.

        Raises:
            ValueError: if sparsity lies outside [0, 1], or n:m has no whole n for it.
        """
        rows, columns = _matrix(shape)
        if not 0.0 <= sparsity <= 1.0:
            raise ValueError(f"expected a sparsity in [0, 1], got {sparsity}")
        if self.kind == "n:m":
            return self._groups(rows, columns, sparsity, rng)
        if self.kind == "filter-channel":
            return self._filters(rows, columns, sparsity, rng)
        units = self.units((rows, columns))
        kept = round((1.0 - sparsity) * units)
        if self.kind == "power-law":
            return _power_law(rows, columns, kept, self.exponent, rng)
        chosen = np.sort(rng.choice(units, size=kept, replace=False))
        if self.block == (1, 1) and self.kind != "channel":
            return chosen // columns, chosen % columns
        return self._expand(chosen, rows, columns)

    def tensor(
        self,
        shape: tuple[int, int],
        sparsity: float,
        seed: int,
        dtype: torch.dtype = torch.float32,
        layout: torch.layout = torch.strided,
    ) -> Tensor:
        """Draw a random matrix (m, k) with this pattern; its non-zeros are ±[0.5, 1.5), never near zero.

        Args:
            shape: (m, k).
            sparsity: the share of units that are absent.
            seed: of the places and of the values.
            dtype: of the values.
            layout: torch.strided, or torch.sparse_coo, which never makes anything dense.
        """
        rng = np.random.default_rng(seed)
        rows, columns = self.places(shape, sparsity, rng)
        values = rng.uniform(0.5, 1.5, len(rows)) * rng.choice((-1.0, 1.0), len(rows))
        coo = torch.sparse_coo_tensor(
            torch.from_numpy(np.stack([rows, columns])),
            torch.from_numpy(values).to(dtype),
            shape,
            is_coalesced=True,
            check_invariants=False,
        )
        if layout == torch.sparse_coo:
            return coo
        if layout == torch.strided:
            return coo.to_dense()
        raise ValueError(f"expected torch.strided or torch.sparse_coo, got {layout}; convert the tensor afterwards")

    def _expand(self, chosen: np.ndarray, rows: int, columns: int) -> _Places:
        """Turn unit numbers into the places of all their elements, cut at the matrix's edge."""
        height, width = (rows, self.block[1]) if self.kind == "channel" else self.block
        across = math.ceil(columns / width)
        inner_row, inner_column = np.divmod(np.arange(height * width, dtype=np.int64), width)
        row = (chosen // across * height)[:, None] + inner_row
        column = (chosen % across * width)[:, None] + inner_column
        inside = (row < rows) & (column < columns)
        row, column = row[inside], column[inside]
        order = np.lexsort((column, row))
        return row[order], column[order]

    def _filters(self, rows: int, columns: int, sparsity: float, rng: np.random.Generator) -> _Places:
        """Cross some rows with some columns of planes, the count of each exact."""
        width = self.block[1]
        across = math.ceil(columns / width)
        kept_rows = np.sort(rng.choice(rows, size=round((1.0 - sparsity) * rows), replace=False))
        maps = np.sort(rng.choice(across, size=round((1.0 - sparsity) * across), replace=False))
        column = (maps[:, None] * width + np.arange(width, dtype=np.int64)).ravel()
        column = column[column < columns]
        return np.repeat(kept_rows, column.size), np.tile(column, kept_rows.size)

    def _groups(self, rows: int, columns: int, sparsity: float, rng: np.random.Generator) -> _Places:
        assert self.m is not None  # noqa: S101  # __post_init__ saw to it; mypy needs to hear so
        share = (1.0 - sparsity) * self.m
        n = round(share)
        if abs(share - n) > 1e-9 * self.m:
            levels = ", ".join(f"{1 - i / self.m:g}" for i in range(self.m, -1, -1))
            raise ValueError(f"expected a sparsity that n:{self.m} can have ({levels}), got {sparsity}")
        groups = math.ceil(columns / self.m)
        rank = rng.random((rows, groups, self.m)).argsort(axis=2).argsort(axis=2)
        keep = np.full(groups, n)
        tail = columns - (groups - 1) * self.m
        if tail < self.m:
            keep[-1] = n * tail // self.m
            rank[:, -1, :tail] = rng.random((rows, tail)).argsort(axis=1).argsort(axis=1)
        mask = (rank < keep[:, None]).reshape(rows, -1)[:, :columns]
        row, column = mask.nonzero()
        return row, column


def _power_law(rows: int, columns: int, kept: int, exponent: float, rng: np.random.Generator) -> _Places:
    """Draw `kept` elements whose row lengths follow rank^-exponent, none longer than a row."""
    weight = rng.permutation(np.arange(1, rows + 1, dtype=np.float64) ** -exponent)
    lengths = np.zeros(rows, dtype=np.int64)
    while (missing := kept - int(lengths.sum())) > 0:
        room = np.flatnonzero(lengths < columns)
        share = missing * weight[room] / weight[room].sum()
        add = np.floor(share).astype(np.int64)
        # what rounding down left over goes to the largest remainders, so that the count is exact
        order = np.argsort(add - share, kind="stable")[: missing - int(add.sum())]
        add[order] += 1
        lengths[room] = np.minimum(lengths[room] + add, columns)
    row = np.repeat(np.arange(rows, dtype=np.int64), lengths)
    picks = [np.sort(rng.choice(columns, size=int(length), replace=False)) for length in lengths if length]
    return row, np.concatenate(picks) if picks else np.zeros(0, dtype=np.int64)


def _matrix(shape: tuple[int, int]) -> tuple[int, int]:
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"expected a matrix shape (m, k) of at least (1, 1), got {shape}; reshape a weight first")
    return int(shape[0]), int(shape[1])
