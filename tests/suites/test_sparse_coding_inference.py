"""ISTA, FISTA, LCA and matching pursuit find what scikit-learn finds, know how far they are, and refuse bad input."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator

import numba
import numpy as np
import pytest
import torch
from sklearn.decomposition import sparse_encode
from sklearn.linear_model import Lasso, orthogonal_mp
from torch import Tensor

from sparsebench.suites.workloads.sparse_coding.models.coder import DivergedError
from sparsebench.suites.workloads.sparse_coding.models.lca import lca
from sparsebench.suites.workloads.sparse_coding.solvers import fista_sets
from sparsebench.suites.workloads.sparse_coding.solvers.fista import fista, fista_multiply_adds
from sparsebench.suites.workloads.sparse_coding.solvers.ista import ista, proximal
from sparsebench.suites.workloads.sparse_coding.solvers.lasso_gap import Solution, duality_gap, objective
from sparsebench.suites.workloads.sparse_coding.solvers.omp import omp, omp_multiply_adds

PIXELS, UNITS, PENALTY = 25, 60, 0.7
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
POSITIVE = pytest.mark.parametrize("positive", [False, True], ids=["signed", "positive"])


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(1)  # tiny products: a second thread costs more than it brings
    numba.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    numba.set_num_threads(before[1])


def _drawn(n: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return images (n, 25) and a dictionary (60, 25) of atoms of norm 1 that overlap, as those of digits do."""
    generator = torch.Generator().manual_seed(seed)
    dictionary = torch.randn(UNITS, PIXELS, generator=generator, dtype=torch.float64) + 0.3
    dictionary /= dictionary.norm(dim=1, keepdim=True)
    images = torch.randn(n, PIXELS, generator=generator, dtype=torch.float64) + 0.2
    return images.to(dtype), dictionary.to(dtype)


def _lasso(images: Tensor, dictionary: Tensor, positive: bool) -> np.ndarray:
    solver = Lasso(
        alpha=PENALTY / PIXELS, fit_intercept=False, tol=1e-12, max_iter=100_000, positive=positive, warm_start=False
    )
    return np.stack([solver.fit(dictionary.double().numpy().T, image).coef_ for image in images.double().numpy()])


def _fista(images: Tensor, dictionary: Tensor, positive: bool, gap: float) -> Solution:
    return fista(images, dictionary, PENALTY, positive=positive, gap=gap)


def _batched(images: Tensor, dictionary: Tensor, positive: bool, gap: float) -> Solution:
    return proximal(images, dictionary, PENALTY, positive, gap, 20_000, momentum=True)


def _ista(images: Tensor, dictionary: Tensor, positive: bool, gap: float) -> Solution:
    return ista(images, dictionary, PENALTY, positive=positive, gap=gap, steps_limit=20_000)


def _lca(images: Tensor, dictionary: Tensor, positive: bool, gap: float) -> Solution:
    return lca(images, dictionary, PENALTY, positive=positive, steps=6000)


SOLVERS = pytest.mark.parametrize("solve", [_fista, _batched, _ista, _lca], ids=["fista", "batched", "ista", "lca"])


@SOLVERS
@POSITIVE
def test_solutions_are_those_of_scikit_learn(solve: Callable[..., Solution], positive: bool) -> None:
    images, dictionary = _drawn(20)
    found = solve(images, dictionary, positive, 1e-12)
    expected = _lasso(images, dictionary, positive)
    assert 3 < np.count_nonzero(expected) / 20 < 20
    np.testing.assert_allclose(found.code.to_dense().numpy(), expected, atol=1e-4)
    assert found.code.layout == torch.sparse_csr
    assert (found.gap <= 1e-9).all()


@POSITIVE
@pytest.mark.parametrize("n", [5, 20], ids=["residuals", "products of all units"])
def test_fista_in_float32(n: int, positive: bool) -> None:
    """60 units are more than four times 5 images, so their products are not all computed for these."""
    images, dictionary = _drawn(n, torch.float32)
    found = fista(images, dictionary, PENALTY, positive=positive, gap=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # at its own tolerance of 1e-8 it may run out of iterations
        expected = sparse_encode(
            images.double().numpy(), dictionary.double().numpy(), algorithm="lasso_cd", alpha=PENALTY,
            positive=positive, max_iter=10_000,
        )  # fmt: skip
    assert found.code.dtype == torch.float32
    squared = images.double().square().sum(1)
    exact = duality_gap(images, dictionary, found.code, PENALTY, positive=positive)
    assert (exact <= 2e-6 * squared).all()
    torch.testing.assert_close(found.gap, exact, rtol=0, atol=1e-6 * float(squared.max()))
    best = objective(images, dictionary, torch.from_numpy(expected), PENALTY)
    assert (objective(images, dictionary, found.code, PENALTY) - best <= 2e-6 * squared).all()
    np.testing.assert_allclose(found.code.to_dense().numpy(), expected, atol=5e-3)


def test_both_ways_to_the_correlations_agree() -> None:
    images, dictionary = _drawn(20)
    together = fista(images, dictionary, PENALTY, gap=1e-10)
    apart = [fista(part, dictionary, PENALTY, gap=1e-10) for part in images.split(5)]
    torch.testing.assert_close(
        together.code.to_dense(), torch.cat([s.code.to_dense() for s in apart]), rtol=0, atol=1e-6
    )
    assert torch.cat([s.gap for s in apart]).max() <= 1e-10 * images.square().sum(1).max()


def test_parts_of_a_batch_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    import sparsebench.suites.workloads.sparse_coding.solvers.omp as omp_module

    images, dictionary = _drawn(20)
    whole, chosen = fista(images, dictionary, PENALTY, gap=1e-8), omp(images, dictionary, 4)
    monkeypatch.setattr("sparsebench.suites.workloads.sparse_coding.solvers.fista.ENTRIES", 7 * UNITS)
    monkeypatch.setattr(omp_module, "ENTRIES", 7 * UNITS)
    parts = fista(images, dictionary, PENALTY, gap=1e-8)
    torch.testing.assert_close(parts.code.to_dense(), whole.code.to_dense())
    torch.testing.assert_close(parts.gap, whole.gap)
    torch.testing.assert_close(omp(images, dictionary, 4).to_dense(), chosen.to_dense())


@POSITIVE
def test_the_gap_bounds_what_is_missing(positive: bool) -> None:
    images, dictionary = _drawn(30)
    best = objective(images, dictionary, torch.from_numpy(_lasso(images, dictionary, positive)), PENALTY)
    for steps in (1, 10, 100):
        found = ista(images, dictionary, PENALTY, positive=positive, gap=0.0, steps_limit=steps)
        missing = objective(images, dictionary, found.code, PENALTY) - best
        exact = duality_gap(images, dictionary, found.code, PENALTY, positive=positive)
        assert (missing >= -1e-9).all()
        assert (exact >= missing - 1e-9).all()
        torch.testing.assert_close(found.gap, exact, rtol=1e-6, atol=1e-9)


@POSITIVE
def test_the_gap_bounds_what_is_missing_of_a_code_that_overshoots(positive: bool) -> None:
    """The residual then points away from the image; where codes are positive, its reverse is not feasible."""
    images, dictionary = (drawn.abs() for drawn in _drawn(30))
    solved = torch.from_numpy(_lasso(images, dictionary, positive))
    best = objective(images, dictionary, solved, PENALTY)
    for factor in (1.5, 3.0, 10.0):
        code = factor * solved
        missing = objective(images, dictionary, code, PENALTY) - best
        gap = duality_gap(images, dictionary, code, PENALTY, positive=positive)
        assert (gap >= missing - 1e-9).all()
        for x, a, exact in zip(images, code, gap, strict=True):  # the solver's own bookkeeping agrees
            r = x - a @ dictionary
            largest = (dictionary @ r).amax() if positive else (dictionary @ r).abs().amax()
            sums = (float(n) for n in (x @ x, x @ r, r @ r, a.abs().sum(), largest))
            assert fista_sets.gap_of(*sums, PENALTY, positive) == pytest.approx(float(exact), rel=1e-9)


def test_the_gap_is_at_most_that_of_scikit_learn() -> None:
    images, dictionary = _drawn(10)
    for image in images:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            solver = Lasso(alpha=PENALTY / PIXELS, fit_intercept=False, tol=1e-12, max_iter=3)
            solver.fit(dictionary.numpy().T, image.numpy())
        gap = float(duality_gap(image[None], dictionary, torch.from_numpy(solver.coef_)[None], PENALTY))
        theirs = float(solver.dual_gap_) * PIXELS
        assert theirs > 1e-9
        assert 0.3 * theirs < gap <= theirs * (1 + 1e-9)


def test_a_gap_by_hand() -> None:
    """With x = 2, D = 1, λ = ½, a = 1: r = 1, P = ½ + ½; θ = ½ r, D(θ) = 2 − ½ · 1.5² = 0.875."""
    one = torch.ones(1, 1, dtype=torch.float64)
    assert duality_gap(2 * one, one, one, 0.5).item() == pytest.approx(1.0 - 0.875)
    assert duality_gap(2 * one, one, 1.5 * one, 0.5).item() == pytest.approx(0.0, abs=1e-12)


def test_momentum_takes_fewer_steps() -> None:
    images, dictionary = _drawn(20)
    slow = _ista(images, dictionary, False, 1e-8).steps
    fast = _batched(images, dictionary, False, 1e-8).steps
    assert (fast < slow).all()
    assert 3 * fast.sum() < slow.sum()


def test_a_limit_of_steps_is_kept_and_the_gap_tells() -> None:
    images, dictionary = _drawn(20)
    for solve in (fista, ista):
        found = solve(images, dictionary, PENALTY, gap=1e-12, steps_limit=7, warn=False)
        assert found.steps.max() == 7
        exact = duality_gap(images, dictionary, found.code, PENALTY)
        torch.testing.assert_close(found.gap, exact, rtol=1e-6, atol=1e-9)
        assert exact.max() > 1e-6


@DTYPES
@pytest.mark.parametrize("gram_bytes", [0, 1 << 20], ids=["residuals", "batch"])
def test_matching_pursuit_is_that_of_scikit_learn(dtype: torch.dtype, gram_bytes: int) -> None:
    images, dictionary = _drawn(30, dtype)
    for k in (1, 6):
        code = omp(images, dictionary, k, gram_bytes=gram_bytes)
        expected = orthogonal_mp(dictionary.double().numpy().T, images.double().numpy().T, n_nonzero_coefs=k).T
        np.testing.assert_allclose(code.to_dense().numpy(), expected, atol=1e-9 if dtype == torch.float64 else 1e-4)
        assert code.crow_indices().tolist() == list(range(0, 30 * k + 1, k))
        assert (code.col_indices().reshape(30, k).diff(dim=1) > 0).all()
        assert code.dtype == dtype


def test_matching_pursuit_does_not_mind_the_length_of_atoms() -> None:
    images, dictionary = _drawn(10)
    lengths = torch.linspace(0.1, 9, UNITS, dtype=torch.float64)
    code = omp(images, dictionary, 5).to_dense()
    torch.testing.assert_close(omp(images, dictionary * lengths[:, None], 5).to_dense() * lengths, code)


@pytest.mark.parametrize("gram_bytes", [0, 1 << 20], ids=["residuals", "batch"])
def test_matching_pursuit_stops_adding_where_nothing_helps(gram_bytes: int) -> None:
    dictionary = torch.eye(6, dtype=torch.float64)[:, :4].repeat(1, 1)
    dictionary[5] = dictionary[0]  # the same atom twice; row 4 is zero
    images = torch.zeros(3, 4, dtype=torch.float64)
    images[1, 2], images[2] = 3.0, torch.tensor([4.0, 3.0, 2.0, 1.0])
    code = omp(images, dictionary, 6, gram_bytes=gram_bytes)
    assert code.values().numel() == 18
    dense = code.to_dense()
    torch.testing.assert_close(dense @ dictionary, images)
    assert dense[0].count_nonzero() == 0
    assert dense[1].tolist() == [0, 0, 3, 0, 0, 0]
    assert dense[2].count_nonzero() == 4
    assert dense[:, 4].count_nonzero() == 0


@pytest.mark.parametrize("gram_bytes", [0, 1 << 20], ids=["residuals", "batch"])
def test_matching_pursuit_adds_no_atom_of_the_span_that_it_has(gram_bytes: int) -> None:
    """Five atoms explain five pixels but for rounding; what agrees with rounding would get values of any size."""
    generator = torch.Generator().manual_seed(4)
    dictionary = torch.randn(12, 5, generator=generator, dtype=torch.float64)
    images = torch.randn(200, 5, generator=generator, dtype=torch.float64)
    dense = omp(images, dictionary, 9, gram_bytes=gram_bytes).to_dense()
    torch.testing.assert_close(dense @ dictionary, images)
    assert dense.count_nonzero(1).tolist() == [5] * 200


@SOLVERS
def test_atoms_of_zeros_have_no_code(solve: Callable[..., Solution]) -> None:
    images, dictionary = _drawn(12)
    dictionary[[3, 40]] = 0
    found = solve(images, dictionary, False, 1e-8).code.to_dense()
    assert found[:, [3, 40]].count_nonzero() == 0
    rest = [unit for unit in range(UNITS) if unit not in (3, 40)]
    np.testing.assert_allclose(found[:, rest].numpy(), _lasso(images, dictionary[rest], False), atol=2e-3)
    nothing = solve(images, torch.zeros_like(dictionary), False, 1e-8)
    assert nothing.code.values().numel() == 0
    assert nothing.gap.abs().max() < 1e-9


@SOLVERS
def test_black_and_constant_and_no_images(solve: Callable[..., Solution]) -> None:
    _, dictionary = _drawn(1)
    images = torch.zeros(2, PIXELS, dtype=torch.float64)
    images[1] = 2.0
    found = solve(images, dictionary, False, 1e-8)
    assert found.code.to_dense()[0].count_nonzero() == 0
    np.testing.assert_allclose(found.code.to_dense().numpy(), _lasso(images, dictionary, False), atol=2e-3)
    none = solve(images[:0], dictionary, False, 1e-8)
    assert (tuple(none.code.shape), len(none.gap), len(none.steps)) == ((0, UNITS), 0, 0)
    assert tuple(omp(images[:0], dictionary, 3).shape) == (0, UNITS)


def test_a_hard_threshold_takes_nothing_off() -> None:
    images, dictionary = _drawn(12)
    found = lca(images, dictionary, PENALTY, threshold="hard", steps=5000)
    code = found.code.to_dense()
    assert torch.isnan(found.gap).all()
    assert code[code != 0].abs().min() > PENALTY
    agreement = (images - code @ dictionary) @ dictionary.t()
    for image in range(12):  # at rest the active units explain all that they can, the others stay below λ
        active = code[image] != 0
        assert agreement[image][active].abs().max() < 1e-3
        assert agreement[image][~active].abs().max() < PENALTY + 1e-3


def test_a_competition_that_explodes_is_told() -> None:
    images, dictionary = _drawn(3, torch.float32)
    with pytest.raises(DivergedError, match="lower its rate"):
        lca(images, dictionary + 1.0, 0.1, rate=1.0, steps=500)


@pytest.mark.parametrize("solve", [fista, ista, lca], ids=["fista", "ista", "lca"])
def test_bad_input_is_refused(solve: Callable[..., Solution]) -> None:
    images, dictionary = _drawn(3)
    broken = images.clone()
    broken[1, 2] = math.nan
    for penalty in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="λ > 0"):
            solve(images, dictionary, penalty)
    for x, d, message in _misfits(images, dictionary, broken):
        with pytest.raises(ValueError, match=message):
            solve(x, d, 1.0)


def test_bad_input_to_matching_pursuit_is_refused() -> None:
    images, dictionary = _drawn(3)
    broken = images.clone()
    broken[1, 2] = math.inf
    for k in (0, UNITS + 1):
        with pytest.raises(ValueError, match="k from 1 to 60"):
            omp(images, dictionary, k)
    for x, d, message in _misfits(images, dictionary, broken):
        with pytest.raises(ValueError, match=message):
            omp(x, d, 2)


def _misfits(images: Tensor, dictionary: Tensor, broken: Tensor) -> list[tuple[Tensor, Tensor, str]]:
    return [
        (broken, dictionary, "finite images"),
        (images, torch.full_like(dictionary, math.nan), "finite dictionary"),
        (images[:, :-1], dictionary, "a dictionary"),
        (images[0], dictionary, "a dictionary"),
        (images, dictionary[:0], "a dictionary"),
        (images.float(), dictionary, "float32 or float64 of both"),
        (images.half(), dictionary.half(), "float32 or float64 of both"),
    ]


def test_settings_of_inference_are_refused() -> None:
    images, dictionary = _drawn(3)
    with pytest.raises(ValueError, match="gap ≥ 0"):
        fista(images, dictionary, 1.0, gap=-1.0)
    with pytest.raises(ValueError, match="one step"):
        ista(images, dictionary, 1.0, steps_limit=0)
    with pytest.raises(ValueError, match="threshold"):
        lca(images, dictionary, 1.0, threshold="firm")
    with pytest.raises(ValueError, match="η"):
        lca(images, dictionary, 1.0, rate=1.5)


def test_multiply_adds_by_hand() -> None:
    """N = 10, d = 4, k = 2: 2·40 correlations; 4 + 12 products and residuals; (0 + 1) + (0 + 4) small solves."""
    assert omp_multiply_adds(10, 4, 2) == 80 + 16 + 5
    assert fista_multiply_adds(10, 4, 3) == 40 + 300
