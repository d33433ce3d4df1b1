"""Check the Triton kernels against dense float64 in the interpreter (on a GPU where there is one), and compile them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before the kernels are imported: they are made for it then

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("triton")

from sparsebench.kernels.block_sparse import reference
from sparsebench.kernels.block_sparse import triton as kernels
from sparsebench.kernels.block_sparse.layout import BlockIndex, blocks_from_elements

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# the interpreter's bfloat16 is not to be trusted (triton issue 4972); a GPU's is
DTYPES = [torch.float32, torch.float16] + ([torch.bfloat16] if DEVICE == "cuda" else [])


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


def strided(shape: tuple[int, int], kind: str, seed: int, dtype: torch.dtype) -> Tensor:
    """Return random numbers, contiguous, transposed, or every second row and third column of something larger."""
    generator = torch.Generator().manual_seed(seed)
    larger = torch.randn((shape[0] * 2, shape[1] * 3), generator=generator).to(DEVICE, dtype)
    view = larger[::2, 1::3]
    return {"contiguous": view.contiguous(), "transposed": view.t().contiguous().t(), "sliced": view}[kind]


def assert_close(got: Tensor, want: Tensor, magnitude: Tensor, terms: int) -> None:
    """Compare with a float64 result: sums are in float32, then the result is rounded to its dtype once."""
    bound = magnitude * torch.finfo(torch.float32).eps * (terms + 2) + want.abs() * torch.finfo(got.dtype).eps
    assert got.shape == want.shape
    assert got.is_contiguous()
    assert ((got.double() - want).abs() <= bound).all()


@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 34), st.integers(1, 34)),
    n=st.sampled_from([0, 1, 5, 66]),
    block=st.sampled_from([(1, 16), (3, 5), (8, 8), (16, 4), (32, 32)]),
    density=st.sampled_from([0.0, 0.2, 1.0]),
    dtype=st.sampled_from(DTYPES),
    kind=st.sampled_from(["contiguous", "transposed", "sliced"]),
    seed=st.integers(0, 1000),
)
def test_products(
    shape: tuple[int, int], n: int, block: tuple[int, int], density: float, dtype: torch.dtype, kind: str, seed: int
) -> None:
    dense, index, values = draw(shape, block, density, seed, dtype)
    x, g = strided((shape[1], n), kind, seed + 1, dtype), strided((shape[0], n), kind, seed + 2, dtype)
    d, a, b, v = dense.double(), g.double(), x.t().double(), values.double()
    assert_close(kernels.dsd(index, values, x), d @ x.double(), d.abs() @ x.double().abs(), shape[1])
    assert_close(kernels.dsd_transposed(index, values, g), d.t() @ a, d.t().abs() @ a.abs(), shape[0])
    magnitude = reference.sdd(index, a.abs(), b.abs())
    assert_close(kernels.sdd(index, g, x.t()), reference.sdd(index, a, b), magnitude, n)
    assert torch.equal(v, values.double())


@pytest.mark.parametrize(
    ("block", "shape"),
    [  # thin blocks on small matrices: the interpreter takes milliseconds a program
        ((1, 9), (12, 40)),
        ((48, 1), (75, 12)),
        ((1, 200), (8, 210)),
        ((64, 64), (75, 210)),
        ((70, 90), (75, 210)),
        ((128, 128), (140, 210)),
    ],
)
def test_blocks_larger_than_a_tile_or_no_power_of_two(block: tuple[int, int], shape: tuple[int, int]) -> None:
    m, k = shape
    dense, index, values = draw(shape, block, 0.7, 5, torch.float32)
    assert index.blocks > 0
    x, g = strided((k, 66), "sliced", 1, torch.float32), strided((m, 66), "sliced", 2, torch.float32)
    d, a, b = dense.double(), g.double(), x.t().double()
    assert_close(kernels.dsd(index, values, x), d @ x.double(), d.abs() @ x.double().abs(), k)
    assert_close(kernels.dsd_transposed(index, values, g), d.t() @ a, d.t().abs() @ a.abs(), m)
    assert_close(kernels.sdd(index, g, x.t()), reference.sdd(index, a, b), reference.sdd(index, a.abs(), b.abs()), 66)


@pytest.mark.filterwarnings("ignore:invalid value encountered in matmul:RuntimeWarning")  # the interpreter is NumPy
def test_nan_and_infinity_stay_where_they_belong() -> None:
    """Blocks (4, 4) of a matrix (6, 7): the first one is stored, its element (1, 2) a zero; all others are absent."""
    dense = torch.zeros(6, 7, device=DEVICE)
    dense[:4, :4] = 1.0
    dense[1, 2] = 0.0
    rows, columns = dense.nonzero(as_tuple=True)
    index, values = blocks_from_elements(rows, columns, dense[rows, columns], (6, 7), (4, 4))
    x, g = torch.ones(7, 3, device=DEVICE), torch.ones(6, 3, device=DEVICE)
    x[2, 0], x[5, 1], g[1, 0], g[5, 1] = torch.inf, torch.nan, -torch.inf, torch.nan
    for got, want in (
        (kernels.dsd(index, values, x), reference.dsd(index, values, x)),
        (kernels.dsd_transposed(index, values, g), reference.dsd_transposed(index, values, g)),
        (kernels.sdd(index, g, x.t()), reference.sdd(index, g, x.t())),
    ):
        assert not torch.isfinite(want).all()
        assert torch.equal(got.nan_to_num(7.0, 8.0, 9.0), want.nan_to_num(7.0, 8.0, 9.0))


@pytest.mark.filterwarnings("ignore:invalid value encountered in matmul:RuntimeWarning")
def test_padding_is_written_as_zero_and_never_read() -> None:
    _, index, values = draw((5, 6), (4, 4), 1.0, 0, torch.float32)
    outside = reference.sdd(index, torch.ones(5, 1, device=DEVICE), torch.ones(1, 6, device=DEVICE)) == 0
    assert outside.any()
    spoiled = values.masked_fill(outside, torch.nan)
    x, g = strided((6, 3), "contiguous", 1, torch.float32), strided((5, 3), "contiguous", 2, torch.float32)
    assert torch.equal(kernels.dsd(index, spoiled, x), kernels.dsd(index, values, x))
    assert torch.equal(kernels.dsd_transposed(index, spoiled, g), kernels.dsd_transposed(index, values, g))
    sampled = kernels.sdd(index, torch.full_like(g, torch.nan), x.t())
    assert (sampled[outside] == 0).all()
    assert sampled[~outside].isnan().all()


def test_offsets_past_two_to_the_31() -> None:
    """Rows of x and a lie 2^27 elements apart: the last of 20 starts past 2^31. Only what is read takes memory."""
    dense, index, values = draw((20, 20), (8, 8), 1.0, 0, torch.float16)
    memory = torch.empty(19 * 2**27 + 4, dtype=torch.float16, device=DEVICE)
    x = memory.as_strided((20, 4), (2**27, 1))
    x[:] = strided((20, 4), "contiguous", 1, torch.float16)
    d, wide = dense.double(), x.double()
    assert_close(kernels.dsd(index, values, x), d @ wide, d.abs() @ wide.abs(), 20)
    assert_close(kernels.dsd_transposed(index, values, x), d.t() @ wide, d.t().abs() @ wide.abs(), 20)
    sampled = reference.sdd(index, wide, wide.t()), reference.sdd(index, wide.abs(), wide.t().abs())
    assert_close(kernels.sdd(index, x, x.t()), *sampled, 4)


def test_bad_operands_are_refused() -> None:
    _, index, values = draw((20, 20), (8, 8), 1.0, 0, torch.float32)
    with pytest.raises(ValueError, match=r"x of shape \(20, n\)"):
        kernels.dsd(index, values, torch.ones(19, 3, device=DEVICE))
    with pytest.raises(ValueError, match=r"in one of torch.float32, torch.float16, torch.bfloat16, got torch.float64"):
        kernels.dsd(index, values.double(), torch.ones(20, 3, device=DEVICE, dtype=torch.float64))


COMPILE = """
import sys, torch, triton
from triton.backends.compiler import GPUTarget
from sparsebench.kernels.block_sparse import triton as kernels
from sparsebench.kernels.block_sparse.layout import BlockIndex
assert not kernels.INTERPRETED
ones = torch.ones(1, 1)
index = BlockIndex.from_rows(torch.tensor([0, 1], dtype=torch.int32), torch.zeros(1, dtype=torch.int32), (1, 1), (1, 1))
for call in (lambda: kernels.dsd(index, ones[None], ones), lambda: kernels.dsd_transposed(index, ones[None], ones),
             lambda: kernels.sdd(index, ones, ones)):
    try:
        call()
    except ValueError as error:
        assert "expected CUDA tensors, got cpu" in str(error) and "\\n" not in str(error)
    else:
        raise SystemExit("CPU tensors were not refused")
target = GPUTarget("cuda", int(sys.argv[1]), 32)
for dtype in kernels.DTYPES:
    for block in ((32, 32), (1, 9)):
        for name, source in kernels.compile_sources(dtype, block).items():
            # a launch bakes in sizes and strides that are 1, so a matrix times one vector is a kernel of its own
            ones = dict.fromkeys(("n", "stride_xr", "stride_xc", "stride_ac", "stride_br"), 1)
            ones = {key: 1 for key in ones if key in source.signature}
            kinds = {**source.signature, **dict.fromkeys(ones, "constexpr")}
            constants = {source.fn.arg_names[place[0]]: value for place, value in source.constants.items()}
            narrow = triton.compiler.ASTSource(fn=source.fn, signature=kinds, constexprs={**constants, **ones})
            for form in (source, narrow) if block == (1, 9) else (source,):
                made = triton.compile(form, target=target)
                assert len(made.asm["cubin"]) > 1000
                assert "tf32" not in made.asm["ptx"]
                print(name, dtype, block)
"""


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_for_gpus_that_are_not_here(capability: int, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path / "cache"), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, str(capability)], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(done.stdout.splitlines()) == 3 * 3 * 3


def test_an_interpreted_module_has_nothing_to_compile() -> None:
    if not kernels.INTERPRETED:
        pytest.skip("compiled here")
    with pytest.raises(RuntimeError, match="import without TRITON_INTERPRET"):
        kernels.compile_sources(torch.float32, (32, 32))
