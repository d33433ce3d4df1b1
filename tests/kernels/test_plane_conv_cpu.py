"""Compare the CPU convolutions and their gradients with the reference in float64."""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
import pytest
import torch
from torch import Tensor

from sparsebench.kernels.block_sparse.layout import BlockIndex, blocks_from_elements
from sparsebench.kernels.csr.layout import RowIndex
from sparsebench.kernels.microkernels import host, tiles
from sparsebench.kernels.plane_conv import cpu, cpu_launch, reference
from sparsebench.kernels.plane_conv.geometry import Geometry
from sparsebench.kernels.plane_conv.layout import SharedMaps

GEOMETRIES = [
    Geometry(kernel=(3, 3), padding=(1, 1)),
    Geometry(kernel=(1, 1)),
    Geometry(kernel=(1, 1), stride=(2, 2)),
    Geometry(kernel=(3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
    Geometry(kernel=(3, 3), stride=(2, 2), padding=(1, 1)),
    Geometry(kernel=(5, 4), padding=(4, 3), dilation=(2, 2)),
    Geometry(kernel=(3, 3), stride=(3, 2), padding=(0, 2), dilation=(2, 1)),
    Geometry(kernel=(2, 2), stride=(3, 3)),
    Geometry(kernel=(9, 1), padding=(4, 0)),
]
"""Padding beyond the kernel, places that no tap reads (stride 3 with 2 taps), and a kernel too tall to slide."""
SIZES = [(2, 5, 11, 9, 13), (1, 12, 3, 14, 14), (3, 8, 16, 17, 33)]
"""(n, in, out, h, w): groups of 8, 4, 2 and 1 maps, rows shorter and longer than a vector, more than one band."""
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-14, torch.bfloat16: 1e-2}

Case = tuple[Geometry, tuple[int, int, int, int, int], torch.dtype]
CASES: list[Case] = [(g, SIZES[i % 3], torch.float32) for i, g in enumerate(GEOMETRIES)] + [
    (GEOMETRIES[0], SIZES[2], torch.float64),
    (GEOMETRIES[3], SIZES[0], torch.bfloat16),
]


def normal(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def operands(case: Case) -> tuple[Geometry, Tensor, Tensor, int, tuple[int, int]]:
    geometry, (n, inputs, out, h, w), dtype = case
    x = normal(n, inputs, h, w, dtype=dtype, seed=1)
    return geometry, x, normal(n, out, *geometry.output((h, w)), dtype=dtype, seed=2), out, (h, w)


def agree(case: Case, name: str, *arguments: object) -> None:
    """Compare a function of cpu.py with the reference on the same operands in float64."""
    geometry, _, dtype = case
    got = getattr(cpu, name)(geometry, *arguments)
    exact = [a.double() if isinstance(a, Tensor) else a for a in arguments]
    want = getattr(reference, name)(geometry, *exact)
    assert got.shape == want.shape
    assert got.dtype == dtype
    assert got.is_contiguous()
    if want.numel():
        scale = float(want.abs().max()) or 1.0
        assert float((got.double() - want).abs().max()) <= TOLERANCE[dtype] * scale, name


def matrix(case: Case, block: tuple[int, int], density: float) -> Tensor:
    """Draw the matrix (out, in · taps) of a weight with some blocks; the first and the last block row are empty."""
    geometry, (_, inputs, out, _, _), dtype = case
    columns = inputs * geometry.taps
    rng = np.random.default_rng(3)
    down, across = -(-out // block[0]), -(-columns // block[1])
    keep = torch.from_numpy(rng.random((down, across)) < density)
    if down > 2:
        keep[[0, -1]] = False
    mask = keep.repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)[:out, :columns]
    return torch.where(mask, normal(out, columns, dtype=dtype, seed=4), 0)


def blocked(weight: Tensor, block: tuple[int, int]) -> tuple[BlockIndex, Tensor]:
    rows, columns = weight.nonzero(as_tuple=True)
    return blocks_from_elements(rows, columns, weight[rows, columns], (weight.shape[0], weight.shape[1]), block)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_shared_maps(case: Case) -> None:
    geometry, x, g, out, size = operands(case)
    for step in (1, 3):  # all maps, and some
        maps = SharedMaps(
            shape=(out, x.shape[1]),
            rows=torch.arange(0, out, step, dtype=torch.int32),
            maps=torch.arange(step // 3, x.shape[1], step, dtype=torch.int32),
        )
        values = normal(maps.rows.numel(), maps.maps.numel(), *geometry.kernel, dtype=x.dtype, seed=5)
        agree(case, "shared", maps, values, x)
        agree(case, "shared_input", maps, values, g, size)
        agree(case, "shared_values", maps, g, x)


@pytest.mark.parametrize("wide", [0, 1, 2])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_blocks_of_planes(case: Case, wide: int) -> None:
    geometry, x, g, _, size = operands(case)
    block = (4, wide * geometry.taps) if wide else (1, geometry.taps)  # the last are random pairs of maps
    index, values = blocked(matrix(case, block, 0.4), block)
    agree(case, "blocks", index, values, x)
    agree(case, "blocks_input", index, values, g, size)
    agree(case, "blocks_values", index, g, x)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_elements(case: Case) -> None:
    _, x, g, _, size = operands(case)
    weight = matrix(case, (1, 1), 0.3)
    rows, columns = weight.nonzero(as_tuple=True)
    index = RowIndex.from_elements(rows, columns, (weight.shape[0], weight.shape[1]))
    agree(case, "elements", index, weight[rows, columns], x)
    agree(case, "elements_input", index, weight[rows, columns], g, size)
    agree(case, "elements_values", index, g, x)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_planes_of_each_sample(case: Case) -> None:
    geometry, x, g, out, size = operands(case)
    keep = torch.from_numpy(np.random.default_rng(6).random(x.shape[:2]) < 0.5)
    keep[0] = case[1][0] == 1  # a batch has a sample without any plane
    rows, columns = keep.nonzero(as_tuple=True)
    index = RowIndex.from_elements(rows, columns, (x.shape[0], x.shape[1]))
    weight = normal(out, x.shape[1], *geometry.kernel, dtype=x.dtype, seed=7)
    agree(case, "planes", index, x[rows, columns], weight)
    agree(case, "planes_input", index, g, weight, size)
    agree(case, "planes_weight", index, x[rows, columns], g)


def nothing(case: Case) -> list[tuple[str, tuple[object, ...]]]:
    """Return every function with nothing stored."""
    geometry, x, g, out, size = operands(case)
    inputs, empty = x.shape[1], torch.zeros(0, dtype=torch.int32)
    shape = (out, inputs * geometry.taps)
    maps = SharedMaps(shape=(out, inputs), rows=empty, maps=empty)
    none, (index, values) = x.new_zeros((0, 0, *geometry.kernel)), blocked(x.new_zeros(shape), (1, geometry.taps))
    at = torch.zeros(0, dtype=torch.int64)
    rows, samples = RowIndex.from_elements(at, at, shape), RowIndex.from_elements(at, at, (x.shape[0], inputs))
    weight = normal(out, inputs, *geometry.kernel, dtype=x.dtype)
    planes = x.new_zeros((0, *size))
    return [
        ("shared", (maps, none, x)), ("shared_input", (maps, none, g, size)), ("shared_values", (maps, g, x)),
        ("blocks", (index, values, x)), ("blocks_input", (index, values, g, size)), ("blocks_values", (index, g, x)),
        ("elements", (rows, values.reshape(0), x)), ("elements_input", (rows, values.reshape(0), g, size)),
        ("elements_values", (rows, g, x)), ("planes", (samples, planes, weight)),
        ("planes_input", (samples, g, weight, size)), ("planes_weight", (samples, planes, g)),
    ]  # fmt: skip


def test_nothing_stored_gives_zeros() -> None:
    for name, arguments in nothing(CASES[0]):
        agree(CASES[0], name, *arguments)


def test_a_batch_of_none() -> None:
    geometry = Geometry(kernel=(3, 3), padding=(1, 1))
    case: Case = (geometry, (0, 4, 8, 6, 6), torch.float32)
    index, values = blocked(matrix(case, (1, 9), 0.9), (1, 9))
    agree(case, "blocks", index, values, torch.zeros(0, 4, 6, 6))
    agree(case, "blocks_input", index, values, torch.zeros(0, 8, 6, 6), (6, 6))
    agree(case, "blocks_values", index, torch.zeros(0, 8, 6, 6), torch.zeros(0, 4, 6, 6))


@pytest.mark.parametrize("turn", [lambda t: t.mT.contiguous().mT, lambda t: t.to(memory_format=torch.channels_last)])
def test_operands_of_any_strides(turn: Callable[[Tensor], Tensor]) -> None:
    case = CASES[0]
    _, x, g, _, size = operands(case)
    index, values = blocked(matrix(case, (4, 18), 0.5), (4, 18))
    agree(case, "blocks", index, values, turn(x))
    agree(case, "blocks_input", index, values, turn(g), size)
    agree(case, "blocks_values", index, turn(g), turn(x))


def test_the_same_bits_on_one_thread_and_on_two() -> None:
    case: Case = (GEOMETRIES[0], (3, 16, 24, 30, 31), torch.float32)
    _, x, g, _, _ = operands(case)
    index, values = blocked(matrix(case, (1, 9), 0.5), (1, 9))
    threads = numba.get_num_threads()

    def run(count: int) -> list[Tensor]:
        numba.set_num_threads(min(count, threads))
        return [cpu.blocks(case[0], index, values, x), cpu.blocks_values(case[0], index, g, x)]

    try:
        assert all(torch.equal(a, b) for a, b in zip(run(1), run(2), strict=True))
    finally:
        numba.set_num_threads(threads)


def test_nan_where_nothing_is_stored_touches_nothing() -> None:
    geometry = GEOMETRIES[0]
    maps = SharedMaps(
        shape=(8, 4), rows=torch.arange(8, dtype=torch.int32), maps=torch.tensor([1, 3], dtype=torch.int32)
    )
    x = normal(2, 4, 9, 9)
    x[:, 2] = torch.nan
    assert torch.isfinite(cpu.shared(geometry, maps, normal(8, 2, 3, 3), x)).all()
    assert torch.isfinite(cpu.shared_values(geometry, maps, normal(2, 8, 9, 9), x)).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g, i, v, x: cpu.blocks(g, i, v, x[:, :3]), r"expected strided x \(any, 4, any, any\)"),
        (lambda g, i, v, x: cpu.blocks(g, i, v, x.double()), "expected x in torch.float32"),
        (lambda g, i, v, x: cpu.blocks(g, i, v[:1], x), r"expected strided values"),
        (lambda g, i, v, x: cpu.blocks(g, i, v, x[..., :1, :1]), "expected an input of at least 3"),
        (lambda g, i, v, x: cpu.blocks_input(g, i, v, x, (9, 9)), "expected strided g"),
        (lambda g, i, v, x: cpu.blocks(Geometry(kernel=(2, 2)), i, v, x), "blocks of whole kernels, a multiple of 4"),
        (lambda g, i, v, x: Geometry(kernel=(3, 0)), r"kernel of at least \(1, 1\)"),
        (lambda g, i, v, x: Geometry(kernel=(3, 3), stride=2), "stride as a pair of ints"),
    ],
)
def test_operands_that_do_not_fit(call: Callable[..., Tensor], message: str) -> None:
    case: Case = (Geometry(kernel=(3, 3)), (2, 4, 8, 9, 9), torch.float32)
    index, values = blocked(matrix(case, (4, 9), 0.9), (4, 9))
    with pytest.raises(ValueError, match=message):
        call(case[0], index, values, normal(2, 4, 9, 9))


@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_group_has_a_kernel_on_any_processor(
    vector_bytes: int, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "vector_bytes", lambda: vector_bytes)
    # lanes are remembered by the process: a stand-in leaves that memory alone
    monkeypatch.setattr(tiles, "lanes", lambda name: vector_bytes // (8 if name == "float64" else 4))
    addresses, widths = cpu_launch._gather_table.__wrapped__(dtype, 64, False)
    assert (widths[:, 0] > 0).all()
    assert ((addresses != 0) == (widths > 0)).all()
