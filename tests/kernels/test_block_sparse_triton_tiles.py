"""Check every tile that tuning may take, in the interpreter or on a GPU, and that tuning takes none that is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before the kernels are imported: they are made for it then

import pytest
from torch import Tensor

pytest.importorskip("triton")

from triton.runtime.errors import OutOfResources

from sparsebench.kernels.block_sparse import reference
from sparsebench.kernels.block_sparse import triton_launch as launch
from sparsebench.kernels.block_sparse import triton_planes as planes
from sparsebench.kernels.block_sparse import triton_trial as trial
from sparsebench.kernels.block_sparse import triton_tuner as tuner
from sparsebench.kernels.block_sparse.layout import BlockIndex, blocks_from_elements, dense_from_blocks
from sparsebench.kernels.block_sparse.schedule import table_bytes
from sparsebench.kernels.block_sparse.triton_tiles import Limits, Tile, product_tiles, sampled_tiles

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LIMITS = [tuner.device_limits(torch.device("cuda"))] if DEVICE == "cuda" else [
    Limits(shared=227 * 1024, descriptors=True, deep=True),
    Limits(shared=163 * 1024, descriptors=False, deep=True),
    Limits(shared=64 * 1024, descriptors=False, deep=False),
]  # fmt: skip
BLOCKS = [(8, 8), (16, 16), (32, 32), (64, 64), (128, 128), (16, 64), (64, 32), (5, 3)]
DTYPES = [torch.float32, torch.float16] + ([torch.bfloat16] if DEVICE == "cuda" else [])
GRID = (6, 20) if DEVICE == "cuda" else (3, 3)
"""Block rows and columns: on a GPU enough to fill a pipeline, in the interpreter a full, an empty and a mixed row."""
SMALL = Tile(rows=16, columns=16, inner=16)


def draw(shape: tuple[int, int], block: tuple[int, int], seed: int, dtype: torch.dtype) -> tuple[BlockIndex, Tensor]:
    """Return the index and the values of a matrix of which block rows 0 and 1 are full and empty, others half full."""
    generator = torch.Generator().manual_seed(seed)
    grid = (-(-shape[0] // block[0]), -(-shape[1] // block[1]))
    keep = torch.rand(grid, generator=generator) < 0.5
    keep[0], keep[1:2] = True, False
    rows, columns = (keep.repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)).nonzero(as_tuple=True)
    inside = (rows < shape[0]) & (columns < shape[1])
    rows, columns = rows[inside].to(DEVICE), columns[inside].to(DEVICE)
    values = (torch.rand(rows.numel(), generator=generator) + 0.5).to(DEVICE, dtype)
    return blocks_from_elements(rows, columns, values, shape, block)


def normal(shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE, dtype)


def close(got: Tensor, want: Tensor, magnitude: Tensor, terms: int) -> bool:
    bound = magnitude * torch.finfo(torch.float32).eps * (terms + 2) + want.abs() * torch.finfo(got.dtype).eps
    bound += torch.finfo(got.dtype).smallest_normal * torch.finfo(got.dtype).eps  # subnormal numbers stand so far apart
    return bool(((got.double() - want).abs() <= bound).all())


def every(listed: Callable[[Limits], list[Tile]]) -> list[Tile]:
    """Return the tiles of all devices; to the interpreter they are the same with any number of warps and stages."""
    tiles = (tile for limits in LIMITS for tile in listed(limits))
    return list(dict.fromkeys(tiles if DEVICE == "cuda" else (replace(tile, warps=4, stages=2) for tile in tiles)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("block", BLOCKS)
def test_every_product_tile_is_right(block: tuple[int, int], transposed: bool, dtype: torch.dtype) -> None:
    """A pipeline of two stages once gave wrong results (pytorch issue 113587): no candidate goes untested."""
    shape = GRID[0] * block[0], GRID[1] * block[1]
    index, values = draw(shape, block, 1, dtype)
    height, width = block[::-1] if transposed else block
    inner, rows = shape if transposed else shape[::-1]
    by_columns = transposed != (BLOCKS.index(block) % 2 == 0)
    n = 72
    x = normal((1, n, inner), 2, dtype).mT if by_columns else normal((1, inner, n), 2, dtype)
    out = torch.empty((1, rows, n), dtype=dtype, device=DEVICE)
    described = planes.product_described(index, values, x, transposed=transposed)
    for size, split in ((16, True), (128, True), (4096, False)):

        def listed(limits: Limits, size: int = size, split: bool = split) -> list[Tile]:
            return product_tiles(height, width, size, dtype, limits, described=described, split=split)

        for tile in every(listed):
            right, _, _ = trial.try_product(index, values, x, out, tile, transposed=transposed)
            assert right, tile


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("block", BLOCKS)
def test_every_sampled_tile_is_right(block: tuple[int, int], dtype: torch.dtype) -> None:
    m, k = GRID[0] * block[0] - 1, GRID[1] * block[1] - 1
    index, _ = draw((m, k), block, 1, dtype)
    turned = BLOCKS.index(block) % 2 == 0
    n = 72 if turned else 136
    a = normal((1, n, m + 1), 2, dtype).mT[:, :m] if turned else normal((1, m, n), 2, dtype)
    b = normal((1, k, n), 3, dtype).mT
    described = planes.sampled_described(index, a, b)
    for tile in every(lambda limits: sampled_tiles(*block, dtype, limits, described=described)):
        right, _, _ = trial.try_sampled(index, a, b, tile)
        assert right, tile


def test_descriptors_are_among_the_tiles_tried() -> None:
    limits = Limits(shared=227 * 1024, descriptors=True, deep=True)
    for block in ((64, 64), (128, 128), (32, 32)):
        for tiles in (
            product_tiles(*block, 4096, torch.bfloat16, limits, described=True, split=False),
            sampled_tiles(*block, torch.bfloat16, limits, described=True),
        ):
            assert {tile.descriptors for tile in tiles} == {True, False}
        without = product_tiles(*block, 4096, torch.bfloat16, limits, described=False, split=False)
        assert not any(tile.descriptors for tile in without)


@pytest.mark.parametrize("by_columns", [False, True])
@pytest.mark.parametrize("limit", [1, 2])
@pytest.mark.parametrize("transposed", [False, True])
def test_split_rows_add_up(transposed: bool, limit: int, by_columns: bool) -> None:
    shape, block, n = (29, 46), (8, 8), 21
    index, values = draw(shape, block, 4, torch.float32)
    dense = dense_from_blocks(index, values).double()
    dense = dense.t() if transposed else dense
    x = normal((2, dense.shape[1], n), 5, torch.float32)
    out = torch.full((2, n, dense.shape[0]) if by_columns else (2, dense.shape[0], n), torch.nan, device=DEVICE)
    out = out.mT if by_columns else out
    results = []
    for swap in (False, True):
        for tile in (replace(SMALL, merge=2, swap=swap), replace(SMALL, rows=8, columns=32, merge=2, swap=swap)):
            launch.run_product(index, values, x, out.fill_(torch.nan), tile, transposed=transposed, limit=limit)
            assert close(out, dense @ x.double(), dense.abs() @ x.abs().double(), dense.shape[1])
            results.append(out.clone())
            launch.run_product(index, values, x, out.fill_(torch.nan), tile, transposed=transposed, limit=limit)
            assert torch.equal(out, results[-1])
    table = launch.work_table(index, limit, transposed=transposed)
    assert table.slots > 0


@pytest.mark.parametrize("shares", [1, 2, 3, 50])
def test_shares_of_the_sampled_product_add_up(shares: int) -> None:
    index, _ = draw((45, 70), (8, 8), 4, torch.float16)
    a, b = normal((3, 45, 70), 5, torch.float16), normal((3, 70, 70), 6, torch.float16)
    out = torch.full((index.blocks, 8, 8), torch.nan, device=DEVICE, dtype=torch.float16)
    tile = replace(SMALL, columns=32, merge=4)
    launch.run_sampled(index, a, b, out, tile, shares=shares)
    want = dense_from_blocks(index, out).double()
    mask = dense_from_blocks(index, torch.ones_like(out)).double()
    wide = (a.double() @ b.double()).sum(0)
    assert close(want.half(), wide * mask, (a.double().abs() @ b.double().abs()).sum(0), 210)
    kept = out.clone()
    launch.run_sampled(index, a, b, out.fill_(torch.nan), tile, shares=shares)
    assert torch.equal(out, kept)


@pytest.mark.parametrize("by_columns", [False, True])
@pytest.mark.parametrize("transposed", [False, True])
def test_descriptors_read_the_right_matrix_of_a_batch(transposed: bool, by_columns: bool) -> None:
    index, values = draw((128, 192), (64, 64), 1, torch.float16)
    dense = dense_from_blocks(index, values).double()
    dense = dense.t() if transposed else dense
    x = normal((3, 72, dense.shape[1]) if by_columns else (3, dense.shape[1], 72), 2, torch.float16)
    x = x.mT if by_columns else x
    out = torch.empty((3, dense.shape[0], 72), device=DEVICE, dtype=torch.float16)
    assert planes.product_described(index, values, x, transposed=transposed)
    for swap in (False, True):
        tile = Tile(rows=64, columns=64, inner=64, swap=swap, descriptors=True)
        launch.run_product(index, values, x, out.fill_(torch.nan), tile, transposed=transposed)
        assert close(out, dense @ x.double(), dense.abs() @ x.abs().double(), dense.shape[1])


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # the interpreter is NumPy
@pytest.mark.parametrize("finite", [True, False])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("block", "shape"), [((16, 16), (150, 90)), ((32, 32), (70, 130)), ((8, 16), (140, 70))])
def test_unions_of_block_rows(block: tuple[int, int], shape: tuple[int, int], transposed: bool, finite: bool) -> None:
    """Also where an infinity of x meets a block that one row of the union stores and the next one does not."""
    index, values = draw(shape, block, 4, torch.float16)
    assert 0 < index.blocks < index.grid[0] * index.grid[1]
    inner, rows = shape if transposed else shape[::-1]
    x = normal((2, inner, 40), 5, torch.float16)
    if not finite:
        x[0, 3, 5], x[1, 20, 38], x[1, inner - 1, 7] = torch.inf, torch.nan, -torch.inf
    out = torch.full((2, rows, 40), torch.nan, device=DEVICE, dtype=torch.float16)
    tile = Tile(rows=128, columns=32, inner=32, union=True)
    launch.run_product(index, values, x, out, tile, transposed=transposed)
    want = reference.dsd(index, values.float(), x.float(), transposed=transposed)
    right = torch.isfinite(want)
    assert right.all() == finite
    assert right.any()
    assert torch.equal(out.isnan(), want.isnan())
    assert torch.equal(out.isinf(), want.isinf())
    size = reference.dsd(index, values.float().abs(), x.float().nan_to_num(0, 0, 0).abs(), transposed=transposed)
    assert ((out.float() - want)[right].abs() <= (size[right] + 1) * 2**-10).all()
    kept = out.clone()
    launch.run_product(index, values, x, out.fill_(torch.nan), tile, transposed=transposed)
    assert torch.equal(out.nan_to_num(7.0), kept.nan_to_num(7.0))
    assert table_bytes(index) >= 4 * index.blocks


def test_small_blocks_have_a_union_among_their_tiles_and_large_ones_none() -> None:
    limits = Limits(shared=227 * 1024, descriptors=True, deep=True)
    for size, split, some in ((16, False, True), (32, False, True), (64, False, False), (16, True, False)):
        tiles = product_tiles(size, size, 4096, torch.bfloat16, limits, described=True, split=split)
        assert any(tile.union for tile in tiles) == some
        assert not tiles[0].union


@pytest.mark.parametrize("n", [72, 128])
@pytest.mark.parametrize("turned", [False, True])
def test_steps_of_the_sampled_product_stay_in_one_matrix_of_a_batch(turned: bool, n: int) -> None:
    """What lies behind the last line of one matrix is the next one, and no descriptor reads zeros there."""
    index, _ = draw((128, 192), (64, 64), 1, torch.float16)
    a, b = normal((3, 128, n), 2, torch.float16), normal((3, 192, n), 3, torch.float16).mT
    if turned:
        a, b = normal((3, n, 128), 2, torch.float16).mT, normal((3, n, 192), 3, torch.float16)
    out = torch.full((index.blocks, 64, 64), torch.nan, device=DEVICE, dtype=torch.float16)
    described = planes.sampled_described(index, a, b)
    assert described == (not turned or n == 128)
    launch.run_sampled(index, a, b, out, Tile(rows=64, columns=64, inner=64, descriptors=described))
    mask = dense_from_blocks(index, torch.ones_like(out)).double()
    want = (a.double() @ b.double()).sum(0) * mask
    assert close(dense_from_blocks(index, out), want, (a.double().abs() @ b.double().abs()).sum(0), 3 * n)


def test_which_operands_descriptors_can_read() -> None:
    whole = torch.zeros(3, 16, 32, dtype=torch.float16)
    rows, columns = planes.plane(whole), planes.plane(whole.mT)
    assert rows == planes.Plane(shape=(48, 32), stride=32, step=16, by_columns=False)
    assert columns == planes.Plane(shape=(48, 32), stride=32, step=16, by_columns=True)
    assert planes.plane(whole[::2]) == planes.Plane(shape=(48, 32), stride=32, step=32, by_columns=False)
    assert planes.plane(whole[:, :, 1:]) is None  # an address that is no multiple of 16 bytes
    assert planes.plane(whole[:, :, ::2]) is None  # gaps in a line
    assert planes.plane(torch.zeros(1, 16, 33, dtype=torch.float16)) is None  # lines at no multiple of 16 bytes
    assert planes.plane(whole[:1].expand(3, 16, 32)) is None  # one matrix over and over
    assert planes.plane(torch.zeros(1, 0, 32)) is None


def trial_of(wrong: set[Tile], broken: set[Tile]) -> Callable[[Tile], trial.Trial]:
    def tried(tile: Tile) -> trial.Trial:
        if tile in broken:
            raise OutOfResources(1, 0, "shared memory")
        return tile not in wrong, lambda again: again, None

    return tried


def test_tuning_takes_the_fastest_that_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = [replace(SMALL, stages=stages) for stages in (2, 3, 4, 5)]
    timed: list[Tile] = []

    def seconds(run: Callable[[], Tile], *_: object) -> list[float]:
        timed.append(run())
        return [{2: 1.0, 3: 2.0, 4: 4.0, 5: 3.0}[run().stages]]

    monkeypatch.setattr(tuner, "device_times", seconds)
    monkeypatch.setattr(tuner, "cold_cache", lambda: None)
    assert tuner.fastest(tiles, trial_of(set(), set()), timed=True).stages == 2
    timed.clear()
    assert tuner.fastest(tiles, trial_of({tiles[0]}, {tiles[1]}), timed=True).stages == 5
    assert [tile.stages for tile in timed] == [4, 4, 5, 5]
    assert [tile.programs for tile in timed if tile.stages == 4] == [SMALL.programs, 0]  # resident, or one a task
    assert tuner.fastest(tiles, trial_of({tiles[0]}, set()), timed=False).stages == 3
    with pytest.raises(RuntimeError, match=r"got none; report it: .*wrong result.*OutOfResources"):
        tuner.fastest(tiles, trial_of(set(tiles[:3]), {tiles[3]}), timed=True)


def test_a_lost_device_ends_the_tuning(monkeypatch: pytest.MonkeyPatch) -> None:
    """An illegal address fails every later call of the process, so that no later candidate could be judged."""
    tried: list[Tile] = []

    def trial_that_loses_the_device(tile: Tile) -> trial.Trial:
        tried.append(tile)
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be ...")

    monkeypatch.setattr(tuner, "device_is_lost", lambda _: True)
    with pytest.raises(RuntimeError, match=r"expected a device that answers, got RuntimeError: CUDA .*; start") as met:
        tuner.fastest([SMALL, replace(SMALL, stages=5)], trial_that_loses_the_device, timed=False)
    assert tried == [SMALL]
    assert "\n" not in str(met.value)


def test_small_products_are_cut_so_that_the_device_is_busy() -> None:
    """1024² in blocks of 128 and tiles of 128 × 256 would be 32 tasks for 132 multiprocessors."""
    wide, square, short = (
        replace(SMALL, rows=rows, columns=columns) for rows, columns in ((128, 256), (128, 128), (64, 64))
    )
    assert tuner.busiest([wide, square, short], 8, 128, 1024, 132)[0] is short
    assert tuner.busiest([wide, square, short], 64, 128, 8192, 132) == [wide, square, short]
    assert tuner.busiest([wide, square], 8, 128, 1024, 132)[0] is square


@pytest.mark.parametrize("transposed", [False, True])
def test_a_wrong_result_is_noticed(monkeypatch: pytest.MonkeyPatch, transposed: bool) -> None:
    index, values = draw((40, 56), (8, 8), 1, torch.float32)
    inner, rows = index.shape if transposed else index.shape[::-1]
    x, out = normal((1, inner, 24), 2, torch.float32), torch.empty(1, rows, 24, device=DEVICE)
    a, b = normal((1, 40, 24), 2, torch.float32), normal((1, 24, 56), 3, torch.float32)
    tile = replace(SMALL, merge=2)
    assert trial.try_product(index, values, x, out, tile, transposed=transposed)[0]
    assert trial.try_sampled(index, a, b, tile)[0]
    product, sampled = trial.run_product, trial.run_sampled

    def wrong_product(*given: Any, **named: Any) -> None:
        product(*given, **named)
        given[3][0, :, 3] += 0.01

    def wrong_sampled(*given: Any, **named: Any) -> None:
        sampled(*given, **named)
        given[3][-1, 2, 3] = torch.nan

    monkeypatch.setattr(trial, "run_product", wrong_product)
    monkeypatch.setattr(trial, "run_sampled", wrong_sampled)
    assert not trial.try_product(index, values, x, out, tile, transposed=transposed)[0]
    assert not trial.try_sampled(index, a, b, tile)[0]


@pytest.mark.parametrize(
    ("shape", "strides", "ahead"),
    [
        ((2, 30, 66), (30 * 66, 66, 1), 0),
        ((1, 30, 66), (7, 396, 3), 1),  # every second row and third column, from an odd address
        ((3, 32, 64), (0, 128, 1), 0),
        ((2, 9, 33), (9 * 48, 48, 17), 0),
        ((1, 33, 48), (1, 1, 33), 4),
        ((1, 1, 48), (48, 1, 1), 0),
        ((1, 40, 1), (40, 1, 1), 8),
    ],
)
def test_what_is_tried_is_compiled_as_what_runs(shape: tuple[int, ...], strides: tuple[int, ...], ahead: int) -> None:
    """A tile was right for columns side by side, and wrong for every third column: one tile, two codes."""
    operand = torch.empty(100_000, device=DEVICE)[ahead:].as_strided(shape, strides)
    stand_in = trial._empty_like(operand)
    assert stand_in.shape == operand.shape
    assert trial.compiled_for(stand_in) == trial.compiled_for(operand)
    assert trial.order(stand_in) == trial.order(operand)
    assert stand_in.untyped_storage().nbytes() <= 4 * (2 * operand.numel() * 18 + 16)
    numbers = torch.arange(operand.numel(), device=DEVICE, dtype=torch.float32).view(shape)
    assert torch.equal(stand_in.copy_(numbers), numbers)  # no element lies upon another


def test_choices_are_kept_per_device(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[tuple[str, str], dict[str, Any]] = {}
    monkeypatch.setattr(tuner, "_fingerprint", str)
    monkeypatch.setattr(tuner, "recall", lambda device, key: kept.get((device, key)))
    monkeypatch.setattr(tuner, "remember", lambda device, key, choice: kept.update({(device, key): choice}))
    monkeypatch.setattr(tuner, "_chosen", {})
    tiles = [replace(SMALL, stages=stages) for stages in (2, 3, 4)]
    tried: list[int] = []

    def tried_tile(tile: Tile) -> trial.Trial:
        tried.append(tile.stages)
        return tile.stages > 2, lambda again: None, None

    def choose(device: str, dtype: torch.dtype = torch.float16, *, timed: bool = False) -> int:
        tried.clear()
        key = ("a product", dtype, (8, 16))
        return tuner._choose(torch.device(device), key, tiles, tried_tile, timed=timed).stages

    assert (choose("cuda:0"), tried) == (3, [2, 3])
    assert (choose("cuda:0"), tried) == (3, [])  # known on disk
    assert (choose("cuda:1"), tried) == (3, [2, 3])  # another device
    assert list(kept) == [("cuda:0", "a product float16 8x16"), ("cuda:1", "a product float16 8x16")]
    for strange in ({**tiles[1].as_dict(), "stages": 9}, {**tiles[1].as_dict(), "swap": "no"}, {"rows": 16}):
        kept["cuda:0", "a product float16 8x16"] = strange
        assert (choose("cuda:0"), tried) == (3, [2, 3])
    # the other dtype of 16 bits tries what this one chose, and times nothing; a third dtype starts anew
    kept["cuda:0", "a product float16 8x16"] = tiles[2].as_dict()
    assert (choose("cuda:0", torch.bfloat16, timed=True), tried) == (4, [4])
    assert (choose("cuda:0", torch.float32), tried) == (3, [2, 3])


def test_a_tile_survives_being_kept() -> None:
    tile = replace(SMALL, merge=4, swap=True, descriptors=True, warps=8, stages=5, programs=3)
    assert Tile.from_dict(tile.as_dict()) == tile
    assert Tile.from_dict({**tile.as_dict(), "rows": "16"}) is None
