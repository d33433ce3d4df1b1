"""Olshausen-Field, LCA and matching pursuit learn: bars are recovered, bad input and divergence are told."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from types import ModuleType

import numba
import pytest
import torch
from torch import Tensor

from sparsebench.suites.workloads.data import digits
from sparsebench.suites.workloads.sparse_coding.models.coder import DivergedError, SparseCoder
from sparsebench.suites.workloads.sparse_coding.models.dictionary_learning import DictionaryLearner
from sparsebench.suites.workloads.sparse_coding.models.lca import LCA, LCASettings
from sparsebench.suites.workloads.sparse_coding.models.matching_pursuit import MatchingPursuit, MatchingPursuitSettings
from sparsebench.suites.workloads.sparse_coding.models.olshausen_field import OlshausenField, OlshausenFieldSettings
from sparsebench.suites.workloads.sparse_coding.quality import errors
from sparsebench.suites.workloads.sparse_coding.solvers.lasso_gap import duality_gap

Make = Callable[..., DictionaryLearner]


def _olshausen_field(
    seed: int = 0, holder: str | None = None, dtype: torch.dtype = torch.float32, **settings: object
) -> DictionaryLearner:
    told = {"units": 16, "penalty": 0.3, "batch": 50, **settings}
    return OlshausenField(OlshausenFieldSettings(**told), seed=seed, holder=holder, dtype=dtype)  # type: ignore[arg-type]


def _lca(
    seed: int = 0, holder: str | None = None, dtype: torch.dtype = torch.float32, **settings: object
) -> DictionaryLearner:
    told = {"units": 16, "penalty": 0.3, "batch": 50, "steps": 50, **settings}
    return LCA(LCASettings(**told), seed=seed, holder=holder, dtype=dtype)  # type: ignore[arg-type]


def _pursuit(
    seed: int = 0, holder: str | None = None, dtype: torch.dtype = torch.float32, **settings: object
) -> DictionaryLearner:
    told = {"units": 16, "k": 3, "batch": 50, **settings}
    return MatchingPursuit(MatchingPursuitSettings(**told), seed=seed, holder=holder, dtype=dtype)  # type: ignore[arg-type]


MODELS = pytest.mark.parametrize("make", [_olshausen_field, _lca, _pursuit], ids=["olshausen-field", "lca", "pursuit"])


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(1)  # small batches: a second thread costs more than it brings
    numba.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    numba.set_num_threads(before[1])


@pytest.fixture(scope="module")
def crossings(bars: ModuleType) -> Tensor:
    images: Tensor = bars.draw(2000, 1)[0]
    return images


@pytest.mark.parametrize(
    ("make", "settings", "seed"),
    [
        (_olshausen_field, {}, 0),
        (_olshausen_field, {"positive": True}, 1),
        (_olshausen_field, {"inference": "ista"}, 1),
        (_lca, {}, 0),
        (_lca, {}, 1),
    ],
    ids=["fista", "fista positive", "ista", "lca", "lca again"],
)
def test_bars_are_recovered(
    make: Make, settings: dict[str, object], seed: int, crossings: Tensor, bars: ModuleType
) -> None:
    coder = make(seed=seed, epochs=4, **settings)
    assert not bars.recovered(_started(coder, crossings)).all()
    coder.fit(crossings)
    assert bars.recovered(coder.dictionary).all()
    torch.testing.assert_close(coder.dictionary.norm(dim=1), torch.ones(16))


def _started(coder: SparseCoder, images: Tensor) -> Tensor:
    coder.begin(images)
    return coder.dictionary


def test_matching_pursuit_learns_atoms_for_its_codes() -> None:
    images = digits(None).first(600).images
    coder = _pursuit(units=30, k=5, epochs=3, batch=100)
    coder.begin(images)
    before = errors(images, coder.reconstruct(images))
    curve = coder.fit(images)
    after = errors(images, coder.reconstruct(images))
    assert after["squared"] < 0.8 * before["squared"]
    assert curve[0] > curve[1] > curve[2]
    assert coder.encode(images).crow_indices().diff().unique().tolist() == [5]


@pytest.mark.parametrize("update", ["gradient", "online"])
def test_a_step_by_hand(update: str) -> None:
    """One unit d = (1, 0), one image (3, 4): k = 1 gives a = 3, e = (0, 4); d + η a e ÷ a² = (1, 4η/3), then norm 1.

    The best atom for that code, (3, 4)/3, is where η = 1 leads, and what "online" takes.
    """
    rate = 0.5 if update == "gradient" else 1.0
    coder = _pursuit(units=1, k=1, update=update, rate=0.5, dtype=torch.float64)
    image = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    coder.begin(image)
    coder.dictionary.copy_(torch.tensor([[1.0, 0.0]]))
    assert coder.partial_fit(image) == pytest.approx(4.0)
    expected = torch.tensor([[1.0, rate * 4 / 3]], dtype=torch.float64)
    torch.testing.assert_close(coder.dictionary, expected / expected.norm())


@MODELS
def test_the_same_seed_learns_the_same_and_another_another(make: Make, crossings: Tensor) -> None:
    first, again, other = make(seed=3), make(seed=3), make(seed=4)
    curves = [coder.fit(crossings[:300]) for coder in (first, again, other)]
    assert torch.equal(first.dictionary, again.dictionary)
    assert (curves[0] == curves[1]).all()
    assert not torch.equal(first.dictionary, other.dictionary)


@MODELS
def test_whatever_holds_the_code_learns_the_same(make: Make, crossings: Tensor) -> None:
    dictionaries = []
    for holder in ("csr", "dense", "torch-csr"):
        coder = make(holder=holder, dtype=torch.float64)
        coder.fit(crossings[:300])
        dictionaries.append(coder.dictionary)
    for dictionary in dictionaries[1:]:
        torch.testing.assert_close(dictionary, dictionaries[0], rtol=1e-7, atol=1e-7)


@MODELS
def test_a_state_travels(make: Make, crossings: Tensor) -> None:
    coder, other = make(), make(seed=9)
    coder.fit(crossings[:300])
    other.load(coder.state())
    torch.testing.assert_close(other.encode(crossings[:20]).to_dense(), coder.encode(crossings[:20]).to_dense())
    assert other.partial_fit(crossings[:50]) == coder.partial_fit(crossings[:50])
    assert torch.equal(other.dictionary, coder.dictionary)


def test_codes_are_as_near_as_asked(crossings: Tensor) -> None:
    coder = OlshausenField(OlshausenFieldSettings(units=16, penalty=0.3, batch=50, gap=1e-5))
    coder.fit(crossings[:300])
    exact = duality_gap(crossings[:40], coder.dictionary, coder.encode(crossings[:40]), 0.3)
    assert (exact <= 2e-5 * crossings[:40].double().square().sum(1)).all()


@pytest.mark.parametrize("update", ["gradient", "online"])
def test_dead_units_are_drawn_anew(update: str, crossings: Tensor) -> None:
    coder = _olshausen_field(units=20, update=update, patience=200, positive=True)
    coder.begin(crossings)
    coder.dictionary[:6] = 0  # nothing uses these
    assert coder.encode(crossings[:300]).to_dense()[:, :6].count_nonzero() == 0
    for number in range(8):
        coder.partial_fit(crossings[50 * number : 50 * number + 50])
    assert (coder.encode(crossings[:300]).to_dense()[:, :6] != 0).any(0).all()


def test_nothing_is_remembered_of_what_a_unit_was_before_it_was_drawn_anew(crossings: Tensor) -> None:
    coder = _olshausen_field(units=20, update="online", patience=200, positive=True)
    coder.partial_fit(crossings[:200])
    state = coder.state()
    dead = state["pairs"].count_nonzero(1).argsort(descending=True)[:3]  # of those that were on with others most
    assert (state["pairs"][dead].count_nonzero(1) > 6).all()
    state["dictionary"][dead], state["idle"][dead] = 0.0, 10_000
    coder.load(state)
    coder.partial_fit(crossings[200:400])
    pairs, moments = coder.state()["pairs"], coder.state()["moments"]
    assert (pairs[dead] == 0).all()
    assert (pairs[:, dead] == 0).all()
    assert (moments[dead] == 0).all()


@MODELS
def test_constant_images_and_single_ones_and_none(make: Make) -> None:
    coder = make(epochs=2)
    coder.fit(torch.zeros(5, 9))
    assert coder.encode(torch.zeros(2, 9)).to_dense().count_nonzero() == 0
    assert coder.decode(coder.encode(torch.zeros(0, 9))).shape == (0, 9)
    coder.fit(torch.full((3, 9), 2.0))
    assert torch.isfinite(coder.reconstruct(torch.full((1, 9), 2.0))).all()
    with pytest.raises(ValueError, match="at least 1 image"):
        coder.fit(torch.zeros(0, 9))


@MODELS
def test_images_that_do_not_fit_are_refused(make: Make) -> None:
    coder = make()
    coder.fit(torch.eye(9))
    for call in (coder.encode, coder.partial_fit):
        with pytest.raises(ValueError, match="9 numbers"):
            call(torch.zeros(2, 8))
        with pytest.raises(ValueError, match="finite images"):
            call(torch.full((2, 9), math.nan))
    with pytest.raises(RuntimeError, match="has learned"):
        make().encode(torch.eye(9))


@MODELS
def test_a_zero_atom_is_never_used(make: Make) -> None:
    coder = make(units=4, patience=0)
    coder.fit(torch.eye(9)[:6])
    coder.dictionary[2] = 0
    code = coder.encode(torch.eye(9)).to_dense()
    assert torch.isfinite(code).all()
    assert code[:, 2].count_nonzero() == 0
    coder.partial_fit(torch.eye(9))
    assert torch.isfinite(coder.dictionary).all()


def test_settings_are_refused() -> None:
    for penalty in (0.0, -1.0, math.nan):
        for make in (_olshausen_field, _lca):
            with pytest.raises(ValueError, match="λ > 0"):
                make(penalty=penalty)
    for k in (0, 17):
        with pytest.raises(ValueError, match="k from 1 to 16"):
            _pursuit(k=k)
    with pytest.raises(ValueError, match="an inference of"):
        _olshausen_field(inference="lars")
    with pytest.raises(ValueError, match="an update of"):
        _pursuit(update="newton")
    with pytest.raises(ValueError, match="rate"):
        _olshausen_field(rate=0.0)
    with pytest.raises(ValueError, match="inhibition_rate"):
        _lca(inhibition_rate=2.0)
    with pytest.raises(ValueError, match="a threshold of"):
        _lca(threshold="firm")


def test_divergence_is_told_with_its_epoch() -> None:
    images = digits(None).first(100).images  # overlap far more than η = 1 bears
    coder = _lca(units=40, epochs=3, inhibition_rate=1.0, steps=200)
    with pytest.raises(DivergedError, match="epoch 1 of 3"):
        coder.fit(images)
    with pytest.raises(DivergedError, match="finite numbers"):
        coder.partial_fit(images)


def test_multiply_adds(crossings: Tensor) -> None:
    for make, expected in (
        (_olshausen_field, 16 * 64 + 300 * 256),
        (_lca, 16 * 64 + 50 * 256),
        (_pursuit, 3 * 16 * 64 + (1 + 3 + 5) * 64 + (0 + 0 + 2) + (1 + 4 + 9)),
    ):
        coder = make()
        coder.begin(crossings)
        assert coder.multiply_adds() == expected
