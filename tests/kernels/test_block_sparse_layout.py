"""Check the index of stored blocks, and that a bad one cannot be made."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from sparsebench.kernels.block_sparse.layout import BlockIndex, blocks_from_elements


def test_the_readme_example() -> None:
    rows, columns = torch.tensor([1, 2, 3]), torch.tensor([2, 0, 4])
    index, _ = blocks_from_elements(rows, columns, torch.ones(3), (4, 5), (2, 2))
    assert [array.tolist() for array in index.arrays] == [[0, 1, 3], [1, 0, 2], [0, 1, 2, 3], [1, 0, 1], [1, 0, 2]]
    assert index.nbytes == 4 * (2 + 3 + 2 + 3 * 3)


def i32(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.int32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"col": i32(1, 0, 3)}, r"0 \.\. 2 in col, got 0 \.\. 3"),
        ({"col": i32(1, -1, 2)}, r"0 \.\. 2 in col"),
        ({"col": i32(1, 2, 0)}, "col sorted"),
        ({"col": i32(1, 2, 2)}, "col sorted"),
        ({"crow": i32(0, 2, 1)}, "crow to ascend"),
        ({"crow": i32(1, 1, 3)}, "crow to ascend"),
        ({"crow": i32(0, 1, 2)}, "crow to ascend"),
        ({"crow": i32(0, 3)}, "3 entries in crow"),
        ({"col": torch.tensor([1, 0, 2])}, "col as a contiguous 1-D int32"),
        ({"crow": i32(0, 9, 1, 9, 3)[::2]}, "crow as a contiguous"),
        ({"col": i32(1, 0, 2).to("meta")}, "col on cpu"),
        ({"ccol": i32(0, 2, 2, 3)}, "row sorted"),
        ({"row": i32(0, 0, 1)}, "list the blocks"),
        ({"row": i32(1, 0, 2)}, r"0 \.\. 1 in row"),
        ({"order": i32(0, 1, 2)}, "list the blocks"),
        ({"order": i32(1, 1, 2)}, "list the blocks"),
        ({"order": i32(1, 0, 3)}, "number every stored block"),
        ({"order": i32(1, 0)}, "order as int32"),
        ({"order": torch.tensor([1, 0, 2])}, "order as int32"),
        ({"block": (0, 2)}, "at least"),
        ({"shape": (6, 5)}, "4 entries in crow"),
    ],
)
def test_a_bad_index_cannot_be_made(change: dict[str, Any], message: str) -> None:
    good = BlockIndex.from_rows(i32(0, 1, 3), i32(1, 0, 2), (4, 5), (2, 2))
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(good, **change)
    if {"crow", "col"} & set(change):
        with pytest.raises(ValueError, match=message):
            BlockIndex.from_rows(change.get("crow", good.crow), change.get("col", good.col), good.shape, good.block)
