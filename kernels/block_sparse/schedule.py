"""Cut block rows into segments, longest first: the work table that a persistent grid walks over.

A row of the table is one task for each column tile: a run of stored blocks of one block row. A row that is longer than
the limit is cut into even segments, each of which writes a partial result; a second pass adds those up in the order of
their columns, so the same index gives the same bits in every run, without atomics or locks. An empty block row has one
empty segment, which writes its zeros.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sparsebench.kernels.block_sparse.layout import BlockIndex

_SHORTEST = 512
"""The fewest elements along the inner dimension that a segment of a split row holds, a pass over which still pays for
writing a partial result and reading it again."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WorkTable:
    """The segments of all block rows, and the rows that were split.

    Attributes:
        segments: int32 (segments, 4), longest first: block row, first entry, behind the last entry, and the place of
            its partial result, or -1 if the segment is the whole row.
        split: int32 (split rows, 3): block row, place of its first partial result, behind the place of its last one.
        slots: how many partial results there are.
        filled: how many segments hold a block; the empty ones come last.
    """

    segments: Tensor
    split: Tensor
    slots: int
    filled: int

    @property
    def nbytes(self) -> int:
        """Return the bytes of both arrays."""
        return sum(array.numel() * array.element_size() for array in (self.segments, self.split))


@dataclass(frozen=True, kw_only=True, eq=False)
class UnionTable:
    """Several block rows at a time, over the union of their block columns.

    Attributes:
        starts: int32 (segments + 1): each `together` block rows have the entries starts[i] .. starts[i + 1].
        others: int32 (entries): block columns, ascending in a segment.
        blocks: int32 (entries, together): which stored block each block row has there, or -1.
    """

    starts: Tensor
    others: Tensor
    blocks: Tensor

    @property
    def nbytes(self) -> int:
        """Return the bytes of the arrays."""
        return sum(array.numel() * array.element_size() for array in (self.starts, self.others, self.blocks))


@dataclass(frozen=True, kw_only=True)
class _Held:
    """What is kept with an index: the longest row of each orientation, and the tables of both kinds made so far."""

    longest: dict[bool, int] = field(default_factory=dict)
    tables: dict[tuple[bool, int], WorkTable] = field(default_factory=dict)
    unions: dict[tuple[bool, int], UnionTable] = field(default_factory=dict)


_held: weakref.WeakKeyDictionary[BlockIndex, _Held] = weakref.WeakKeyDictionary()


def work_table(index: BlockIndex, limit: int, *, transposed: bool = False) -> WorkTable:
    """Return the table of an index, made at the first call and kept for as long as the index lives.

    Args:
        index: of the stored blocks.
        limit: the most blocks that a segment may hold, at least 1.
        transposed: take the block columns for rows; entries then number `index.row` and `index.order`.

    Raises:
        ValueError: if the limit is below 1.
    """
    if limit < 1:
        raise ValueError(f"expected a limit of at least 1 block, got {limit}; raise it")
    tables = _of(index).tables
    # all limits that split nothing give the same table
    key = (transposed, min(limit, max(1, longest_row(index, transposed=transposed))))
    if key not in tables:
        tables[key] = _make(index.ccol if transposed else index.crow, key[1])
    return tables[key]


def union_table(index: BlockIndex, together: int, *, transposed: bool = False) -> UnionTable:
    """Return the unions of so many block rows, or block columns if transposed; made once and kept as `work_table`'s."""
    unions = _of(index).unions
    if (transposed, together) not in unions:
        down, across = index.grid[::-1] if transposed else index.grid
        rows = index.block_rows()
        rows, columns = (index.col.long(), rows) if transposed else (rows, index.col.long())
        numbers, which = torch.unique(rows // together * max(1, across) + columns, return_inverse=True)
        blocks = torch.full((numbers.numel(), together), -1, dtype=torch.int32, device=index.device)
        blocks[which, rows % together] = torch.arange(rows.numel(), dtype=torch.int32, device=index.device)
        bounds = torch.arange(-(-down // together) + 1, device=index.device)
        unions[transposed, together] = UnionTable(
            starts=torch.searchsorted(numbers // max(1, across), bounds, out_int32=True),
            others=(numbers % max(1, across)).int(),
            blocks=blocks,
        )
    return unions[transposed, together]


def longest_row(index: BlockIndex, *, transposed: bool = False) -> int:
    """Return how many blocks the fullest block row holds, or block column if transposed."""
    longest = _of(index).longest
    if transposed not in longest:
        lengths = (index.ccol if transposed else index.crow).diff()
        longest[transposed] = int(lengths.max()) if lengths.numel() else 0
    return longest[transposed]


def table_bytes(index: BlockIndex) -> int:
    """Return the bytes that all tables kept with an index hold on its device."""
    held = _of(index)
    return sum(one.nbytes for one in held.tables.values()) + sum(one.nbytes for one in held.unions.values())


def segment_limit(blocks: int, inner: int, tiles: int, programs: int) -> int:
    """Return a limit for `work_table`: half of what a program gets to do, so that no row keeps the others waiting.

    A power of two, so that few different tables are made for one index. With many column tiles the limit is past the
    longest row and nothing is split; with few, as in a product with one vector, splitting is what fills the device.

    Args:
        blocks: how many are stored.
        inner: elements of a block along the inner dimension.
        tiles: tasks that each segment gives: column tiles × pieces of a block × batch.
        programs: how many run at a time.
    """
    share = blocks * tiles // (2 * max(1, programs))
    least = -(-_SHORTEST // inner)
    return 1 << (max(1, least, share) - 1).bit_length()


def _of(index: BlockIndex) -> _Held:
    return _held.setdefault(index, _Held())


def _make(starts: Tensor, limit: int) -> WorkTable:
    """Cut the rows that `starts` (rows + 1) bounds into even segments of at most `limit`."""
    begins, lengths = starts[:-1].long(), starts.diff().long()
    cuts = (lengths + limit - 1).div(limit, rounding_mode="floor").clamp(min=1)
    row = torch.repeat_interleave(torch.arange(lengths.numel(), device=starts.device), cuts)
    first = cuts.cumsum(0) - cuts  # the number of each row's first segment
    number = torch.arange(row.numel(), device=starts.device) - first[row]
    begin = begins[row] + (lengths[row] * number).div(cuts[row], rounding_mode="floor")
    end = begins[row] + (lengths[row] * (number + 1)).div(cuts[row], rounding_mode="floor")
    parted = cuts > 1
    places = torch.where(parted, cuts, 0).cumsum(0)  # behind the last partial result of each row
    slot = torch.where(parted[row], places[row] - cuts[row] + number, -1)
    ordered = torch.sort(end - begin, descending=True, stable=True).indices
    segments = torch.stack((row, begin, end, slot), dim=1)[ordered].to(torch.int32)
    which = parted.nonzero()[:, 0]
    split = torch.stack((which, places[which] - cuts[which], places[which]), dim=1).to(torch.int32)
    return WorkTable(
        segments=segments.contiguous(),
        split=split.contiguous(),
        slots=int(places[-1]) if places.numel() else 0,
        filled=int((end > begin).sum()),
    )
