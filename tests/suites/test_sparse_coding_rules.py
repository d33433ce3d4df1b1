"""The models with rules of their own learn by them, conserve what they say, find the bars, and refuse bad input."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from sparsebench.representations import registry
from sparsebench.suites.workloads.data import Digits, digits
from sparsebench.suites.workloads.sparse_coding import curves, quality
from sparsebench.suites.workloads.sparse_coding.models.coder import DivergedError, SparseCoder
from sparsebench.suites.workloads.sparse_coding.models.conserving_flow import (
    ConservingFlow,
    ConservingFlowSettings,
    shifted_code,
)
from sparsebench.suites.workloads.sparse_coding.models.foldiak import Foldiak, FoldiakSettings
from sparsebench.suites.workloads.sparse_coding.models.gradient_dream import GradientDream, GradientDreamSettings
from sparsebench.suites.workloads.sparse_coding.models.k_winners import KWinners, KWinnersSettings, winners_of
from sparsebench.suites.workloads.sparse_coding.models.sparse_dream import SparseDream, SparseDreamSettings
from sparsebench.suites.workloads.sparse_coding.notebook.conserved_flow import (
    Settings,
    learn,
)
from sparsebench.suites.workloads.sparse_coding.notebook.holding import decoder, why_not

N = 8
MODELS: dict[str, Callable[..., SparseCoder]] = {
    "sparse-dream": lambda **more: SparseDream(SparseDreamSettings(units=N, epochs=2), **more),
    "conserving-flow": lambda **more: ConservingFlow(ConservingFlowSettings(units=N, epochs=2, flow=0.02), **more),
    "foldiak": lambda **more: Foldiak(FoldiakSettings(units=N, epochs=2, settling=1), **more),
    "k-winners": lambda **more: KWinners(KWinnersSettings(units=N, epochs=2, winners=3), **more),
    "gradient-dream": lambda **more: GradientDream(GradientDreamSettings(units=N, epochs=2), **more),
}
EVERY = pytest.mark.parametrize("name", MODELS)
DOUBLE = torch.float64


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small products on many threads wait for one another, the longer the busier the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def offline() -> Digits:
    return digits(None)


@pytest.fixture(scope="module")
def images(offline: Digits) -> Tensor:
    return offline.images[:120].double()


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


@EVERY
def test_a_model_is_seeded_and_what_it_learned_can_be_kept(name: str, images: Tensor) -> None:
    model, again, other = MODELS[name](dtype=DOUBLE), MODELS[name](dtype=DOUBLE), MODELS[name](dtype=DOUBLE, seed=1)
    assert model.name == name
    curve = model.fit(images)
    np.testing.assert_array_equal(again.fit(images), curve)
    assert not np.array_equal(other.fit(images), curve)
    restored = MODELS[name](dtype=DOUBLE)
    restored.load(model.state())
    code = model.encode(images)
    assert code.shape == (120, N)
    assert torch.equal(restored.encode(images).to_dense(), code.to_dense())
    torch.testing.assert_close(model.reconstruct(images), code.to_dense() @ model.dictionary.detach())
    # what is restored goes on as the other does
    assert restored.partial_fit(images[:30]) == model.partial_fit(images[:30])
    for key, value in model.state().items():
        assert torch.equal(restored.state()[key], value), key
    assert model.multiply_adds() >= N * 784


@EVERY
def test_bad_and_bare_images_are_refused_or_defined(name: str, images: Tensor) -> None:
    model = MODELS[name](dtype=DOUBLE)
    with pytest.raises(RuntimeError, match="has learned"):
        model.encode(images)
    with pytest.raises(ValueError, match="at least 1 image"):
        model.fit(images[:0])
    with pytest.raises(ValueError, match="finite images, got NaN"):
        model.fit(torch.full((2, 9), math.nan))
    model.partial_fit(images[:20])
    assert model.encode(images[:0]).shape == (0, N)
    with pytest.raises(ValueError, match="of 784 numbers"):
        model.encode(images[:, :100])
    for constant in (0.0, 1.0):  # blank and full images have codes, and can be learned from
        level = torch.full((4, 784), constant, dtype=DOUBLE)
        assert torch.isfinite(model.encode(level).to_dense()).all()
        assert math.isfinite(model.partial_fit(level))
    model.fit(images)
    with torch.no_grad():
        model._parameters()["dictionary"][0] = 0.0  # an atom of zeros is an atom like any other
    assert torch.isfinite(model.reconstruct(images)).all()
    assert math.isfinite(model.partial_fit(images[:20]))


@EVERY
@pytest.mark.parametrize("holder", ["dense", "csr", "torch-coo"])
def test_learning_is_the_same_whichever_representation_holds(name: str, holder: str, images: Tensor) -> None:
    plain, held = MODELS[name](dtype=DOUBLE), MODELS[name](dtype=DOUBLE, holder=holder)
    few = images[:40]
    np.testing.assert_allclose(held.fit(few), plain.fit(few), rtol=1e-9)
    torch.testing.assert_close(held.dictionary, plain.dictionary, rtol=1e-7, atol=1e-9)


def test_sparse_dream_by_hand() -> None:
    """A batch of one is the rule; a batch of two, the mean."""
    images, w = drawn(2, 6), drawn(3, 6, seed=1) + 0.1
    t = torch.tensor([0.3, -0.2, 1.0], dtype=DOUBLE)
    settings = SparseDreamSettings(units=3, rate=0.02, gamma=0.01, activity=0.05)
    steps = []
    for rows in (images[:1], images[1:], images):
        model = SparseDream(settings, dtype=DOUBLE)
        model.load({"dictionary": w, "thresholds": t})
        model.partial_fit(rows)
        steps.append((model.dictionary - w, model.state()["thresholds"] - t))
    v, o = images[0], 1 / (1 + torch.exp(-(w @ images[0] - t)))
    r = w.t() @ o
    torch.testing.assert_close(steps[0][0], 0.02 * w * torch.outer(o, (v - r) / r))
    torch.testing.assert_close(steps[0][1], 0.01 * (o - 0.05))
    for part in (0, 1):
        torch.testing.assert_close(steps[2][part], (steps[0][part] + steps[1][part]) / 2)


def test_sparse_dream_holds_its_activity(offline: Digits) -> None:
    model = SparseDream(SparseDreamSettings(units=30, epochs=6, activity=0.1))
    curve = model.fit(offline.images[:2000])
    assert float(model.encode(offline.images[:2000]).mean()) == pytest.approx(0.1, rel=0.1)
    assert curve[-1] < 0.8 * curve[0]


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
@pytest.mark.parametrize("scale", [0.1, 3.0, 100.0])
def test_a_shift_conserves_the_flow(dtype: torch.dtype, scale: float) -> None:
    drives = (torch.randn(200, 100, generator=torch.Generator().manual_seed(0)) * scale + 7).to(dtype)
    targets = torch.logspace(-3, math.log10(99.9), 200).to(dtype)
    code = shifted_code(drives, targets)
    accuracy = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(code.sum(1), targets, rtol=accuracy, atol=0)
    order = drives.argsort(1)
    assert (code.gather(1, order).diff(dim=1) >= 0).all()  # one shift keeps the order
    odds = torch.logit(code.double()) - drives.double()
    sure = (code > 1e-3) & (code < 0.99)
    for row, chosen in zip(odds, sure, strict=True):  # σ⁻¹(o) − z is the same number for all units of an image
        assert not chosen.any() or float(row[chosen].max() - row[chosen].min()) < 1e-2


def test_a_flow_that_no_code_can_carry_is_defined() -> None:
    code = shifted_code(drawn(4, 5), torch.tensor([-1.0, 0.0, 5.0, 9.0], dtype=DOUBLE))
    assert code.tolist() == [[0.0] * 5] * 2 + [[1.0] * 5] * 2
    assert shifted_code(drawn(1, 5), torch.tensor([2.5], dtype=DOUBLE)).sum() == pytest.approx(2.5)
    assert shifted_code(torch.full((1, 4), 1e6), torch.tensor([1.0])).tolist() == [[0.25] * 4]  # all units alike


def conservation(code: Tensor, images: Tensor, flow: float) -> dict[str, float]:
    """Return how well codes (n, N) conserve the flow of images (n, d): |Σo − f Σv| ÷ f Σv, over images with any ink.

    Returns:
        mean, p95 (95th percentile) and largest, relative; NaN if all images are blank.
    """
    ink = flow * images.double().sum(1)
    inked = ink > 0
    off = ((code.double().sum(1) - ink).abs() / ink)[inked]
    if len(off) == 0:
        return dict.fromkeys(("mean", "p95", "largest"), float("nan"))
    return {"mean": float(off.mean()), "p95": float(off.quantile(0.95)), "largest": float(off.max())}


@pytest.mark.parametrize("flow", [0.05, 0.1, 0.2])
def test_the_conserving_flow_conserves_and_learns(flow: float, offline: Digits) -> None:
    model = ConservingFlow(ConservingFlowSettings(units=100, epochs=4, flow=flow))
    model.fit(offline.images)
    test = digits(None, "test").images
    code = model.encode(test)
    off = conservation(code, test, flow)
    assert off["largest"] < 1e-4
    assert quality.l1(test, model.decode(code)) < 66  # the notebook reaches 64 in 20 epochs of 3,000 images
    notebook = conservation(torch.full((1, 100), 0.3), torch.full((1, 784), 0.1), 0.2)
    assert notebook["mean"] == pytest.approx((30 - 15.68) / 15.68, rel=1e-4)
    assert math.isnan(conservation(torch.zeros(1, 3), torch.zeros(1, 4), 0.2)["mean"])


def test_foldiak_by_hand() -> None:
    settings = FoldiakSettings(units=2, alpha=0.1, beta=0.02, gamma=0.03, settling=0, steps=400)
    model = Foldiak(settings, dtype=DOUBLE)
    q = torch.tensor([[0.9, 0.1, 0.4], [0.5, 0.6, 0.7]], dtype=DOUBLE)
    inhibition = torch.tensor([[0.0, -0.2], [-0.2, 0.0]], dtype=DOUBLE)
    t, w = torch.tensor([0.3, 0.4], dtype=DOUBLE), torch.ones(2, 3, dtype=DOUBLE)
    x = torch.tensor([[1.0, 0.5, 0.0]], dtype=DOUBLE)
    model.load({"dictionary": w, "forward": q, "inhibition": inhibition, "thresholds": t, "seen": torch.tensor(5)})
    rest = model.settled(x)[0]
    torch.testing.assert_close(rest, torch.sigmoid(10 * (q @ x[0] + inhibition @ rest - t)))  # at rest
    assert (rest > 0.5).tolist() == [True, True]
    model.partial_fit(x)
    state = model.state()
    torch.testing.assert_close(state["forward"], q + 0.02 * (x - q))
    torch.testing.assert_close(state["thresholds"], t + 0.03 * (1 - 1 / 8))
    coupled = -0.2 - 0.1 * (1 - 1 / 64)
    torch.testing.assert_close(state["inhibition"], torch.tensor([[0, coupled], [coupled, 0]], dtype=DOUBLE))
    torch.testing.assert_close(state["dictionary"], w + 0.1 / 2 * (x - 2))  # normalised LMS: both units are on


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_foldiak_finds_all_bars(seed: int, bars: ModuleType) -> None:
    """After 4,800 presentations; the dictionary holds all sixteen after 2,400 to 3,200 with these seeds."""
    images, there = bars.draw(4_800, seed)
    model = Foldiak(FoldiakSettings(units=16), seed=seed)
    for batch in images.split(16):
        model.partial_fit(batch)
    assert int(bars.recovered(model.dictionary).sum()) == 16
    fresh, there = bars.draw(500, 99)
    code = model.encode(fresh)
    cosines = (model.dictionary @ bars.every_bar().t()) / model.dictionary.norm(dim=1, keepdim=True)
    right = code.bool()[:, cosines.argmax(0)] == there  # the unit of each bar is on where the bar is
    assert float(right.float().mean()) > 0.95


def test_k_winners_keep_exactly_k() -> None:
    drives = torch.tensor([[1.0, 3.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 5.0]])
    code = winners_of(drives, 2)
    assert code.layout == torch.sparse_csr
    assert code.crow_indices().tolist() == [0, 2, 4, 6]
    assert code.col_indices().tolist() == [1, 2, 0, 1, 0, 3]  # of equals the first; zeros are stored too
    assert code.values().tolist() == [3, 3, 0, 0, 0, 5]
    images = drawn(50, 20)
    model = KWinners(KWinnersSettings(units=9, winners=4, boost=0.0, rate=0.1), dtype=DOUBLE)
    model.partial_fit(images)
    w, p = model.dictionary.clone(), images @ model.dictionary.t()
    o = p * (p >= p.topk(4, dim=1).values[:, -1:])
    torch.testing.assert_close(model.encode(images).to_dense(), o)
    model.partial_fit(images)
    r = o @ w
    expected = (w + 0.1 * w * (o.t() @ ((images - r) / r)) / 50).clamp_min(0)
    torch.testing.assert_close(model.dictionary, expected)


def test_boosting_wakes_dead_units(offline: Digits) -> None:
    dead = []
    for boost in (0.0, 10.0):
        model = KWinners(KWinnersSettings(units=40, winners=4, boost=boost, epochs=2))
        model.fit(offline.images[:2000])
        assert float(model.dictionary.min()) >= 0
        dead.append(quality.activity(model.encode(offline.images[:2000]))["dead_units"])
    assert dead[1] < dead[0]


@pytest.mark.parametrize("layers", [1, 2])
def test_gradients_of_the_dream(layers: int) -> None:
    model = GradientDream(GradientDreamSettings(units=4, layers=layers, sparsity=0.7), dtype=DOUBLE)
    images = drawn(5, 6)
    model.begin(images)
    weights = dict(model._weights)

    def loss(*given: Tensor) -> Tensor:
        model._weights = dict(zip(weights, given, strict=True))
        return model.loss(images)[0]

    moved = [(w.detach() + 0.1 * drawn(*w.shape, seed=3)).requires_grad_() for w in weights.values()]
    assert torch.autograd.gradcheck(loss, moved)
    w = moved[0].detach()
    a = torch.relu(images @ w.t())
    if layers == 2:
        a = torch.relu(a @ moved[1].detach().t() + moved[2].detach())
    expected = (a @ w - images).square().sum(1).mean() + 0.7 * a.tanh().sum(1).mean()
    expected += (w.square().sum(1) - 1).square().sum()
    torch.testing.assert_close(loss(*moved).detach(), expected)


@pytest.mark.parametrize("layers", [1, 2])
def test_the_dream_learns_digits(layers: int, offline: Digits) -> None:
    model = GradientDream(GradientDreamSettings(units=100, layers=layers, epochs=4))
    curve = model.fit(offline.images)
    assert curve[-1] < 62
    off = (model.encode(offline.images) == 0).float().mean()
    assert off > 0.4  # exact zeros


@pytest.mark.parametrize(
    "model",
    [
        SparseDream(SparseDreamSettings(units=N, rate=1e6)),
        ConservingFlow(ConservingFlowSettings(units=N, rate=1e6)),
        KWinners(KWinnersSettings(units=N, winners=2, rate=1e25, boost=0.0)),
        GradientDream(GradientDreamSettings(units=N, rate=1e9, epochs=3)),
        Foldiak(FoldiakSettings(units=N, beta=1e30, settling=0, epochs=3)),
    ],
    ids=lambda model: model.name,
)
def test_divergence_names_its_epoch(model: SparseCoder, images: Tensor) -> None:
    with pytest.raises(DivergedError, match=rf"in epoch [1-3] of [13] of {model.name}; lower its rates"):
        model.fit(images)


def test_settings_are_checked() -> None:
    wrong: list[tuple[type, dict[str, object]]] = [
        (SparseDreamSettings, {"activity": 0.0}),
        (SparseDreamSettings, {"rate": math.nan}),
        (SparseDreamSettings, {"epsilon": 0.0}),
        (ConservingFlowSettings, {"flow": 0.0}),
        (FoldiakSettings, {"step": 2.0}),
        (FoldiakSettings, {"activity": 1.0}),
        (KWinnersSettings, {"winners": 9}),
        (KWinnersSettings, {"winners": 0}),
        (GradientDreamSettings, {"layers": 3}),
        (GradientDreamSettings, {"sparsity": -1.0}),
    ]
    for settings, changed in wrong:
        with pytest.raises(ValueError, match="expected"):
            settings(**{"units": N, **changed})


def test_every_representation_decodes_the_notebooks_loop(offline: Digits) -> None:
    settings = Settings(flow=1e-4, units=37, epochs=2, images=25)  # no multiple of a block
    plain = learn(offline, settings, 0)
    done = []
    for name in registry.names():
        if why_not(name, 37) is not None:
            with pytest.raises(ValueError, match=f"got {name}: "):
                decoder(name, 37)
            continue
        learned = learn(offline, settings, 0, holder=name)
        np.testing.assert_allclose(learned.curve, plain.curve, rtol=1e-9, err_msg=name)
        np.testing.assert_allclose(learned.dictionary, plain.dictionary, rtol=1e-5, err_msg=name)
        done.append(name)
    assert {"dense", "csr", "planes", "block-sparse", "torch-csr", "scipy-csr", "torch-bsr"} <= set(done)


def test_curves_tell_what_cannot_decode(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "curves.json"
    names = ["--representation", "csr", "--representation", "torch-semi-structured"]
    assert curves.main([*names, "--epochs", "1", "--images", "20", "--workers", "1", "--out", str(out)]) == 0
    rows = json.loads(out.read_text())
    assert [(row["representation"], row["flow"]) for row in rows] == [
        (name, flow) for name in (curves.PLAIN, "csr", "torch-semi-structured") for flow in (0.2, 1e-4)
    ]
    assert {row["status"] for row in rows[:4]} == {"ok"}
    assert all(row["largest_difference"] < 1e-9 for row in rows[:4])
    assert {(row["status"], "CUDA" in row["reason"]) for row in rows[4:]} == {("unsupported", True)}
    text = capsys.readouterr().out
    assert "unsupported" in text
    assert f"{rows[0]['curve'][0]:.1f}" in text
    off = [dict(rows[0]), rows[2] | {"flow": 0.2, "curve": [rows[0]["curve"][0] * 1.02]}]
    assert curves.compared(off)[1]["largest_difference"] == pytest.approx(0.02)
