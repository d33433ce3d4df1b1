"""Check the work table: every stored block is in one segment, the longest come first, and it is made once."""

from __future__ import annotations

import gc
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsebench.kernels.block_sparse import schedule
from sparsebench.kernels.block_sparse.layout import BlockIndex


def index_of(lengths: list[int], across: int) -> BlockIndex:
    """Return an index of blocks of one element whose rows hold that many, at the left."""
    crow = torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)
    col = torch.cat([torch.arange(length, dtype=torch.int32) for length in [*lengths, 0]])
    return BlockIndex.from_rows(crow, col, (len(lengths), across), (1, 1))


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(0, 20), max_size=12),
    limit=st.integers(1, 25),
    transposed=st.booleans(),
)
def test_segments_cover_every_row_once(lengths: list[int], limit: int, transposed: bool) -> None:
    index = index_of(lengths, 20)
    starts = (index.ccol if transposed else index.crow).tolist()
    table = schedule.work_table(index, limit, transposed=transposed)
    segments = table.segments.tolist()
    sizes = [end - begin for _, begin, end, _ in segments]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes, default=0) <= limit
    assert table.filled == sum(size > 0 for size in sizes)
    split = {row: range(first, last) for row, first, last in table.split.tolist()}
    for row, (begin, end) in enumerate(itertools.pairwise(starts)):
        own = sorted(segment[1:] for segment in segments if segment[0] == row)
        assert own[0][0] == begin
        assert own[-1][1] == end
        assert all(left[1] == right[0] for left, right in itertools.pairwise(own))
        if len(own) == 1:
            assert own[0][2] == -1
            assert row not in split
        else:
            # partial results lie in the order in which they are added up, and no segment is much shorter than another
            assert [slot for *_, slot in own] == list(split[row])
            assert len(own) == -(-(end - begin) // limit)
            assert max(b - a for a, b, _ in own) - min(b - a for a, b, _ in own) <= 1
    assert sorted(slot for *_, slot in segments if slot >= 0) == list(range(table.slots))


def test_a_table_is_made_once_and_lives_with_its_index() -> None:
    index = index_of([3, 0, 7], 7)
    assert schedule.table_bytes(index) == 0
    first = schedule.work_table(index, 2)
    assert schedule.work_table(index, 2) is first
    assert first.nbytes == 4 * (4 * (2 + 1 + 4) + 3 * 2)
    assert schedule.work_table(index, 100) is schedule.work_table(index, 7)  # neither splits anything
    assert schedule.work_table(index, 2, transposed=True) is not first
    assert schedule.longest_row(index) == 7
    assert schedule.longest_row(index, transposed=True) == 2
    assert schedule.table_bytes(index) == sum(table.nbytes for table in schedule._held[index].tables.values())
    gc.collect()  # of the indices of other tests
    held = len(schedule._held)
    del index
    gc.collect()
    assert len(schedule._held) == held - 1


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="limit of at least 1 block, got 0"):
        schedule.work_table(index_of([1], 1), 0)


def test_rows_are_split_where_that_fills_the_device() -> None:
    # 64 rows of 8 blocks of 128: 32 column tiles are enough tasks for 264 programs, one tile is not
    assert schedule.segment_limit(64 * 8, 128, 32, 264) >= 8
    assert schedule.segment_limit(64 * 8, 128, 1, 264) == 4
    assert schedule.segment_limit(64 * 64, 128, 1, 264) == 8
    assert schedule.segment_limit(0, 128, 0, 264) == 4
    assert schedule.segment_limit(10, 4096, 1, 264) == 1
