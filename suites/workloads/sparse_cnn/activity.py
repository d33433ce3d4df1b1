"""Make activations sparse: k-winners over planes, and the KL penalty on the mean activity of a map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

SHARPNESS = 10.0
"""An activation counts as on from about 1/SHARPNESS; batch normalisation gives them a spread of 1."""
FLOOR = 1e-6
"""Activities are kept this far from 0 and 1, where the divergence has no value."""


def winners(x: Tensor, share: float) -> Tensor:
    """Return x (n, c, h, w) with only the round(share·c) planes (at least one) of each sample whose sum is largest.

    Exactly so many planes are chosen, among equals the ones of lower number; every other plane is zero.
    After Ahmad and Scheinkman 2019, with planes for units, and without boosting.
    """
    count = x.shape[1]
    kept = max(1, round(share * count))
    if kept >= count:
        return x
    with torch.no_grad():
        order = x.sum((2, 3)).argsort(dim=1, descending=True, stable=True)
        chosen = torch.zeros(x.shape[:2], dtype=x.dtype, device=x.device).scatter_(1, order[:, :kept], 1.0)
    return x * chosen[:, :, None, None]


class Winners(nn.Module):
    """ReLU, and then the winners among the planes of each sample; share 1 is ReLU alone."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Return the activations (n, c, h, w) that are left."""
        return winners(x.relu(), self.share)

    def extra_repr(self) -> str:
        """Return the share for repr."""
        return f"share={self.share:g}"


def mean_activity(hidden: Tensor) -> Tensor:
    """Return ρ̂ (c,): the mean over samples and places of tanh(SHARPNESS·a), a ≥ 0 the activations (n, c, h, w).

    The penalty was made for logistic units; this brings a ReLU's activations into the [0, 1) that it needs, and is
    nearly the share of non-zero ones.
    """
    return (SHARPNESS * hidden).tanh().mean((0, 2, 3))


def kl_penalty(activity: Tensor, rho: float) -> Tensor:
    """Return Σ ρ ln(ρ/ρ̂) + (1 − ρ) ln((1 − ρ)/(1 − ρ̂)) over activities ρ̂ (c,), a tensor of shape ().

    The divergence of two coins (Ng 2011, Sparse autoencoder, CS294A). Its gradient is (1 − ρ)/(1 − ρ̂) − ρ/ρ̂.
    """
    clamped = activity.clamp(FLOOR, 1.0 - FLOOR)
    divergence: Tensor = rho * (rho / clamped).log() + (1.0 - rho) * ((1.0 - rho) / (1.0 - clamped)).log()
    return divergence.sum()


def activity_loss(hidden: Sequence[Tensor], rho: float, beta: float) -> Tensor:
    """Return β times the penalty summed over the maps of all hidden layers."""
    penalties = [kl_penalty(mean_activity(layer), rho) for layer in hidden]
    return beta * torch.stack(penalties).sum()


def shares(hidden: Tensor) -> tuple[float, float]:
    """Return the share of non-zero activations of (n, c, h, w), and the share of planes with any."""
    active = hidden != 0
    return float(active.double().mean()), float(active.flatten(2).any(2).double().mean())
