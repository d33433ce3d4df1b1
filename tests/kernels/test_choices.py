"""Check that tuned choices last from one process to the next, and that nothing wrong can be chosen."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from sparsebench.kernels.block_sparse import cpu, cpu_choice, cpu_launch, cpu_trial
from sparsebench.kernels.block_sparse.cpu_launch import Choice
from sparsebench.kernels.block_sparse.layout import BlockIndex, blocks_from_elements
from sparsebench.kernels.common import choices, chooser
from sparsebench.representations.pattern import Pattern


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(choices, "folder", lambda: tmp_path / "deep" / "choices")
    monkeypatch.setattr(chooser, "unrest", lambda: 0.0)  # no hour is calmer than the one before
    chooser.forget()
    yield tmp_path / "deep" / "choices"
    chooser.forget()


def test_choices_are_kept_by_device_and_key(cache: Path) -> None:
    assert choices.recall("chip / 1", "dsd") is None
    choices.remember("chip / 1", "dsd", {"tile": 64})
    choices.remember("chip / 1", "dds", {"tile": 32})
    choices.remember("chip 2", "dsd", {"tile": 8})
    assert choices.recall("chip / 1", "dsd") == {"tile": 64}
    assert choices.recall("chip / 1", "dds") == {"tile": 32}
    assert choices.recall("chip 2", "dsd") == {"tile": 8}
    assert not list(cache.glob("*.draft"))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"choices": 3}', '{"choices": {"dsd": 3}}', "\xff"])
def test_a_damaged_file_counts_as_empty(text: str, cache: Path) -> None:
    choices.remember("chip", "dsd", {"tile": 64})
    (path,) = cache.iterdir()
    path.write_text(text, encoding="latin-1")
    assert choices.recall("chip", "dsd") is None
    choices.remember("chip", "dsd", {"tile": 32})
    assert choices.recall("chip", "dsd") == {"tile": 32}


def test_a_folder_that_cannot_be_written_to_costs_no_error(cache: Path) -> None:
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    choices.remember("chip", "dsd", {"tile": 64})
    assert choices.recall("chip", "dsd") is None


def index() -> BlockIndex:
    """Return 256 blocks 32×32: with n = 64 more than is computed without measuring."""
    crow = torch.arange(0, 257, 16, dtype=torch.int32)
    return BlockIndex.from_rows(crow, torch.arange(16, dtype=torch.int32).repeat(16), (512, 512), (32, 32))


def test_a_measured_choice_is_used_again_and_a_foreign_one_is_not(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = []
    real = chooser.race
    monkeypatch.setattr(chooser, "race", lambda *args, **named: measured.append(args) or real(*args, **named))
    first = cpu.which("dsd", index(), torch.float32, 64)
    assert len(measured) == 1
    chooser.forget()  # as a new process would begin
    assert cpu.which("dsd", index(), torch.float32, 64) == first
    assert len(measured) == 1
    (path,) = cache.iterdir()
    path.write_text(path.read_text().replace('"tile": ', '"tile": 1'))
    chooser.forget()
    assert cpu.which("dsd", index(), torch.float32, 64).tile < 1000
    assert len(measured) == 2


def test_a_wrong_candidate_never_wins(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that does nothing would be the fastest."""
    candidates = cpu_choice._candidates("dsd", (32, 32), torch.float32, 64, None)
    wrong, real = candidates[1], cpu_launch.dsd
    empty = torch.ones(1, 512, 64)
    monkeypatch.setattr(cpu_launch, "dsd", lambda *args: empty if args[-1] == wrong else real(*args))
    assert cpu.which("dsd", index(), torch.float32, 64) != wrong
    monkeypatch.setattr(cpu_launch, "dsd", lambda *args: empty)
    chooser.forget()
    next(cache.iterdir()).unlink()
    with pytest.raises(RuntimeError, match=r"candidates for block dsd .* to be right, got none"):
        cpu.which("dsd", index(), torch.float32, 64)


def test_a_small_product_is_not_measured(cache: Path) -> None:
    crow = torch.arange(0, 17, 4, dtype=torch.int32)
    small = BlockIndex.from_rows(crow, torch.arange(4, dtype=torch.int32).repeat(4), (128, 128), (32, 32))
    assert not cpu.which("dsd", small, torch.float32, 3).near
    assert cpu.which("dds", small, torch.float32, 2, transposed=True).dots  # along a block
    assert not cpu.which("sdd", small, torch.bfloat16, 2, transposed=True).dots  # along two elements
    assert not cache.exists()


@pytest.mark.parametrize("product", cpu_choice.PRODUCTS)
@pytest.mark.parametrize(("block", "dtype"), [((64, 64), torch.float32), ((1, 64), torch.bfloat16)])
def test_every_candidate_is_right(product: str, block: tuple[int, int], dtype: torch.dtype) -> None:
    run, plain, _ = cpu_trial.problem(product, ragged(block), 100, dtype, 100)
    want = plain()
    for candidate in cpu_choice._candidates(product, block, dtype, 100, None):
        error = (run(candidate).reshape(want.shape).to(want.dtype) - want).abs().max() / want.abs().max()
        assert error <= cpu_trial.TOLERANCE[dtype], candidate


def ragged(block: tuple[int, int]) -> BlockIndex:
    """Return a tenth of the blocks of a matrix that no block divides."""
    height, width = block
    rows, columns = Pattern(kind="element").places((-(-300 // height), -(-310 // width)), 0.7, np.random.default_rng(0))
    places = torch.from_numpy(rows) * height, torch.from_numpy(columns) * width
    index, _ = blocks_from_elements(*places, torch.ones(len(rows)), (300, 310), block)
    return index


@pytest.mark.parametrize("most", [1 << 40, 300_000, 1])
@pytest.mark.parametrize("product", cpu_choice.PRODUCTS)
def test_the_problem_that_is_measured_is_the_one_at_hand_but_cut(product: str, most: int) -> None:
    """The plain product is the reference's on the same operands, whatever is cut."""
    index, n = ragged((10, 15)), 1100
    choice = cpu_choice._candidates(product, index.block, torch.float64, n, None)[0]
    run, plain, turn = cpu_trial.problem(product, *cpu_trial.cut(product, index, n, most), torch.float64, n)
    want, got = plain(), run(choice)
    turn()
    torch.testing.assert_close(run(choice), got, rtol=0, atol=0)  # copies of the same
    torch.testing.assert_close(got.reshape(want.shape), want, rtol=1e-10, atol=1e-10)
    sides = {"dsd": (300, n), "dsdᵀ": (310, n), "dds": (n, 310), "ddsᵀ": (n, 300)}
    if most == 1 << 40:
        assert tuple(want.shape) == sides.get(product, (index.blocks, 10, 15))
    elif most == 1 and product in sides:
        short = 1100 - 2 * 256  # whole steps are left out, the last tile stays as it was
        assert short in want.shape
        assert min(want.shape) < 310


def test_one_choice_serves_problems_of_a_kind() -> None:
    same = cpu_choice.bucket((2048, 2048), 2048 * 205, 1024, 4)
    assert cpu_choice.bucket((1800, 2500), 1800 * 200, 700, 4)[:4] == same[:4] == (1448, 1448, 16, 1024)
    assert same[4] != cpu_choice.bucket((2048, 2048), 2048 * 205, 1000, 4)[4]
    others = [((300, 2048), 300 * 205, 1024), ((2048, 2048), 2048 * 40, 1024), ((2048, 2048), 2048 * 205, 100)]
    assert len({same, *(cpu_choice.bucket(*problem, 4) for problem in others)}) == 4


def test_an_unknown_micro_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="generated, blas, mkl that is installed, got 'fast'"):
        cpu.dsd(index(), torch.ones(256, 32, 32), torch.ones(512, 64), choice="fast")


def test_without_mkl_the_others_are_chosen_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_choice.mkl, "library", lambda: None)
    micros = {choice.micro for choice in cpu_choice._candidates("dsd", (32, 32), torch.float32, 64, None)}
    assert micros == {"generated", "blas"}
    assert Choice(micro="blas").name == "numba + BLAS gemm, tile 128"


def test_the_first_import_neither_measures_nor_writes(tmp_path: Path) -> None:
    code = "import sparsebench.kernels.block_sparse.cpu as c; print(len(c.DTYPES))"
    environment = {"XDG_CACHE_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 3
    assert not list(tmp_path.iterdir())


def test_the_least_work_counts_every_operand_once() -> None:
    index, n = ragged((20, 30)), 8
    stored = index.blocks * 600
    work = {product: cpu_trial.work_of(product, index, n, torch.float32) for product in cpu_choice.PRODUCTS}
    assert {part.flops for part in work.values()} == {2.0 * stored * n}
    held = 4 * stored + 12 * index.blocks
    for product, inner, result in (("dsd", 310, 300), ("dsdᵀ", 300, 310), ("dds", 300, 310), ("ddsᵀ", 310, 300)):
        assert (work[product].read, work[product].written) == (held + 4 * inner * n, 4 * result * n)
    assert work["dsd"].near == work["ddsᵀ"].near == stored // 20 * 4 * n
    assert work["dds"].near == work["dsdᵀ"].near == stored // 30 * 4 * n
    assert (work["sdd"].read, work["sdd"].written) == (4 * 610 * n + 12 * index.blocks, 4 * stored)
