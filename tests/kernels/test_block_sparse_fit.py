"""The block that fits: counted right, and the one that takes the fewest bytes."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from sparsebench.kernels.block_sparse import fit
from sparsebench.kernels.block_sparse.layout import blocks_from_elements
from sparsebench.representations.pattern import Pattern

ALL = (*fit.OBLONG, *fit.ROWS, *fit.COLUMNS, (3, 5), (6, 10), (1, 1))


def elements(pattern: Pattern, shape: tuple[int, int], sparsity: float) -> tuple[torch.Tensor, torch.Tensor]:
    coo = pattern.tensor(shape, sparsity, seed=3).to_sparse().coalesce()
    rows, columns = coo.indices()
    return rows, columns


@pytest.mark.parametrize("shape", [(130, 257), (1, 40), (40, 1), (64, 128)])
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.95, 0.999, 1.0])
def test_blocks_are_counted_as_they_are_stored(shape: tuple[int, int], sparsity: float) -> None:
    rows, columns = elements(Pattern(kind="element"), shape, sparsity)
    counts = fit.stored_blocks(rows, columns, shape, ALL)
    assert set(counts) == set(ALL)
    for block in ALL:
        want = torch.unique(rows // block[0] * shape[1] + columns // block[1]).numel()
        assert counts[block] == want, block


def test_the_least_block_takes_the_fewest_bytes_that_an_index_and_its_values_take() -> None:
    shape = (150, 210)
    for pattern, sparsity, size in itertools.product(
        (Pattern(kind="element"), Pattern(kind="block", block=(12, 20)), Pattern(kind="power-law")),
        (0.3, 0.9, 0.99),
        (2, 4),
    ):
        rows, columns = elements(pattern, shape, sparsity)
        values = torch.ones(rows.numel(), dtype=torch.float16 if size == 2 else torch.float32)
        held = {}
        for block in fit.OBLONG:
            index, stored = blocks_from_elements(rows, columns, values, shape, block)
            held[block] = index.nbytes + stored.nbytes
        found = fit.least_block(rows, columns, shape, fit.OBLONG, value_bytes=size)
        assert held[found] <= fit.NEAR * min(held.values())
        larger = [block for block in held if math.prod(block) > math.prod(found)]
        assert all(held[block] > fit.NEAR * min(held.values()) for block in larger)


def test_a_huge_grid_is_never_made() -> None:
    places = torch.arange(0, 2**31 - 2**20, 2**24)
    counts = fit.stored_blocks(places, places, (2**31 - 1, 2**31 - 1), fit.SQUARES)
    assert set(counts.values()) == {places.numel()}


def test_no_candidate_is_refused() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    with pytest.raises(ValueError, match="expected a block to choose from, got none"):
        fit.least_block(nothing, nothing, (4, 4), (), value_bytes=4)
    assert fit.least_block(nothing, nothing, (0, 4), fit.SQUARES, value_bytes=4) == (128, 128)
