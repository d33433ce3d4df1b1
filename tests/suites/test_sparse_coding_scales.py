"""What solvers find and models learn does not depend on the units of images and atoms; what is not solved is told."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numba
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from sparsebench.suites.workloads.sparse_coding.models.coder import SparseCoder
from sparsebench.suites.workloads.sparse_coding.models.conserving_flow import ConservingFlow, ConservingFlowSettings
from sparsebench.suites.workloads.sparse_coding.models.foldiak import Foldiak, FoldiakSettings
from sparsebench.suites.workloads.sparse_coding.models.gradient_dream import GradientDream, GradientDreamSettings
from sparsebench.suites.workloads.sparse_coding.models.k_winners import KWinners, KWinnersSettings
from sparsebench.suites.workloads.sparse_coding.models.lca import LCA, LCASettings, lca
from sparsebench.suites.workloads.sparse_coding.models.lista import LISTA, LISTASettings
from sparsebench.suites.workloads.sparse_coding.models.matching_pursuit import MatchingPursuit, MatchingPursuitSettings
from sparsebench.suites.workloads.sparse_coding.models.olshausen_field import OlshausenField, OlshausenFieldSettings
from sparsebench.suites.workloads.sparse_coding.models.routed_autoencoder import RoutedAutoencoder, RoutedSettings
from sparsebench.suites.workloads.sparse_coding.models.sparse_dream import SparseDream, SparseDreamSettings
from sparsebench.suites.workloads.sparse_coding.models.topk_autoencoder import TopKAutoencoder, TopKSettings
from sparsebench.suites.workloads.sparse_coding.solvers import scales
from sparsebench.suites.workloads.sparse_coding.solvers.fista import fista
from sparsebench.suites.workloads.sparse_coding.solvers.ista import ista
from sparsebench.suites.workloads.sparse_coding.solvers.lasso_gap import Solution, duality_gap
from sparsebench.suites.workloads.sparse_coding.solvers.omp import omp

POWERS = (-60, -44, -1, 13, 44, 60)
PENALTY = 0.3
N = 12


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(1)  # sums in one order, so that the same numbers have the same bits
    numba.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    numba.set_num_threads(before[1])


def drawn(n: int = 40, pixels: int = 16) -> tuple[Tensor, Tensor]:
    """Return images ≥ 0 (n, d) that are sums of few parts, and atoms of norm 1 (12, d), float32."""
    generator = torch.Generator().manual_seed(0)
    parts = torch.rand(N, pixels, generator=generator) * (torch.rand(N, pixels, generator=generator) < 0.4)
    code = torch.rand(n, N, generator=generator) * (torch.rand(n, N, generator=generator) < 0.3)
    atoms = torch.randn(N, pixels, generator=generator)
    return code @ parts, atoms / atoms.norm(dim=1, keepdim=True)


def _hard(images: Tensor, dictionary: Tensor, penalty: float) -> Solution:
    return lca(images, dictionary, penalty, threshold="hard", steps=50)


SOLVERS: dict[str, Callable[[Tensor, Tensor, float], Solution]] = {
    "fista": fista,
    "ista": ista,
    "lca": lca,
    "hard": _hard,
}


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("count", [2, 40], ids=["residuals", "products of all units"])
def test_codes_scale_with_images_and_atoms(name: str, count: int) -> None:
    images, atoms = drawn(count)
    plain = SOLVERS[name](images, atoms, PENALTY)
    assert plain.code.values().numel() > 0
    for power in POWERS:
        size = 2.0**power
        for x, d in ((size, 1.0), (1.0, size), (size, size)):
            found = SOLVERS[name](images * x, atoms * d, PENALTY * x * d)
            assert torch.equal(found.code.to_dense() * d, plain.code.to_dense() * x), (power, x, d)
            torch.testing.assert_close(found.gap, plain.gap * x * x, rtol=0, atol=0, equal_nan=True)
            assert torch.equal(found.steps, plain.steps)


@pytest.mark.parametrize("power", [-400, 400])
def test_float64_reaches_further(power: int) -> None:
    images, atoms = (drawn.double() for drawn in drawn())
    plain, size = fista(images, atoms, PENALTY), 2.0**power
    found = fista(images * size, atoms, PENALTY * size)
    assert torch.equal(found.code.to_dense(), plain.code.to_dense() * size)
    exact = duality_gap(images * size, atoms, found.code, PENALTY * size)
    torch.testing.assert_close(exact / size**2, duality_gap(images, atoms, plain.code, PENALTY))


@pytest.mark.parametrize("solve", [fista, ista, lca])
def test_a_penalty_beyond_all_images_gives_empty_codes(solve: Callable[..., Solution]) -> None:
    images, atoms = drawn()
    found = solve(images * 2.0**-60, atoms * 2.0**-60, 1e30)
    assert found.code.values().numel() == 0
    assert (found.gap == 0).all()


@pytest.mark.parametrize("gram_bytes", [0, 1 << 20], ids=["residuals", "batch"])
def test_matching_pursuit_minds_no_unit_and_no_length_of_atoms(gram_bytes: int) -> None:
    images, atoms = drawn()
    plain = omp(images, atoms, 3, gram_bytes=gram_bytes).to_dense()
    sizes = torch.tensor([2.0 ** (20 * (unit % 7) - 60) for unit in range(N)])  # in one dictionary
    for power in POWERS:
        found = omp(images * 2.0**power, atoms, 3, gram_bytes=gram_bytes).to_dense()
        assert torch.equal(found, plain * 2.0**power)
    found = omp(images, atoms * sizes[:, None], 3, gram_bytes=gram_bytes).to_dense()
    assert torch.equal(found, plain / sizes)
    own = torch.tensor([2.0 ** (30 * (image % 5) - 60) for image in range(len(images))])[:, None]  # in one batch
    assert torch.equal(omp(images * own, atoms, 3, gram_bytes=gram_bytes).to_dense(), plain * own)


def _made(cls: type[SparseCoder], settings: Callable[..., Any], **more: Any) -> Callable[[float], SparseCoder]:
    """Return a maker for images of some size, with which a penalty grows."""
    penalty = more.pop("penalty", None)
    return lambda size: cls(
        settings(units=N, epochs=3, batch=20, **more, **({} if penalty is None else {"penalty": penalty * size}))
    )


MODELS: dict[str, Callable[[float], SparseCoder]] = {
    "olshausen-field": _made(OlshausenField, OlshausenFieldSettings, penalty=0.1, patience=30),
    "olshausen-field online": _made(OlshausenField, OlshausenFieldSettings, penalty=0.1, update="online"),
    "lca": _made(LCA, LCASettings, penalty=0.1),
    "matching-pursuit": _made(MatchingPursuit, MatchingPursuitSettings, k=3),
    "matching-pursuit gradient": _made(MatchingPursuit, MatchingPursuitSettings, k=3, update="gradient"),
    "lista": _made(LISTA, LISTASettings, penalty=0.1),
    "k-winners": _made(KWinners, KWinnersSettings, winners=3),
    "gradient-dream": _made(GradientDream, GradientDreamSettings),
    "topk-autoencoder": _made(TopKAutoencoder, TopKSettings, k=3, hidden=5, dead_after=30),
    "topk-autoencoder uncut": _made(TopKAutoencoder, TopKSettings, k=3, squared=1.0),
    "routed-autoencoder": _made(RoutedAutoencoder, RoutedSettings, k=2, groups=2, kept=2, rank=3),
    "sparse-dream": _made(SparseDream, SparseDreamSettings),
    "conserving-flow": _made(ConservingFlow, ConservingFlowSettings),
    "foldiak": _made(Foldiak, FoldiakSettings, settling=1),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore:expected a duality gap")
def test_what_a_model_learns_does_not_depend_on_units(name: str) -> None:
    images, _ = drawn()
    plain = MODELS[name](1.0)
    curve, state = plain.fit(images), plain.state()
    codes, copies = plain.encode(images).to_dense(), plain.reconstruct(images)
    assert bool((copies != 0).any())
    for power in (-60, 44, 60):
        size = 2.0**power
        model = MODELS[name](size)
        assert (model.fit(images * size) == curve * size).all()
        for key, tensor in model.state().items():
            assert torch.equal(tensor, state[key] * (size if key == "unit" else 1)), key
        again = MODELS[name](size)
        again.load(model.state())
        for one in (model, again):
            assert torch.equal(one.encode(images * size).to_dense(), codes * (size if one.follows else 1))
            assert torch.equal(one.reconstruct(images * size), copies * size)
        assert torch.equal(model.dictionary, plain.dictionary * (1 if model.follows else size))
        assert model.partial_fit(images * size) == again.partial_fit(images * size)


def test_a_state_of_before_units_is_in_unit_1() -> None:
    images, _ = drawn()
    model = MODELS["k-winners"](1.0)
    model.fit(images / images.max())
    state = {key: tensor for key, tensor in model.state().items() if key != "unit"}
    again = MODELS["k-winners"](1.0)
    again.load(state)
    assert torch.equal(again.encode(images).to_dense(), model.encode(images).to_dense())
    with pytest.raises(ValueError, match="other names or shapes"):
        again.load(state | {"unit": torch.tensor(0.0)})


def test_pixels_of_bytes_are_not_cut_at_1() -> None:
    images, _ = drawn(200)
    coder = TopKAutoencoder(TopKSettings(units=N, k=6, epochs=30, batch=20))
    scaled = (images / images.max() * 255).round()
    coder.fit(scaled)
    assert float((coder.reconstruct(scaled) - scaled).norm() / scaled.norm()) < 0.4


# Powers


def test_powers_by_hand() -> None:
    assert [scales.power_of(torch.tensor(x)) for x in ([0.0], [1.0, -0.2], [1.1], [-255.0], [256.0], [])] == [
        0, 0, 1, 8, 8, 0,
    ]  # fmt: skip
    least = torch.tensor([2.0**-149])
    assert scales.scaled(least, 149).item() == 1.0
    assert scales.scaled(scales.scaled(least, 276), -276).item() == least.item()
    assert scales.power_of_atoms(torch.full((3, 100), 0.1)) == 0
    assert scales.power_of_atoms(torch.zeros(3, 4)) == 0
    rows, sizes = scales.unit_rows(torch.tensor([[0.0, 0.0], [3.0e38, 1.0], [-3e-45, 0.0], [5.0, 1.0]]))
    assert rows.tolist()[3] == [1.25, 0.25]
    assert sizes.flatten().tolist() == [1.0, 2.0**127, 2.0**-148, 4.0]
    assert torch.isfinite(rows).all()
    assert 2.0**99 <= scales.penalty_in(1e300, -900) <= 2.0**100
    assert 0 < scales.penalty_in(1e-300, 1000) < 1e-149


# Warnings


@pytest.mark.parametrize("solve", [fista, ista])
def test_a_solver_that_runs_out_of_steps_says_so_once(solve: Callable[..., Solution]) -> None:
    images, atoms = drawn()
    images[7] = 0.0  # solved at once
    told = r"expected a duality gap of at most 1e-05 · ‖x‖², got more for \d+ of 40 images after up to 3 steps; raise"
    with pytest.warns(ConvergenceWarning, match=told) as seen:
        found = solve(images, atoms, 0.01, gap=1e-5, steps_limit=3)
    assert [warning.filename for warning in seen] == [__file__]
    late = int((found.gap > 1e-5 * images.double().square().sum(1)).sum())
    assert f"got more for {late} of" in str(seen[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solve(images, atoms, 0.01, gap=1e-5, steps_limit=3, warn=False)
        solve(images, atoms, 0.01, gap=0.0, steps_limit=3)  # as many steps as allowed were asked for
        solve(images, atoms, PENALTY, gap=1e-3)


@pytest.mark.parametrize("gram_bytes", [0, 1 << 20], ids=["residuals", "batch"])
def test_matching_pursuit_on_dependent_atoms_says_so_once(gram_bytes: int) -> None:
    images, atoms = drawn()
    twice = atoms[:2].repeat(3, 1)
    with pytest.warns(ConvergenceWarning, match="expected 4 atoms an image, got fewer for 40 of 40 images") as seen:
        code = omp(images + 0.1, twice, 4, gram_bytes=gram_bytes)
    assert [warning.filename for warning in seen] == [__file__]
    assert code.to_dense().count_nonzero(1).max() == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        omp(images + 0.1, twice, 2, gram_bytes=gram_bytes)
        omp(images + 0.1, twice, 4, gram_bytes=gram_bytes, warn=False)
        omp(
            twice[:3] * torch.tensor([[2.0], [0.0], [1.0]]), twice, 4, gram_bytes=gram_bytes
        )  # explained by one, or none


def test_learning_is_silent_and_encoding_tells() -> None:
    images, _ = drawn()
    settings = OlshausenFieldSettings(units=N, penalty=0.01, gap=1e-6, steps_limit=2)
    model = OlshausenField(settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(images)
    with pytest.warns(ConvergenceWarning, match="got more for"):
        model.encode(images)
