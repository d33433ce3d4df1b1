"""Judge codes and reconstructions: every figure that a row of sparse coding carries, and the trivial rows beside it."""

from __future__ import annotations

import torch
from torch import Tensor

WEAK, STRONG = 0.01, 0.5
"""Thresholds above which the magnitude of a code's entry counts as active."""
COMPONENTS = 100
"""Of the principal component analysis: as many as the notebook's dictionary has rows."""
EPSILON = 1e-6
"""The smallest reconstruction in the divergence."""


def measure(images: Tensor, code: Tensor, reconstructions: Tensor) -> dict[str, float]:
    """Return the figures of a code and what it decodes to; all are computed in float64.

    Args:
        images: v (n, d), n ≥ 1.
        code: (n, N), strided or sparse_csr.
        reconstructions: r (n, d).

    Returns:
        those of `errors` and of `activity`.
    """
    return {**errors(images, reconstructions), **activity(code)}


def errors(images: Tensor, reconstructions: Tensor) -> dict[str, float]:
    """Return what separates reconstructions from images (n, d), each a mean over images but r2.

    Returns:
        l1: Σ|v − r|; l1_clipped: the same with r cut to [0, 1]; squared: Σ(v − r)²; r2: 1 − Σ(v − r)² ÷ Σ(v − v̄)² over
        all images, v̄ the mean image, NaN if the images do not vary; kl: the generalised Kullback-Leibler divergence
        Σ v ln(v/r) − v + r with r at least EPSILON (Lee and Seung 2001, non-negative matrix factorization), NaN if a
        pixel is negative.
    """
    v, r = images.double(), reconstructions.double()
    squared = (v - r).square().sum()
    total = (v - v.mean(0)).square().sum()
    return {
        "l1": l1(v, r),
        "l1_clipped": l1(v, r.clamp(0.0, 1.0)),
        "squared": float(squared / len(v)),
        "r2": float(1.0 - squared / total) if float(total) > 0 else float("nan"),
        "kl": _divergence(v, r),
    }


def l1(images: Tensor, reconstructions: Tensor) -> float:
    """Return the mean over images of Σ|v − r|; both (n, d), or one reconstruction (d,) for all."""
    return float((images.double() - reconstructions.double()).abs().sum(1).mean())


def _divergence(v: Tensor, r: Tensor) -> float:
    if float(v.min()) < 0:
        return float("nan")
    r = r.clamp_min(EPSILON)
    return float((torch.special.xlogy(v, v / r) - v + r).sum(1).mean())


def activity(code: Tensor) -> dict[str, float]:
    """Return how much of a code (n, N) is on, in magnitude; strided or sparse_csr.

    Returns:
        l0_weak and l0_strong: entries above WEAK and STRONG, mean per image; dead_units: units that are above WEAK in
        no image; code_sum: Σ|o|, mean per image.
    """
    count, units = code.shape
    sparse = code.layout == torch.sparse_csr
    values = (code.values() if sparse else code).abs()
    weak = values > WEAK
    alive = torch.unique(code.col_indices()[weak]).numel() if sparse else int(weak.any(0).sum())
    return {
        "l0_weak": float(weak.sum() / count),
        "l0_strong": float((values > STRONG).sum() / count),
        "dead_units": float(units - alive),
        "code_sum": float(values.double().sum() / count),
    }


def trivial_rows(images: Tensor) -> dict[str, float]:
    """Return the L1 per image of reconstructions that learn no code, each made from the very images it is judged on.

    Args:
        images: (n, d), n ≥ 1.

    Returns:
        all_zero: nothing; median_image: the median of every pixel, the best constant; pca_100: COMPONENTS principal
        components (or as many as there are images or pixels), the floor of a dense linear code of that width;
        pca_100_clipped: the same, cut to [0, 1].
    """
    from sklearn.decomposition import PCA  # imported late: half a second

    v = images.double().cpu()
    pca = PCA(n_components=min(COMPONENTS, *v.shape), svd_solver="covariance_eigh")
    projected = torch.from_numpy(pca.inverse_transform(pca.fit_transform(v.numpy())))
    return {
        "all_zero": l1(v, torch.zeros(v.shape[1])),
        "median_image": l1(v, v.quantile(0.5, dim=0)),
        "pca_100": l1(v, projected),
        "pca_100_clipped": l1(v, projected.clamp(0.0, 1.0)),
    }
