"""Check the Triton kernels of bitmaps against dense float64 in the interpreter (on a GPU where there is one)."""

from __future__ import annotations

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before the kernels are imported: they are made for it then

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("triton")

from sparsebench.kernels.bitmap import reference, triton_tiles
from sparsebench.kernels.bitmap import triton as kernels
from sparsebench.kernels.bitmap.layout import BitmapIndex, value_order

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# the interpreter's bfloat16 is not to be trusted (triton issue 4972); a GPU's is
DTYPES = [torch.float32, torch.float16] + ([torch.bfloat16] if DEVICE == "cuda" else [])


def draw(shape: tuple[int, int], density: float, seed: int, dtype: torch.dtype) -> tuple[Tensor, BitmapIndex, Tensor]:
    """Return a dense matrix, and the index and values of its elements; the first row is full, the fourth is empty."""
    generator = torch.Generator().manual_seed(seed)
    keep = torch.rand(shape, generator=generator) < density
    keep[:1], keep[3:4] = density > 0, False
    dense = ((torch.rand(shape, generator=generator) + 0.5).to(dtype) * keep).to(DEVICE)
    return dense, *stored(dense)


def stored(dense: Tensor) -> tuple[BitmapIndex, Tensor]:
    """Return the index and the values of what is not zero."""
    shape = (dense.shape[0], dense.shape[1])
    rows, columns = dense.nonzero(as_tuple=True)
    return BitmapIndex.from_elements(rows, columns, shape), dense[rows, columns][value_order(rows, columns, shape)]


def strided(shape: tuple[int, ...], kind: str, seed: int, dtype: torch.dtype) -> Tensor:
    """Return random numbers, contiguous, transposed, or every second row and third column of something larger."""
    generator = torch.Generator().manual_seed(seed)
    *batch, rows, columns = shape
    larger = torch.randn((*batch, rows * 2, columns * 3), generator=generator).to(DEVICE, dtype)
    view = larger[..., ::2, 1::3]
    return {"contiguous": view.contiguous(), "transposed": view.mT.contiguous().mT, "sliced": view}[kind]


def assert_close(got: Tensor, want: Tensor, magnitude: Tensor, terms: int) -> None:
    """Compare with a float64 result: sums are in float32, then the result is rounded to its dtype once."""
    bound = magnitude * torch.finfo(torch.float32).eps * (terms + 2) + want.abs() * torch.finfo(got.dtype).eps / 2
    bound += torch.finfo(got.dtype).smallest_normal
    assert got.shape == want.shape
    assert got.is_contiguous()
    assert ((got.double() - want).abs() <= bound).all()


def check(dense: Tensor, index: BitmapIndex, values: Tensor, x: Tensor, g: Tensor) -> None:
    """Check all three products, for x (..., k, n) and g (..., m, n)."""
    (m, k), d = dense.shape, dense.double()
    assert_close(kernels.dsd(index, values, x), d @ x.double(), d.abs() @ x.double().abs(), k)
    back = kernels.dsd(index, values, g, transposed=True)
    assert_close(back, d.t() @ g.double(), d.t().abs() @ g.double().abs(), m)
    if x.dim() == 2:
        places = index.places()
        full, size = g.double() @ x.double().t(), g.double().abs() @ x.double().t().abs()
        assert_close(kernels.sdd(index, g, x.t()), full[places], size[places], x.shape[1])


@settings(max_examples=10, deadline=None)
@given(
    shape=st.sampled_from([(1, 1), (3, 70), (5, 63), (9, 130), (66, 64)]),
    n=st.sampled_from([0, 1, 5, 8, 9, 40]),
    density=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    dtype=st.sampled_from(DTYPES),
    kind=st.sampled_from(["contiguous", "transposed", "sliced"]),
    turned=st.booleans(),
    seed=st.integers(0, 1000),
)
@example(shape=(9, 130), n=1, density=0.5, dtype=torch.float16, kind="transposed", turned=False, seed=1)
@example(shape=(70, 129), n=40, density=0.5, dtype=torch.float16, kind="sliced", turned=True, seed=1)
def test_products(
    shape: tuple[int, int], n: int, density: float, dtype: torch.dtype, kind: str, turned: bool, seed: int
) -> None:
    m, k = shape[::-1] if turned else shape
    dense, index, values = draw((m, k), density, seed, dtype)
    kept = values.clone()
    check(dense, index, values, strided((k, n), kind, seed + 1, dtype), strided((m, n), kind, seed + 2, dtype))
    assert torch.equal(values, kept)


@pytest.mark.parametrize("n", [1, 9])
def test_every_place_of_a_word(n: int) -> None:
    """One element a row, in column i of row i, and all but that: each bit is found, and each value behind it."""
    for dense in (torch.eye(68, device=DEVICE), 1 - torch.eye(68, device=DEVICE)):
        dense = dense * (torch.arange(68, device=DEVICE)[:, None] + 1)
        index, values = stored(dense)
        x, g = (strided((68, n), "contiguous", seed, torch.float32) for seed in (1, 2))
        check(dense, index, values, x, g)


@pytest.mark.parametrize("batch", [(2,), (2, 0), (2, 3)])
@pytest.mark.parametrize("n", [3, 17])
def test_batches(batch: tuple[int, ...], n: int) -> None:
    dense, index, values = draw((5, 70), 0.4, 0, torch.float32)
    kind = "transposed" if n == 3 else "contiguous"
    x, g = strided((*batch, 70, n), kind, 1, torch.float32), strided((*batch, 5, n), kind, 2, torch.float32)
    check(dense, index, values, x, g)


@pytest.mark.parametrize("n", [1, 17])
def test_sums_are_shared_out_where_tiles_are_few(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts cover the sum once, whatever their number."""
    dense, _, _ = draw((136, 140), 0.5, 4, torch.float16)
    x, g = strided((140, n), "contiguous", 1, torch.float16), strided((136, n), "contiguous", 2, torch.float16)
    asked = []
    for most in (1, 2, 3):

        def parts(tasks: int, steps: int, processors: int, most: int = most) -> int:
            asked.append(steps)
            return min(most, steps)

        monkeypatch.setattr(kernels, "parts_of", parts)
        check(dense, *stored(dense), x, g)
    assert max(asked) >= 3


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # the interpreter is NumPy
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("n", [3, 17])
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinity_go_where_dense_arithmetic_at_stored_places_sends_them(n: int, dtype: torch.dtype) -> None:
    _, index, values = draw((7, 80), 0.3, 1, dtype)
    x, g = strided((80, n), "contiguous", 1, dtype), strided((7, n), "contiguous", 2, dtype)
    x[2, 0], x[7, 2], g[1, 0], g[5, 2] = torch.inf, torch.nan, -torch.inf, torch.nan
    values[4], values[9] = torch.nan, 0.0
    for got, want in (
        (kernels.dsd(index, values, x), reference.dsd(index, values.float(), x.float())),
        (
            kernels.dsd(index, values, g, transposed=True),
            reference.dsd(index, values.float(), g.float(), transposed=True),
        ),
        (kernels.sdd(index, g, x.t()), reference.sdd(index, g.float(), x.t().float())),
    ):
        assert not torch.isfinite(want).all()
        assert torch.isfinite(want).any()
        assert torch.equal(got.isnan(), want.isnan())
        assert torch.equal(got.isinf(), want.isinf())
        right = torch.isfinite(want)
        assert torch.allclose(got.float()[right], want[right], rtol=0.01, atol=0.01)


def test_nothing_stored_and_no_elements() -> None:
    for shape in ((6, 70), (0, 70), (6, 0)):
        dense = torch.zeros(shape, device=DEVICE)
        index, values = stored(dense)
        for n in (0, 2, 20):
            check(dense, index, values, torch.ones(shape[1], n, device=DEVICE), torch.ones(shape[0], n, device=DEVICE))


def test_runs_repeat_bit_for_bit_and_the_bytes_held_are_told() -> None:
    _, index, values = draw((8, 130), 0.8, 1, torch.float32)
    assert kernels.table_bytes(index) == 0
    for n in (2, 20):
        x, g = strided((130, n), "contiguous", 1, torch.float32), strided((8, n), "contiguous", 2, torch.float32)

        def every(x: Tensor = x, g: Tensor = g) -> tuple[Tensor, ...]:
            back = kernels.dsd(index, values, g, transposed=True)
            return kernels.dsd(index, values, x), back, kernels.sdd(index, g, x.t())

        assert all(torch.equal(one, two) for one, two in zip(every(), every(), strict=True))
    assert kernels.table_bytes(index) == 4 * 2 * 3


def test_offsets_past_two_to_the_31() -> None:
    """Rows of x and a lie 2^27 elements apart: the last of 20 starts past 2^31. Only what is read takes memory."""
    dense, index, values = draw((20, 20), 0.5, 0, torch.float16)
    memory = torch.empty(19 * 2**27 + 12, dtype=torch.float16, device=DEVICE)
    for n in (4, 12):
        x = memory.as_strided((20, n), (2**27, 1))
        x[:] = strided((20, n), "contiguous", 1, torch.float16)
        check(dense, index, values, x, x)


def test_tiles_are_powers_of_two_and_parts_fill_a_device() -> None:
    for dtype in DTYPES:
        for n in (1, 3, 8, 9, 100, 5000):
            for transposed in (False, True):
                for tile in (
                    triton_tiles.narrow_tile(min(n, 8), n, transposed=transposed),
                    triton_tiles.product_tile(n, dtype, transposed=transposed),
                    triton_tiles.sampled_tile(n, dtype),
                ):
                    numbers = (tile.groups, tile.columns, tile.octets, tile.warps)
                    assert all(number & (number - 1) == 0 < number for number in numbers)
    assert triton_tiles.parts_of(1000, 64, 132) == 1
    assert triton_tiles.parts_of(64, 64, 132) == 8
    assert triton_tiles.parts_of(1, 3, 132) == 3


def test_bad_operands_are_refused() -> None:
    _, index, values = draw((6, 20), 0.5, 0, torch.float32)
    with pytest.raises(ValueError, match=r"x of shape \(20, n\)"):
        kernels.dsd(index, values, torch.ones(19, 3, device=DEVICE))
    with pytest.raises(ValueError, match=r"in one of torch.float32, torch.float16, torch.bfloat16, got torch.float64"):
        kernels.dsd(index, values.double(), torch.ones(20, 3, device=DEVICE, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"a batch of at most 65535, got .* and 65536"):
        kernels.dsd(index, values, torch.ones(1, device=DEVICE).expand(65536, 20, 1))
