"""Check selection and products of sparse codes on the CPU, and their reference, against dense float64."""

from __future__ import annotations

from typing import Any

import numba
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparsebench.kernels.microkernels import host
from sparsebench.kernels.sparse_codes import cpu, cpu_choice, cpu_tiling, layout, products, reference
from sparsebench.kernels.sparse_codes.cpu_generated import Loop, function
from sparsebench.kernels.sparse_codes.layout import CodeIndex

DTYPES = cpu.DTYPES


def draw(n: int, units: int, k: int, seed: int, dtype: torch.dtype, *, ragged: bool, wide: bool = False) -> Any:
    """Return a dense code in float64, its index and its values; of ragged ones, row 0 is full and row 1 is empty."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(n, units, generator=generator).argsort(1)[:, :k]
    values = (torch.rand(n, k, generator=generator, dtype=torch.float64) + 0.5).to(dtype)
    places = order.sort(1).values
    if ragged and k:
        lengths = torch.randint(0, k + 1, (n,), generator=generator)
        lengths[:1], lengths[1:2] = k, 0
        places[torch.arange(k) >= lengths[:, None]] = units
    index = CodeIndex(shape=(n, units), places=places.to(torch.int64 if wide else torch.int32).contiguous())
    dense = torch.zeros(n, units + 1, dtype=torch.float64).scatter_(1, places, values.double())
    return dense[:, :units], index, values


def strided(rows: int, columns: int, kind: str, seed: int, dtype: torch.dtype) -> Tensor:
    """Return random numbers, contiguous, transposed, or every second row and third column of something larger."""
    generator = torch.Generator().manual_seed(seed)
    view = torch.randn((rows * 2, columns * 3), generator=generator, dtype=torch.float64).to(dtype)[::2, 1::3]
    return {"contiguous": view.contiguous(), "transposed": view.mT.contiguous().mT, "sliced": view}[kind]


def assert_close(got: Tensor, want: Tensor, magnitude: Tensor, terms: int) -> None:
    """Compare with a float64 result: sums are in float32 or float64, then rounded to memory once."""
    computed = torch.float64 if got.dtype == torch.float64 else torch.float32
    bound = magnitude * torch.finfo(computed).eps * (terms + 2) + want.abs() * torch.finfo(got.dtype).eps / 2
    bound += torch.finfo(got.dtype).smallest_normal
    assert got.shape == want.shape
    assert got.is_contiguous()
    assert ((got.double() - want).abs() <= bound).all()


def at_places(index: CodeIndex, full: Tensor) -> Tensor:
    """Return full (n, N) at the places (n, k), 0 in pads."""
    wider = torch.cat([full, full.new_zeros(len(full), 1)], dim=1)
    return wider.gather(1, index.places.long())


def check(kernels: Any, dense: Tensor, index: CodeIndex, values: Tensor, x: Tensor, e: Tensor) -> None:
    """Compare every product with the oracle `dense`; x (N, d) is the dictionary and e (n, d) the error."""
    wide_x, wide_e = x.double(), e.double()
    assert_close(kernels.decode(index, values, x), dense @ wide_x, dense.abs() @ wide_x.abs(), index.slots)
    back, size = dense.t() @ wide_e, dense.t().abs() @ wide_e.abs()
    assert_close(kernels.decode_dictionary(index, values, e), back, size, len(dense))
    sampled, size_at = at_places(index, wide_e @ wide_x.t()), at_places(index, wide_e.abs() @ wide_x.t().abs())
    assert_close(kernels.decode_values(index, e, x), sampled, size_at, x.shape[1])
    if kernels is not reference:
        units, rows = kernels.decode_active(index, values, e)
        assert torch.equal(units, (dense != 0).any(0).nonzero()[:, 0])
        assert_close(rows, back[units], size[units], len(dense))


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(0, 40),
    units=st.integers(1, 90),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    d=st.sampled_from([0, 1, 17, 130]),
    dtype=st.sampled_from(DTYPES),
    kind=st.sampled_from(["contiguous", "transposed", "sliced"]),
    ragged=st.booleans(),
    wide=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_products(
    n: int, units: int, share: float, d: int, dtype: torch.dtype, kind: str, ragged: bool, wide: bool, seed: int
) -> None:
    dense, index, values = draw(n, units, round(share * units), seed, dtype, ragged=ragged, wide=wide)
    check(cpu, dense, index, values, strided(units, d, kind, seed + 1, dtype), strided(n, d, kind, seed + 2, dtype))


@pytest.mark.parametrize("ragged", [False, True])
def test_the_reference(ragged: bool) -> None:
    dense, index, values = draw(7, 23, 5, 0, torch.float64, ragged=ragged)
    x, e = strided(23, 5, "sliced", 1, torch.float64), strided(7, 5, "transposed", 2, torch.float64)
    check(reference, dense, index, values, x, e)


@pytest.mark.parametrize(
    ("n", "d", "threads", "dtype"),
    [(64, 784, 2, torch.float32), (3, 1000, 3, torch.bfloat16), (50, 783, 3, torch.float32)],
)
def test_threads_share_rows_or_tiles_and_change_no_bit(
    n: int, d: int, threads: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Operands that fit the second-level cache, then ones that are said not to: with lines asked for ahead."""
    dense, index, values = draw(n, 120, 9, 3, dtype, ragged=True)
    x, e = strided(120, d, "contiguous", 1, dtype), strided(n, d, "contiguous", 2, dtype)
    got = []
    for size in (1 << 20, 120 * 2 * host.vector_bytes(), 1 << 10):  # near; a tile of eight vectors fits the third; none
        monkeypatch.setattr(cpu_tiling, "cache_bytes", lambda level, size=size: size if level == 2 else size * 8)
        cpu_tiling._tiling.cache_clear()
        assert (cpu_tiling.tiling(x, 120).ahead > 0) == (size < 1 << 20)
        monkeypatch.setattr(cpu, "_threads", lambda work, parts: max(1, min(threads, parts)))
        check(cpu, dense, index, values, x, e)
        got.append(cpu.decode(index, values, x))
        monkeypatch.setattr(cpu, "_threads", lambda work, parts: 1)
        assert torch.equal(cpu.decode(index, values, x), got[-1])
        assert torch.equal(cpu.decode_values(index, e, x), cpu.decode_values(index, e, x))
    cpu_tiling._tiling.cache_clear()


def test_many_units() -> None:
    """N = 131,072, of which few are active; the active form makes nothing of size (N, d)."""
    units, n, k, d = 131_072, 50, 32, 20
    x = torch.randn(n, units, generator=torch.Generator().manual_seed(0))
    values, places = products.select(x, k)
    best = x.topk(k).indices.sort(1).values
    assert torch.equal(places.long(), best)
    assert torch.equal(values, x.gather(1, best))
    w, e = strided(units, d, "contiguous", 1, torch.float32), strided(n, d, "contiguous", 2, torch.float32)
    picked = w[best].double()
    assert_close(
        products.decode(values, places, w),
        torch.einsum("nk,nkd->nd", values.double(), picked),
        torch.einsum("nk,nkd->nd", values.double().abs(), picked.abs()),
        k,
    )
    active, rows = products.decode_active(values, places, e, units)
    assert torch.equal(active, best.unique())
    assert torch.equal(products.decode_dictionary(values, places, e, units)[active], rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("n", "units"), [(1, 1), (4, 63), (3, 64), (2, 3000)])
@pytest.mark.parametrize("kind", ["normal", "level", "rounded", "zeros", "rising", "falling", "NaN", "infinite"])
def test_select(n: int, units: int, dtype: torch.dtype, kind: str) -> None:
    generator = torch.Generator().manual_seed(units)
    x = torch.randn(n, units, generator=generator, dtype=torch.float64)
    if kind == "level":  # all equal, then equal at the cut
        x[:], x[0, units // 2 :] = 0.25, 0.75
    elif kind == "rounded":
        x = x.round()
    elif kind == "zeros":  # −0 and 0 are equal
        x = -x.abs()
        x[:, ::3], x[:, 1::3] = 0.0, -0.0
    elif kind in ("rising", "falling"):
        x = x.sort(1, descending=kind == "falling").values
    elif kind == "NaN":
        x[:, ::5], x[:, ::7] = torch.nan, -torch.nan
    elif kind == "infinite":
        x[:, ::2], x[:, ::9] = -torch.inf, torch.inf
    x = x.to(dtype)
    for k in sorted({0, 1, min(8, units), min(37, units), units // 3, units - 1, units}):
        values, places = products.select(x, k)
        want_values, want_places = reference.select(x, k)
        assert torch.equal(places, want_places)
        assert torch.equal(values.nan_to_num(nan=7e4), want_values.nan_to_num(nan=7e4))
        assert places.dtype == torch.int32
        assert values.dtype == dtype


def test_select_where_all_candidates_lie_together() -> None:
    """The largest 200 share one group of those whose maxima give the floor: the floor is low and the scan adapts."""
    x = torch.rand(3, 10_000, generator=torch.Generator().manual_seed(0))
    x[:, ::64][:, :150] += torch.arange(150.0)
    for k in (4, 16, 100):
        assert torch.equal(products.select(x, k)[1], reference.select(x, k)[1])


def test_select_takes_any_strides_no_rows_and_leaves_x_alone() -> None:
    x = strided(9, 100, "contiguous", 0, torch.float32)
    before, (values, places) = x.clone(), products.select(x, 12)
    assert torch.equal(x, before)
    for view in (x.t().contiguous().t(), torch.stack([x, x], 2)[:, :, 0], torch.cat([x, x])[:9], x.requires_grad_()):
        got = products.select(view, 12)
        assert torch.equal(got[0], values)
        assert torch.equal(got[1], places)
        assert not got[0].requires_grad
    assert products.select(x[:0], 3)[0].shape == (0, 3)
    assert products.select(x[:, :0], 0)[1].shape == (9, 0)


def test_pads_are_never_read_and_stored_zeros_are() -> None:
    """NaN in every row of the dictionary that no entry picks, and in the values of pads, changes nothing."""
    dense, index, values = draw(20, 30, 4, 1, torch.float32, ragged=True)
    x, e = strided(30, 37, "contiguous", 1, torch.float32), strided(20, 37, "contiguous", 2, torch.float32)
    unused = ~(dense != 0).any(0)
    assert unused.any()
    clean = cpu.decode(index, values, x), cpu.decode_dictionary(index, values, e), cpu.decode_values(index, e, x)
    values[index.places == 30] = torch.nan
    x[unused] = torch.inf
    soiled = cpu.decode(index, values, x), cpu.decode_dictionary(index, values, e), cpu.decode_values(index, e, x)
    assert all(torch.equal(one, two) for one, two in zip(clean, soiled, strict=True))
    values[0, 0] = 0.0
    x[index.places[0, 0], 5] = torch.inf
    assert cpu.decode(index, values, x)[0].isnan().tolist() == [column == 5 for column in range(37)]


def test_what_surrounds_an_operand_is_neither_read_nor_written() -> None:
    dense, index, values = draw(40, 30, 6, 1, torch.float32, ragged=False)
    for d in (3, 13, 20, 67, 400):
        around_x, around_e = torch.full((30, d + 40), torch.nan), torch.full((40, d + 40), torch.nan)
        x, e = around_x[:, 3 : d + 3], around_e[:, 3 : d + 3]
        x[:], e[:] = strided(30, d, "contiguous", 1, torch.float32), strided(40, d, "contiguous", 2, torch.float32)
        check(cpu, dense, index, values, x, e)
        assert int(around_x.isnan().sum()) == 30 * 40


def test_offsets_past_two_to_the_31() -> None:
    """Rows of x and e lie 2^27 elements apart: the last of 20 starts past 2^31. Only what is read takes memory."""
    dense, index, values = draw(20, 20, 5, 0, torch.bfloat16, ragged=True)
    memory = torch.empty(19 * 2**27 + 4, dtype=torch.bfloat16)
    x = memory.as_strided((20, 4), (2**27, 1))
    x[:] = strided(20, 4, "contiguous", 1, torch.bfloat16)
    check(cpu, dense, index, values, x, x)


def test_products_take_tensors_or_an_index() -> None:
    _, index, values = draw(6, 20, 3, 0, torch.float32, ragged=False)
    x, e = strided(20, 8, "contiguous", 1, torch.float32), strided(6, 8, "contiguous", 2, torch.float32)
    for places in (index, index.places, index.places.long()):
        assert torch.equal(products.decode(values, places, x), cpu.decode(index, values, x))
        assert torch.equal(products.decode_dictionary(values, places, e, 20), cpu.decode_dictionary(index, values, e))
        assert torch.equal(products.decode_values(places, e, x), cpu.decode_values(index, e, x))
        units, rows = products.decode_active(values, places, e, 20)
        assert torch.equal(rows, cpu.decode_dictionary(index, values, e)[units])
    with pytest.raises(ValueError, match="among 21 units, got an index of 20"):
        products.decode_dictionary(values, index, e, 21)


@pytest.mark.parametrize(
    "places",
    [
        torch.tensor([[0, 5]]),  # out of range: 4 is a pad, 5 is nothing
        torch.tensor([[-1, 2]]),
        torch.tensor([[2, 1]]),
        torch.tensor([[2, 2]]),
        torch.tensor([[4, 2]]),  # a pad before an entry
        torch.tensor([[0.0, 1.0]]),
        torch.tensor([[0, 2], [1, 3]]).t(),
        torch.tensor([0, 1]),
    ],
)
def test_wrong_places_are_refused(places: Tensor) -> None:
    with pytest.raises(ValueError, match=r"^expected places .*, got [^\n]*$"):
        products.decode(torch.ones(places.shape), places, torch.ones(4, 3))


def test_bad_operands_are_refused() -> None:
    _, index, values = draw(6, 20, 3, 0, torch.float32, ragged=False)
    x, e = torch.ones(20, 8), torch.ones(6, 8)
    bad: dict[str, Any] = {
        r"k of 0 \.\. 20, the entries of a row, got 21": lambda: products.select(torch.ones(2, 20), 21),
        r"k of 0 \.\. 20, the entries of a row, got -1": lambda: products.select(torch.ones(2, 20), -1),
        r"x strided \(n, N\), got \(20,\)": lambda: products.select(torch.ones(20), 1),
        r"x in one of .*, got torch.int64": lambda: products.select(torch.ones(2, 20).long(), 1),
        r"contiguous values \(6, 3\) as the places are, got \(3, 6\)": lambda: cpu.decode(index, values.t(), x),
        r"dictionary strided \(20, d\) .*, got \(19, 8\)": lambda: cpu.decode(index, values, x[1:]),
        r"dictionary in torch.float32 as values is": lambda: cpu.decode(index, values, x.double()),
        r"error strided \(6, d\) .*, got \(5, 8\)": lambda: cpu.decode_dictionary(index, values, e[1:]),
        r"dictionary strided \(20, 8\) .*, got \(20, 7\)": lambda: cpu.decode_values(index, e, x[:, 1:]),
        r"a device of cpu, cuda, got 'meta'": lambda: products.select(torch.ones(2, 3, device="meta"), 1),
    }
    for message, call in bad.items():
        with pytest.raises(ValueError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_the_index_tells_what_it_holds() -> None:
    _, index, _ = draw(6, 20, 3, 0, torch.float32, ragged=True)
    assert index.nbytes == 6 * 3 * 4
    assert index.stored == int((index.places < 20).sum()) == int(index.lengths().sum())
    assert index.units.begin[-1] == index.stored
    assert index.nbytes == 6 * 3 * 4 + index.units.nbytes
    assert cpu.name(torch.bfloat16).endswith("numba, bfloat16 in float32")
    text = function(Loop(kind="gather", dtype="float32", lanes=8, vectors=2, lines=1))
    assert "fma.v8f32" in text
    assert "llvm.prefetch" in text
    assert numba.get_num_threads() >= 1


def test_places_are_judged_alike_here_and_on_a_gpu() -> None:
    rows = [[0, 1], [1, 0], [1, 1], [3, 4], [4, 4], [4, 3], [0, 5], [-1, 2], [2, -1], [0, 4]]
    for row in rows:
        places = torch.tensor([[0, 3], row])
        assert (
            layout.in_order(places, 4)
            == layout.in_order_by_torch(places, 4)
            == (row in ([0, 1], [3, 4], [4, 4], [0, 4]))
        )


def test_every_way_of_tiling_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large enough to be measured; whatever the race says, each way is right, and what is wrong does not enter it."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((300, 200), generator=generator)
    places = torch.stack([torch.randperm(300, generator=generator)[:20].sort().values for _ in range(300)]).int()
    index, values = layout.CodeIndex(shape=(300, 300), places=places), torch.randn((300, 20), generator=generator)
    want = reference.decode(index, values.double(), x.double())
    dots = reference.decode_values(index, want, x.double())
    asked: list[str] = []

    def choose(device: str, key: str, candidates: list[cpu_tiling.Way], trial: Any, **more: float) -> cpu_tiling.Way:
        asked.append(key)
        made = trial()
        assert len(candidates) > 1
        assert all(made.right(way) for way in candidates)
        monkeypatch.setattr(cpu_choice, "_TOLERANCE", {torch.float32: -1.0})
        assert not made.right(candidates[0])
        monkeypatch.undo()
        return candidates[-1]

    for product, expected in (
        (lambda: cpu.decode(index, values, x), want),
        (lambda: cpu.decode_values(index, want.float(), x), dots),
    ):
        monkeypatch.setattr(cpu_choice.chooser, "choose", choose)
        monkeypatch.setattr(cpu_choice, "_known", {})
        monkeypatch.setattr(cpu_tiling, "cache_bytes", lambda level: 1 << (4 + 4 * level))  # lines are asked for
        cpu_tiling._tiling.cache_clear()
        got = product()
        assert float((got - expected).abs().max()) < 1e-4 * float(expected.abs().max())
    cpu_tiling._tiling.cache_clear()
    assert [key.split()[1] for key in asked] == ["gather", "dots"]
