"""Check the Triton kernels against dense float64 in the interpreter (on a GPU where there is one)."""

from __future__ import annotations

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before the kernels are imported: they are made for it then

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("triton")

from sparsebench.kernels.csr import layout, reference, segments
from sparsebench.kernels.csr import triton as kernels
from sparsebench.kernels.csr.layout import RowIndex

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# the interpreter's bfloat16 is not to be trusted (triton issue 4972); a GPU's is
DTYPES = [torch.float32, torch.float16] + ([torch.bfloat16] if DEVICE == "cuda" else [])


@pytest.fixture(autouse=True)
def _short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Split rows of more than 40 elements, so that matrices that the interpreter can do have split rows."""
    monkeypatch.setattr(layout, "cut", lambda starts: segments.cut(starts, longest=40))


def draw(
    shape: tuple[int, int], density: float, seed: int, dtype: torch.dtype, *, wide: bool = False
) -> tuple[Tensor, RowIndex, Tensor]:
    """Return a dense matrix, and the index and values of its elements; the first row is full, the fourth is empty."""
    generator = torch.Generator().manual_seed(seed)
    keep = torch.rand(shape, generator=generator) < density
    keep[:1], keep[3:4] = density > 0, False
    dense = ((torch.rand(shape, generator=generator) + 0.5).to(dtype) * keep).to(DEVICE)
    rows, columns = dense.nonzero(as_tuple=True)
    index = RowIndex.from_elements(rows, columns, shape)
    if wide:
        index = RowIndex(shape=shape, crow=index.crow.long(), col=index.col)
    return dense, index, dense[rows, columns]


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


def check(dense: Tensor, index: RowIndex, values: Tensor, x: Tensor, g: Tensor) -> None:
    (m, k), d = dense.shape, dense.double()
    assert_close(kernels.dsd(index, values, x), d @ x.double(), d.abs() @ x.double().abs(), k)
    back = kernels.dsd(index, values, g, transposed=True)
    assert_close(back, d.t() @ g.double(), d.t().abs() @ g.double().abs(), m)
    if x.dim() == 2:
        places = index.rows(), index.col.long()
        full, size = g.double() @ x.double().t(), g.double().abs() @ x.double().t().abs()
        assert_close(kernels.sdd(index, g, x.t()), full[places], size[places], x.shape[1])


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 50)),
    n=st.sampled_from([0, 1, 5, 66]),
    density=st.sampled_from([0.0, 0.2, 1.0]),
    dtype=st.sampled_from(DTYPES),
    kind=st.sampled_from(["contiguous", "transposed", "sliced"]),
    wide=st.booleans(),
    turned=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_products(
    shape: tuple[int, int],
    n: int,
    density: float,
    dtype: torch.dtype,
    kind: str,
    wide: bool,
    turned: bool,
    seed: int,
) -> None:
    m, k = shape[::-1] if turned else shape
    dense, index, values = draw((m, k), density, seed, dtype, wide=wide)
    check(dense, index, values, strided((k, n), kind, seed + 1, dtype), strided((m, n), kind, seed + 2, dtype))


def test_rows_of_every_length_class_and_split_ones() -> None:
    """Row i has the length lengths[i]; one bucket a power of two, and rows of 41 and 170 are split."""
    lengths = [0, 1, 3, 4, 5, 9, 17, 33, 40, 41, 170]
    dense = torch.zeros(len(lengths), 170, device=DEVICE)
    for row, length in enumerate(lengths):
        dense[row, 170 - length :] = strided((1, length), "contiguous", row, torch.float32)[0]
    rows, columns = dense.nonzero(as_tuple=True)
    index, values = RowIndex.from_elements(rows, columns, (11, 170)), dense[rows, columns]
    assert index.segments(False).split_row.tolist() == [9, 10]
    assert {bucket.longest for bucket in index.segments(False).whole} == {4, 8, 16, 32, 64}
    check(
        dense,
        index,
        values,
        strided((170, 3), "sliced", 1, torch.float32),
        strided((11, 3), "sliced", 2, torch.float32),
    )


@pytest.mark.parametrize("batch", [(2,), (2, 0), (2, 3)])
def test_batches(batch: tuple[int, ...]) -> None:
    dense, index, values = draw((5, 60), 0.4, 0, torch.float32)
    for kind in ("contiguous", "transposed"):
        x, g = strided((*batch, 60, 3), kind, 1, torch.float32), strided((*batch, 5, 3), kind, 2, torch.float32)
        check(dense, index, values, x, g)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # the interpreter is NumPy
def test_nan_and_infinity_go_where_dense_arithmetic_at_stored_places_sends_them() -> None:
    _, index, values = draw((7, 50), 0.3, 1, torch.float32)
    x, g = strided((50, 3), "contiguous", 1, torch.float32), strided((7, 3), "contiguous", 2, torch.float32)
    x[2, 0], x[7, 2], g[1, 0], g[5, 2] = torch.inf, torch.nan, -torch.inf, torch.nan
    values[4] = torch.nan
    for got, want in (
        (kernels.dsd(index, values, x), reference.dsd(index, values, x)),
        (kernels.dsd(index, values, g, transposed=True), reference.dsd(index, values, g, transposed=True)),
        (kernels.sdd(index, g, x.t()), reference.sdd(index, g, x.t())),
    ):
        assert not torch.isfinite(want).all()
        assert torch.isfinite(want).any()
        assert torch.equal(got.isnan(), want.isnan())
        assert torch.equal(got.isinf(), want.isinf())


def test_runs_repeat_bit_for_bit_and_the_bytes_held_are_told() -> None:
    _, index, values = draw((4, 130), 0.8, 1, torch.float32)
    own = 4 * (5 + index.nnz)
    assert index.nbytes == own
    x, g = strided((130, 5), "contiguous", 1, torch.float32), strided((4, 5), "contiguous", 2, torch.float32)
    first = kernels.dsd(index, values, x), kernels.dsd(index, values, g, transposed=True), kernels.sdd(index, g, x.t())
    assert index.segments(False).split_row.numel() > 0
    again = kernels.dsd(index, values, x), kernels.dsd(index, values, g, transposed=True), kernels.sdd(index, g, x.t())
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert index.nbytes == own + index.columns.nbytes + index.segments(False).nbytes + index.segments(True).nbytes


def test_offsets_past_two_to_the_31() -> None:
    """Rows of x and a lie 2^27 elements apart: the last of 20 starts past 2^31. Only what is read takes memory."""
    dense, index, values = draw((20, 20), 0.5, 0, torch.float16)
    memory = torch.empty(19 * 2**27 + 4, dtype=torch.float16, device=DEVICE)
    x = memory.as_strided((20, 4), (2**27, 1))
    x[:] = strided((20, 4), "contiguous", 1, torch.float16)
    check(dense, index, values, x, x)


def test_bad_operands_are_refused() -> None:
    _, index, values = draw((6, 20), 0.5, 0, torch.float32)
    with pytest.raises(ValueError, match=r"x of shape \(20, n\)"):
        kernels.dsd(index, values, torch.ones(19, 3, device=DEVICE))
    with pytest.raises(ValueError, match=r"in one of torch.float32, torch.float16, torch.bfloat16, got torch.float64"):
        kernels.dsd(index, values.double(), torch.ones(20, 3, device=DEVICE, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"a batch of at most 65535, got .* and 65536"):
        kernels.dsd(index, values, torch.ones(1, device=DEVICE).expand(65536, 20, 1))
