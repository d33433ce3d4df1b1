"""Check that a wrong index or operand is refused, with what was expected, before any kernel runs."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from sparsebench.kernels.common import sharing
from sparsebench.kernels.csr import cpu, cpu_driver, reference
from sparsebench.kernels.csr.layout import ColumnOrder, RowIndex, dense_from_elements
from sparsebench.kernels.csr.segments import cut


def i32(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.int32)


def good() -> RowIndex:
    """Return the places (0, 1), (0, 3), (2, 0) of a matrix (3, 4)."""
    return RowIndex(shape=(3, 4), crow=i32(0, 2, 2, 3), col=i32(1, 3, 0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"col": i32(1, 4, 0)}, r"0 \.\. 3 in col, got 0 \.\. 4"),
        ({"col": i32(1, 3, -1)}, r"0 \.\. 3 in col, got -1 \.\. 3"),
        ({"col": i32(3, 1, 0)}, "col sorted"),
        ({"col": i32(3, 3, 0)}, "col sorted in each row, none twice"),
        ({"crow": i32(0, 3, 2, 3)}, "crow to ascend from 0 to 3"),
        ({"crow": i32(1, 2, 2, 3)}, "crow to ascend"),
        ({"crow": i32(0, 2, 2, 2)}, "crow to ascend"),
        ({"crow": i32(0, 2**31 - 1, -(2**31), 3)}, "crow to ascend"),
        ({"crow": i32(0, 2, 3)}, "4 entries in crow, got 3"),
        ({"crow": torch.tensor([0.0, 2.0, 2.0, 3.0])}, "crow as a contiguous 1-D int32 or int64"),
        ({"crow": i32(0, 9, 2, 9, 2, 9, 3, 9)[::2]}, "crow as a contiguous 1-D"),
        ({"col": torch.tensor([1, 3, 0])}, "col as a contiguous 1-D int32 array"),
        ({"col": i32(1, 3, 0)[:, None]}, "got 2-D torch.int32"),
        ({"col": i32(1, 3, 0).to("meta")}, "col on cpu as crow is, got meta"),
        ({"shape": (4, 4)}, "5 entries in crow, got 4"),
        ({"shape": (3, 3)}, r"0 \.\. 2 in col, got 0 \.\. 3"),
        ({"shape": (3, -1)}, r"sizes from 0 to 2\^31 - 1"),
        ({"shape": (3, 2**31)}, r"sizes from 0 to 2\^31 - 1"),
    ],
)
def test_a_bad_index_cannot_be_made(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        dataclasses.replace(good(), **change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kernels", [cpu, reference])
@pytest.mark.parametrize(
    ("values", "x", "message"),
    [
        (torch.ones(3), torch.ones(3, 7), r"x of shape \(4, n\), got \(3, 7\)"),
        (torch.ones(3), torch.ones(4), "x strided and 2-D or more, got 1-D"),
        (torch.ones(3), torch.ones(4, 7).to_sparse(), "x strided"),
        (torch.ones(2), torch.ones(4, 7), r"values of shape \(3\), got \(2,\)"),
        (torch.ones(3, 1), torch.ones(4, 7), "values strided and 1-D, got 2-D"),
        (torch.ones(6)[::2], torch.ones(4, 7), "contiguous values"),
        (torch.ones(3), torch.ones(4, 7, dtype=torch.float64), "x in torch.float32 as values is"),
        (torch.ones(3), torch.ones(4, 7, device="meta"), "x on cpu as the index is, got meta"),
        (torch.ones(3, device="meta"), torch.ones(4, 7, device="meta"), "values on cpu"),
    ],
)
def test_bad_operands_are_refused(kernels: ModuleType, values: Tensor, x: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        kernels.dsd(good(), values, x)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kernels", [cpu, reference])
def test_bad_operands_of_the_other_products_are_refused(kernels: ModuleType) -> None:
    for x in (torch.ones(4, 7), torch.ones(2, 4, 7)):
        with pytest.raises(ValueError, match=r"x of shape \(3, n\)"):
            kernels.dsd(good(), torch.ones(3), x, transposed=True)
    with pytest.raises(ValueError, match=r"b of shape \(7, 4\), got \(6, 4\)"):
        kernels.sdd(good(), torch.ones(3, 7), torch.ones(6, 4))
    with pytest.raises(ValueError, match=r"a of shape \(3, n\)"):
        kernels.sdd(good(), torch.ones(4, 7), torch.ones(7, 4))
    with pytest.raises(ValueError, match="a strided and 2-D, got 3-D"):
        kernels.sdd(good(), torch.ones(2, 3, 7), torch.ones(2, 7, 4))


def test_integers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"values in one of torch\.float32"):
        cpu.dsd(good(), torch.ones(3, dtype=torch.int64), torch.ones(4, 7, dtype=torch.int64))


def test_an_index_from_elements_and_its_order_by_columns() -> None:
    index = RowIndex.from_elements(torch.tensor([0, 0, 2]), torch.tensor([1, 3, 0]), (3, 4))
    assert torch.equal(index.crow, good().crow)
    assert torch.equal(index.col, good().col)
    assert index.crow.dtype == index.col.dtype == torch.int32
    assert index.nbytes == 4 * (4 + 3)
    assert dense_from_elements(index, torch.tensor([1.0, 2.0, 3.0])).tolist() == [[0, 1, 0, 2], [0] * 4, [3, 0, 0, 0]]
    order = index.columns
    assert isinstance(order, ColumnOrder)
    assert (order.ccol.tolist(), order.row.tolist(), order.place.tolist()) == ([0, 1, 2, 2, 3], [2, 0, 0], [2, 0, 1])
    assert index.nbytes == 4 * (4 + 3) + 4 * (5 + 3 + 3)
    assert index.nbytes == 4 * (4 + 3) + order.nbytes


def test_segments_hold_every_element_once_and_only_alike_rows_together() -> None:
    lengths = torch.tensor([0, 7, 100, 1, 33, 32, 20, 5, 64, 0, 70])
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).int()
    s = cut(starts, longest=32)
    seen = torch.zeros(int(starts[-1]), dtype=torch.int64)
    sums: dict[int, int] = {}
    for row, begin, length in zip(s.row.tolist(), s.begin.tolist(), s.length.tolist(), strict=True):
        assert length <= 32
        assert starts[row] <= begin <= begin + length <= starts[row + 1]
        seen[begin : begin + length] += 1
        sums[row] = sums.get(row, 0) + length
    assert (seen == 1).all()
    assert [sums[row] for row in range(len(lengths))] == lengths.tolist()  # empty rows have a segment too
    assert s.split_row.tolist() == [2, 4, 8, 10]
    assert s.split_part.tolist() == [0, 4, 6, 8, 11]
    covered = 0
    for bucket in (*s.whole, *s.parts):
        assert bucket.first == covered
        rows, entries = bucket.tile(64)
        assert rows * entries * 64 <= 2048
        some = s.length[bucket.first : bucket.first + bucket.count]
        assert some.max() <= max(4, 2 * int(some.min()))
        covered += bucket.count
    assert covered == s.row.numel()
    parts = s.target[-s.part_count :]
    assert sorted(parts.tolist()) == list(range(11))
    with pytest.raises(ValueError, match="at least 1 element, got 0"):
        cut(starts, longest=0)


@pytest.mark.parametrize("shares", [1, 2, 3, 7])
def test_shares_are_balanced_whatever_the_rows_lengths(shares: int) -> None:
    lengths = torch.randint(0, 500, (300,), generator=torch.Generator().manual_seed(0)) ** 3 // 10**5
    crow = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]).int().numpy()
    bounds = [sharing.share(crow, shares, number, cpu_driver.ROW_COST) for number in range(shares + 1)]
    assert bounds[0] == 0
    assert bounds[-1] == 300
    cost = lengths + cpu_driver.ROW_COST
    for first, last in pairwise(bounds):
        assert abs(int(cost[first:last].sum()) - int(cost.sum()) / shares) <= int(cost.max())
