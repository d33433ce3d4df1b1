"""Patterns have exactly the non-zeros that they promise, where they promise them, and the same ones for a seed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparsebench.representations.pattern import KINDS, Pattern

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40))
LEVELS = st.floats(0, 1)
SEEDS = st.integers(0, 2**32 - 1)


def _places(pattern: Pattern, shape: tuple[int, int], sparsity: float, seed: int) -> np.ndarray:
    """Return a bool matrix of the places, having seen that they are sorted, in range and all different."""
    rows, columns = pattern.places(shape, sparsity, np.random.default_rng(seed))
    assert rows.dtype == columns.dtype == np.int64
    assert rows.shape == columns.shape
    flat = rows * shape[1] + columns
    assert np.all(np.diff(flat) > 0)
    mask = np.zeros(shape, dtype=bool)
    mask[rows, columns] = True
    assert len(rows) == 0 or (rows.min() >= 0 and columns.min() >= 0)
    return mask


def _unit_mask(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return which aligned units are kept, having seen that each is kept whole or not at all."""
    down, across = math.ceil(mask.shape[0] / height), math.ceil(mask.shape[1] / width)
    kept = np.zeros((down, across), dtype=bool)
    for i in range(down):
        for j in range(across):
            unit = mask[i * height : (i + 1) * height, j * width : (j + 1) * width]
            assert unit.all() or not unit.any()
            kept[i, j] = unit.any()
    return kept


@given(shape=SHAPES, sparsity=LEVELS, seed=SEEDS)
def test_elements_are_counted_exactly(shape: tuple[int, int], sparsity: float, seed: int) -> None:
    mask = _places(Pattern(kind="element"), shape, sparsity, seed)
    assert mask.sum() == round((1 - sparsity) * shape[0] * shape[1])


@given(shape=SHAPES, sparsity=LEVELS, seed=SEEDS, exponent=st.floats(0.1, 4))
def test_power_law_elements_are_counted_exactly(
    shape: tuple[int, int], sparsity: float, seed: int, exponent: float
) -> None:
    mask = _places(Pattern(kind="power-law", exponent=exponent), shape, sparsity, seed)
    assert mask.sum() == round((1 - sparsity) * shape[0] * shape[1])


@given(shape=SHAPES, sparsity=LEVELS, seed=SEEDS, height=st.integers(1, 9), width=st.integers(1, 9))
def test_blocks_are_whole_aligned_and_counted_exactly(
    shape: tuple[int, int], sparsity: float, seed: int, height: int, width: int
) -> None:
    pattern = Pattern(kind="block", block=(height, width))
    kept = _unit_mask(_places(pattern, shape, sparsity, seed), height, width)
    assert kept.size == pattern.units(shape)
    assert kept.sum() == round((1 - sparsity) * kept.size)


@given(shape=SHAPES, sparsity=LEVELS, seed=SEEDS, width=st.integers(1, 9))
def test_planes_are_whole_and_counted_exactly(shape: tuple[int, int], sparsity: float, seed: int, width: int) -> None:
    pattern = Pattern(kind="plane", block=(1, width))
    kept = _unit_mask(_places(pattern, shape, sparsity, seed), 1, width)
    assert kept.size == pattern.units(shape)
    assert kept.sum() == round((1 - sparsity) * kept.size)


@given(shape=SHAPES, sparsity=LEVELS, seed=SEEDS, width=st.integers(1, 9))
def test_channels_are_absent_from_every_row(shape: tuple[int, int], sparsity: float, seed: int, width: int) -> None:
    pattern = Pattern(kind="channel", block=(1, width))
    kept = _unit_mask(_places(pattern, shape, sparsity, seed), shape[0], width)
    assert kept.shape == (1, pattern.units(shape))
    assert kept.sum() == round((1 - sparsity) * kept.size)


@given(shape=SHAPES, sparsity=LEVELS, seed=SEEDS, width=st.integers(1, 9))
def test_filters_and_channels_are_absent_each_by_its_own_share(
    shape: tuple[int, int], sparsity: float, seed: int, width: int
) -> None:
    pattern = Pattern(kind="filter-channel", block=(1, width))
    kept = _unit_mask(_places(pattern, shape, sparsity, seed), 1, width)
    assert kept.size == pattern.units(shape)
    rows, maps = round((1 - sparsity) * kept.shape[0]), round((1 - sparsity) * kept.shape[1])
    assert kept.sum() == rows * maps
    if kept.any():  # all pairs of those rows and those maps, and of no others
        assert (kept.any(axis=1).sum(), kept.any(axis=0).sum()) == (rows, maps)


def test_filters_and_channels_are_drawn_apart() -> None:
    pattern = Pattern(kind="filter-channel", block=(1, 9))
    kept, other = (_unit_mask(_places(pattern, (64, 64 * 9), 0.75, seed), 1, 9) for seed in (3, 4))
    assert kept.sum() == 16 * 16
    assert not np.array_equal(kept.any(axis=1), kept.any(axis=0))
    for axis in (0, 1):
        assert not np.array_equal(kept.any(axis=axis), other.any(axis=axis))


@given(shape=SHAPES, seed=SEEDS, m=st.integers(2, 8), share=st.data())
def test_every_group_of_m_keeps_n(shape: tuple[int, int], seed: int, m: int, share: st.DataObject) -> None:
    n = share.draw(st.integers(0, m))
    mask = _places(Pattern(kind="n:m", m=m), shape, 1 - n / m, seed)
    for start in range(0, shape[1], m):
        group = mask[:, start : start + m]
        assert np.all(group.sum(axis=1) == n * group.shape[1] // m)


def test_groups_are_not_all_alike() -> None:
    mask = _places(Pattern(kind="n:m", m=4), (200, 40), 0.5, 1)
    picks = mask.reshape(2000, 4)
    assert len(np.unique(picks, axis=0)) == 6  # 4 over 2
    assert np.all(np.abs(picks.mean(axis=0) - 0.5) < 0.05)


def test_power_law_rows_are_really_skewed() -> None:
    shape, exponent = (200, 4000), 1.0
    mask = _places(Pattern(kind="power-law", exponent=exponent), shape, 0.99, 3)
    unsorted = mask.sum(axis=1)
    lengths = np.sort(unsorted)[::-1]
    want = np.arange(1, 201) ** -exponent
    want *= lengths.sum() / want.sum()
    assert np.all(np.abs(lengths - want) <= 1)
    assert not np.array_equal(unsorted, lengths)  # ranks are dealt to rows at random
    uniform = np.sort(_places(Pattern(kind="element"), shape, 0.99, 3).sum(axis=1))[::-1]
    assert lengths[0] > 10 * uniform[0]
    assert lengths[100] < uniform[100]


def test_a_steeper_power_law_is_more_skewed_and_no_row_overflows() -> None:
    longest = [
        _places(Pattern(kind="power-law", exponent=exponent), (50, 60), 0.9, 5).sum(axis=1).max()
        for exponent in (0.2, 0.6, 1.0)
    ]
    assert longest == sorted(set(longest))
    steep = _places(Pattern(kind="power-law", exponent=3.0), (50, 60), 0.5, 5).sum(axis=1)
    assert steep.max() == 60
    assert steep.sum() == 1500


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_tensor_and_another_seed_another(kind: str) -> None:
    pattern = _pattern(kind)
    first, again, other = (pattern.tensor((24, 36), 0.5, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first != 0, other != 0)


@pytest.mark.parametrize("kind", KINDS)
def test_layouts_hold_the_same_tensor(kind: str) -> None:
    pattern = _pattern(kind)
    strided = pattern.tensor((25, 38), 0.5, 1, dtype=torch.float64)
    coo = pattern.tensor((25, 38), 0.5, 1, dtype=torch.float64, layout=torch.sparse_coo)
    assert strided.dtype == coo.dtype == torch.float64
    assert coo.is_coalesced()
    assert torch.equal(coo.to_dense(), strided)
    assert coo.values().numel() == int((strided != 0).sum())
    sizes = coo.values().abs()
    assert float(sizes.min()) >= 0.5
    assert float(sizes.max()) <= 1.5
    assert bool((coo.values() < 0).any())
    assert bool((coo.values() > 0).any())


def test_nothing_dense_is_made_on_the_way() -> None:
    side = 1_000_000
    coo = Pattern(kind="element").tensor((side, side), 1 - 1000 / side**2, 1, layout=torch.sparse_coo)
    assert coo.values().numel() == 1000
    assert int(coo.indices().max()) > side // 2
    rows, columns = Pattern(kind="block", block=(4, 4)).places((side, side), 1 - 1e-10, np.random.default_rng(1))
    assert len(rows) == len(columns) == round(1e-10 * (side // 4) ** 2) * 16


@pytest.mark.parametrize("kind", KINDS)
def test_the_ends_of_sparsity(kind: str) -> None:
    pattern = _pattern(kind)
    assert not _places(pattern, (12, 20), 1.0, 1).any()
    assert _places(pattern, (12, 20), 0.0, 1).all()
    assert _places(pattern, (1, 4), 0.0, 1).all()


def test_labels_are_short_and_all_different() -> None:
    labels = [_pattern(kind).label for kind in KINDS]
    assert labels == ["element", "power-law", "block 4×4", "plane 1×4", "channel 1×4", "filter-channel 1×4", "n:4"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "stripes"}, "expected a pattern of element, power-law, .* got 'stripes'"),
        ({"kind": "block", "block": (0, 4)}, r"expected a block of at least \(1, 1\), got \(0, 4\)"),
        ({"kind": "element", "block": (2, 2)}, "expected no block for pattern element"),
        ({"kind": "plane", "block": (2, 9)}, r"expected block=\(1, width\) for pattern plane"),
        ({"kind": "channel", "block": (2, 9)}, r"expected block=\(1, width\) for pattern channel"),
        ({"kind": "filter-channel", "block": (2, 9)}, r"expected block=\(1, width\) for pattern filter-channel"),
        ({"kind": "n:m"}, "expected m ≥ 2 for pattern n:m"),
        ({"kind": "n:m", "m": 1}, "expected m ≥ 2 for pattern n:m"),
        ({"kind": "element", "m": 4}, "m=None for others"),
        ({"kind": "power-law", "exponent": 0.0}, "expected an exponent > 0"),
    ],
)
def test_patterns_that_make_no_sense(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pattern(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("sparsity", [-0.1, 1.1, float("nan")])
def test_a_sparsity_out_of_range(sparsity: float) -> None:
    with pytest.raises(ValueError, match=r"expected a sparsity in \[0, 1\]"):
        Pattern(kind="element").tensor((4, 4), sparsity, 1)


def test_a_sparsity_that_n_of_m_cannot_have() -> None:
    with pytest.raises(ValueError, match=r"n:4 can have \(0, 0.25, 0.5, 0.75, 1\), got 0.9"):
        Pattern(kind="n:m", m=4).tensor((4, 8), 0.9, 1)


@pytest.mark.parametrize("shape", [(4,), (0, 4), (4, 3, 2)])
def test_a_shape_that_is_no_matrix(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected a matrix shape"):
        Pattern(kind="element").tensor(shape, 0.5, 1)  # type: ignore[arg-type]


def test_a_layout_that_is_not_offered() -> None:
    with pytest.raises(ValueError, match=r"expected torch.strided or torch.sparse_coo"):
        Pattern(kind="element").tensor((4, 4), 0.5, 1, layout=torch.sparse_csr)


def _pattern(kind: str) -> Pattern:
    if kind == "n:m":
        return Pattern(kind=kind, m=4)
    if kind in Pattern.SINGLE:
        return Pattern(kind=kind)
    return Pattern(kind=kind, block=(4, 4) if kind == "block" else (1, 4))
