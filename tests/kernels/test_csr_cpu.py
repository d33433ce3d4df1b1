"""Check the CPU products of CSR, and their reference, against dense float64."""

from __future__ import annotations

from types import ModuleType
from unittest import mock

import numba
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparsebench.kernels.csr import cpu, cpu_tiling, reference
from sparsebench.kernels.csr.cpu_generated import Loop, function
from sparsebench.kernels.csr.layout import RowIndex, dense_from_elements
from sparsebench.kernels.microkernels import host

DTYPES = cpu.DTYPES


def draw(
    shape: tuple[int, int], density: float, seed: int, dtype: torch.dtype, *, wide: bool = False
) -> tuple[Tensor, RowIndex, Tensor]:
    """Return a dense matrix, and the index and values of its elements; some rows are full and some are empty."""
    generator = torch.Generator().manual_seed(seed)
    keep = torch.rand(shape, generator=generator) < density
    keep[::7], keep[3::7] = density > 0, False
    dense = ((torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5) * keep).to(dtype)
    rows, columns = dense.nonzero(as_tuple=True)
    index = RowIndex.from_elements(rows, columns, shape)
    if wide:
        index = RowIndex(shape=shape, crow=index.crow.long(), col=index.col)
    return dense, index, dense[rows, columns]


def strided(shape: tuple[int, ...], kind: str, seed: int, dtype: torch.dtype) -> Tensor:
    """Return random numbers, contiguous, transposed, or every second row and third column of something larger."""
    generator = torch.Generator().manual_seed(seed)
    *batch, rows, columns = shape
    larger = torch.randn((*batch, rows * 2, columns * 3), generator=generator, dtype=torch.float64).to(dtype)
    view = larger[..., ::2, 1::3]
    return {"contiguous": view.contiguous(), "transposed": view.mT.contiguous().mT, "sliced": view}[kind]


def assert_close(got: Tensor, want: Tensor, magnitude: Tensor, terms: int) -> None:
    """Compare with a float64 result: sums are in float32 or float64, then rounded to memory once."""
    computed = torch.float64 if got.dtype == torch.float64 else torch.float32
    bound = magnitude * torch.finfo(computed).eps * (terms + 2) + want.abs() * torch.finfo(got.dtype).eps / 2
    bound += torch.finfo(got.dtype).smallest_normal
    assert got.shape == want.shape
    assert got.is_contiguous()
    assert ((got.double() - want).abs() <= bound).all()


def check(
    kernels: ModuleType, dense: Tensor, index: RowIndex, values: Tensor, x: Tensor, g: Tensor, threads: int = 1
) -> None:
    """Compare all three products; the threads are those of a larger matrix."""
    (m, k), d = dense.shape, dense.double()
    with mock.patch.object(cpu, "_row_threads", return_value=threads):
        forward, back = kernels.dsd(index, values, x), kernels.dsd(index, values, g, transposed=True)
        sampled = kernels.sdd(index, g, x.t()) if x.dim() == 2 else None
    assert_close(forward, d @ x.double(), d.abs() @ x.double().abs(), k)
    assert_close(back, d.t() @ g.double(), d.t().abs() @ g.double().abs(), m)
    if sampled is not None:
        places = index.rows(), index.col.long()
        full, size = g.double() @ x.double().t(), g.double().abs() @ x.double().t().abs()
        assert_close(sampled, full[places], size[places], x.shape[1])


@settings(max_examples=120, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    n=st.sampled_from([0, 1, 2, 3, 7, 16, 17, 40, 63, 64, 130]),
    density=st.sampled_from([0.0, 0.05, 0.4, 1.0]),
    dtype=st.sampled_from(DTYPES),
    kind=st.sampled_from(["contiguous", "transposed", "sliced"]),
    wide=st.booleans(),
    threads=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_products(
    shape: tuple[int, int], n: int, density: float, dtype: torch.dtype, kind: str, wide: bool, threads: int, seed: int
) -> None:
    dense, index, values = draw(shape, density, seed, dtype, wide=wide)
    assert torch.equal(dense_from_elements(index, values), dense)
    x, g = strided((shape[1], n), kind, seed + 1, dtype), strided((shape[0], n), kind, seed + 2, dtype)
    check(cpu, dense, index, values, x, g, threads)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_reference(dtype: torch.dtype) -> None:
    """In float64: the reference adds up in the dtype that it is given."""
    dense, index, values = draw((17, 23), 0.3, 0, dtype)
    x, g = strided((23, 5), "sliced", 1, dtype).double(), strided((17, 5), "sliced", 2, dtype).double()
    check(reference, dense.double(), index, values.double(), x, g)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [(1,), (3,), (2, 0), (2, 3)])
@pytest.mark.parametrize("kind", ["contiguous", "transposed", "sliced"])
def test_batches(dtype: torch.dtype, batch: tuple[int, ...], kind: str) -> None:
    dense, index, values = draw((30, 20), 0.4, 0, dtype)
    for n, threads in ((1, 1), (20, 2), (70, 3)):
        x, g = strided((*batch, 20, n), kind, 1, dtype), strided((*batch, 30, n), kind, 2, dtype)
        check(cpu, dense, index, values, x, g, threads)


def test_leading_dimensions_that_cannot_be_merged_and_expanded_ones() -> None:
    dense, index, values = draw((30, 20), 0.4, 0, torch.float32)
    x = strided((3, 2, 20, 5), "contiguous", 1, torch.float32).transpose(0, 1)
    assert_close(cpu.dsd(index, values, x), dense.double() @ x.double(), dense.double() @ x.double().abs(), 20)
    same = x[0, 0].expand(4, 20, 5)
    assert torch.equal(cpu.dsd(index, values, same)[3], cpu.dsd(index, values, x[0, 0]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [256, 300])
def test_many_tiles(dtype: torch.dtype, n: int) -> None:
    """Large enough for every thread, and for tiles of x that are packed."""
    dense, index, values = draw((200, 150), 0.2, 3, dtype)
    x, g = strided((150, n), "contiguous", 1, dtype), strided((200, n), "contiguous", 2, dtype)
    assert cpu_tiling.tiling(x, index.nnz, 150).packs
    check(cpu, dense, index, values, x, g, numba.get_num_threads())


def test_narrow_tiles_where_the_panel_is_tall(monkeypatch: pytest.MonkeyPatch) -> None:
    dense, index, values = draw((50, 90), 0.4, 3, torch.float32)
    x, g = strided((90, 100), "contiguous", 1, torch.float32), strided((50, 100), "contiguous", 2, torch.float32)
    widths = []
    for size in (1, 2 * 90 * host.vector_bytes(), 1 << 30):  # no panel fits; one of one vector, as wide as here; all do
        monkeypatch.setattr(cpu_tiling, "cache_bytes", lambda level, size=size: size)
        cpu_tiling._tiling.cache_clear()
        widths.append(cpu_tiling.tiling(x, index.nnz, 90).columns)
        check(cpu, dense, index, values, x, g, 2)
    cpu_tiling._tiling.cache_clear()
    assert widths[1] < widths[0] == widths[2]


def test_panels_of_many_threads_take_no_more_room_than_the_operands(monkeypatch: pytest.MonkeyPatch) -> None:
    dense, index, values = draw((200, 150), 0.3, 3, torch.float32)
    taken: list[int] = []
    real = torch.empty

    def spy(size: int | tuple[int, ...], *, dtype: torch.dtype) -> Tensor:
        made = real(size, dtype=dtype)
        taken.append(made.numel() if dtype == torch.uint8 else 0)
        return made

    for n in (130, 20):
        taken.clear()
        x, g = strided((150, n), "sliced", 1, torch.float32), strided((200, n), "sliced", 2, torch.float32)
        with monkeypatch.context() as patch:
            patch.setattr(torch, "empty", spy)
            check(cpu, dense, index, values, x, g, 64)
        room = index.nbytes + 4 * (values.numel() + x.numel() + g.numel())
        assert 0 < max(taken) <= room


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 3, 16, 70])
def test_nan_and_infinity_go_where_dense_arithmetic_at_stored_places_sends_them(dtype: torch.dtype, n: int) -> None:
    _, index, values = draw((20, 30), 0.4, 1, dtype)
    x, g = strided((30, n), "contiguous", 1, dtype), strided((20, n), "contiguous", 2, dtype)
    x[2, 0], x[7, n - 1], g[1, 0], g[5, n - 1] = torch.inf, torch.nan, -torch.inf, torch.nan
    values[4], values[9] = torch.nan, -torch.inf
    for got, want in (
        (cpu.dsd(index, values, x), reference.dsd(index, values.double(), x.double())),
        (
            cpu.dsd(index, values, g, transposed=True),
            reference.dsd(index, values.double(), g.double(), transposed=True),
        ),
        (cpu.sdd(index, g, x.t()), reference.sdd(index, g.double(), x.double().t())),
    ):
        assert not torch.isfinite(want).all()
        assert torch.isfinite(want).any()
        assert torch.equal(got.isnan(), want.isnan())
        assert torch.equal(got.isposinf(), want.isposinf())
        assert torch.equal(got.isneginf(), want.isneginf())


def test_what_surrounds_an_operand_is_neither_read_nor_written() -> None:
    """Columns 3 .. 22 of wide rows of NaN: a vector that reaches over an edge would bring one in."""
    dense, index, values = draw((40, 30), 0.4, 1, torch.float32)
    for n in (3, 13, 20, 67):
        around_x, around_g = torch.full((30, n + 40), torch.nan), torch.full((40, n + 40), torch.nan)
        x, g = around_x[:, 3 : n + 3], around_g[:, 3 : n + 3]
        x[:], g[:] = strided((30, n), "contiguous", 1, torch.float32), strided((40, n), "contiguous", 2, torch.float32)
        check(cpu, dense, index, values, x, g, 2)
        assert int(around_x.isnan().sum()) == 30 * 40


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_runs_repeat_bit_for_bit(threads: int) -> None:
    _, index, values = draw((300, 200), 0.3, 1, torch.float32)
    for n in (1, 16, 130):
        x, g = strided((200, n), "contiguous", 1, torch.float32), strided((300, n), "contiguous", 2, torch.float32)
        with mock.patch.object(cpu, "_row_threads", return_value=threads):
            runs = [
                (cpu.dsd(index, values, x), cpu.dsd(index, values, g, transposed=True), cpu.sdd(index, g, x.t()))
                for _ in range(3)
            ]
        for run in runs[1:]:
            assert all(torch.equal(one, two) for one, two in zip(run, runs[0], strict=True))


def test_operands_with_gradients_and_matrices_without_rows_or_columns() -> None:
    _, index, values = draw((8, 9), 0.5, 1, torch.float32)
    values.requires_grad_()
    assert not cpu.dsd(index, values, torch.ones(9, 2, requires_grad=True)).requires_grad
    for m, k in ((0, 5), (5, 0), (0, 0)):
        empty = RowIndex(shape=(m, k), crow=torch.zeros(m + 1, dtype=torch.int32), col=torch.zeros(0).int())
        none = torch.zeros(0)
        assert torch.equal(cpu.dsd(empty, none, torch.ones(k, 3)), torch.zeros(m, 3))
        assert torch.equal(cpu.dsd(empty, none, torch.ones(m, 3), transposed=True), torch.zeros(k, 3))
        assert cpu.sdd(empty, torch.ones(m, 3), torch.ones(3, k)).shape == (0,)


def test_offsets_past_two_to_the_31() -> None:
    """Rows of x and a lie 2^27 elements apart: the last of 20 starts past 2^31. Only what is read takes memory."""
    dense, index, values = draw((20, 20), 0.5, 0, torch.bfloat16)
    memory = torch.empty(19 * 2**27 + 4, dtype=torch.bfloat16)
    x = memory.as_strided((20, 4), (2**27, 1))
    x[:] = strided((20, 4), "contiguous", 1, torch.bfloat16)
    check(cpu, dense, index, values, x, x)


def test_a_matrix_of_two_to_the_33_elements() -> None:
    shape = (2**20, 2**13)
    rows, columns = torch.tensor([3, 2**20 - 1, 2**20 - 1]), torch.tensor([2**13 - 1, 0, 2**13 - 1])
    index, values = RowIndex.from_elements(rows, columns, shape), torch.tensor([1.0, 2.0, 3.0])
    x = torch.arange(1.0, 2**13 + 1)[:, None]
    product = cpu.dsd(index, values, x)
    assert product[3].item() == 2**13
    assert product[-1].item() == 2 + 3 * 2**13
    assert product.count_nonzero() == 2
    back = cpu.dsd(index, values, product, transposed=True)
    assert back[0].item() == 2 * product[-1].item()
    assert back.count_nonzero() == 2


def test_the_name_tells_vectors_and_what_halves_are_computed_in() -> None:
    assert cpu.name(torch.float64).endswith("-bit loops, numba")
    assert cpu.name(torch.bfloat16).endswith("numba, bfloat16 in float32")
    assert "fma.v8f32" in function(Loop(kind="forward", dtype="float32", lanes=8, vectors=2))
