"""Check the Triton kernels of sparse codes in the interpreter (on a GPU where there is one), against float64."""

from __future__ import annotations

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before the kernels are imported: they are made for it then

import pytest
from torch import Tensor

pytest.importorskip("triton")

from sparsebench.kernels.sparse_codes import reference
from sparsebench.kernels.sparse_codes import triton as kernels
from sparsebench.kernels.sparse_codes.layout import CodeIndex

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# the interpreter's bfloat16 is not to be trusted (triton issue 4972); a GPU's is
DTYPES = [torch.float32, torch.float16] + ([torch.bfloat16] if DEVICE == "cuda" else [])


def draw(
    n: int, units: int, k: int, seed: int, dtype: torch.dtype, *, ragged: bool, wide: bool
) -> tuple[Tensor, CodeIndex, Tensor]:
    """Return a dense code in float64, its index and its values; of ragged ones, row 0 is full and row 1 is empty."""
    generator = torch.Generator().manual_seed(seed)
    places = torch.rand(n, units, generator=generator).argsort(1)[:, :k].sort(1).values
    values = (torch.rand(n, k, generator=generator) + 0.5).to(dtype)
    if ragged and k:
        lengths = torch.randint(0, k + 1, (n,), generator=generator)
        lengths[:1], lengths[1:2] = k, 0
        places[torch.arange(k) >= lengths[:, None]] = units
    dense = torch.zeros(n, units + 1, dtype=torch.float64).scatter_(1, places, values.double())[:, :units]
    held = places.to(torch.int64 if wide else torch.int32).contiguous().to(DEVICE)
    return dense.to(DEVICE), CodeIndex(shape=(n, units), places=held), values.to(DEVICE)


def strided(rows: int, columns: int, kind: str, seed: int, dtype: torch.dtype) -> Tensor:
    """Return random numbers, contiguous, transposed, or every second row and third column of something larger."""
    generator = torch.Generator().manual_seed(seed)
    view = torch.randn((rows * 2, columns * 3), generator=generator).to(DEVICE, dtype)[::2, 1::3]
    return {"contiguous": view.contiguous(), "transposed": view.mT.contiguous().mT, "sliced": view}[kind]


def assert_close(got: Tensor, want: Tensor, magnitude: Tensor, terms: int) -> None:
    """Compare with a float64 result: sums are in float32, then the result is rounded to its dtype once."""
    bound = magnitude * torch.finfo(torch.float32).eps * (terms + 2) + want.abs() * torch.finfo(got.dtype).eps / 2
    bound += torch.finfo(got.dtype).smallest_normal
    assert got.shape == want.shape
    assert got.is_contiguous()
    assert ((got.double() - want).abs() <= bound).all()


def check(dense: Tensor, index: CodeIndex, values: Tensor, x: Tensor, e: Tensor) -> None:
    x64, e64 = x.double(), e.double()
    assert_close(kernels.decode(index, values, x), dense @ x64, dense @ x64.abs(), index.slots)
    back, size = dense.t() @ e64, dense.t() @ e64.abs()
    assert_close(kernels.decode_dictionary(index, values, e), back, size, len(dense))
    units, rows = kernels.decode_active(index, values, e)
    assert torch.equal(units, (dense != 0).any(0).nonzero()[:, 0])
    assert_close(rows, back[units], size[units], len(dense))
    at = index.places.long()
    full, scale = e64 @ x64.t(), e64.abs() @ x64.abs().t()
    sampled, sizes = (torch.cat([part, part.new_zeros(len(part), 1)], 1).gather(1, at) for part in (full, scale))
    assert_close(kernels.decode_values(index, e, x), sampled, sizes, x.shape[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("n", "units", "k", "d", "kind", "ragged", "wide"),
    [
        (5, 23, 7, 3, "contiguous", False, False),
        (4, 40, 40, 1, "sliced", False, True),
        (6, 50, 19, 130, "transposed", True, False),
        (3, 9, 1, 300, "sliced", True, True),
        (3, 9, 0, 5, "contiguous", False, False),
        (0, 9, 2, 5, "contiguous", False, False),
        (3, 9, 2, 0, "contiguous", False, False),
        (40, 3, 2, 17, "contiguous", True, False),  # more codes than units: long rows in the order by units
    ],
)
def test_products(n: int, units: int, k: int, d: int, kind: str, ragged: bool, wide: bool, dtype: torch.dtype) -> None:
    dense, index, values = draw(n, units, k, d, dtype, ragged=ragged, wide=wide)
    check(dense, index, values, strided(units, d, kind, 1, dtype), strided(n, d, kind, 2, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("units", "block"), [(61, 64), (70, 64)])
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # the interpreter is NumPy
def test_select(units: int, block: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that stay in registers, and longer ones that are read in pieces: as many here as the interpreter can do."""
    monkeypatch.setattr(kernels, "RESIDENT", block)
    monkeypatch.setattr(kernels, "CHUNK", block)
    x = torch.randn(8, units, generator=torch.Generator().manual_seed(units))
    x[1] = 0.25  # all equal
    x[2], x[2, units // 2 :] = 0.25, 0.75  # equal at the cut
    x[3] = x[3].round()
    x[4, ::3], x[4, 1::3] = 0.0, -0.0  # these are equal
    x[4] = -x[4].abs()
    x[5] = x[5].sort().values
    x[6, ::5], x[6, ::7] = torch.nan, -torch.nan
    x[7, ::2], x[7, ::9] = -torch.inf, torch.inf
    x = x.to(DEVICE, dtype)
    for k in (units // 3, units - 1):
        values, places = kernels.select(x, k)
        want_values, want_places = reference.select(x, k)
        assert torch.equal(places, want_places)
        assert torch.equal(values.nan_to_num(nan=7e4), want_values.nan_to_num(nan=7e4))


def test_select_of_any_strides_of_few_and_of_none() -> None:
    x = strided(3, 11, "contiguous", 0, torch.float32)
    values, places = kernels.select(x, 4)
    for view in (x.t().contiguous().t(), torch.stack([x, x], 2)[:, :, 0]):
        assert torch.equal(kernels.select(view, 4)[0], values)
        assert torch.equal(kernels.select(view, 4)[1], places)
    assert torch.equal(kernels.select(x[:, :1], 1)[0], x[:, :1])
    assert kernels.select(x, 0)[1].shape == (3, 0)
    assert kernels.select(x[:0], 4)[1].shape == (0, 4)


def test_select_of_very_many(monkeypatch: pytest.MonkeyPatch) -> None:
    if DEVICE == "cpu":  # its time goes by steps, not by entries; compiled, such steps take 15 s to compile
        monkeypatch.setattr(kernels, "CHUNK", 1 << 15)
    x = torch.randn(1, 131_072, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    values, places = kernels.select(x, 200)
    best = x.topk(200).indices.sort(1).values
    assert torch.equal(places.long(), best)
    assert torch.equal(values, x.gather(1, best))


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # the interpreter is NumPy
def test_pads_are_never_read_and_stored_zeros_are() -> None:
    dense, index, values = draw(9, 20, 3, 1, torch.float32, ragged=True, wide=False)
    x, e = strided(20, 7, "contiguous", 1, torch.float32), strided(9, 7, "contiguous", 2, torch.float32)
    unused = ~(dense != 0).any(0)
    assert unused.any()
    products = (
        lambda: kernels.decode(index, values, x),
        lambda: kernels.decode_dictionary(index, values, e),
        lambda: kernels.decode_values(index, e, x),
    )
    clean = [product() for product in products]
    values[index.places == 20] = torch.nan
    x[unused] = torch.inf
    assert all(torch.equal(product(), want) for product, want in zip(products, clean, strict=True))
    values[0, 0] = 0.0
    x[index.places[0, 0].item(), 5] = torch.inf
    assert kernels.decode(index, values, x)[0].isnan().tolist() == [column == 5 for column in range(7)]


def test_runs_repeat_bit_for_bit() -> None:
    _, index, values = draw(30, 6, 4, 1, torch.float32, ragged=True, wide=False)
    x, e = strided(6, 33, "contiguous", 1, torch.float32), strided(30, 33, "contiguous", 2, torch.float32)
    runs = [
        (
            kernels.decode(index, values, x),
            kernels.decode_dictionary(index, values, e),
            kernels.decode_values(index, e, x),
        )
        for _ in range(2)
    ]
    assert all(torch.equal(one, two) for one, two in zip(*runs, strict=True))


def test_offsets_past_two_to_the_31() -> None:
    """Rows of x and e lie 2^27 elements apart: the last of 20 starts past 2^31. Only what is read takes memory."""
    dense, index, values = draw(20, 20, 5, 0, torch.float16, ragged=True, wide=False)
    memory = torch.empty(19 * 2**27 + 40, dtype=torch.float16, device=DEVICE)
    x = memory.as_strided((20, 40), (2**27, 1))
    x[:] = strided(20, 40, "contiguous", 1, torch.float16)
    check(dense, index, values, x, x)
    assert torch.equal(kernels.select(x, 4)[1], reference.select(x, 4)[1])


def test_bad_operands_are_refused() -> None:
    _, index, values = draw(6, 20, 3, 0, torch.float32, ragged=False, wide=False)
    with pytest.raises(ValueError, match=r"dictionary strided \(20, d\) .*, got \(19, 3\)"):
        kernels.decode(index, values, torch.ones(19, 3, device=DEVICE))
    with pytest.raises(ValueError, match=r"in one of torch.float32, torch.float16, torch.bfloat16, got torch.float64"):
        kernels.decode(index, values.double(), torch.ones(20, 3, device=DEVICE, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"k of 0 \.\. 20, the entries of a row, got 21"):
        kernels.select(torch.ones(3, 20, device=DEVICE), 21)
