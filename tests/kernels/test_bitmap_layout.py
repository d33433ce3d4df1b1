"""Check where a bitmap says that elements stand, and that it cannot be made wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparsebench.kernels.bitmap import reference
from sparsebench.kernels.bitmap.layout import (
    COLUMNS,
    ROWS,
    BitmapIndex,
    count_bits,
    cut,
    dense_from_bits,
    value_order,
)


def draw(shape: tuple[int, int], density: float, seed: int) -> Tensor:
    """Return a dense matrix in float64, without zeros among what is stored; some rows are full and some are empty."""
    generator = torch.Generator().manual_seed(seed)
    keep = torch.rand(shape, generator=generator) < density
    keep[::7], keep[3::7] = density > 0, False
    return (torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5) * keep


def stored(dense: Tensor) -> tuple[BitmapIndex, Tensor]:
    """Return the index and the values of what is not 0."""
    rows, columns = dense.nonzero(as_tuple=True)
    shape = (dense.shape[0], dense.shape[1])
    order = value_order(rows, columns, shape)
    return BitmapIndex.from_elements(rows, columns, shape), dense[rows[order], columns[order]]


SHAPES = st.tuples(st.integers(0, 14), st.integers(0, 150))


@settings(max_examples=80, deadline=None)
@given(shape=SHAPES, density=st.sampled_from([0.0, 0.1, 0.5, 1.0]), seed=st.integers(0, 100))
def test_values_go_by_group_chunk_row_and_column(shape: tuple[int, int], density: float, seed: int) -> None:
    dense = draw(shape, density, seed)
    index, values = stored(dense)
    order = [
        (i, j)
        for g in range(0, shape[0], ROWS)
        for c in range(0, shape[1], COLUMNS)
        for i in range(g, min(g + ROWS, shape[0]))
        for j in range(c, min(c + COLUMNS, shape[1]))
        if dense[i, j] != 0
    ]
    rows, columns = index.places()
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == order == reference._walk(index)
    assert index.nnz == len(order) == int((dense != 0).sum())
    assert torch.equal(dense_from_bits(index, values), dense)
    for g, begin in enumerate(index.starts.tolist()):
        assert begin == int((dense[: ROWS * g] != 0).sum())


def test_elements_in_any_order() -> None:
    dense = draw((13, 130), 0.5, 1)
    rows, columns = dense.nonzero(as_tuple=True)
    mixed = torch.randperm(rows.numel(), generator=torch.Generator().manual_seed(2))
    index = BitmapIndex.from_elements(rows[mixed], columns[mixed], (13, 130))
    assert torch.equal(index.bits, stored(dense)[0].bits)


def test_counting_bits() -> None:
    words = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 1000, dtype=np.int64)
    words[:4] = 0, -1, 1, -(2**63)
    want = [int(word).bit_count() if word >= 0 else (int(word) + 2**64).bit_count() for word in words]
    assert count_bits(torch.from_numpy(words)).tolist() == want


def test_bytes() -> None:
    index, values = stored(draw((64, 128), 0.5, 3))
    assert index.nbytes == 64 * 128 // 8 + 8 * (64 // ROWS + 1)
    assert (index.nbytes + 4 * index.nnz) / (4 * 64 * 128) < 0.54 * index.nnz / (32 * 128) + 0.01
    assert values.shape == (index.nnz,)


def whole(shape: tuple[int, int] = (6, 70)) -> tuple[Tensor, Tensor]:
    """Return the arrays of a matrix that is stored whole."""
    index = stored(torch.ones(shape, dtype=torch.float64))[0]
    return index.bits.clone(), index.starts.clone()


def test_a_bit_beyond_the_last_row_or_column() -> None:
    for where, word in (((1, 0, 2), "6 rows"), ((0, 1, 0), "70 columns")):
        bits, starts = whole()
        bits[where] |= 1 << 6
        with pytest.raises(ValueError, match=f"no bit set beyond {word}, got 1"):
            BitmapIndex(shape=(6, 70), bits=bits, starts=starts)
    bits, _ = whole()
    bits[0, 1, 0] = -1
    with pytest.raises(ValueError, match="beyond 70 columns, got 58"):
        BitmapIndex.from_bits(bits, (6, 70))


def test_starts_that_do_not_count_the_bits() -> None:
    bits, starts = whole()
    starts[1] += 1
    with pytest.raises(ValueError, match=r"starts\[1\] = 280, .* got 281"):
        BitmapIndex(shape=(6, 70), bits=bits, starts=starts)
    bits, starts = whole()
    bits[0, 0, 3] = 2**63 - 1
    with pytest.raises(ValueError, match=r"starts\[1\] = 279, .* got 280"):
        BitmapIndex(shape=(6, 70), bits=bits, starts=starts)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda bits, starts: (bits.int(), starts), "contiguous int64"),
        (lambda bits, starts: (bits.mT.contiguous().mT, starts), "contiguous int64"),
        (lambda bits, starts: (bits[:1], starts), r"shape \(2, 2, 4\)"),
        (lambda bits, starts: (bits.view(-1), starts), r"shape \(2, 2, 4\)"),
        (lambda bits, starts: (bits, starts.int()), "starts as a contiguous 1-D int64"),
        (lambda bits, starts: (bits, starts[:2]), "3 entries in starts, got 2"),
        (lambda bits, starts: (bits, starts.to("meta")), "starts on cpu"),
    ],
)
def test_wrong_arrays(changed: object, message: str) -> None:
    bits, starts = changed(*whole())  # type: ignore[operator]
    with pytest.raises(ValueError, match=message):
        BitmapIndex(shape=(6, 70), bits=bits, starts=starts)


def test_wrong_places() -> None:
    one = torch.tensor([1, 1])
    with pytest.raises(ValueError, match="every place once"):
        BitmapIndex.from_elements(one, one, (4, 4))
    with pytest.raises(ValueError, match=r"rows of 0 \.\. 0, got 1 \.\. 1"):
        BitmapIndex.from_elements(one, one, (1, 4))
    with pytest.raises(ValueError, match=r"columns of 0 \.\. 3, got -1 \.\. 4"):
        BitmapIndex.from_elements(one, torch.tensor([-1, 4]), (4, 4))
    with pytest.raises(ValueError, match="sizes from 0"):
        BitmapIndex.from_elements(one, one, (-1, 4))
    assert cut((5, 129)) == (2, 3)


@pytest.mark.parametrize("batch", [(), (2,)])
def test_the_reference(batch: tuple[int, ...]) -> None:
    dense = draw((9, 70), 0.4, 5)
    index, values = stored(dense)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((*batch, 70, 3), generator=generator, dtype=torch.float64)
    g = torch.randn((*batch, 9, 3), generator=generator, dtype=torch.float64)
    torch.testing.assert_close(reference.dsd(index, values, x), dense @ x)
    torch.testing.assert_close(reference.dsd(index, values, g, transposed=True), dense.t() @ g)
    if not batch:
        torch.testing.assert_close(reference.sdd(index, g, x.t()), (g @ x.t())[index.places()])
