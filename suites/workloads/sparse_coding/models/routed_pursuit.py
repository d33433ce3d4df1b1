"""Choose a few atoms for an image within one group of a dictionary: orthogonal least squares on a shrinking pool."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

DEPENDENT = 0.03
"""An atom of whose squared norm no more than this share lies outside of the chosen ones is not chosen: its value would
be large and badly determined."""
JITTER = 1e-5
"""Added to the diagonal of a support's Gram matrix (unit atoms), so that repeated atoms have a solution."""
CHUNK = 128
"""Images a step: the working set of a chunk of 1,000 atoms and 14 choices takes 7 MB."""

Shrink = Sequence[tuple[int, int]]
"""(choices made, atoms kept): from that choice on only the best so many of the pool are looked at."""


def choose(scores: Tensor, gram: Tensor, active: int, shrink: Shrink = ()) -> Tensor:
    """Choose atoms greedily, each the one whose addition lowers the squared error most (orthogonal least squares).

    Chen, Billings and Luo 1989, Orthogonal least squares methods and their application to non-linear system
    identification; it costs what OMP on a Gram matrix costs (Rubinstein, Zibulevsky and Elad 2008), and where atoms
    resemble each other it chooses better.

    Args:
        scores: x·dᵢ or an estimate of it, (n, M), n ≥ 0.
        gram: of the M atoms, all of norm 1, (M, M).
        active: k, at most M and at most what shrink leaves.
        shrink: see `Shrink`.

    Returns:
        int64 (n, k), distinct, ascending in a row.
    """
    parts = [_choose(part, gram, active, dict(shrink)) for part in scores.split(CHUNK)]
    return torch.cat(parts).sort(1).values if parts else torch.empty(0, active, dtype=torch.int64, device=gram.device)


def _choose(scores: Tensor, gram: Tensor, active: int, shrink: dict[int, int]) -> Tensor:
    count, pool = scores.shape
    rows = torch.arange(count, device=scores.device)
    left, outside = scores.clone(), torch.ones_like(scores)  # correlation with the residual; squared norm outside
    basis = scores.new_empty(count, active, pool)  # every atom's coefficient on each chosen direction
    names = torch.arange(pool, device=scores.device).expand(count, pool)
    taken = torch.zeros(count, pool, dtype=torch.bool, device=scores.device)
    chosen = torch.empty(count, active, dtype=torch.int64, device=scores.device)
    for step in range(active):
        gain = (left.square() / outside).masked_fill_(taken, -1.0)
        if step in shrink and shrink[step] < gain.shape[1]:
            kept = gain.topk(shrink[step], 1).indices
            gain, left, outside, names, taken = (t.gather(1, kept) for t in (gain, left, outside, names, taken))
            basis = basis.gather(2, kept.unsqueeze(1).expand(-1, active, -1))
        best = gain.argmax(1)
        chosen[:, step] = names[rows, best]
        taken[rows, best] = True
        size = outside[rows, best].sqrt()
        new = gram[chosen[:, step]]
        new = new.gather(1, names) if step and new.shape[1] != names.shape[1] else new
        if step:
            earlier = basis[rows, :step, best].unsqueeze(1)
            new = new - torch.bmm(earlier, basis[:, :step]).squeeze(1)
        new = new / size.unsqueeze(1)
        basis[:, step] = new
        left.addcmul_(new, (left[rows, best] / size).unsqueeze(1), value=-1.0)
        outside.addcmul_(new, new, value=-1.0)
        left.masked_fill_(outside < DEPENDENT, 0.0)
        outside.clamp_min_(DEPENDENT)
    return chosen


def choice_multiply_adds(pool: int, active: int, shrink: Shrink = ()) -> int:
    """Return the multiply-adds of `choose` for one image, scores and Gram matrix given."""
    total, sizes = 0, dict(shrink)
    for step in range(active):
        pool = min(pool, sizes.get(step, pool))
        total += pool * (step + 4)  # gain, `step` directions taken off, left, outside, division
    return total


def least_squares_gram(images: Tensor, dictionary: Tensor, gram: Tensor, places: Tensor) -> Tensor:
    """Return the values (n, k) with which the atoms at places (n, k) come nearest to images (n, d) in squared error.

    A closed form: one k×k system an image, from the inner products of the atoms (M, M) at hand, k·d multiply-adds for
    the right side and k³/6 + k² for the solution.
    """
    values = []
    for image, place in zip(images.split(CHUNK), places.split(CHUNK), strict=True):
        inner = gram[place.unsqueeze(2), place.unsqueeze(1)]
        inner.diagonal(dim1=1, dim2=2).add_(JITTER)
        values.append(_solve(inner, dictionary[place] @ image.unsqueeze(2)))
    return torch.cat(values) if values else images.new_zeros(places.shape)


def _solve(gram: Tensor, right: Tensor) -> Tensor:
    factor, _ = torch.linalg.cholesky_ex(gram)
    return torch.cholesky_solve(right, factor).squeeze(2)


def solve_multiply_adds(active: int, pixels: int) -> int:
    """Return the multiply-adds of `least_squares_gram` for one image: right side, Cholesky factor, two triangles."""
    return active * pixels + active**3 // 6 + active * active
