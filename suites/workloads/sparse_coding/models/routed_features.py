"""Describe an image in few numbers, cheaply: its coefficients on products of a few row and a few column shapes."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def side_of(pixels: int) -> int:
    """Return the side of a square image with so many pixels, 0 if it is none."""
    side = math.isqrt(pixels)
    return side if side * side == pixels else 0


def bases(images: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """Return the principal shapes of columns and of rows, (s, kept) each, of images (n, s²), not centred.

    Yang et al. 2004, Two-dimensional PCA, on both sides. `kept` = 0, or images that are not square, keep every
    pixel: both are then empty, (0, 0).
    """
    side = side_of(images.shape[1])
    if kept == 0 or side == 0 or kept >= side:
        return images.new_zeros(0, 0), images.new_zeros(0, 0)
    flat = images.reshape(-1, side, side)
    down = torch.einsum("nij,nkj->ik", flat, flat)
    along = torch.einsum("nij,nik->jk", flat, flat)
    return torch.linalg.eigh(down)[1].flip(1)[:, :kept].clone(), torch.linalg.eigh(along)[1].flip(1)[:, :kept].clone()


def features(images: Tensor, down: Tensor, along: Tensor) -> Tensor:
    """Return (n, p + 1): the coefficients downᵀ·image·along and a one; with empty bases the pixels and a one."""
    flat = images
    if down.numel():
        square = images.reshape(len(images), len(down), len(along))
        flat = (down.t() @ square @ along).flatten(1)
    return torch.cat([flat, flat.new_ones(len(flat), 1)], 1)


def feature_multiply_adds(pixels: int, kept: int) -> int:
    """Return the multiply-adds of `features` for one image."""
    side = side_of(pixels)
    if kept == 0 or side == 0 or kept >= side:
        return 0
    return side * side * kept + side * kept * kept


def clusters(points: Tensor, count: int, generator: torch.Generator, rounds: int = 15) -> Tensor:
    """Return the centres (count, p) of k-means over points (n, p), from points drawn at random.

    A centre that no point is nearest to moves to a random point, with noise where points are fewer than centres, so
    that no two centres coincide.
    """
    draw = torch.randint(len(points), (count,), generator=generator)
    if len(points) >= count:
        draw = torch.randperm(len(points), generator=generator)[:count]
    spread = 0.01 * points.std().nan_to_num(0.0) + 1e-6
    noise = torch.randn(count, points.shape[1], generator=generator).to(points) * spread
    centres = points[draw.to(points.device)] + noise
    for _ in range(rounds):
        near = nearest(points, centres)
        sizes = torch.bincount(near, minlength=count).to(points)
        sums = torch.zeros_like(centres).index_add_(0, near, points)
        centres = torch.where(sizes.unsqueeze(1) > 0, sums / sizes.clamp_min(1).unsqueeze(1), centres)
        lonely = (sizes == 0).nonzero().flatten()
        again = torch.randint(len(points), (len(lonely),), generator=generator).to(points.device)
        centres[lonely] = points[again] + noise[lonely]
    return centres


def nearest(points: Tensor, centres: Tensor) -> Tensor:
    """Return which centre (count, p) is nearest to each point (n, p), by count·p multiply-adds a point: int64 (n,)."""
    return (points @ centres.t() - 0.5 * centres.square().sum(1)).argmax(1)
