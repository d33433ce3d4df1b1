"""Cut the output maps of a CPU convolution into groups that are computed together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

Numbers = np.ndarray
"""int64, 1-D."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """What is added up. All arrays are int64; offsets count elements.

    Attributes:
        entry_value: (entries).
        entry_read: (entries), in the buffer of one sample, or of all samples where rows belong to samples.
        first: (groups): where the entries of a group begin.
        last: (groups): where they end.
        row: (groups): the first row of a group.
        count: (groups): how many rows it has.
        row_value: (rows).
        row_plane: (rows): which plane of the output, or of the gradient, a row is.
        samples: (samples + 1): the groups of each sample, where groups belong to samples; None if all serve all.
    """

    entry_value: Numbers
    entry_read: Numbers
    first: Numbers
    last: Numbers
    row: Numbers
    count: Numbers
    row_value: Numbers
    row_plane: Numbers
    samples: Numbers | None = None


def one_list(value: Numbers, read: Numbers, row_value: Numbers, row_plane: Numbers, sizes: tuple[int, ...]) -> Plan:
    """Plan rows that all have the same entries."""
    _, row, count, _ = runs(row_value.size, max(row_value.size, 1), sizes)
    return Plan(
        entry_value=value,
        entry_read=read,
        first=np.zeros(row.size, np.int64),
        last=np.full(row.size, value.size, np.int64),
        row=row,
        count=count,
        row_value=row_value,
        row_plane=row_plane,
    )


def single_rows(value: Numbers, read: Numbers, bounds: Numbers) -> Plan:
    """Plan rows that are groups of their own, the entries of row i being bounds[i] .. bounds[i + 1]."""
    rows = np.arange(bounds.size - 1)
    return Plan(
        entry_value=value,
        entry_read=read,
        first=bounds[:-1],
        last=bounds[1:],
        row=rows,
        count=np.ones(rows.size, np.int64),
        row_value=np.zeros(rows.size, np.int64),
        row_plane=rows,
    )


@cache
def runs(total: int, run: int, sizes: tuple[int, ...]) -> tuple[Numbers, Numbers, Numbers, Numbers]:
    """Cut runs of `run` rows into groups of `sizes`; return (begin in run, first row, rows, run) of each group."""

    def cut(length: int) -> list[tuple[int, int]]:
        found, at = [], 0
        for size in sizes:
            while length - at >= size:
                found.append((at, size))
                at += size
        return found

    whole, rest = divmod(total, run)
    usual = np.array(cut(run) if whole else [], np.int64).reshape(-1, 2)
    tail = np.array(cut(rest), np.int64).reshape(-1, 2)
    begin = np.concatenate([np.tile(usual[:, 0], whole), tail[:, 0]])
    count = np.concatenate([np.tile(usual[:, 1], whole), tail[:, 1]])
    owner = np.concatenate([np.repeat(np.arange(whole), len(usual)), np.full(len(tail), whole, np.int64)])
    return begin, owner * run + begin, count, owner


def bounds_of(kept: np.ndarray, starts: Numbers) -> Numbers:
    """Return where the kept entries of each run of blocks begin; kept is (blocks, entries of a block)."""
    totals = np.concatenate([[0], np.cumsum(kept.sum(1))]).astype(np.int64)
    found: Numbers = totals[starts]
    return found
