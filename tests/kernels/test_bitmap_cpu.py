"""Check the CPU products of bitmaps against dense float64, in every way that this processor has."""

from __future__ import annotations

import os
import subprocess
import sys

import numba
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparsebench.kernels.bitmap import cpu, cpu_plan, reference
from sparsebench.kernels.bitmap.cpu_launch import Choice, choose
from sparsebench.kernels.bitmap.cpu_ways import BITS, ways
from sparsebench.kernels.bitmap.dense import expand, gather, pack
from sparsebench.kernels.bitmap.layout import BitmapIndex, dense_from_bits
from sparsebench.kernels.common import pool

CHOICES = [
    Choice(way=way, registers=registers, fused=fused, panel=panel)
    for dtype in cpu.DTYPES
    for way in ways(str(dtype).removeprefix("torch."))
    for registers, fused, panel in ((64, 0, 1), (0, 0, 1 << 12), (0, 0, 1 << 20), (0, 64, 1))
    if fused == 0 or dtype.itemsize > 2
]
"""In registers only, and in small and large panels only."""


def dtype_of(choice: Choice) -> torch.dtype:
    found: torch.dtype = getattr(torch, choice.way.dtype)
    return found


def draw(shape: tuple[int, int], density: float, seed: int, dtype: torch.dtype) -> tuple[Tensor, BitmapIndex, Tensor]:
    """Return a dense matrix, and the index and values of its elements; some rows are full and some are empty."""
    generator = torch.Generator().manual_seed(seed)
    keep = torch.rand(shape, generator=generator) < density
    keep[::7], keep[3::7] = density > 0, False
    dense = ((torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5) * keep).to(dtype)
    return dense, *pack(dense)


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


def check(dense: Tensor, index: BitmapIndex, values: Tensor, x: Tensor, g: Tensor, choice: Choice | None) -> None:
    """Compare all three products."""
    (m, k), d = dense.shape, dense.double()
    forward = cpu.dsd(index, values, x, choice=choice)
    back = cpu.dsd(index, values, g, transposed=True, choice=choice)
    assert_close(forward, d @ x.double(), d.abs() @ x.double().abs(), k)
    assert_close(back, d.t() @ g.double(), d.t().abs() @ g.double().abs(), m)
    if x.dim() == 2:
        places = index.places()
        full, size = g.double() @ x.double().t(), g.double().abs() @ x.double().t().abs()
        assert_close(cpu.sdd(index, g, x.t(), choice=choice), full[places], size[places], x.shape[1])


@settings(max_examples=100, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 200)),
    n=st.sampled_from([0, 1, 2, 3, 4, 5, 7, 8, 13, 40]),
    density=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    choice=st.sampled_from(CHOICES),
    kind=st.sampled_from(["contiguous", "transposed", "sliced"]),
    seed=st.integers(0, 1000),
)
def test_products(shape: tuple[int, int], n: int, density: float, choice: Choice, kind: str, seed: int) -> None:
    dtype = dtype_of(choice)
    dense, index, values = draw(shape, density, seed, dtype)
    assert torch.equal(dense_from_bits(index, values), dense)
    assert torch.equal(expand(index, values), dense)
    assert torch.equal(gather(index, dense), values)
    x, g = strided((shape[1], n), kind, seed + 1, dtype), strided((shape[0], n), kind, seed + 2, dtype)
    check(dense, index, values, x, g, choice)


@pytest.mark.parametrize("threads", [1, numba.get_num_threads()])
@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: f"{choice.way.dtype} {choice.name} {choice.panel}")
def test_enough_work_for_every_thread(choice: Choice, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_plan, "_THREAD", 1)
    monkeypatch.setattr(pool, "threads", lambda: threads)
    dtype = dtype_of(choice)
    dense, index, values = draw((302, 515), 0.4, 3, dtype)
    for n in (1, 6):
        check(
            dense,
            index,
            values,
            strided((515, n), "contiguous", 1, dtype),
            strided((302, n), "sliced", 2, dtype),
            choice,
        )


@pytest.mark.parametrize("dtype", cpu.DTYPES)
@pytest.mark.parametrize("batch", [(1,), (3,), (2, 0), (2, 3)])
@pytest.mark.parametrize("kind", ["contiguous", "transposed", "sliced"])
def test_batches(dtype: torch.dtype, batch: tuple[int, ...], kind: str) -> None:
    dense, index, values = draw((30, 70), 0.4, 0, dtype)
    for n in (1, 20):
        x, g = strided((*batch, 70, n), kind, 1, dtype), strided((*batch, 30, n), kind, 2, dtype)
        check(dense, index, values, x, g, None)


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: f"{choice.way.dtype} {choice.name} {choice.panel}")
@pytest.mark.parametrize("n", [1, 3, 40])
def test_nan_and_infinity_go_where_stored_elements_send_them(choice: Choice, n: int) -> None:
    dtype = dtype_of(choice)
    _, index, values = draw((20, 130), 0.4, 1, dtype)
    x, g = strided((130, n), "contiguous", 1, dtype), strided((20, n), "contiguous", 2, dtype)
    x[2, 0], x[7, n - 1], g[1, 0], g[5, n - 1] = torch.inf, torch.nan, -torch.inf, torch.nan
    values[4], values[9] = torch.nan, -torch.inf
    for got, want in (
        (cpu.dsd(index, values, x, choice=choice), reference.dsd(index, values.double(), x.double())),
        (
            cpu.dsd(index, values, g, transposed=True, choice=choice),
            reference.dsd(index, values.double(), g.double(), transposed=True),
        ),
        (cpu.sdd(index, g, x.t(), choice=choice), reference.sdd(index, g.double(), x.double().t())),
    ):
        assert not torch.isfinite(want).all()
        assert torch.isfinite(want).any()
        assert torch.equal(got.isnan(), want.isnan())
        assert torch.equal(got.isposinf(), want.isposinf())
        assert torch.equal(got.isneginf(), want.isneginf())


@pytest.mark.parametrize("dtype", cpu.DTYPES)
def test_zeros_of_both_signs_and_denormals_are_kept_where_they_are_stored(dtype: torch.dtype) -> None:
    dense, index, values = draw((20, 130), 0.4, 1, dtype)
    tiny = torch.finfo(dtype).smallest_normal / 4
    values[0], values[1], values[2], values[-1] = 0.0, -0.0, tiny, -tiny
    for made in (expand(index, values), dense_from_bits(index, values)):
        again = gather(index, made)
        assert torch.equal(again, values)
        assert torch.equal(again.signbit(), values.signbit())
        assert int((made != 0).sum()) == int((dense != 0).sum()) - 2
    if dtype != torch.float64:
        x = torch.ones(130, 1, dtype=dtype)
        assert_close(
            cpu.dsd(index, values, x),
            expand(index, values).double().sum(1, keepdim=True),
            dense.double().sum(1, keepdim=True),
            130,
        )


def test_values_end_where_memory_does() -> None:
    """A vector that reaches behind the last value would bring a NaN in, or fault at the end of a page."""
    for choice in CHOICES:
        dtype = dtype_of(choice)
        for density in (0.1, 1.0):
            dense, index, values = draw((13, 70), density, 5, dtype)
            around = torch.full((values.numel() + 64,), torch.nan, dtype=dtype)
            around[: values.numel()] = values
            x, g = strided((70, 3), "contiguous", 1, dtype), strided((13, 3), "contiguous", 2, dtype)
            check(dense, index, around[: values.numel()], x, g, choice)
            assert int(around.isnan().sum()) == 64


@pytest.mark.parametrize("n", [1, 16, 130])
def test_runs_repeat_bit_for_bit(n: int) -> None:
    _, index, values = draw((300, 200), 0.3, 1, torch.float32)
    x, g = strided((200, n), "contiguous", 1, torch.float32), strided((300, n), "contiguous", 2, torch.float32)
    assert torch.equal(cpu.dsd(index, values, x), cpu.dsd(index, values, x))
    assert torch.equal(cpu.dsd(index, values, g, transposed=True), cpu.dsd(index, values, g, transposed=True))


def test_every_processor_has_a_way_and_names_it() -> None:
    for dtype in cpu.DTYPES:
        found = ways(str(dtype).removeprefix("torch."))
        assert found[-1].kind == BITS
        assert choose(dtype).way == found[0]
        assert found[0].kind in cpu.name(dtype)
        assert 64 % found[0].places == 0


@pytest.mark.parametrize(
    ("values", "x", "message"),
    [
        (torch.ones(3), torch.ones(3, 7), r"x of shape \(4, n\), got \(3, 7\)"),
        (torch.ones(2), torch.ones(4, 7), r"values of shape \(3\), got \(2,\)"),
        (torch.ones(6)[::2], torch.ones(4, 7), "contiguous values"),
        (torch.ones(3), torch.ones(4, 7, dtype=torch.float64), "x in torch.float32 as values is"),
        (torch.ones(3, dtype=torch.int32), torch.ones(4, 7, dtype=torch.int32), "values in one of torch.float32"),
    ],
)
def test_bad_operands_are_refused(values: Tensor, x: Tensor, message: str) -> None:
    index = BitmapIndex.from_elements(torch.tensor([0, 0, 2]), torch.tensor([1, 3, 0]), (3, 4))
    with pytest.raises(ValueError, match=message):
        cpu.dsd(index, values, x)
    with pytest.raises(ValueError, match=r"expected a matrix of \(3, 4\)"):
        gather(index, torch.ones(4, 3))
    with pytest.raises(ValueError, match=r"b of shape \(7, 4\)"):
        cpu.sdd(index, torch.ones(3, 7), torch.ones(7, 3))


def test_code_for_older_processors() -> None:
    """Loops of numba made for a processor without AVX-512, and torch's kernels too; ours are asked for by way."""
    source = """
import torch
from sparsebench.kernels.bitmap import cpu
from sparsebench.kernels.bitmap.cpu_launch import Choice
from sparsebench.kernels.bitmap.cpu_ways import ways
from sparsebench.kernels.bitmap.dense import pack
generator = torch.Generator().manual_seed(0)
dense = torch.randn(30, 150, generator=generator) * (torch.rand(30, 150, generator=generator) < 0.5)
index, values = pack(dense)
x = torch.randn(150, 3, generator=generator)
for way in ways("float32"):
    for registers in (0, 8):
        got = cpu.dsd(index, values, x, choice=Choice(way=way, registers=registers, fused=0, panel=1))
        torch.testing.assert_close(got, dense @ x)
"""
    environment = {**os.environ, "NUMBA_CPU_NAME": "haswell", "ATEN_CPU_CAPABILITY": "avx2"}
    done = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
