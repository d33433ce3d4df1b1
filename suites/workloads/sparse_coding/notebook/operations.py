"""Encode, decode and learn on a batch of images, in torch: the conserved-flow rules as matrix products."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

PAD = 16
"""Columns that carry the thresholds' step beside the dictionary's; one is used, the others keep rows aligned."""

Product = Callable[[Tensor], Tensor]
"""A product with the code, O @ x or Oᵀ @ x, whichever way the code is stored."""


def drive(images: Tensor, dictionary: Tensor, thresholds: Tensor) -> Tensor:
    """Return V Wᵀ − t, what the logistic function turns into the code: (n, pixels), (units, pixels) -> (n, units)."""
    return images @ dictionary.t() - thresholds


def kept_entries(units: int, sparsity: float) -> int:
    """Return how many entries of each image's code stay when the share `sparsity` is dropped: exact, per image.

    Raises:
        ValueError: if sparsity lies outside [0, 1].
    """
    if not 0.0 <= sparsity <= 1.0:
        raise ValueError(f"expected a sparsity in [0, 1], got {sparsity}")
    return round((1.0 - sparsity) * units)


def keep_largest(drives: Tensor, kept: int) -> Tensor:
    """Return σ(drives) with all but the `kept` largest entries of each row set to zero; of equals, the first stay.

    The choice is made on the drives: σ keeps their order, but float32 rounds large ones to the same 1.

    Args:
        drives: (n, units).
        kept: from 0 to units.

    Raises:
        ValueError: if there are fewer entries than `kept`.
    """
    units = drives.shape[1]
    if not 0 <= kept <= units:
        raise ValueError(f"expected to keep between 0 and {units} entries, got {kept}")
    if kept == units:
        return torch.sigmoid(drives)
    values, places = torch.sort(drives, dim=1, descending=True, stable=True)
    code = torch.zeros_like(drives)
    return code.scatter_(1, places[:, :kept], torch.sigmoid(values[:, :kept]))


def encode(images: Tensor, dictionary: Tensor, thresholds: Tensor, kept: int) -> Tensor:
    """Return the code (n, units), strided, with the `kept` largest entries of each image."""
    return keep_largest(drive(images, dictionary, thresholds), kept)


def gaps(drives: Tensor, kept: int) -> Tensor:
    """Return, per row, how far the smallest entry that is kept lies above the largest that is not (n,).

    Infinite where nothing or everything is kept. A small gap means that rounding may change which entries are kept.
    """
    if kept in (0, drives.shape[1]):
        return torch.full(drives.shape[:1], torch.inf, dtype=drives.dtype, device=drives.device)
    values = torch.sort(drives, dim=1, descending=True).values
    return values[:, kept - 1] - values[:, kept]


def excess_flow(code: Tensor, images: Tensor, flow: float) -> Tensor:
    """Return Σo − f Σv of every image in the first of PAD columns, zeros in the others: (n, PAD)."""
    columns = torch.zeros(len(images), PAD, dtype=images.dtype, device=images.device)
    columns[:, 0] = code.sum(1) - flow * images.sum(1)
    return columns


def learning_step(
    code_product: Product,
    transposed_product: Product,
    images: Tensor,
    excess: Tensor,
    dictionary: Tensor,
    thresholds: Tensor,
    *,
    rate: float,
    gamma: float,
    epsilon: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return W and t after one step on the mean of a batch, and the product behind it; nothing given is changed.

    W' = W + ξ/n · W ⊙ [Oᵀ (e ÷ max(r, ε))] and t' = t + γ/n · Oᵀ (Σo − f Σv), with r = O W and e = V − r. With n = 1
    this is the rule of one image. Both sums over the batch are columns of a single product with Oᵀ.

    Args:
        code_product: x -> O @ x, with the code O (n, units).
        transposed_product: x -> Oᵀ @ x.
        images: V (n, pixels).
        excess: Σo − f Σv as `excess_flow` gives it; the encoder has it for nothing, so it is no part of the step.
        dictionary: W (units, pixels).
        thresholds: t (units,).
        rate: ξ.
        gamma: γ.
        epsilon: ε, the smallest reconstruction that an error is divided by.

    Returns:
        W' (units, pixels); t' (units,); Oᵀ [e ÷ max(r, ε), Σo − f Σv] (units, pixels + 1), in which an error shows that
        the small step hides in W' and t'.
    """
    n, pixels = images.shape
    reconstruction = code_product(dictionary)
    right = images.new_empty(n, pixels + PAD)
    torch.div(images - reconstruction, reconstruction.clamp_min(epsilon), out=right[:, :pixels])
    right[:, pixels:] = excess
    step = transposed_product(right)
    new_dictionary = torch.addcmul(dictionary, dictionary, step[:, :pixels], value=rate / n)
    return new_dictionary, thresholds + gamma / n * step[:, pixels], step[:, : pixels + 1]
