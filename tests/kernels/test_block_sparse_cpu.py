"""Check the reference and the numba kernels against dense float64, and that bad input never reaches a kernel."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numba
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparsebench.kernels.block_sparse import cpu, cpu_sampled, reference
from sparsebench.kernels.block_sparse.cpu_launch import Choice
from sparsebench.kernels.block_sparse.layout import BlockIndex, blocks_from_elements, dense_from_blocks
from sparsebench.kernels.common import jit
from sparsebench.kernels.microkernels import mkl

BLOCKS = [(1, 1), (1, 9), (1, 16), (3, 5), (8, 8), (16, 4), (32, 32), (64, 64), (128, 128)]


def draw(
    shape: tuple[int, int], block: tuple[int, int], density: float, seed: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, BlockIndex, Tensor]:
    """Return a dense matrix, the mask of its stored blocks, and the index and values of these."""
    generator = torch.Generator().manual_seed(seed)
    grid = (-(-shape[0] // block[0]), -(-shape[1] // block[1]))
    keep = torch.rand(grid, generator=generator) < density
    mask = keep.repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)[: shape[0], : shape[1]]
    dense = (torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5).to(dtype) * mask
    rows, columns = dense.nonzero(as_tuple=True)
    return dense, mask, *blocks_from_elements(rows, columns, dense[rows, columns], shape, block)


def strided(shape: tuple[int, ...], kind: str, seed: int, dtype: torch.dtype) -> Tensor:
    """Return random numbers, contiguous, transposed, or every second row and third column of something larger."""
    generator = torch.Generator().manual_seed(seed)
    *batch, rows, columns = shape
    if kind == "transposed":
        return torch.randn((*batch, columns, rows), generator=generator, dtype=torch.float64).to(dtype).mT
    if kind == "sliced":
        larger = torch.randn((*batch, rows * 2, columns * 3), generator=generator, dtype=torch.float64)
        return larger.to(dtype)[..., ::2, 1::3]
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def in_blocks(index: BlockIndex, dense: Tensor) -> Tensor:
    """Cut a dense matrix into the stored blocks, one by one, zeros in the padding."""
    (m, k), (height, width) = index.shape, index.block
    out = dense.new_zeros((index.blocks, height, width))
    p = 0
    for i in range(index.crow.numel() - 1):
        for j in index.col[index.crow[i] : index.crow[i + 1]].tolist():
            part = dense[i * height : min(m, (i + 1) * height), j * width : min(k, (j + 1) * width)]
            out[p, : part.shape[0], : part.shape[1]] = part
            p += 1
    return out


def assert_close(
    got: Tensor, left: Tensor, right: Tensor, cut: Any = lambda dense: dense, eps: float | None = None
) -> None:
    """Compare with left @ right in float64, within the rounding that a sum of so many terms can have (Higham, 3.1)."""
    left, right = left.double(), right.double()
    bound = cut(left.abs() @ right.abs()) * (eps or torch.finfo(got.dtype).eps) * (left.shape[-1] + 2)
    assert got.shape == bound.shape
    assert got.layout == torch.strided
    assert ((got.double() - cut(left @ right)).abs() <= bound).all()


def everything(dense: Tensor, index: BlockIndex, values: Tensor, x: Tensor, g: Tensor, **options: Any) -> None:
    """Compare all six products, x (..., k, n) and g (..., m, n), with dense float64 ones."""
    kernels = options.pop("kernels", cpu)
    left = dense.mT
    assert_close(kernels.dsd(index, values, x, **options), dense, x)
    assert_close(kernels.dsd(index, values, g, transposed=True, **options), left, g)
    assert_close(kernels.dds(index, values, g.mT, **options), g.mT, dense)
    assert_close(kernels.dds(index, values, x.mT, transposed=True, **options), x.mT, left)
    # in the sampled product a batch is added up: side by side it is one long axis
    long_g, long_x = (t.movedim(-2, 0).reshape(t.shape[-2], -1) for t in (g, x))
    for transposed in (False, True):
        a, b = (x, g.mT) if transposed else (g, x.mT)
        for right in (b, b.contiguous(), b.mT.contiguous().mT):
            sampled = kernels.sdd(index, a, right, transposed=transposed, **options)
            assert_close(sampled, long_g, long_x.mT, lambda product: in_blocks(index, product))


@pytest.mark.parametrize("kernels", [reference, cpu])
@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    n=st.integers(0, 20),
    block=st.sampled_from(BLOCKS[:7]),
    density=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    kind=st.sampled_from(["contiguous", "transposed", "sliced"]),
    batch=st.sampled_from([(), (2,), (2, 3), (0,)]),
    seed=st.integers(0, 1000),
)
def test_products(
    kernels: ModuleType,
    shape: tuple[int, int],
    n: int,
    block: tuple[int, int],
    density: float,
    dtype: torch.dtype,
    kind: str,
    batch: tuple[int, ...],
    seed: int,
) -> None:
    dense, _, index, values = draw(shape, block, density, seed, dtype)
    x, g = strided((*batch, shape[1], n), kind, seed + 1, dtype), strided((*batch, shape[0], n), kind, seed + 2, dtype)
    kept = [t.clone() for t in (values, x, g)]
    assert torch.equal(dense_from_blocks(index, values), dense)
    everything(dense, index, values, x, g, kernels=kernels)
    assert all(torch.equal(before, after) for before, after in zip(kept, (values, x, g), strict=True))


CHOICES = [
    *(Choice(micro="generated", rows=rows, vectors=vectors, tile=tile)
      for rows, vectors, tile in ((8, 2, 64), (8, 3, 128), (4, 4, 256), (1, 8, 64), (2, 1, 32))),
    *(Choice(micro="generated", rows=rows, vectors=vectors, tile=tile, near=True)
      for rows, vectors, tile in ((6, 4, 64), (9, 3, 240), (12, 2, 128), (16, 1, 16))),
    Choice(micro="generated", dots=True, tile=32),
    Choice(micro="blas", tile=64),
    Choice(micro="mkl", tile=64),
]  # fmt: skip


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.name)
@pytest.mark.parametrize(
    ("block", "dtype"),
    [((3, 5), torch.float32), ((8, 8), torch.float64), ((1, 16), torch.float32), ((64, 16), torch.float32)],
)
def test_every_micro_kernel_over_tiles_and_edges(block: tuple[int, int], dtype: torch.dtype, choice: Choice) -> None:
    if choice.micro == "mkl" and mkl.library() is None:
        pytest.skip("the package mkl is not installed")
    if choice.dots:  # a kernel for rows that lie side by side along the summed axis: the products that it can do
        dense, _, index, values = draw((70, 81), block, 0.4, 3, dtype)
        x, g = strided((81, 77), "contiguous", 4, dtype), strided((70, 77), "contiguous", 5, dtype)
        assert_close(cpu.dds(index, values, x.mT, transposed=True, choice=choice), x.mT, dense.mT)
        sampled = cpu.sdd(index, g, x.mT, choice=choice)
        assert_close(sampled, g, x.mT, lambda product: in_blocks(index, product))
        return
    dense, _, index, values = draw((70, 81), block, 0.4, 3, dtype)
    x, g = strided((2, 81, 333), "contiguous", 4, dtype), strided((2, 70, 333), "contiguous", 5, dtype)
    everything(dense, index, values, x, g, choice=choice)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("part", [16, 48, 1000])
@pytest.mark.parametrize(("block", "rows", "vectors"), [((3, 5), 6, 4), ((16, 16), 16, 1), ((64, 32), 12, 2)])
def test_sampled_products_in_parts_of_the_summed_axis(
    block: tuple[int, int], rows: int, vectors: int, part: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part adds to what is there; b as it stands in training, and contiguous; rows of a that lie apart."""
    monkeypatch.setattr(cpu_sampled, "_part", lambda n, *sizes: min(n, part))
    monkeypatch.setattr(jit, "threads", lambda: threads)
    for dtype in (torch.float32, torch.float64):
        _, _, index, _ = draw((130, 81), block, 0.3, 3, dtype)
        g, x = strided((130, 77), "contiguous", 4, dtype), strided((81, 77), "contiguous", 5, dtype)
        for a, b in ((g, x.t()), (g, x.t().contiguous()), (g.t().contiguous().t()[:, :77], x.t())):
            choice = Choice(micro="generated", rows=rows, vectors=vectors, near=True)
            assert_close(cpu.sdd(index, a, b, choice=choice), a, b, lambda product, i=index: in_blocks(i, product))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("choice", [None, *CHOICES[:3]], ids=lambda choice: choice.name if choice else "default")
def test_halves_are_computed_in_float32(dtype: torch.dtype, choice: Choice | None) -> None:
    """Each result is the float32 one rounded once: to nearest, ties to even, as torch rounds."""
    if dtype not in cpu.DTYPES:
        pytest.skip("this processor does not convert float16")
    dense, _, index, values = draw((70, 81), (16, 8), 0.4, 3, dtype)
    x, g = strided((81, 50), "contiguous", 4, dtype), strided((70, 50), "contiguous", 5, dtype)
    wide = values.float(), x.float(), g.float()
    for got, full in (
        (cpu.dsd(index, values, x, choice=choice), cpu.dsd(index, wide[0], wide[1], choice=choice)),
        (cpu.dsd(index, values, g, transposed=True, choice=choice),
         cpu.dsd(index, wide[0], wide[2], transposed=True, choice=choice)),
        (cpu.sdd(index, g, x.t(), choice=choice), cpu.sdd(index, wide[2], wide[1].t(), choice=choice)),
    ):  # fmt: skip
        assert got.dtype == dtype
        assert torch.equal(got, full.to(dtype))
    assert_close(cpu.dsd(index, values, x, choice=choice).double(), dense, x, eps=torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_round_and_overflow_as_torch_does(dtype: torch.dtype) -> None:
    """A 1 × 2 matrix of ones: sums that lie between two halves, exactly in the middle too, at the ends, and none."""
    if dtype not in cpu.DTYPES:
        pytest.skip("this processor does not convert float16")
    zero = torch.zeros(1, dtype=torch.int64)
    index, values = blocks_from_elements(zero, zero, torch.ones(1, dtype=dtype), (1, 2), (1, 2))
    values[:] = 1.0
    info = torch.finfo(dtype)
    near = 1 + info.eps * torch.arange(8).repeat_interleave(5)  # neighbours in [1, 2), even and odd in turn
    step = info.eps * torch.tensor([0.0, 0.25, 0.5, 0.75, -0.5]).repeat(8)
    ends = torch.tensor([info.max, -info.max, info.max, torch.inf, -torch.inf, torch.nan, -0.0, info.tiny])
    more = torch.tensor([info.max, -info.max, 1.0, 1.0, torch.inf, 1.0, -0.0, -info.tiny / 2])
    x = torch.stack([torch.cat([near, ends]), torch.cat([step, more])]).to(dtype)
    want = (x[0].float() + x[1].float()).to(dtype)
    got = cpu.dsd(index, values, x)[0]
    assert torch.equal(got.isnan(), want.isnan())
    assert torch.equal(got.nan_to_num(7.0, 8.0, 9.0), want.nan_to_num(7.0, 8.0, 9.0))


def test_empty_rows_and_columns_give_zeros() -> None:
    rows, columns = torch.tensor([5]), torch.tensor([8])
    index, values = blocks_from_elements(rows, columns, torch.tensor([2.0]), (10, 11), (3, 4))
    product = cpu.dsd(index, values, torch.ones(11, 2))
    assert product[5].tolist() == [2.0, 2.0]
    assert product.count_nonzero() == 2
    assert cpu.dsd(index, values, torch.ones(10, 2), transposed=True).count_nonzero() == 2


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_no_rows_or_columns(shape: tuple[int, int]) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    index, values = blocks_from_elements(none, none, torch.zeros(0), shape, (2, 2))
    assert torch.equal(cpu.dsd(index, values, torch.ones(shape[1], 3)), torch.zeros(shape[0], 3))
    assert torch.equal(cpu.dsd(index, values, torch.ones(shape[0], 3), transposed=True), torch.zeros(shape[1], 3))
    assert cpu.sdd(index, torch.ones(shape[0], 3), torch.ones(3, shape[1])).shape == (0, 2, 2)
    assert dense_from_blocks(index, values).shape == shape


@pytest.mark.parametrize("kernels", [reference, cpu])
def test_nan_and_infinity_are_those_of_dense_arithmetic(kernels: ModuleType) -> None:
    """One block, rows 0-3, columns 0-3, of a matrix (6, 7); its element (1, 2) is a zero that is stored."""
    dense = torch.zeros(6, 7)
    dense[:4, :4] = 1.0
    dense[1, 2] = 0.0
    rows, columns = dense.nonzero(as_tuple=True)
    index, values = blocks_from_elements(rows, columns, dense[rows, columns], (6, 7), (4, 4))
    x = torch.ones(7, 5)
    x[2, 0], x[3, 1], x[5, 2] = torch.inf, torch.nan, torch.nan  # the last one meets no stored block
    product = kernels.dsd(index, values, x)
    assert torch.isinf(product[0, 0])
    assert torch.isnan(product[1, 0])  # 0 × ∞
    assert torch.isnan(product[:4, 1]).all()
    assert torch.isfinite(product[:, 2:]).all()
    assert (product[4:] == 0).all()
    g = torch.ones(6, 5)
    g[1, 0], g[5, 1] = -torch.inf, torch.nan
    product = kernels.dsd(index, values, g, transposed=True)
    assert torch.isnan(product[2, 0])
    assert (product[[0, 1, 3], 0] == -torch.inf).all()
    assert torch.isfinite(product[:, 1:]).all()
    sampled = kernels.sdd(index, g, x.t())[0]
    assert torch.equal(sampled.isnan(), (g @ x.t())[:4, :4].isnan())
    assert torch.equal(sampled.isinf(), (g @ x.t())[:4, :4].isinf())


@pytest.mark.parametrize("kernels", [reference, cpu])
def test_padding_is_written_as_zero_and_never_read(kernels: ModuleType) -> None:
    _, _, index, values = draw((5, 6), (4, 4), 1.0, 0, torch.float32)
    outside = in_blocks(index, torch.ones(5, 6)) == 0
    assert outside.any()
    spoiled = values.masked_fill(outside, torch.nan)
    x, g = strided((6, 3), "contiguous", 1, torch.float32), strided((5, 3), "contiguous", 2, torch.float32)
    assert torch.equal(kernels.dsd(index, spoiled, x), kernels.dsd(index, values, x))
    assert torch.equal(kernels.dsd(index, spoiled, g, transposed=True), kernels.dsd(index, values, g, transposed=True))
    sampled = kernels.sdd(index, torch.full_like(g, torch.nan), x.t())
    assert (sampled[outside] == 0).all()
    assert sampled[~outside].isnan().all()


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
@pytest.mark.parametrize("choice", [CHOICES[0], CHOICES[6]], ids=lambda choice: choice.name)
def test_the_same_bits_with_any_number_of_threads(choice: Choice) -> None:
    """With one choice: which is the fastest may depend on the number of threads."""
    _, _, index, values = draw((200, 300), (8, 8), 0.3, 0, torch.float32)
    x, g = strided((300, 400), "contiguous", 1, torch.float32), strided((200, 400), "contiguous", 2, torch.float32)
    before = numba.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 2):
            numba.set_num_threads(threads)
            results.append(
                (
                    cpu.dsd(index, values, x, choice=choice),
                    cpu.dsd(index, values, g, transposed=True, choice=choice),
                    cpu.sdd(index, g, x.t(), choice=choice),
                )
            )
    finally:
        numba.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def i32(*numbers: int) -> Tensor:
    return torch.tensor(numbers, dtype=torch.int32)


@pytest.mark.parametrize(
    ("operands", "message"),
    [
        ((torch.ones(3, 2, 2), torch.ones(4, 7)), r"x of shape \(..., 5, n\), got \(4, 7\)"),
        ((torch.ones(3, 2, 2), torch.ones(5)), "x strided and 2-D"),
        ((torch.ones(3, 2, 2), torch.ones(5, 7).to_sparse()), "x strided and 2-D"),
        ((torch.ones(2, 2, 2), torch.ones(5, 7)), "values of shape"),
        ((torch.ones(3, 2, 4)[:, :, ::2], torch.ones(5, 7)), "contiguous values"),
        ((torch.ones(3, 2, 2), torch.ones(5, 7, dtype=torch.float64)), "x in torch.float32"),
        ((torch.ones(3, 2, 2), torch.ones(5, 7, device="meta")), "x on cpu"),
        ((torch.ones(3, 2, 2).int(), torch.ones(5, 7).int()), "in one of torch.float32, torch.float64"),
    ],
)
def test_bad_operands_are_refused(operands: tuple[Tensor, Tensor], message: str) -> None:
    index = BlockIndex.from_rows(i32(0, 1, 3), i32(1, 0, 2), (4, 5), (2, 2))
    with pytest.raises(ValueError, match=message):
        cpu.dsd(index, *operands)


def test_operands_of_another_batch_are_refused() -> None:
    index = BlockIndex.from_rows(i32(0, 1, 3), i32(1, 0, 2), (4, 5), (2, 2))
    with pytest.raises(ValueError, match=r"b in the batch \(3,\) as a is, got \(2,\)"):
        cpu.sdd(index, torch.ones(3, 4, 7), torch.ones(2, 7, 5))
    with pytest.raises(ValueError, match="values strided and 3-D"):
        cpu.dsd(index, torch.ones(1, 3, 2, 2), torch.ones(5, 7))


def test_bad_operands_of_the_other_products_are_refused() -> None:
    index = BlockIndex.from_rows(i32(0, 1, 3), i32(1, 0, 2), (4, 5), (2, 2))
    for kernels in (cpu, reference):
        with pytest.raises(ValueError, match=r"x of shape \(..., 4, n\)"):
            kernels.dsd(index, torch.ones(3, 2, 2), torch.ones(5, 7), transposed=True)
        with pytest.raises(ValueError, match=r"b of shape \(..., 7, 5\), got \(6, 5\)"):
            kernels.sdd(index, torch.ones(4, 7), torch.ones(6, 5))
        with pytest.raises(ValueError, match=r"a of shape \(..., 4, n\)"):
            kernels.sdd(index, torch.ones(5, 7), torch.ones(7, 5))


def test_positions_past_two_to_the_31() -> None:
    """A matrix of 2^33 elements and 2^32 blocks: one numbered in 32 bits would come out somewhere else."""
    shape = (2**20, 2**13)
    rows, columns = torch.tensor([3, 2**20 - 1, 2**20 - 1]), torch.tensor([2**13 - 1, 0, 2**13 - 1])
    index, values = blocks_from_elements(rows, columns, torch.tensor([1.0, 2.0, 3.0]), shape, (1, 2))
    x = torch.arange(1.0, 2**13 + 1)[:, None]
    product = cpu.dsd(index, values, x)
    assert product[3].item() == 2**13
    assert product[-1].item() == 2 + 3 * 2**13
    assert product.count_nonzero() == 2
    back = cpu.dsd(index, values, product, transposed=True)
    assert back[0].item() == 2 * product[-1].item()
    assert back.count_nonzero() == 2
