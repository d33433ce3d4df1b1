"""Infer and learn by the locally competitive algorithm: units inhibit each other as far as atoms overlap."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsebench.suites.workloads.sparse_coding.models.coder import DivergedError
from sparsebench.suites.workloads.sparse_coding.models.dictionary_learning import DictionaryLearner, DictionarySettings
from sparsebench.suites.workloads.sparse_coding.solvers.code_layouts import to_csr
from sparsebench.suites.workloads.sparse_coding.solvers.finite import all_finite
from sparsebench.suites.workloads.sparse_coding.solvers.ista import batch_gaps, curvature
from sparsebench.suites.workloads.sparse_coding.solvers.lasso_gap import (
    Solution,
    check_lasso_settings,
    solve,
)
from sparsebench.suites.workloads.sparse_coding.solvers.scales import penalty_in

THRESHOLDS = ("soft", "hard")


def lca(
    images: Tensor,
    dictionary: Tensor,
    penalty: float,
    *,
    threshold: str = "soft",
    positive: bool = False,
    rate: float | None = None,
    steps: int = 200,
) -> Solution:
    """Let u ← u + η (x Dᵀ − u − a (D Dᵀ − I)), a = T_λ(u), run from u = 0.

    With the soft threshold the fixed points minimise ½‖x − a D‖² + λ‖a‖₁; with the hard one, which takes nothing off
    what it lets through, a cost that counts the active units. I stands for the products of atoms with themselves, so
    atoms should be of one norm; it counts as 1, up to a factor of √2 (Rozell, Johnson, Baraniuk and Olshausen 2008).

    Args:
        images: x (n, d), float32 or float64, on any device.
        dictionary: D (N, d); an atom of zeros has code 0.
        penalty: λ.
        threshold: "soft" or "hard".
        positive: whether a ≥ 0: then T lets no u < 0 through.
        rate: η in (0, 1]; None stands for 1 ÷ the largest eigenvalue of D Dᵀ, or 1 where that is less than 1.
        steps: taken by every image.

    Returns:
        the code with its duality gaps, NaN with the hard threshold, which solves another problem.

    Raises:
        ValueError: if the operands do not fit or are not finite, λ ≤ 0, steps < 1, or η or the threshold are others.
        DivergedError: if η is too large for this dictionary.
    """
    if threshold not in THRESHOLDS or not (rate is None or 0 < rate <= 1):
        raise ValueError(f"expected a threshold of {', '.join(THRESHOLDS)} and 0 < η ≤ 1, got {threshold!r} and {rate}")

    def compete(x: Tensor, atoms: Tensor, own: float) -> Solution:
        gram = atoms @ atoms.t()
        eta = min(1.0, 1.0 / max(curvature(gram), 1e-30)) if rate is None else rate
        drive = x @ atoms.t()
        u = a = torch.zeros_like(drive)
        for _ in range(steps):
            u = torch.lerp(u, drive - a @ gram + a, eta)
            a = _through(u, own, threshold, positive)
        if not all_finite(a):
            raise DivergedError(
                f"expected LCA to settle, got NaN or infinity after {steps} steps; lower its rate {eta:g}"
            )
        if threshold == "soft" and len(x):
            gaps = batch_gaps(drive, a, gram, x.double().square().sum(1), own, positive)
        else:
            gaps = torch.full((len(x),), torch.nan, dtype=torch.float64, device=x.device)
        taken = torch.full((len(x),), steps, dtype=torch.int64, device=x.device)
        return Solution(code=to_csr(a), gap=gaps, steps=taken, kernel="torch batch")

    return solve(images, dictionary, penalty, 0.0, steps, False, compete)


def _through(u: Tensor, penalty: float, threshold: str, positive: bool) -> Tensor:
    if threshold == "soft":
        return (u - penalty).clamp_min(0.0) if positive else torch.nn.functional.softshrink(u, penalty)
    return torch.where((u if positive else u.abs()) > penalty, u, 0.0)


@dataclass(frozen=True, kw_only=True)
class LCASettings(DictionarySettings):
    """What LCA is told; see `lca`."""

    penalty: float
    threshold: str = "soft"
    positive: bool = False
    inhibition_rate: float | None = None
    steps: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        check_lasso_settings(self.penalty, 0.0, self.steps)
        if self.threshold not in THRESHOLDS or not (self.inhibition_rate is None or 0 < self.inhibition_rate <= 1):
            raise ValueError(f"expected a threshold of {', '.join(THRESHOLDS)} and 0 < inhibition_rate ≤ 1, got {self}")


class LCA(DictionaryLearner):
    """Infer codes by competition; learn as Olshausen-Field does."""

    name = "lca"
    settings: LCASettings

    def _codes(self, images: Tensor, warn: bool) -> Tensor:
        s = self.settings
        return lca(
            images, self._dictionary, penalty_in(s.penalty, self._power),
            threshold=s.threshold, positive=s.positive, rate=s.inhibition_rate, steps=s.steps,
        ).code  # fmt: skip

    def multiply_adds(self) -> int:
        """Return N·d for what drives the units and N² for each step of their competition, D Dᵀ at hand."""
        return self.settings.units * self._pixels_known() + self.settings.steps * self.settings.units**2
