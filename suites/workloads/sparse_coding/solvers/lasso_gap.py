"""State the problem that ISTA, FISTA and LCA solve, check its operands, and bound how far from best a code is."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sparsebench.suites.workloads.sparse_coding.solvers import scales
from sparsebench.suites.workloads.sparse_coding.solvers.code_layouts import strided
from sparsebench.suites.workloads.sparse_coding.solvers.finite import all_finite

FLOATS = (torch.float32, torch.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Solution:
    """What an inference found.

    Attributes:
        code: (n, N), sparse_csr: int64 indices, ascending in a row; zeros are not stored.
        gap: float64 (n,), the duality gap of every image in the units of the objective, as `duality_gap` defines it;
            the solver's own bookkeeping, in its dtype, so in float32 it is known to about 1e-6 · ‖x‖² only.
        steps: int64 (n,), steps of (accelerated) gradient that every image took.
        kernel: what ran.
    """

    code: Tensor
    gap: Tensor
    steps: Tensor
    kernel: str


def duality_gap(images: Tensor, dictionary: Tensor, code: Tensor, penalty: float, *, positive: bool = False) -> Tensor:
    """Return P(a) − D(θ) ≥ P(a) − min P of every image, P(a) = ½‖x − a D‖² + λ‖a‖₁, from scratch in float64, (n,).

    scikit-learn's `sparse_encode` calls the same λ alpha; its `Lasso` divides the first term by the number of pixels d,
    so there alpha = λ ÷ d.

    D(θ) = ½‖x‖² − ½‖x − θ‖² for θ with |Dθ|∞ ≤ λ (Dθ ≤ λ where codes are positive). θ = s·r, the residual r scaled by
    the s that maximises D among those allowed: xᵀr ÷ ‖r‖² cut to |s| ≤ λ ÷ |Dr|∞ (Fercoq, Gramfort and Salmon 2015,
    Mind the duality gap, eq. 11). scikit-learn's gap has s = min(1, λ ÷ |Dr|∞), is never smaller, and is compared with
    tol · ‖x‖².

    Args:
        images: x (n, d).
        dictionary: D (N, d).
        code: a (n, N), strided or sparse_csr.
        penalty: λ.
        positive: whether a ≥ 0 is demanded.
    """
    x, a = images.double(), strided(code).double()
    r = x - a @ dictionary.double()
    correlations = r @ dictionary.double().t()
    largest = (correlations if positive else correlations.abs()).amax(1)
    scale = dual_scale((x * r).sum(1), r.square().sum(1), largest, penalty, positive)
    primal = 0.5 * r.square().sum(1) + penalty * a.abs().sum(1)
    dual = 0.5 * x.square().sum(1) - 0.5 * (x - scale[:, None] * r).square().sum(1)
    return primal - dual


def dual_scale(along: Tensor, squared: Tensor, largest: Tensor, penalty: float, positive: bool) -> Tensor:
    """Return s (n,), see `duality_gap`: of xᵀr, ‖r‖² and the largest correlation, each (n,)."""
    bound = torch.where(largest > 0, penalty / largest, torch.inf)
    wanted = torch.where(squared > 0, along / squared, 1.0)
    return torch.minimum(torch.maximum(wanted, torch.zeros_like(bound) if positive else -bound), bound)


def solve(
    images: Tensor,
    dictionary: Tensor,
    penalty: float,
    gap: float,
    steps_limit: int,
    warn: bool,
    solver: Callable[[Tensor, Tensor, float], Solution],
) -> Solution:
    """Check a problem, solve it with images and atoms of a size near 1, and warn of images that are not solved.

    Args:
        images: x (n, d).
        dictionary: D (N, d).
        penalty: λ.
        gap: relative to ‖x‖², what every image should reach; 0 if nothing is asked.
        steps_limit: an image.
        warn: whether to say that some did not.
        solver: of images, dictionary and λ in their own units.
    """
    check_operands(images, dictionary)
    check_lasso_settings(penalty, gap, steps_limit)
    x, d = scales.power_of(images), scales.power_of_atoms(dictionary)
    small = scales.scaled(images, -x)
    found = solver(small, scales.scaled(dictionary, -d), scales.penalty_in(penalty, x + d))
    late = int((found.gap > gap * small.double().square().sum(1)).sum()) if warn and gap > 0 else 0
    if late:
        warn_unsolved(
            f"expected a duality gap of at most {gap:g} · ‖x‖², got more for {late:,} of {len(images):,} images after "
            f"up to {steps_limit:,} steps; raise steps_limit or gap, or ask in float64",
            depth=4,
        )
    return replace(found, code=scales.scaled(found.code, x - d), gap=scales.scaled(found.gap, 2 * x))


def warn_unsolved(message: str, depth: int) -> None:
    """Warn as scikit-learn's solvers do, in the name of who called the solver, so many calls above."""
    from sklearn.exceptions import ConvergenceWarning  # imported late: a third of a second

    warnings.warn(message, ConvergenceWarning, stacklevel=depth)


def check_operands(images: Tensor, dictionary: Tensor) -> None:
    """Raise ValueError unless images (n, d) and dictionary (N, d) fit: floats of one dtype, finite, n ≥ 0, N, d ≥ 1."""
    if images.dim() != 2 or dictionary.dim() != 2 or images.shape[1] != dictionary.shape[1] or 0 in dictionary.shape:
        raise ValueError(
            f"expected images (n, d) and a dictionary (N, d), got {tuple(images.shape)} and {tuple(dictionary.shape)}"
        )
    if images.dtype not in FLOATS or images.dtype != dictionary.dtype:
        raise ValueError(f"expected float32 or float64 of both, got {images.dtype} and {dictionary.dtype}; convert one")
    if images.device != dictionary.device:
        raise ValueError(f"expected one device, got {images.device} and {dictionary.device}; move one")
    for what, tensor in (("images", images), ("dictionary", dictionary)):
        if not all_finite(tensor):
            raise ValueError(f"expected finite {what}, got NaN or infinity; clean them first")


def check_lasso_settings(penalty: float, gap: float, steps_limit: int) -> None:
    """Raise ValueError unless 0 < λ < ∞, 0 ≤ gap < ∞ and steps_limit ≥ 1."""
    if not (math.isfinite(penalty) and penalty > 0):
        raise ValueError(f"expected a penalty λ > 0, got {penalty}; without one the code is not sparse")
    if not (math.isfinite(gap) and gap >= 0) or steps_limit < 1:
        raise ValueError(f"expected gap ≥ 0 and at least one step, got {gap} and {steps_limit}")
