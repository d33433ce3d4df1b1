"""Of two ways to convolve shared maps the faster is used, and the library's only if it is right."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sparsebench.kernels.common import choices, chooser
from sparsebench.kernels.plane_conv import cpu_choice
from sparsebench.kernels.plane_conv.geometry import Geometry
from sparsebench.kernels.plane_conv.layout import SharedMaps

GEOMETRY = Geometry(kernel=(3, 3))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(choices, "folder", lambda: tmp_path / "choices")
    monkeypatch.setattr(cpu_choice, "SMALL", 0)
    chooser.forget()
    yield tmp_path / "choices"
    chooser.forget()


def maps() -> SharedMaps:
    return SharedMaps(shape=(8, 8), rows=torch.arange(8, dtype=torch.int32), maps=torch.arange(8, dtype=torch.int32))


class Way:
    """Gives a result after a while, and counts how often it was asked."""

    def __init__(self, result: Tensor, seconds: float) -> None:
        self.result, self.seconds, self.calls = result, seconds, 0

    def __call__(self) -> Tensor:
        self.calls += 1
        time.sleep(self.seconds)
        return self.result


@pytest.mark.parametrize(("ours", "library", "faster"), [(0.02, 0.001, "library"), (0.001, 0.02, "ours")])
def test_the_faster_way_is_used_and_remembered(ours: float, library: float, faster: str, folder: Path) -> None:
    x, held = torch.rand(2, 8, 9, 9), maps()
    ways = {"ours": Way(x, ours), "library": Way(x + 1e-6, library)}
    for _ in range(2):
        result = cpu_choice.faster("conv2d", GEOMETRY, held, x, ways["ours"], ways["library"])
        assert held.made["conv2d"] == faster
        assert torch.equal(result, ways[faster].result)
    chooser.forget()  # as a new process would begin
    calls = {name: way.calls for name, way in ways.items()}
    cpu_choice.faster("conv2d", GEOMETRY, held, x, ways["ours"], ways["library"])
    assert {name: way.calls - calls[name] for name, way in ways.items()} == {name: int(name == faster) for name in ways}


@pytest.mark.parametrize("wrong", [1.0, torch.nan])
def test_a_library_that_is_wrong_is_never_used_and_nothing_is_remembered(wrong: float, folder: Path) -> None:
    x, held = torch.rand(2, 8, 9, 9), maps()
    ours, library = Way(x, 0.02), Way(x + wrong, 0.0)
    for _ in range(2):
        assert torch.equal(cpu_choice.faster("conv2d", GEOMETRY, held, x, ours, library), x)
        assert held.made["conv2d"] == "ours"
    assert not folder.exists()
