"""LISTA begins as ISTA, its gradients are right, and learning takes it past ISTA and FISTA of as many steps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sparsebench.suites.workloads.sparse_coding.models.coder import DivergedError
from sparsebench.suites.workloads.sparse_coding.models.lista import LISTA, NETWORK, LISTASettings, shrink
from sparsebench.suites.workloads.sparse_coding.solvers.fista import fista
from sparsebench.suites.workloads.sparse_coding.solvers.ista import ista
from sparsebench.suites.workloads.sparse_coding.solvers.lasso_gap import objective

PENALTY = 0.1


def problem(count: int, *, seed: int = 0, units: int = 24, pixels: int = 16) -> tuple[Tensor, Tensor]:
    """Draw images (count, pixels), sums of three atoms each, and the dictionary; float64."""
    draw = torch.Generator().manual_seed(seed)
    fixed = torch.Generator().manual_seed(99)
    atoms = torch.randn(units, pixels, generator=fixed, dtype=torch.float64)
    atoms /= atoms.norm(dim=1, keepdim=True)
    code = torch.zeros(count, units, dtype=torch.float64)
    places = torch.rand(count, units, generator=draw).argsort(1)[:, :3]
    code.scatter_(1, places, 0.5 + torch.rand(count, 3, generator=draw, dtype=torch.float64))
    return code @ atoms, atoms


def model(**settings: object) -> LISTA:
    made = LISTASettings(**{"units": 24, "penalty": PENALTY, "steps": 4, "batch": 100, **settings})  # type: ignore[arg-type]
    return LISTA(made, dtype=torch.float64)


@pytest.mark.parametrize("steps", [1, 4])
def test_begins_as_ista(steps: int) -> None:
    images, _ = problem(50)
    coder = model(steps=steps)
    coder.begin(images)
    wanted = ista(images, coder.dictionary, PENALTY, gap=0.0, steps_limit=steps).code.to_dense()
    assert (wanted != 0).any()
    torch.testing.assert_close(coder.encode(images).to_dense(), wanted, rtol=0, atol=1e-10)


def test_gradients_agree_with_differences() -> None:
    images, _ = problem(6, units=7, pixels=5)
    coder = model(units=7, steps=3)
    coder.begin(images)
    leaves = [coder.state()[name].requires_grad_() for name in NETWORK]

    def loss(*tensors: Tensor) -> Tensor:
        return coder.loss(images, dict(zip(NETWORK, tensors, strict=True)))[0]

    assert torch.autograd.gradcheck(loss, leaves)
    assert all(g.abs().max() > 1e-6 for g in torch.autograd.grad(loss(*leaves), leaves))


def test_learning_passes_ista_and_fista_of_as_many_steps() -> None:
    images, _ = problem(1600)
    held_out, _ = problem(300, seed=1)
    coder = model(epochs=20)
    coder.fit(images)
    atoms = coder.dictionary
    best = fista(held_out, atoms, PENALTY, gap=1e-10)
    few = ista(held_out, atoms, PENALTY, gap=0.0, steps_limit=4)
    faster = fista(held_out, atoms, PENALTY, gap=0.0, steps_limit=4)
    reached, floor, plain, fast = (
        float(objective(held_out, atoms, code, PENALTY).mean())
        for code in (coder.encode(held_out), best.code, few.code, faster.code)
    )
    assert floor < reached < fast
    assert reached - floor < 0.65 * (plain - floor)


def test_a_dictionary_is_learned() -> None:
    images, _ = problem(1000)
    coder = model(epochs=5)
    curve = coder.fit(images)
    assert curve[-1] < 0.8 * curve[0]
    torch.testing.assert_close(coder.dictionary.norm(dim=1), torch.ones(24, dtype=torch.float64))


def test_codes_are_sparse_and_decode() -> None:
    images, _ = problem(40)
    coder = model()
    coder.fit(images)
    code = coder.encode(images)
    assert code.layout == torch.sparse_csr
    assert code.col_indices().dtype == torch.int64
    assert 0 < code.values().numel() < code.numel()
    assert bool((code.values() != 0).all())
    torch.testing.assert_close(coder.decode(code), code.to_dense() @ coder.dictionary)
    assert coder.multiply_adds() == 24 * 16 + 3 * 24 * 24


def test_soft_threshold() -> None:
    values, threshold = torch.tensor([[-3.0, -1.0, 0.5, 2.0, 4.0]]), torch.tensor([1.0, 2.0, 1.0, 0.0, 1.5])
    torch.testing.assert_close(shrink(values, threshold), torch.tensor([[-2.0, 0.0, 0.0, 2.0, 2.5]]))


def test_resuming_is_going_on() -> None:
    images, _ = problem(300)
    whole, part, again = (model(epochs=3) for _ in range(3))
    curve = whole.fit(images)
    part.begin(images)
    first = part.epoch(images, 1)
    again.load(part.state())
    rest = [again.epoch(images, number) for number in (2, 3)]
    assert [first, *rest] == pytest.approx(list(curve), rel=1e-12)
    assert curve[0] > curve[2]
    for name, tensor in whole.state().items():
        torch.testing.assert_close(again.state()[name], tensor, rtol=1e-9, atol=1e-12)


def test_blank_and_constant_images() -> None:
    images, _ = problem(20)
    coder = model()
    coder.fit(images)
    assert coder.encode(torch.zeros(3, 16)).values().numel() == 0
    assert coder.encode(torch.zeros(0, 16)).shape == (0, 24)
    fresh = model()
    for constant in (torch.zeros(30, 16), torch.full((30, 16), 0.7)):
        fresh.fit(constant)
        assert bool(torch.isfinite(fresh.reconstruct(constant)).all())


def test_divergence_names_its_epoch() -> None:
    images, _ = problem(300)
    with pytest.raises(DivergedError, match="epoch 1 of 2 of lista"):
        model(rate=1e4, epochs=2).fit(images)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"penalty": 0.0}, "penalty λ > 0"),
        ({"penalty": float("nan")}, "penalty λ > 0"),
        ({"steps": 0}, "steps ≥ 1"),
        ({"rate": 0.0}, "rate > 0"),
        ({"units": 0}, "at least 1"),
    ],
)
def test_wrong_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(**settings)


def test_wrong_images() -> None:
    images, _ = problem(20)
    coder = model()
    with pytest.raises(RuntimeError, match="has learned"):
        coder.encode(images)
    with pytest.raises(ValueError, match="NaN"):
        coder.fit(images * float("nan"))
    coder.fit(images)
    with pytest.raises(ValueError, match="16 numbers"):
        coder.encode(images[:, :9])
