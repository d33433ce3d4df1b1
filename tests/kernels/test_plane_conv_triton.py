"""Check the Triton convolutions against float64, in the interpreter, or on a GPU where there is one."""

from __future__ import annotations

import os
from typing import Any

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before the kernels are imported: they are made for it then

import pytest
from torch import Tensor

pytest.importorskip("triton")

from sparsebench.kernels.block_sparse.layout import BlockIndex, blocks_from_elements
from sparsebench.kernels.csr.layout import RowIndex
from sparsebench.kernels.plane_conv import reference, triton_launch
from sparsebench.kernels.plane_conv import triton as kernels
from sparsebench.kernels.plane_conv.geometry import Geometry
from sparsebench.kernels.plane_conv.layout import SharedMaps
from sparsebench.kernels.plane_conv.triton_steps import Tile

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# the interpreter's bfloat16 is not to be trusted (triton issue 4972); a GPU's is
DTYPES = [torch.float32, torch.float16] + ([torch.bfloat16] if DEVICE == "cuda" else [])
PLAIN = Geometry(kernel=(2, 3), padding=(1, 1))
STRIDED = Geometry(kernel=(2, 3), stride=(3, 2), padding=(1, 2), dilation=(2, 3))  # places met by no tap, one, two
SINGLE = Geometry(kernel=(1, 1), stride=(2, 2))  # places of x that no tap reads
OUT, MAPS = 3, 5
STORES = ("shared", "pairs", "blocks", "elements", "planes")


class Draw:
    """Draw random operands from a seed, none of them 0."""

    def __init__(self, seed: int, dtype: torch.dtype = torch.float32) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.dtype = dtype

    def numbers(self, *sizes: int) -> Tensor:
        magnitude = torch.rand(sizes, generator=self.generator) + 0.5
        return (magnitude * (torch.randint(0, 2, sizes, generator=self.generator) * 2 - 1)).to(DEVICE, self.dtype)

    def keep(self, rows: int, columns: int, density: float) -> Tensor:
        """Return a mask whose first row is full and whose last begins with an entry, with an empty one between."""
        mask = torch.rand(rows, columns, generator=self.generator) < density
        if density > 0:
            mask[:1], mask[1 : rows - 1][:1], mask[-1:, :1] = True, False, True
        return mask

    def elements(self, rows: int, columns: int, density: float) -> RowIndex:
        row, column = self.keep(rows, columns, density).nonzero(as_tuple=True)
        return RowIndex.from_elements(row.to(DEVICE), column.to(DEVICE), (rows, columns))

    def blocks(self, shape: tuple[int, int], block: tuple[int, int], density: float) -> tuple[BlockIndex, Tensor]:
        mask = self.keep(-(-shape[0] // block[0]), -(-shape[1] // block[1]), density)
        mask = mask.repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)[: shape[0], : shape[1]]
        row, column = mask.nonzero(as_tuple=True)
        return blocks_from_elements(row.to(DEVICE), column.to(DEVICE), self.numbers(row.numel()), shape, block)

    def shared(self, out: int, maps: int, density: float) -> SharedMaps:
        rows, columns = (self.keep(size, 1, density)[:, 0].nonzero()[:, 0].int().to(DEVICE) for size in (out, maps))
        return SharedMaps(shape=(out, maps), rows=rows, maps=columns)


def relaid(planes: Tensor, kind: str) -> Tensor:
    """Return the same numbers contiguous, channels last, or as every second row of something larger."""
    if kind == "sliced":
        larger = planes.new_full((*planes.shape[:2], planes.shape[2] * 2, planes.shape[3] + 1), torch.nan)
        larger[:, :, ::2, 1:] = planes
        return larger[:, :, ::2, 1:]
    return planes.contiguous(memory_format=torch.channels_last) if kind == "channels last" else planes


Call = tuple[str, tuple[Any, ...]]


def calls(
    store: str, geometry: Geometry, draw: Draw, *, n: int = 2, size: tuple[int, int] = (5, 6), density: float = 0.5,
    kind: str = "sliced", out: int | None = None, maps: int = MAPS, block: tuple[int, int] = (2, 3),
) -> list[Call]:  # fmt: skip
    """Return the three operations on one way to store an operand, each with its arguments."""
    out = out or (5 if store == "blocks" else OUT)  # three rows of blocks
    x = relaid(draw.numbers(n, maps, *size), kind)
    g = relaid(draw.numbers(n, out, *geometry.output(size)), kind)
    matrix = out, maps * geometry.taps
    if store == "planes":
        index, weight = draw.elements(n, maps, density), draw.numbers(out, maps, *geometry.kernel)
        held = draw.numbers(index.nnz, *size)
        return [
            ("planes", (geometry, index, held, weight)),
            ("planes_input", (geometry, index, g, weight, size)),
            ("planes_weight", (geometry, index, held, g)),
        ]
    if store == "shared":
        index: Any = draw.shared(out, maps, density)
        values = draw.numbers(index.rows.numel(), index.maps.numel(), *geometry.kernel)
    elif store == "elements":
        index = draw.elements(*matrix, density)
        values = draw.numbers(index.nnz)
    else:
        height, width = (1, 1) if store == "pairs" else block  # (2, 3) leaves a rest on both sides
        index, values = draw.blocks(matrix, (height, width * geometry.taps), density)
    name = "blocks" if store == "pairs" else store
    return [
        (name, (geometry, index, values, x)),
        (f"{name}_input", (geometry, index, values, g, size)),
        (f"{name}_values", (geometry, index, g, x)),
    ]


def check(name: str, arguments: tuple[Any, ...]) -> Tensor:
    """Compare with float64: sums are in float32, then the result is rounded to its dtype once."""
    got = getattr(kernels, name)(*arguments)
    wide = [a.double() if isinstance(a, Tensor) else a for a in arguments]
    want = getattr(reference, name)(*wide)
    magnitude = getattr(reference, name)(*(a.abs() if isinstance(a, Tensor) else a for a in wide))
    terms = sum(a.numel() for a in arguments if isinstance(a, Tensor))  # more than any sum has
    bound = magnitude * torch.finfo(torch.float32).eps * min(terms + 2, 1000)
    bound += want.abs() * torch.finfo(got.dtype).eps / 2 + torch.finfo(got.dtype).smallest_normal
    assert got.shape == want.shape
    assert got.is_contiguous()
    assert ((got.double() - want).abs() <= bound).all(), (name, (got.double() - want).abs().max())
    return got


CASES = [
    (PLAIN, torch.float32, "channels last", 1),
    (SINGLE, torch.float32, "contiguous", 1),
    *((STRIDED, dtype, "sliced", 1 + (dtype == torch.float32)) for dtype in DTYPES),
]


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0].kernel} {case[1]} {case[2]}")
def test_operations(store: str, case: tuple[Geometry, torch.dtype, str, int]) -> None:
    geometry, dtype, kind, n = case
    for name, arguments in calls(store, geometry, Draw(1, dtype), n=n, kind=kind):
        assert check(name, arguments).abs().max() > 0


@pytest.mark.parametrize("store", STORES)
def test_nothing_stored_and_no_sample(store: str) -> None:
    for options in ({"density": 0.0}, {"n": 0}):
        for name, arguments in calls(store, PLAIN, Draw(2), size=(3, 2), **options):  # type: ignore[arg-type]
            check(name, arguments)


@pytest.mark.parametrize("store", ["shared", "blocks", "planes"])
def test_more_maps_and_pixels_than_a_tile_holds(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tile = Tile(rows=16, columns=16, inner=16)
    for name in ("gather_tile", "reduce_tile"):
        monkeypatch.setattr(triton_launch, name, lambda *_, **__: tile)
    for name, arguments in calls(store, PLAIN, Draw(3), n=1, size=(3, 7), out=17, maps=35, density=0.9, block=(17, 17)):
        check(name, arguments)


def test_a_block_of_one_row_of_maps() -> None:
    """A block (1, 2 · taps) is no pair, and a column of blocks reaches over the edge."""
    draw = Draw(4)
    index, values = draw.blocks((OUT, MAPS * 6), (1, 12), 0.5)
    x, g = draw.numbers(1, MAPS, 4, 4), draw.numbers(1, OUT, *PLAIN.output((4, 4)))
    check("blocks", (PLAIN, index, values, x))
    check("blocks_input", (PLAIN, index, values, g, (4, 4)))
    check("blocks_values", (PLAIN, index, g, x))
    over = index.col == 2
    g[:, int(index.block_rows()[over][0])] = torch.nan
    got = kernels.blocks_values(PLAIN, index, g, x)[over]
    assert got[:, :, :6].isnan().any()
    assert (got[:, :, 6:] == 0).all()  # the padding


@pytest.mark.parametrize("store", ["shared", "pairs", "blocks", "elements"])
def test_maps_that_no_weight_reads_may_hold_anything(store: str) -> None:
    density = 0.1 if store == "elements" else 0.4
    drawn = calls(store, PLAIN, Draw(5), n=1, size=(3, 2), out=5, density=density, block=(2, 1))
    name, (geometry, index, values, x) = drawn[0]
    alone = torch.eye(MAPS, device=DEVICE)[:, :, None, None].expand(-1, -1, *x.shape[2:])  # sample i has map i only
    reads = getattr(reference, name)(geometry, index, values.abs(), alone).amax((2, 3)) > 0
    row = int(reads.sum(0).masked_fill(~reads.any(0), MAPS).argmin())  # reads some maps, and not all
    poisoned = x.clone()
    poisoned[:, ~reads[:, row]] = torch.nan
    assert not reads[:, row].all()
    want = getattr(kernels, name)(geometry, index, values, x)[:, row]
    assert want.abs().max() > 0
    assert torch.equal(getattr(kernels, name)(geometry, index, values, poisoned)[:, row], want)


@pytest.mark.parametrize("store", ["shared", "elements", "planes"])
def test_runs_repeat_bit_for_bit(store: str) -> None:
    name, arguments = calls(store, PLAIN, Draw(6))[2]  # the one that shares sums out
    assert torch.equal(getattr(kernels, name)(*arguments), getattr(kernels, name)(*arguments))


def test_sums_are_shared_out_to_several_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_launch, "processors", lambda _: 1000)  # a share for each sample and chunk of pixels
    for store in ("shared", "blocks", "elements"):
        name, arguments = calls(store, PLAIN, Draw(7), size=(5, 4), density=0.2)[2]
        check(name, arguments)


@pytest.mark.parametrize("store", ["shared", "elements"])
def test_offsets_past_two_to_the_31(store: str) -> None:
    """Maps lie 2^27 elements apart: the last of 20 starts past 2^31. Only what is read takes memory."""
    draw = Draw(8, torch.float16)
    memory = torch.empty(19 * 2**27 + 9, dtype=torch.float16, device=DEVICE)
    x = memory.as_strided((1, 20, 3, 3), (0, 2**27, 3, 1))
    x[:] = draw.numbers(1, 20, 3, 3)
    name, (geometry, index, values, _) = calls(store, PLAIN, draw, n=1, size=(3, 3), out=3, maps=20)[0]
    check(name, (geometry, index, values, x))
    g = draw.numbers(1, 3, *PLAIN.output((3, 3)))
    check(f"{name}_values", (geometry, index, g, x))


def test_bad_operands_are_refused() -> None:
    draw = Draw(9)
    x, g = draw.numbers(1, MAPS, 4, 4), draw.numbers(1, OUT, 5, 4)
    index, values = draw.blocks((OUT, MAPS * 6), (2, 9), 0.5)
    with pytest.raises(ValueError, match=r"blocks of whole kernels, a multiple of 6 wide, got \(2, 9\)"):
        kernels.blocks(PLAIN, index, values, x)
    with pytest.raises(ValueError, match="a multiple of 4 wide"):
        kernels.blocks_values(Geometry(kernel=(2, 2)), index, g, x)
    index, values = draw.blocks((OUT, MAPS * 6), (1, 6), 0.5)
    with pytest.raises(ValueError, match=r"in one of torch.float32, torch.float16, torch.bfloat16, got torch.float64"):
        kernels.blocks(PLAIN, index, values.double(), x.double())
    with pytest.raises(ValueError, match=r"x \(any, 5, any, any\), got .*\(1, 3, 5, 4\)"):
        kernels.blocks(PLAIN, index, values, g)
    with pytest.raises(ValueError, match=r"g \(any, 3, 6, 4\), got .*\(1, 3, 5, 4\)"):
        kernels.blocks_input(PLAIN, index, values, g, (5, 4))
    with pytest.raises(ValueError, match=r"expected an input of at least"):
        kernels.blocks(Geometry(kernel=(2, 3)), index, values, draw.numbers(1, MAPS, 2, 2))
