"""Infer codes by orthogonal matching pursuit, many images at once, with or without all products among the atoms."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sparsebench.suites.workloads.sparse_coding.solvers import omp_steps
from sparsebench.suites.workloads.sparse_coding.solvers.code_layouts import csr_code
from sparsebench.suites.workloads.sparse_coding.solvers.lasso_gap import check_operands, warn_unsolved
from sparsebench.suites.workloads.sparse_coding.solvers.scales import unit_rows

GRAM_BYTES = 256 << 20
"""What the products among all atoms may take unless the caller says otherwise: in float32 those of 8,192 atoms."""
ENTRIES = 1 << 23
"""Of the correlations that are held at once: more images than that are taken in parts."""
DEPENDENT = {torch.float32: 1e-6, torch.float64: 1e-12}
"""Squared distance from the span of a support, of an atom of norm 1, below which it adds rounding errors only."""


def omp(images: Tensor, dictionary: Tensor, k: int, *, gram_bytes: int = GRAM_BYTES, warn: bool = True) -> Tensor:
    """Choose k atoms an image, each the one that the residual agrees with most, and project the image on all of them.

    Where the products of all atoms fit `gram_bytes` this is Batch-OMP (Rubinstein, Zibulevsky and Elad 2008, Efficient
    implementation of the K-SVD algorithm using batch OMP); else the residuals of all images are multiplied with
    the dictionary once an atom. Both keep progressive Cholesky factors in float64, and both find the same codes.
    Agreement is |xᵀd| ÷ ‖d‖, so the length of an atom does not matter; an atom of zeros is never chosen.

    Args:
        images: x (n, d), float32 or float64; computed on the CPU, wherever they are.
        dictionary: D (N, d).
        k: atoms an image, 1 to N. d is the most that can help.
        gram_bytes: see above; 0 asks for residuals.
        warn: whether images that need more atoms, where those left depend on those chosen, are told by a
            ConvergenceWarning.

    Returns:
        (n, N), sparse_csr with k entries a row, int64 indices ascending; zeros at the first units not chosen where
        fewer atoms explain the image wholly, as with a black one.

    Raises:
        ValueError: if the operands do not fit or are not finite, or k lies outside 1 to N.
    """
    check_operands(images, dictionary)
    n, units = len(images), len(dictionary)
    if not 1 <= k <= units:
        raise ValueError(f"expected k from 1 to {units}, the number of atoms, got {k}")
    x, units_x = unit_rows(images.detach().cpu())
    d, units_d = unit_rows(dictionary.detach().cpu())
    norms = d.norm(dim=1)
    atoms = (d / torch.where(norms > 0, norms, 1.0)[:, None]).contiguous()
    with_gram = units * units * atoms.itemsize <= gram_bytes
    gram = atoms @ atoms.t() if with_gram else atoms.new_zeros(0, 0)
    parts = x.split(max(1, ENTRIES // max(units, k * k)))
    places, values, stopped = (
        torch.cat(some) for some in zip(*(_pursue(p, atoms, gram, k) for p in parts), strict=True)
    )
    if warn and bool(stopped.any()):
        warn_unsolved(
            f"expected {k} atoms an image, got fewer for {int(stopped.sum()):,} of {n:,} images, which are not "
            "explained yet: the atoms left depend on those chosen; ask for fewer, or drop dependent atoms",
            depth=3,
        )
    lengths = norms.double() * units_d[:, 0]
    values = values * units_x / torch.where(norms > 0, lengths, 1.0)[places]
    return csr_code(values.to(x.dtype), places, units).to(images.device)


def _pursue(x: Tensor, atoms: Tensor, gram: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return places, int64 (n, k), and values, float64 (n, k), for atoms of norm 1 or 0; which images stopped early.

    An image that is explained by fewer than k atoms has not: what is left of it is rounding.
    """
    n, units = len(x), len(atoms)
    start = x @ atoms.t()
    places, values = np.zeros((n, k), np.int64), np.zeros((n, k))
    factors, sizes, going = np.zeros((n, k, k)), np.zeros(n, np.int64), np.ones(n, np.bool_)
    now = start.clone()
    for step in range(1 if len(gram) else k):
        if step:
            code = csr_code(torch.from_numpy(values[:, :step]).to(x.dtype), torch.from_numpy(places[:, :step]), units)
            now = (x - code @ atoms) @ atoms.t()
        omp_steps.pursue(
            start.numpy(), now.numpy(), places, values, factors, sizes, going, gram.numpy(), atoms.numpy(), k,
            DEPENDENT[x.dtype],
        )  # fmt: skip
    omp_steps.settle(places, values, sizes, units)
    found, short = csr_code(torch.from_numpy(values), torch.from_numpy(places), units), torch.from_numpy(sizes < k)
    if bool(short.any()):
        left = x.double() - found @ atoms.double()
        short &= left.square().sum(1) > DEPENDENT[x.dtype] * x.double().square().sum(1)
    return torch.from_numpy(places), torch.from_numpy(values), short


def omp_multiply_adds(units: int, pixels: int, k: int) -> int:
    """Return the multiply-adds of one image by plain OMP.

    For each atom the correlations N·d, the products with the i atoms before it i·d, a row of the Cholesky factor
    i²/2, two triangular solves i², and the residual i·d.

    Args:
        units: N.
        pixels: d.
        k: atoms chosen.
    """
    small = sum(i * i // 2 + (i + 1) ** 2 for i in range(k))
    return k * units * pixels + sum((2 * i + 1) * pixels for i in range(k)) + small
