"""Converted models restored from their state dicts alone, and state dicts that were averaged."""

from __future__ import annotations

import copy
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from sparsebench.representations import registry
from sparsebench.representations.base import Representation, Spec
from sparsebench.representations.formats.csr import Csr
from sparsebench.representations.formats.dense import Dense
from sparsebench.representations.modules import SparseModule, convert, restore
from sparsebench.representations.nn import places
from sparsebench.representations.pattern import Pattern
from sparsebench.representations.registry import BUILTIN, load, missing_requirements

pytestmark = pytest.mark.usefixtures("one_thread")


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(4, 8, 3, stride=(2, 1), padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, (3, 1), padding="same", groups=2),
        nn.Conv2d(8, 8, 3, groups=8, dilation=2, padding=(2, 1)),
        nn.Flatten(),
        nn.Linear(8 * 3 * 4, 8),
    )


def mlp() -> nn.Module:
    shared = nn.Linear(12, 12)
    return nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(12, 4, bias=False))


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {"cnn": (cnn, (2, 4, 6, 6)), "mlp": (mlp, (5, 12))}
PRUNED: tuple[tuple[str, str | None, float], ...] = (
    ("cnn", None, 0.0),
    ("cnn", "element", 0.75),
    ("cnn", "plane", 0.5),
    ("mlp", None, 0.0),
    ("mlp", "block:2", 0.75),
)


def usable(name: str) -> bool:
    cls = load(name)
    spec = Spec(operation="matmul", shape=(8, 8), dtype=torch.float32, device="cpu")
    return not missing_requirements(cls) and cls.unsupported(spec) is None


def written(state: Any) -> Any:
    """Return what comes back of a file."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_a_fresh_process_restores_every_format_from_the_file_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    cases = []
    for name in filter(usable, BUILTIN):
        for net, kind, sparsity in PRUNED:
            make, size = NETS[net]
            model, x = convert(make(), name, kind, sparsity), torch.randn(size)
            model(x)  # moves the running means
            cases.append((net, model.state_dict(), x, model.eval()(x).detach()))
    torch.save(cases, tmp_path / "models.pt")
    command = [sys.executable, __file__, str(tmp_path / "models.pt")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.stdout == f"{len(cases)} equal\n", run.stderr


def _restore_all(path: str) -> None:
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    cases = torch.load(path, weights_only=True)
    for number, (net, state, x, y) in enumerate(cases):
        torch.manual_seed(number)
        restored = restore(NETS[net][0](), state).eval()
        assert torch.equal(restored(x), y), (net, restored)
    print(len(cases), "equal")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtypes_and_devices_are_those_of_the_file(dtype: torch.dtype) -> None:
    model, x = convert(cnn(), "planes", "plane", 0.5).to(dtype).eval(), torch.randn(2, 4, 6, 6, dtype=dtype)
    with torch.device("meta"):
        fresh = cnn()
    for dense in (cnn(), fresh):
        restored = restore(dense, written(model.state_dict())).eval()
        assert {value.dtype for value in restored.state_dict().values()} <= {dtype, torch.uint8, torch.int64}
        assert torch.equal(restored(x), model(x))
        assert not any(value.is_meta for value in restored.state_dict().values())


def test_a_restored_model_trains_on_as_the_saved_one_and_shares_nothing_with_it() -> None:
    saved = convert(cnn(), "block-sparse", "element", 0.75)  # blocks of which parts are fill
    state = saved.state_dict()
    restored = restore(cnn(), state)
    assert [key for key, _ in restored.named_parameters()] == [key for key, _ in saved.named_parameters()]
    x, twin = torch.randn(3, 4, 6, 6), copy.deepcopy(saved)
    for model in (twin, restored):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            torch.autograd.backward(model(x).square().sum())
            optimizer.step()
    torch.testing.assert_close(restored(x), twin(x))
    assert not torch.allclose(restored(x), saved(x))
    assert restored.state_dict().keys() == state.keys()
    assert torch.equal(restored.state_dict()["6.pattern"], state["6.pattern"])
    frozen = restore(cnn().requires_grad_(False), state)
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


class Tied(nn.Module):
    """Two layers of one weight, and one to be stored whose weight hooks compute."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 6), nn.Linear(6, 6)
        self.last.weight = self.first.weight
        self.between = parametrizations.weight_norm(nn.Linear(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.last(self.between(self.first(x)))
        return result


def test_ties_and_layers_that_were_skipped_come_back() -> None:
    saved, x = convert(Tied(), "csr", "element", 0.5, skip=["first", "last"]), torch.randn(2, 6)
    restored = restore(Tied(), written(saved.state_dict()))
    assert isinstance(restored, Tied)
    assert restored.first.weight is restored.last.weight
    assert isinstance(restored.between, SparseModule)
    assert torch.equal(restored(x), saved(x))
    shared = restore(mlp(), convert(mlp(), "ell").state_dict())
    assert shared[0] is shared[2]


class Bare(Dense):
    """Give no values."""

    name = "bare-of-a-file"
    values = Representation.values
    with_values = Representation.with_values


def test_a_class_of_the_users_has_to_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    saved, x = convert(cnn(), Bare, "plane", 0.5).eval(), torch.randn(2, 4, 6, 6)
    with pytest.raises(
        ValueError, match=r"restore layer '0' \(Conv2d\), got: expected a registered .*'bare-of-a-file'"
    ):
        restore(cnn(), saved.state_dict())
    registry.register(Bare)
    assert torch.equal(restore(cnn(), written(saved.state_dict())).eval()(x), saved(x))


def test_a_file_does_not_choose_what_is_imported() -> None:
    state = convert(nn.Linear(4, 4), "csr").state_dict()
    text = bytes(state["pattern"].tolist()).replace(b'"csr"', b'"antigravity:Csr"')
    with pytest.raises(ValueError, match="expected a registered representation, got 'antigravity:Csr'"):
        restore(nn.Linear(4, 4), state | {"pattern": torch.tensor(list(text), dtype=torch.uint8)})
    assert "antigravity" not in sys.modules


def _older(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state dict as it was before it held the places."""
    return {
        key: value[: bytes(value.tolist()).index(0)] if key.endswith("pattern") else value
        for key, value in state.items()
    }


def test_state_dicts_without_places_load_and_are_not_restored() -> None:
    saved, x = convert(mlp(), "csr", "element", 0.5), torch.randn(2, 12)
    older = _older(saved.state_dict())
    fresh = copy.deepcopy(saved)
    for parameter in fresh.parameters():
        parameter.data.zero_()
    fresh.load_state_dict(older)
    assert torch.equal(fresh(x), saved(x))
    with pytest.raises(ValueError, match=r"layer '0' \(Linear\), got: expected places in it, got none, as .* version;"):
        restore(mlp(), older)


def test_what_does_not_fit_is_named() -> None:
    state = convert(mlp(), "csr", "element", 0.5).state_dict()
    cases: tuple[tuple[nn.Module, dict[str, Any], type[Exception], str], ...] = (
        (mlp(), dict(mlp().state_dict()), ValueError, "got no stored layer; use load_state_dict"),
        (nn.Sequential(nn.Linear(3, 3)), state, ValueError, r"'0' .*expected a weight \(3, 3\), got \(12, 12\); build"),
        (nn.Sequential(*mlp(), nn.Linear(4, 4)), state, RuntimeError, r"Missing key.*4\.weight"),
        (mlp()[:3], state, RuntimeError, r"Unexpected key.*3\.values"),
        (
            mlp(),
            {key: state[key] for key in state if key != "3.values"},
            ValueError,
            "expected its values or its weight",
        ),
    )
    for model, given, kind, message in cases:
        with pytest.raises(kind, match=message):
            restore(model, given)
    grouped = convert(nn.Conv2d(4, 4, 3), "csr").state_dict()
    with pytest.raises(RuntimeError, match=r"expected a checkpoint of Sparse.* places"):
        restore(nn.Conv2d(4, 4, 3, groups=2), grouped)


def _averaged(states: list[dict[str, Tensor]], weights: tuple[float, ...], dtype: torch.dtype) -> dict[str, Tensor]:
    return {
        key: torch.stack([weight * state[key].to(dtype) for weight, state in zip(weights, states, strict=True)]).sum(0)
        for key in states[0]
    }


def _two(seed: int) -> list[nn.Module]:
    """Return two models of one pattern and other weights."""
    first = convert(mlp(), "csr", "element", 0.5, seed=seed)
    second = copy.deepcopy(first)
    for parameter in second.parameters():
        parameter.data.mul_(3)
    return [first, second]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_averaged_state_dicts_of_one_pattern_load_and_are_restored(dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    models = _two(0)
    state = _averaged([model.state_dict() for model in models], (0.3, 0.7), dtype)
    want = copy.deepcopy(models[0])
    for parameter in want.parameters():
        parameter.data.mul_(0.3 + 0.7 * 3)
    x = torch.randn(2, 12)
    models[0].load_state_dict(state)
    for model in (models[0], restore(mlp(), state).float()):
        torch.testing.assert_close(model(x), want(x))


def test_averages_of_other_patterns_are_refused_in_one_line() -> None:
    torch.manual_seed(2)
    models = [_two(0)[0] for _ in range(2)]
    states = [model.state_dict() for model in models]
    size = max(len(state["0.pattern"]) for state in states)  # averaging asks for equal lengths
    for key in ("0.pattern", "2.pattern", "3.pattern"):
        for state in states:
            state[key] = nn.functional.pad(state[key], (0, size - len(state[key])))
    half = {key: value.to(torch.bfloat16) if key.endswith("pattern") else value for key, value in states[0].items()}
    for state in (_averaged(states, (0.5, 0.5), torch.float32), _averaged([half], (0.37,), torch.bfloat16)):
        before = models[0](torch.ones(1, 12))
        with pytest.raises(
            RuntimeError, match=r"0\.pattern: expected the bytes of one pattern, got torch\.\w+ of"
        ) as got:
            models[0].load_state_dict(state)
        assert "take this key from one of them" in str(got.value)
        with pytest.raises(ValueError, match=r"restore layer '0' .*expected the bytes of one pattern"):
            restore(mlp(), state)
        assert torch.equal(models[0](torch.ones(1, 12)), before)


def test_torchs_averaged_model_averages_the_values() -> None:
    model = _two(0)[0]
    averaged = torch.optim.swa_utils.AveragedModel(model)
    averaged.update_parameters(model)
    want = model.state_dict()["3.values"].clone() * 2
    for parameter in model.parameters():
        parameter.data.mul_(3)
    averaged.update_parameters(model)
    torch.testing.assert_close(averaged.module.get_submodule("3").values.detach(), want)
    x = torch.randn(2, 12)
    torch.testing.assert_close(restore(mlp(), averaged.module.state_dict())(x), averaged(x))


@pytest.mark.parametrize(
    ("kind", "shape", "sparsity", "most"),
    [("element", (256, 256), 0.95, 0.4), ("plane", (64, 64, 3, 3), 0.9, 0.1), ("block:32", (256, 256), 0.8, 0.02)],
)
def test_places_take_little_room(kind: str, shape: tuple[int, ...], sparsity: float, most: float) -> None:
    layer = nn.Conv2d(shape[1], shape[0], 3) if len(shape) == 4 else nn.Linear(shape[1], shape[0])
    made = convert(layer, "csr", kind, sparsity)
    assert isinstance(made, SparseModule)
    mask = made.weight.detach() != 0
    packed = places.pack(mask)
    assert torch.equal(places.unpack(packed, shape), mask)
    assert len(packed) * 8 < most * mask.numel()
    assert len(made.state_dict()["pattern"]) < len(packed) + 300


def test_damaged_places_are_refused() -> None:
    state = convert(nn.Linear(8, 8), "csr", Pattern(kind="element"), 0.5).state_dict()
    content = bytearray(state["pattern"].tolist())
    other = bytes(convert(nn.Linear(8, 8), "csr", "element", 0.5).state_dict()["pattern"].tolist())
    cut = content.index(0) + 1
    for packed, message in (
        (content[cut:-6], "expected packed places"),
        (other[cut:], "expected the places that were"),
    ):
        damaged = torch.tensor(list(content[:cut] + packed), dtype=torch.uint8)
        with pytest.raises(ValueError, match=message):
            restore(nn.Linear(8, 8), state | {"pattern": damaged})
    assert isinstance(restore(nn.Linear(8, 8), state), SparseModule)
    assert Csr.name in repr(restore(nn.Linear(8, 8), state))


if __name__ == "__main__":
    _restore_all(sys.argv[1])
