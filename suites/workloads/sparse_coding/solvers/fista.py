"""Infer codes by FISTA: on working sets on the CPU, on whole batches elsewhere; each code has its duality gap."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sparsebench.suites.workloads.sparse_coding.solvers import fista_sets
from sparsebench.suites.workloads.sparse_coding.solvers.code_layouts import joined, to_csr
from sparsebench.suites.workloads.sparse_coding.solvers.ista import proximal
from sparsebench.suites.workloads.sparse_coding.solvers.lasso_gap import Solution, solve

WIDTH = 16
"""By how many units a working set grows at least."""
ENTRIES = 1 << 23
"""Of the code while it is computed: more images than that are taken in parts."""
GRAM_UNITS = 8192
"""Above this many units their products are not all computed: in float32 they would take 256 MiB."""


def fista(
    images: Tensor,
    dictionary: Tensor,
    penalty: float,
    *,
    positive: bool = False,
    gap: float = 1e-4,
    steps_limit: int = 10_000,
    warn: bool = True,
) -> Solution:
    """Minimise ½‖x − a D‖² + λ‖a‖₁ for every image by accelerated proximal gradient steps with restarts.

    On the CPU every image has its working set of units (see `fista_sets`); elsewhere all images step together (see
    `ista.proximal`). An image is done when its duality gap over all units is at most gap · ‖x‖², as with scikit-learn's
    tol. float32 carries gaps of about 1e-6 · ‖x‖²; below, ask for float64.

    Args:
        images: x (n, d), float32 or float64.
        dictionary: D (N, d); an atom of zeros has code 0.
        penalty: λ.
        positive: whether a ≥ 0 is demanded.
        gap: relative to ‖x‖².
        steps_limit: an image.
        warn: whether images that end above their gap are told by a ConvergenceWarning.

    Raises:
        ValueError: if the operands do not fit or are not finite, λ ≤ 0, gap < 0, or steps_limit < 1.
    """

    def steps(x: Tensor, atoms: Tensor, own: float) -> Solution:
        if x.device.type != "cpu" or len(x) == 0:
            return proximal(x, atoms, own, positive, gap, steps_limit, momentum=True)
        return _on_sets(x.detach(), atoms.detach().contiguous(), own, positive, gap, steps_limit)

    return solve(images, dictionary, penalty, gap, steps_limit, warn, steps)


def fista_multiply_adds(units: int, pixels: int, steps: int) -> int:
    """Return the multiply-adds of one image by plain FISTA: D x once, then N² a step, the products D Dᵀ at hand."""
    return units * pixels + steps * units * units


def _on_sets(images: Tensor, atoms: Tensor, penalty: float, positive: bool, gap: float, limit: int) -> Solution:
    # the products among all units cost as much as the correlations of N images, which are computed some four times
    with_gram = len(atoms) <= min(4 * len(images), GRAM_UNITS)
    gram = atoms @ atoms.t() if with_gram else atoms.new_zeros(0, 0)
    parts = images.split(max(1, ENTRIES // len(atoms)))
    codes, gaps, steps = zip(*(_solve(x, atoms, gram, penalty, positive, gap, limit) for x in parts), strict=True)
    return Solution(code=joined(codes), gap=torch.cat(gaps), steps=torch.cat(steps), kernel="numba working sets")


def _solve(
    images: Tensor, atoms: Tensor, gram: Tensor, penalty: float, positive: bool, gap: float, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    n = len(images)
    start = images @ atoms.t()
    now = start.clone()
    code = torch.zeros_like(start)
    squared = images.double().square().sum(1)
    wanted = gap * squared
    gaps, steps = np.zeros(n), np.zeros(n, np.int64)
    todo = np.arange(n)
    while len(todo):
        before = steps.copy()
        fista_sets.solve(
            start.numpy(), now.numpy(), code.numpy(), gram.numpy(), atoms.numpy(), squared.numpy(), penalty, positive,
            wanted.numpy(), WIDTH, limit, todo, steps, gaps,
        )  # fmt: skip
        if len(gram):
            break
        todo = todo[steps[todo] > before[todo]]  # the others had reached their gap, or their limit, before this round
        now[todo] = (images[todo] - to_csr(code[todo]) @ atoms) @ atoms.t()
    return to_csr(code), torch.from_numpy(gaps), torch.from_numpy(steps)
