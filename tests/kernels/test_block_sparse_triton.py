"""Check the Triton products against dense float64, in the interpreter, or on a GPU where there is one."""

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

from sparsebench.kernels.block_sparse import reference
from sparsebench.kernels.block_sparse import triton as kernels
from sparsebench.kernels.block_sparse.layout import BlockIndex, blocks_from_elements
from sparsebench.kernels.block_sparse.triton_launch import splits_rows

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# the interpreter's bfloat16 is not to be trusted (triton issue 4972); a GPU's is
DTYPES = [torch.float32, torch.float16] + ([torch.bfloat16] if DEVICE == "cuda" else [])


@pytest.fixture(scope="module", autouse=True)
def _own_choices(tmp_path_factory: pytest.TempPathFactory) -> object:
    """Keep what is tuned here out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def draw(
    shape: tuple[int, int], block: tuple[int, int], density: float, seed: int, dtype: torch.dtype
) -> tuple[Tensor, BlockIndex, Tensor]:
    """Return a dense matrix, and the index and values of its blocks."""
    generator = torch.Generator().manual_seed(seed)
    grid = (-(-shape[0] // block[0]), -(-shape[1] // block[1]))
    keep = torch.rand(grid, generator=generator) < density
    mask = keep.repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)[: shape[0], : shape[1]]
    dense = ((torch.rand(shape, generator=generator) + 0.5).to(dtype) * mask).to(DEVICE)
    rows, columns = dense.nonzero(as_tuple=True)
    return dense, *blocks_from_elements(rows, columns, dense[rows, columns], shape, block)


def strided(shape: tuple[int, ...], kind: str, seed: int, dtype: torch.dtype) -> Tensor:
    """Return random numbers, contiguous, transposed, every second row and third column, or one matrix over and over."""
    generator = torch.Generator().manual_seed(seed)
    *batch, rows, columns = shape
    larger = torch.randn((*batch, rows * 2, columns * 3), generator=generator).to(DEVICE, dtype)
    view = larger[..., ::2, 1::3]
    if kind == "repeated":
        return view[(0,) * len(batch)].contiguous().expand(shape)
    return {"contiguous": view.contiguous(), "transposed": view.mT.contiguous().mT, "sliced": view}[kind]


def assert_close(got: Tensor, want: Tensor, magnitude: Tensor, terms: int) -> None:
    """Compare with a float64 result: sums are in float32, then the result is rounded to its dtype once."""
    bound = magnitude * torch.finfo(torch.float32).eps * (terms + 2) + want.abs() * torch.finfo(got.dtype).eps
    bound += torch.finfo(got.dtype).smallest_normal * torch.finfo(got.dtype).eps  # subnormal numbers stand so far apart
    assert got.shape == want.shape
    assert got.is_contiguous()
    assert ((got.double() - want).abs() <= bound).all()


def assert_products(dense: Tensor, index: BlockIndex, values: Tensor, x: Tensor, g: Tensor) -> None:
    """Check all three products both ways round, for x (..., k, n) and g (..., m, n)."""
    m, k = dense.shape
    d, wide, g_wide = dense.double(), x.double(), g.double()
    dt = d.t()
    assert_close(kernels.dsd(index, values, x), d @ wide, d.abs() @ wide.abs(), k)
    assert_close(kernels.dsd(index, values, g, transposed=True), dt @ g_wide, dt.abs() @ g_wide.abs(), m)
    assert_close(kernels.dds(index, values, g.mT), g_wide.mT @ d, g_wide.mT.abs() @ d.abs(), m)
    assert_close(kernels.dds(index, values, x.mT, transposed=True), wide.mT @ dt, wide.mT.abs() @ dt.abs(), k)
    want = reference.sdd(index, g_wide, wide.mT)
    magnitude = reference.sdd(index, g_wide.abs(), wide.mT.abs())
    terms = x.shape[-1] * x.shape[:-2].numel()
    assert_close(kernels.sdd(index, g, x.mT), want, magnitude, terms)
    assert_close(kernels.sdd(index, x, g.mT, transposed=True), want, magnitude, terms)


@pytest.mark.parametrize("kind", ["contiguous", "transposed", "sliced"])
def test_a_plan_takes_the_operands_of_each_call(kind: str) -> None:
    """What was worked out at the first product of a shape runs with other values, and only with that shape."""
    dense, index, values = draw((48, 64), (16, 16), 0.6, 3, torch.float16)
    for seed, n, scale in ((1, 24, 1.0), (2, 24, -2.0), (3, 25, 1.0), (4, 24, 0.5)):
        x = strided((64, n), kind, seed, torch.float16)
        d = dense.double() * scale
        assert_close(kernels.dsd(index, values * scale, x), d @ x.double(), d.abs() @ x.double().abs(), 64)


KINDS = ["contiguous", "transposed", "sliced", "repeated"]


@settings(max_examples=20 if DEVICE == "cpu" else 8, deadline=None)  # a GPU compiles anew for most of them
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),  # larger blocks meet larger matrices below
    n=st.sampled_from([0, 1, 5, 66]),
    batch=st.sampled_from([(), (1,), (3,), (2, 2), (0,)]),
    block=st.sampled_from([(1, 16), (3, 5), (8, 8), (16, 4), (16, 16), (32, 32), (64, 64)]),
    density=st.sampled_from([0.0, 0.2, 1.0]),
    dtype=st.sampled_from(DTYPES),
    kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
    seed=st.integers(0, 1000),
)
@example(  # some products are subnormal numbers
    shape=(33, 39), n=1, batch=(), block=(1, 16), density=1.0, dtype=torch.float16,
    kinds=("contiguous", "contiguous"), seed=35,
)  # fmt: skip
def test_products(
    shape: tuple[int, int],
    n: int,
    batch: tuple[int, ...],
    block: tuple[int, int],
    density: float,
    dtype: torch.dtype,
    kinds: tuple[str, str],
    seed: int,
) -> None:
    if 0 in batch and "repeated" in kinds:
        kinds = ("contiguous", "sliced")
    dense, index, values = draw(shape, block, density, seed, dtype)
    kept = values.clone()
    x = strided((*batch, shape[1], n), kinds[0], seed + 1, dtype)
    g = strided((*batch, shape[0], n), kinds[1], seed + 2, dtype)
    assert_products(dense, index, values, x, g)
    assert torch.equal(values, kept)


@pytest.mark.parametrize(
    ("block", "shape"),
    [  # blocks other than 128 (stk issue 16); sizes that no tile divides, and pieces of blocks
        ((1, 9), (5, 40)),
        ((48, 1), (75, 12)),
        ((1, 200), (3, 410)),
        ((64, 64), (75, 210)),
        ((70, 90), (75, 210)),
        ((128, 128), (260, 384)),
        ((150, 140), (160, 300)),
        ((256, 32), (300, 64)),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_blocks_larger_than_a_tile_or_no_power_of_two(
    block: tuple[int, int], shape: tuple[int, int], dtype: torch.dtype
) -> None:
    m, k = shape
    dense, index, values = draw(shape, block, 0.7, 5, dtype)
    assert index.blocks > 0
    assert_products(dense, index, values, strided((k, 66), "sliced", 1, dtype), strided((m, 66), "sliced", 2, dtype))


def test_empty_rows_columns_and_nothing_stored() -> None:
    dense = torch.zeros(40, 48, device=DEVICE)
    dense[8:16, 16:24] = 2.0
    rows, columns = dense.nonzero(as_tuple=True)
    for kept in (slice(0, None), slice(0, 0)):
        index, values = blocks_from_elements(rows[kept], columns[kept], dense[rows, columns][kept], (40, 48), (8, 8))
        x, g = strided((48, 5), "contiguous", 1, torch.float32), strided((40, 5), "contiguous", 2, torch.float32)
        assert_products(dense if index.blocks else torch.zeros_like(dense), index, values, x, g)


@pytest.mark.parametrize("shape", [(0, 24), (24, 0), (0, 0)])
def test_matrices_without_elements(shape: tuple[int, int]) -> None:
    dense, index, values = draw(shape, (8, 8), 1.0, 0, torch.float32)
    x, g = torch.ones(2, shape[1], 3, device=DEVICE), torch.ones(2, shape[0], 3, device=DEVICE)
    assert_products(dense, index, values, x, g)


@pytest.mark.filterwarnings("ignore:invalid value encountered in matmul:RuntimeWarning")  # the interpreter is NumPy
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinity_stay_where_they_belong(dtype: torch.dtype) -> None:
    """Blocks (4, 4) of a matrix (6, 7): the first one is stored, its element (1, 2) a zero; all others are absent."""
    dense = torch.zeros(6, 7, device=DEVICE, dtype=dtype)
    dense[:4, :4] = 1.0
    dense[1, 2] = 0.0
    rows, columns = dense.nonzero(as_tuple=True)
    index, values = blocks_from_elements(rows, columns, dense[rows, columns], (6, 7), (4, 4))
    x, g = torch.ones(7, 3, device=DEVICE, dtype=dtype), torch.ones(6, 3, device=DEVICE, dtype=dtype)
    x[2, 0], x[5, 1], g[1, 0], g[5, 1] = torch.inf, torch.nan, -torch.inf, torch.nan
    for got, want in (
        (kernels.dsd(index, values, x), reference.dsd(index, values, x)),
        (kernels.dsd(index, values, g, transposed=True), reference.dsd(index, values, g, transposed=True)),
        (kernels.dds(index, values, g.mT), reference.dds(index, values, g.mT)),
        (kernels.sdd(index, g, x.t()), reference.sdd(index, g, x.t())),
    ):
        assert not torch.isfinite(want).all()
        assert torch.equal(got.nan_to_num(7.0, 8.0, 9.0), want.nan_to_num(7.0, 8.0, 9.0))


@pytest.mark.filterwarnings("ignore:invalid value encountered in matmul:RuntimeWarning")
@pytest.mark.parametrize(("block", "shape"), [((4, 4), (5, 6)), ((32, 32), (80, 48)), ((64, 64), (100, 90))])
def test_padding_is_written_as_zero_and_never_read(block: tuple[int, int], shape: tuple[int, int]) -> None:
    _, index, values = draw(shape, block, 1.0, 0, torch.float16)
    ones = torch.ones(shape[0], 1, device=DEVICE), torch.ones(1, shape[1], device=DEVICE)
    outside = reference.sdd(index, *ones) == 0
    assert outside.any()
    spoiled = values.masked_fill(outside, torch.nan)
    x, g = (strided((size, 16), "contiguous", 1, torch.float16) for size in shape[::-1])
    for product, operand, transposed in (
        (kernels.dsd, x, False),
        (kernels.dsd, g, True),
        (kernels.dds, g.mT, False),
        (kernels.dds, x.mT, True),
    ):
        clean = product(index, values, operand, transposed=transposed)
        assert torch.equal(product(index, spoiled, operand, transposed=transposed), clean)
    sampled = kernels.sdd(index, torch.full_like(g, torch.nan), x.t())
    assert (sampled[outside] == 0).all()
    assert sampled[~outside].isnan().all()


def test_runs_repeat_bit_for_bit() -> None:
    """Also where rows are split, and their parts added up."""
    _, index, values = draw((16, 640), (16, 16), 0.8, 3, torch.float32)
    x, g = strided((640, 9), "contiguous", 1, torch.float32), strided((16, 9), "contiguous", 2, torch.float32)
    assert DEVICE == "cuda" or splits_rows(index, x[None], transposed=False)
    assert DEVICE == "cuda" or splits_rows(index, x[None], transposed=False)
    first = kernels.dsd(index, values, x), kernels.sdd(index, g, x.t())
    for _ in range(2):
        assert torch.equal(kernels.dsd(index, values, x), first[0])
        assert torch.equal(kernels.sdd(index, g, x.t()), first[1])


def test_offsets_past_two_to_the_31() -> None:
    """Rows of x and a lie 2^27 elements apart: the last of 20 starts past 2^31. Only what is read takes memory."""
    dense, index, values = draw((20, 20), (8, 8), 1.0, 0, torch.float16)
    memory = torch.empty(19 * 2**27 + 4, dtype=torch.float16, device=DEVICE)
    x = memory.as_strided((20, 4), (2**27, 1))
    x[:] = strided((20, 4), "contiguous", 1, torch.float16)
    assert_products(dense, index, values, x, x)
    batched = x.as_strided((10, 20, 2), (2**28, 0, 1))
    wide = batched.double()
    assert_close(kernels.dsd(index, values, batched), dense.double() @ wide, dense.double().abs() @ wide.abs(), 20)


def test_bad_operands_are_refused() -> None:
    _, index, values = draw((20, 20), (8, 8), 1.0, 0, torch.float32)
    ones = torch.ones(19, 3, device=DEVICE)
    with pytest.raises(ValueError, match=r"x of shape \(\.\.\., 20, n\)"):
        kernels.dsd(index, values, ones)
    with pytest.raises(ValueError, match=r"x of shape \(\.\.\., n, 20\)"):
        kernels.dds(index, values, ones)
    with pytest.raises(ValueError, match=r"a of shape \(\.\.\., 20, n\)"):
        kernels.sdd(index, ones, ones.t())
    with pytest.raises(ValueError, match=r"in one of torch.float32, torch.float16, torch.bfloat16, got torch.float64"):
        kernels.dsd(index, values.double(), torch.ones(20, 3, device=DEVICE, dtype=torch.float64))
