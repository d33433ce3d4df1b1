"""Check every way in which S @ x may be computed on the CPU, the order by blocks of columns, and what chooses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparsebench.kernels.common import chooser, jit
from sparsebench.kernels.csr import cpu, cpu_blocks, cpu_choice, reference
from sparsebench.kernels.csr.column_blocks import WIDEST, column_blocks
from sparsebench.kernels.csr.cpu_choice import PANEL, Choice
from sparsebench.kernels.csr.layout import RowIndex

SHAPE = (61, 83)


def draw(density: float, seed: int, dtype: torch.dtype, *, wide: bool = False) -> tuple[RowIndex, Tensor]:
    """Return an index and values from 0.5 to 1.5; some rows are empty, one is full."""
    generator = torch.Generator().manual_seed(seed)
    keep = torch.rand(SHAPE, generator=generator) < density
    keep[::5] = False
    keep[1] = density > 0
    rows, columns = keep.nonzero(as_tuple=True)
    index = RowIndex.from_elements(rows, columns, SHAPE)
    if wide:
        index = RowIndex(shape=SHAPE, crow=index.crow.long(), col=index.col)
    return index, (torch.rand(index.nnz, generator=generator, dtype=torch.float64) + 0.5).to(dtype)


def operand(shape: tuple[int, ...], kind: str, seed: int, dtype: torch.dtype) -> Tensor:
    """Return random numbers, contiguous, transposed, or rows that lie apart."""
    larger = torch.randn((*shape[:-1], shape[-1] + 5), generator=torch.Generator().manual_seed(seed)).to(dtype)
    view = larger[..., 2 : shape[-1] + 2]
    return {"contiguous": view.contiguous(), "transposed": view.mT.contiguous().mT, "sliced": view}[kind]


def computed(index: RowIndex, values: Tensor, x: Tensor, choice: Choice) -> Tensor:
    out = torch.full((*x.shape[:-2], SHAPE[0], x.shape[-1]), torch.nan, dtype=x.dtype)
    cpu._compute(index, values, x, out, choice)
    return out


def assert_close(got: Tensor, index: RowIndex, values: Tensor, x: Tensor) -> None:
    """Compare with the reference in float64: sums are in float32 or float64, then rounded to memory once."""
    want = reference.dsd(index, values.double(), x.double())
    size = reference.dsd(index, values.double().abs(), x.double().abs())
    eps = torch.finfo(torch.float64 if got.dtype == torch.float64 else torch.float32).eps
    bound = size * eps * (SHAPE[1] + 2) + want.abs() * torch.finfo(got.dtype).eps / 2
    assert ((got.double() - want).abs() <= bound).all()


@settings(max_examples=60, deadline=None)
@given(
    n=st.sampled_from([1, 2, 7, 16, 17, 40, 64, 130]),
    items=st.sampled_from([0, 1, 3]),
    density=st.sampled_from([0.05, 0.4, 1.0]),
    dtype=st.sampled_from(cpu.DTYPES),
    kind=st.sampled_from(["contiguous", "transposed", "sliced"]),
    vectors=st.sampled_from([1, 3, 4, 9]),
    wide=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_all_ways(
    n: int, items: int, density: float, dtype: torch.dtype, kind: str, vectors: int, wide: bool, seed: int
) -> None:
    index, values = draw(density, seed, dtype, wide=wide)
    x = operand((*([items] if items else []), SHAPE[1], n), kind, seed + 1, dtype)
    ways = [PANEL, Choice(way="blocks", vectors=min(4, vectors))]
    if n == 1 or x.stride(-1) == 1:
        ways.append(Choice(way="rows", vectors=vectors))
    for choice in ways:
        assert_close(computed(index, values, x, choice), index, values, x)


@pytest.mark.parametrize("dtype", cpu.DTYPES)
@pytest.mark.parametrize("threads", [1, 3])
def test_many_blocks_and_groups(dtype: torch.dtype, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With caches of two kilobytes the small matrix has several blocks, groups and tiles."""
    monkeypatch.setattr(cpu_blocks.host, "cache_bytes", lambda level: 2048)
    index, values = draw(0.5, 1, dtype)
    for n in (5, 70, 200):
        x = operand((2, SHAPE[1], n), "sliced", 2, dtype)
        out = torch.full((2, SHAPE[0], n), torch.nan, dtype=dtype)
        cpu_blocks.dsd(index, values, x, out, threads, 2)
        held = list(index.__dict__["_blocks"].values())[-1]
        assert held.blocks > 1
        assert held.groups > 1
        assert_close(out, index, values, x)


@pytest.mark.parametrize("choice", [PANEL, Choice(way="rows", vectors=2), Choice(way="blocks", vectors=2)])
@pytest.mark.parametrize("n", [1, 20])
def test_nan_goes_where_the_reference_sends_it(choice: Choice, n: int) -> None:
    index, values = draw(0.3, 3, torch.float32)
    x = operand((SHAPE[1], n), "contiguous", 4, torch.float32)
    x[3, 0], x[9, n - 1], values[5] = torch.nan, torch.inf, -torch.inf
    got, want = computed(index, values, x, choice), reference.dsd(index, values.double(), x.double())
    assert want.isnan().any()
    assert not want.isnan().all()
    assert torch.equal(got.isnan(), want.isnan())
    assert torch.equal(got.isinf(), want.isinf())


@pytest.mark.parametrize(("width", "groups"), [(1, 1), (7, 3), (83, 1), (200, 90)])
def test_the_order_by_blocks_holds_every_element_once(width: int, groups: int) -> None:
    index, _ = draw(0.4, 5, torch.float32)
    crow, col = index.crow.numpy(), index.col.numpy()
    order = column_blocks(crow, col, SHAPE[1], width, groups, 4)
    assert order.bounds[0] == 0
    assert order.bounds[-1] == SHAPE[0]
    found, place = [], 0
    for group in range(order.groups):
        first, height = order.bounds[group], order.bounds[group + 1] - order.bounds[group]
        for block in range(order.blocks):
            assert order.starts[group, block] == place
            entries = slice(first * order.blocks + block * height, first * order.blocks + (block + 1) * height)
            assert sorted(order.rows[entries]) == list(range(height))
            assert (np.diff(order.counts[entries].astype(int)) >= 0).all()
            for row, count in zip(order.rows[entries], order.counts[entries], strict=True):
                found += [(first + row, block * width + c) for c in order.col[place : place + count].tolist()]
                place += int(count)
    assert sorted(found) == list(zip(index.rows().tolist(), col.tolist(), strict=True))


def test_the_order_by_blocks_is_counted_as_long_as_it_is_held() -> None:
    index, values = draw(0.4, 5, torch.float32)
    before = index.nbytes
    computed(index, values, torch.ones(SHAPE[1], 8), Choice(way="blocks", vectors=1))
    (held,) = index.__dict__["_blocks"].values()
    assert index.nbytes == before + held.nbytes > before + 2 * index.nnz
    assert index.column_blocks(held.width, held.groups, 4) is held  # ways that are tried in turn do not make it anew
    for groups in range(10, 20):
        index.column_blocks(5, groups, 4)
    assert len(index.__dict__["_blocks"]) == 3
    index.forget_column_blocks()
    assert index.nbytes == before


@pytest.mark.parametrize(("width", "groups"), [(0, 1), (WIDEST + 1, 1), (4, 0)])
def test_blocks_that_cannot_be(width: int, groups: int) -> None:
    index, _ = draw(0.4, 5, torch.float32)
    with pytest.raises(ValueError, match=r"expected blocks of 1 \.\. 65535 columns"):
        column_blocks(index.crow.numpy(), index.col.numpy(), SHAPE[1], width, groups, 4)


def test_small_products_are_not_measured_and_larger_ones_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def choose(device: str, key: str, candidates: list[Choice], trial: object, **more: float) -> Choice:
        asked.append(key)
        assert PANEL in candidates
        return PANEL

    monkeypatch.setattr(cpu_choice.chooser, "choose", choose)
    monkeypatch.setattr(cpu_choice, "_known", {})
    index, values = draw(0.4, 5, torch.float32)
    cpu.dsd(index, values, torch.ones(SHAPE[1], 16))
    assert asked == []
    x = torch.randn(SHAPE[1], 1 << 10)
    assert index.nnz * x.shape[1] >= cpu_choice.SMALL
    for _ in range(3):
        assert_close(cpu.dsd(index, values, x), index, values, x)
    assert asked == ["csr forward float32 2^6×2^7, 2^23/2 stored, n 1024 side by side, aligned"]


def test_what_is_wrong_never_enters_the_race() -> None:
    index, _ = draw(0.4, 5, torch.float32)
    x = torch.randn(SHAPE[1], 40)

    def wrong(index: RowIndex, values: Tensor, x: Tensor, out: Tensor, choice: Choice) -> None:
        cpu._compute(index, values, x, out, choice)
        out[-1, -1] += choice.vectors

    trial = cpu_choice.trial(index, x, wrong)
    assert trial.right(PANEL)
    assert not trial.right(Choice(way="rows", vectors=3))


def test_a_plan_is_made_again_for_another_number_of_threads_and_after_a_choice_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index, values = draw(0.4, 5, torch.float32)
    x = torch.randn(SHAPE[1], 9)
    cpu.dsd(index, values, x)
    (first,) = index.plans.values()
    cpu.dsd(index, values, x)
    assert next(iter(index.plans.values())) is first
    monkeypatch.setattr(jit, "threads", lambda: 7)
    cpu.dsd(index, values, x)
    second = next(iter(index.plans.values()))
    assert second is not first
    chooser.forget()
    assert_close(cpu.dsd(index, values, x), index, values, x)
    assert next(iter(index.plans.values())) is not second
    for n in range(1, 40):
        cpu.dsd(index, values, torch.ones(SHAPE[1], n))
    assert len(index.plans) <= 16
