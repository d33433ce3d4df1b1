"""Infer codes by proximal gradient steps on whole batches, in plain torch: ISTA, and FISTA wherever numba cannot go."""

from __future__ import annotations

import torch
from torch import Tensor

from sparsebench.suites.workloads.sparse_coding.solvers.code_layouts import to_csr
from sparsebench.suites.workloads.sparse_coding.solvers.lasso_gap import Solution, dual_scale, solve

CHECK_EVERY = 10
"""Steps between two looks at the gaps; images that have reached theirs leave the batch."""
POWERS = 30
"""Iterations behind the step size."""


def ista(
    images: Tensor,
    dictionary: Tensor,
    penalty: float,
    *,
    positive: bool = False,
    gap: float = 1e-4,
    steps_limit: int = 1000,
    warn: bool = True,
) -> Solution:
    """Minimise ½‖x − a D‖² + λ‖a‖₁ by a ← T(a + (x − a D) Dᵀ ÷ L, λ ÷ L), from a = 0, on any device.

    T is the soft threshold, L the largest eigenvalue of D Dᵀ (Daubechies, Defrise and De Mol 2004; Beck and Teboulle
    2009, eq. 1.4). An image is done when its duality gap is at most gap · ‖x‖², as with scikit-learn's tol.

    Args:
        images: x (n, d), float32 or float64.
        dictionary: D (N, d); an atom of zeros has code 0.
        penalty: λ.
        positive: whether a ≥ 0 is demanded.
        gap: relative to ‖x‖²; 0 stands for as many steps as allowed.
        steps_limit: an image.
        warn: whether images that end above their gap are told by a ConvergenceWarning.

    Raises:
        ValueError: if the operands do not fit or are not finite, λ ≤ 0, gap < 0, or steps_limit < 1.
    """

    def steps(x: Tensor, atoms: Tensor, own: float) -> Solution:
        return proximal(x, atoms, own, positive, gap, steps_limit, momentum=False)

    return solve(images, dictionary, penalty, gap, steps_limit, warn, steps)


def curvature(gram: Tensor) -> float:
    """Return the largest eigenvalue of D Dᵀ (N, N), by power iterations and 2 % above them; atoms of about norm 1."""
    vector = gram.abs().sum(1)
    for _ in range(POWERS):
        vector = gram @ (vector / vector.norm().clamp_min(1e-30))
    return 1.02 * float(vector.norm())


def proximal(
    images: Tensor, dictionary: Tensor, penalty: float, positive: bool, gap: float, steps_limit: int, momentum: bool
) -> Solution:
    """Take the steps of `ista`, with `momentum` those of FISTA with restarts, on all images that are not done.

    Beck and Teboulle 2009; the restarts, an image at a time, are O'Donoghue and Candès 2015, eq. 13. Operands are not
    checked, and of a size near 1.
    """
    n, units = len(images), len(dictionary)
    gram = dictionary @ dictionary.t()
    inverse = 1.0 / max(curvature(gram), 1e-30)
    code = images.new_zeros(n, units)
    gaps = torch.zeros(n, dtype=torch.float64, device=images.device)
    steps = torch.zeros(n, dtype=torch.int64, device=images.device)
    todo = torch.arange(n, device=images.device)
    start, squared = images @ dictionary.t(), images.double().square().sum(1)
    z = y = code
    t = images.new_ones(n, 1)
    for step in range(1, steps_limit + 1):
        new = _shrink(y + inverse * (start[todo] - y @ gram), inverse * penalty, positive)
        if momentum:
            t = torch.where(((y - new) * (new - z)).sum(1, keepdim=True) > 0, 1.0, t)
            following = 0.5 * (1.0 + (1.0 + 4.0 * t.square()).sqrt())
            y, t = new + (t - 1.0) / following * (new - z), following
        else:
            y = new
        z = new
        if step % CHECK_EVERY == 0 or step == steps_limit:
            now = batch_gaps(start[todo], z, gram, squared[todo], penalty, positive)
            code[todo], gaps[todo], steps[todo] = z, now, step
            left = now > gap * squared[todo]
            todo, y, z, t = todo[left], y[left], z[left], t[left]
        if len(todo) == 0:
            break
    return Solution(code=to_csr(code), gap=gaps, steps=steps, kernel="torch batch")


def _shrink(v: Tensor, threshold: float, positive: bool) -> Tensor:
    return (v - threshold).clamp_min(0.0) if positive else torch.nn.functional.softshrink(v, threshold)


def batch_gaps(start: Tensor, code: Tensor, gram: Tensor, x_squared: Tensor, penalty: float, positive: bool) -> Tensor:
    """Return the duality gaps, float64 (n,), from X Dᵀ, the code and D Dᵀ."""
    now = start - code @ gram
    along = x_squared - (code.double() * start.double()).sum(1)
    squared = (along - (code.double() * now.double()).sum(1)).clamp_min(0.0)
    largest = (now if positive else now.abs()).amax(1).double()
    scale = dual_scale(along, squared, largest, penalty, positive)
    return 0.5 * squared + penalty * code.double().abs().sum(1) - scale * along + 0.5 * scale.square() * squared
