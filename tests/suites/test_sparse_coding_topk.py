"""The TopK autoencoder stores k entries, learns by the gradients of its formula, revives dead units, and resumes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType

import numba
import numpy as np
import pytest
import torch
from torch import Tensor

from sparsebench.kernels.sparse_codes.layout import CodeIndex
from sparsebench.representations import registry
from sparsebench.suites.workloads.sparse_coding import quality
from sparsebench.suites.workloads.sparse_coding.models.coder import DivergedError
from sparsebench.suites.workloads.sparse_coding.models.topk_autoencoder import TopKAutoencoder
from sparsebench.suites.workloads.sparse_coding.models.topk_layers import decode, shown
from sparsebench.suites.workloads.sparse_coding.models.topk_settings import TopKSettings
from sparsebench.suites.workloads.sparse_coding.solvers.code_layouts import csr_code

SMALL = TopKSettings(units=20, k=3, epochs=3, batch=32, rate=1e-2, warm=5, squared=0.4, leak=0.05)
HIDDEN = pytest.mark.parametrize("hidden", [0, 24])


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Use one thread each, as trainings do: at these sizes more only wait for each other."""
    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    numba.set_num_threads(before[1])


@pytest.fixture(scope="module")
def images(bars: ModuleType) -> Tensor:
    found: Tensor = bars.draw(300, 5)[0]
    return found


def learned(images: Tensor, settings: TopKSettings = SMALL, **options: object) -> TopKAutoencoder:
    coder = TopKAutoencoder(settings, seed=2, **options)  # type: ignore[arg-type]
    coder.fit(images)
    return coder


def dense_forward(state: dict[str, Tensor], images: Tensor, active: int) -> tuple[dict[str, Tensor], Tensor]:
    """Return float64 leaves and r by dense formulas in the model's unit, the k largest found by sorting."""
    kept = (name for name in state if "." not in name and name not in ("idle", "unit"))
    leaves = {name: state[name].double().requires_grad_() for name in kept}
    centred = images.double() / state["unit"] - leaves["pixel_bias"].detach()
    drive = centred @ leaves["direct"].T + leaves["drive_bias"]
    if "hidden" in leaves:
        drive = drive + torch.relu(centred @ leaves["hidden"].T + leaves["hidden_bias"]) @ leaves["drive"].T
    least = drive.detach().sort(dim=1, descending=True).values[:, active - 1 : active]
    code = torch.where(drive >= least, torch.relu(drive), torch.zeros_like(drive))
    return leaves, code @ leaves["dictionary"] + leaves["pixel_bias"]


@pytest.mark.parametrize(("hidden", "squared"), [(0, 0.4), (24, 0.4), (24, 1.0)])
def test_codes_have_k_entries_ascending_and_decode_by_the_formula(images: Tensor, hidden: int, squared: float) -> None:
    coder = learned(images, replace(SMALL, hidden=hidden, squared=squared), dtype=torch.float64)
    code = coder.encode(images[:50])
    assert code.layout == torch.sparse_csr
    assert code.shape == (50, 20)
    assert code.col_indices().dtype == torch.int64
    assert (code.crow_indices().diff() == 3).all()
    assert (code.col_indices().reshape(50, 3).diff(dim=1) > 0).all()
    assert (code.values() >= 0).all()
    assert code.values().max() > 0.1
    _, expected = dense_forward(coder.state(), images[:50], 3)
    assert (expected < 0).any()
    cut = (expected.detach().clamp(0, 1) if squared < 1 else expected.detach()) * coder.state()["unit"]
    torch.testing.assert_close(coder.reconstruct(images[:50]), cut, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(coder.decode(code.to_dense()), cut, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("squared", [1.0, 0.0])
@HIDDEN
def test_a_step_follows_the_gradients_of_the_dense_formula(images: Tensor, hidden: int, squared: float) -> None:
    """After Adam's first step its mean is a tenth of the gradient."""
    settings = replace(SMALL, hidden=hidden, squared=squared, epochs=2)
    coder = TopKAutoencoder(settings, seed=4, dtype=torch.float64)
    batch = images[:40].double() * 1.25 - 0.25  # some are outside of [0, 1], and so is r
    coder.begin(batch)
    leaves, reconstructed = dense_forward(coder.state(), batch, 3)
    unit = float(coder.state()["unit"])
    level, batch = coder.partial_fit(batch) / unit, batch / unit
    output = reconstructed.detach() if squared == 1.0 else reconstructed.detach().clamp(0, 1)
    assert level == pytest.approx(float((batch - output).abs().sum(1).mean()), rel=1e-10)
    seen = torch.where((reconstructed < 0) | (reconstructed > 1), 0.05 * reconstructed, reconstructed)
    seen = torch.where(reconstructed > 1, seen + 0.95, seen)
    assert ((reconstructed < 0).any() and (reconstructed > 1).any()) or squared == 1.0
    error = batch - (reconstructed if squared == 1.0 else seen)
    (error.square() if squared == 1.0 else error.abs()).sum(1).mean().backward()
    after = coder.state()
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        assert leaf.grad.abs().max() > 0
        torch.testing.assert_close(after[f"adam.{name}.exp_avg"] * 10, leaf.grad, rtol=1e-8, atol=1e-8, msg=name)


@pytest.mark.parametrize("holder", [None, "csr", "dense", "scipy-csr", "block-sparse"])
def test_decode_has_the_same_gradients_whatever_holds_the_code(holder: str | None) -> None:
    """A zero that is stored has a gradient of its own, which no representation keeps a place for."""
    draw = torch.Generator().manual_seed(1)
    places = torch.rand(9, 13, generator=draw).argsort(1)[:, :4].sort(1).values
    values = torch.rand(9, 4, generator=draw, dtype=torch.float64)
    values[2, 1] = 0.0
    dictionary = torch.randn(13, 7, generator=draw, dtype=torch.float64)
    weight = torch.randn(9, 7, generator=draw, dtype=torch.float64)

    dense_values, dense_dictionary = values.clone().requires_grad_(), dictionary.clone().requires_grad_()
    expected = torch.zeros(9, 13, dtype=torch.float64).scatter(1, places, dense_values) @ dense_dictionary
    (expected * weight).sum().backward()

    values.requires_grad_()
    dictionary.requires_grad_()
    held = None if holder is None else registry.load(holder).build(csr_code(values.detach(), places, 13))
    result = decode(values, dictionary, CodeIndex(shape=(9, 13), places=places), held)
    (result * weight).sum().backward()
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(values.grad, dense_values.grad, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(dictionary.grad, dense_dictionary.grad, rtol=1e-12, atol=1e-12)


def test_learning_is_the_same_whatever_holds_the_code(images: Tensor) -> None:
    curves = [learned(images, holder=holder, dtype=torch.float64) for holder in (None, "csr", "dense")]
    for other in curves[1:]:
        torch.testing.assert_close(other.dictionary, curves[0].dictionary, rtol=1e-7, atol=1e-9)


def test_cut_pixels_keep_a_leak() -> None:
    r = torch.tensor([-2.0, 0.25, 3.0], requires_grad=True)
    torch.testing.assert_close(shown(r, 0.1).detach(), torch.tensor([-0.2, 0.25, 1.2]))
    shown(r, 0.1).sum().backward()
    torch.testing.assert_close(r.grad, torch.tensor([0.1, 1.0, 0.1]))
    torch.testing.assert_close(shown(r, 0.0).detach(), torch.tensor([0.0, 0.25, 1.0]))


def test_bars_are_reconstructed_and_the_clipped_error_is_what_is_learned(images: Tensor) -> None:
    """Two bars on average are two units' work; the second phase lowers the error as shown below the first's."""
    settings = replace(SMALL, units=16, k=4, epochs=30, leak=0.1)
    both, first = (learned(images, replace(settings, squared=share)) for share in (0.5, 1.0))
    shown_error = [
        quality.errors(images, coder.reconstruct(images))["l1_clipped"] / float(images.sum(1).mean())
        for coder in (both, first)
    ]
    assert shown_error[0] < 0.8 * shown_error[1]
    assert shown_error[0] < 0.25


def test_a_killed_unit_is_revived_by_the_auxiliary_loss_alone(images: Tensor) -> None:
    settings = replace(SMALL, units=16, epochs=30, dead_after=300, squared=1.0, auxiliary=1.0)
    alive = {}
    for weight in (0.0, 1.0):
        coder = TopKAutoencoder(replace(settings, auxiliary=weight), seed=0)
        coder.begin(images)
        state = coder.state()
        state["direct"][5], state["drive_bias"][5] = 0.0, -1.0  # below 0 for every image
        coder.load(state)
        for number in range(1, 31):
            coder.epoch(images, number)
        assert coder.state()["drive_bias"].isfinite().all()
        alive[weight] = 5 in coder.encode(images).col_indices()[coder.encode(images).values() > quality.WEAK]
    assert alive == {0.0: False, 1.0: True}


def test_idle_counts_the_images_since_a_unit_was_used(images: Tensor) -> None:
    coder = TopKAutoencoder(SMALL, seed=0)
    coder.begin(images)
    state = coder.state()
    state["direct"][5], state["drive_bias"][5] = 0.0, -1e6
    coder.load(state)
    coder.partial_fit(images[:40])
    coder.partial_fit(images[40:70])
    idle = coder.state()["idle"]
    assert idle[5] == 70
    assert (idle == 0).sum() >= 15


def test_an_entry_of_zero_is_no_use_of_its_unit(images: Tensor) -> None:
    coder = TopKAutoencoder(SMALL, seed=0)
    coder.begin(images)
    state = coder.state()
    state["direct"][:], state["drive_bias"][:] = 0.0, -1.0
    state["drive_bias"][3] = 1.0
    coder.load(state)
    assert coder.encode(images[:1]).values().numel() == SMALL.k > 1
    coder.partial_fit(images[:40])
    idle = coder.state()["idle"]
    assert idle[3] == 0
    assert (idle == 40).sum() == SMALL.units - 1


@HIDDEN
def test_a_resumed_training_ends_with_the_same_bits(images: Tensor, hidden: int) -> None:
    settings = replace(SMALL, hidden=hidden, dead_after=40)
    whole = TopKAutoencoder(settings, seed=6)
    whole_curve = whole.fit(images)
    first = TopKAutoencoder(settings, seed=6)
    first.begin(images)
    curve = [first.epoch(images, 1)]
    second = TopKAutoencoder(settings, seed=6)
    second.load(first.state())
    curve += [second.epoch(images, number) for number in (2, 3)]
    np.testing.assert_array_equal(curve, whole_curve)
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, second.state()[name]), name
    assert torch.equal(whole.encode(images).values(), second.encode(images).values())


def test_a_seed_decides_everything_and_another_seed_something_else(images: Tensor) -> None:
    first, again = learned(images), learned(images)
    other = TopKAutoencoder(SMALL, seed=3)
    other.fit(images)
    assert torch.equal(first.dictionary, again.dictionary)
    assert not torch.allclose(first.dictionary, other.dictionary, atol=1e-3)


def test_a_state_of_other_settings_is_refused(images: Tensor) -> None:
    state = learned(images).state()
    with pytest.raises(ValueError, match="other names or shapes"):
        TopKAutoencoder(replace(SMALL, hidden=8)).load(state)
    with pytest.raises(ValueError, match="other names or shapes"):
        TopKAutoencoder(replace(SMALL, units=21)).load(state)


def test_equal_images_begin_as_different_atoms(bars: ModuleType) -> None:
    coder = TopKAutoencoder(SMALL, seed=0)
    coder.begin(bars.every_bar()[:2].repeat(10, 1))
    assert torch.pdist(coder.dictionary.detach()).min() > 0.05


def test_atoms_begin_as_images_less_their_mean_or_as_random_directions(images: Tensor) -> None:
    deviations = torch.nn.functional.normalize(images[:12] - images[:12].mean(0), dim=1)
    coder = TopKAutoencoder(SMALL, seed=0)
    coder.begin(images[:12])
    nearest = (coder.dictionary.detach() @ deviations.T).max(1).values
    assert (nearest[:12] > 0.99).all()
    assert (nearest[12:] < 0.9).all()
    coder = TopKAutoencoder(replace(SMALL, from_images=False), seed=0)
    coder.begin(images[:12])
    assert ((coder.dictionary.detach() @ deviations.T).max(1).values < 0.9).all()
    torch.testing.assert_close(coder.dictionary.detach().norm(dim=1), torch.ones(20))


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_constant_images_are_learned_exactly(level: float) -> None:
    images = torch.full((40, 64), level)
    coder = learned(images)
    assert coder.encode(images)._nnz() == 40 * 3
    torch.testing.assert_close(coder.reconstruct(images), images, rtol=0, atol=0.05)


def test_no_images_give_no_rows_and_cannot_be_learned_from(images: Tensor) -> None:
    coder = learned(images)
    code = coder.encode(images[:0])
    assert code.shape == (0, 20)
    assert coder.decode(code).shape == (0, 64)
    with pytest.raises(ValueError, match="at least 1 image"):
        coder.fit(images[:0])
    with pytest.raises(ValueError, match="at least 1 image"):
        coder.partial_fit(images[:0])


def test_images_that_do_not_fit_are_refused(images: Tensor) -> None:
    coder = learned(images)
    with pytest.raises(ValueError, match="images of 64 numbers"):
        coder.encode(images[:, :60])
    broken = images.clone()
    broken[3, 4] = float("nan")
    with pytest.raises(ValueError, match="finite"):
        coder.partial_fit(broken)
    with pytest.raises(RuntimeError, match="has learned"):
        TopKAutoencoder(SMALL).decode(torch.zeros(2, 20))
    with pytest.raises(ValueError, match=r"a code \(n, 20\)"):
        coder.decode(torch.zeros(2, 19))


def test_diverging_is_told_with_its_epoch(images: Tensor) -> None:
    with pytest.raises(DivergedError, match="in epoch 1 of 3 of topk-autoencoder; lower its rates"):
        learned(images, replace(SMALL, rate=1e6))
    coder = TopKAutoencoder(replace(SMALL, rate=1e30, warm=0))
    coder.partial_fit(images)
    with pytest.raises(DivergedError, match="lower its rates"):
        coder.partial_fit(images)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"k": 21}, "1 ≤ k ≤ 20, the units there are, got 21"),
        ({"k": 0}, "got 0"),
        ({"hidden": -1}, "hidden -1"),
        ({"direct": False}, "direct False"),
        ({"rate": 0.0}, "a rate above 0"),
        ({"rate": float("nan")}, "a rate above 0"),
        ({"squared": 1.5}, "shares"),
        ({"leak": -0.1}, "shares"),
        ({"dead_after": 0}, "dead_after"),
        ({"auxiliary": -1.0}, "auxiliary"),
        ({"batch": 0}, "at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **wrong)  # type: ignore[arg-type]


def test_multiply_adds_are_those_of_the_layers() -> None:
    for hidden, direct, expected in ((0, True, 64 * 20), (24, True, 64 * 20 + 24 * 84), (24, False, 24 * 84)):
        coder = TopKAutoencoder(replace(SMALL, hidden=hidden, direct=direct))
        coder.begin(torch.zeros(1, 64))
        assert coder.multiply_adds() == expected
