"""Cut rows into segments of similar length for the GPU, so that no program waits for one long row."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LONGEST = 1024
"""Elements of a segment: a longer row is split, and its parts are added up in a second pass."""
_SHORTEST = 4
TOGETHER = 2048
"""Products of a step: 16 sums for each of 128 threads, kept apart until the last step."""
MOST = 128
"""Elements of one segment in a step: more would leave most of a program idle at the segment's end."""
ROWS = 512
"""Elements of all segments in a step, where the columns are few."""


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """Neighbouring segments whose lengths are within a factor of two of each other.

    Attributes:
        first: number of the first one.
        count: how many.
        longest: elements of none of them are more; a power of two.
    """

    first: int
    count: int
    longest: int

    def tile(self, columns: int) -> tuple[int, int]:
        """Return the segments that a program takes, and the elements of each at a time, for so many columns.

        Both are powers of two, and a step of the sum is TOGETHER products, or less where one column meets short rows:
        there a group of lanes has a row each.
        """
        entries = min(self.longest, MOST, TOGETHER // columns)
        return max(1, min(ROWS, TOGETHER // columns) // entries), entries


@dataclass(frozen=True, kw_only=True, eq=False)
class Segments:
    """The pieces of all rows, whole rows first, sorted by length, longest first.

    Attributes:
        target: int32 (segments): the row of a whole one; the number of the part of a split one.
        begin: (segments), in the dtype of the row beginnings: the first element.
        length: int32 (segments).
        row: int32 (segments): the row.
        split_row: int32 (split rows).
        split_part: int32 (split rows + 1): which parts belong to it.
        whole: buckets of whole rows, empty rows among them.
        parts: buckets of the parts of split rows.
    """

    target: Tensor
    begin: Tensor
    length: Tensor
    row: Tensor
    split_row: Tensor
    split_part: Tensor
    whole: tuple[Bucket, ...]
    parts: tuple[Bucket, ...]

    @property
    def part_count(self) -> int:
        """Return how many parts there are."""
        return sum(bucket.count for bucket in self.parts)

    @property
    def nbytes(self) -> int:
        """Return the bytes of the arrays."""
        arrays = (self.target, self.begin, self.length, self.row, self.split_row, self.split_part)
        return sum(array.numel() * array.element_size() for array in arrays)


def cut(starts: Tensor, longest: int = LONGEST) -> Segments:
    """Return the segments of rows that begin at starts[i].

    Args:
        starts: int32 or int64 (rows + 1), ascending from 0.
        longest: elements of a segment at most.

    Raises:
        ValueError: if `longest` is not positive.
    """
    if longest < 1:
        raise ValueError(f"expected segments of at least 1 element, got {longest}; name a larger number")
    lengths = starts.diff().long()
    pieces = ((lengths + longest - 1) // longest).clamp(min=1)  # an empty row is a segment too: its result is 0
    row = torch.repeat_interleave(pieces)
    number = torch.arange(row.numel(), device=starts.device) - (pieces.cumsum(0) - pieces)[row]
    begin = starts[:-1].long()[row] + number * longest
    length = (lengths[row] - number * longest).clamp(max=longest)
    split = pieces > 1
    counts = pieces[split]
    part = torch.cumsum(split[row].long(), 0) - 1
    target = torch.where(split[row], part, row)
    # whole ones first, then parts, each longest first; stable, so that neighbours in S stay neighbours
    order = torch.argsort(split[row].long() * (longest + 1) - length, stable=True)
    whole = int((~split[row]).sum())
    sizes = length[order]
    return Segments(
        target=target[order].int(),
        begin=begin[order].to(starts.dtype),
        length=sizes.int(),
        row=row[order].int(),
        split_row=split.nonzero()[:, 0].int(),
        split_part=torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int(),
        whole=_buckets(sizes[:whole], 0),
        parts=_buckets(sizes[whole:], whole),
    )


def _buckets(lengths: Tensor, first: int) -> tuple[Bucket, ...]:
    """Group descending lengths by powers of two; everything up to the shortest power is one group."""
    limits = [_SHORTEST << i for i in range(32)]
    bounds = torch.tensor(limits, device=lengths.device, dtype=lengths.dtype)
    group = torch.searchsorted(bounds, lengths)  # the first power that is not smaller
    found, counts = torch.unique_consecutive(group, return_counts=True)
    buckets = []
    for number, count in zip(found.tolist(), counts.tolist(), strict=True):
        buckets.append(Bucket(first=first, count=count, longest=limits[number]))
        first += count
    return tuple(buckets)
