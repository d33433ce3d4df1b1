"""Group the weights of a convolution into the units that a pattern keeps or drops, and choose units by score."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from sparsebench.suites.workloads.sparse_cnn.settings import BLOCK

Kept = dict[str, Tensor]
"""By layer, which units are stored: bool, of the shape that `unit_shape` returns."""


def unit_shape(shape: tuple[int, ...], pattern: str) -> tuple[int, ...]:
    """Return the grid of units of a weight (out, in, kh, kw).

    element: the weight's own shape; plane: (out, in); block: (out/BLOCK, in/BLOCK); channel: (in,), input maps.

    Raises:
        ValueError: if the shape is none of a convolution, a block does not divide it, or the pattern is unknown.
    """
    if len(shape) != 4:
        raise ValueError(f"expected a weight (out, in, kh, kw), got shape {shape}")
    out, below = shape[:2]
    if pattern == "block" and (out % BLOCK or below % BLOCK):
        raise ValueError(f"expected maps that blocks of {BLOCK} divide, got a weight {shape}; change the maps")
    grids = {
        "element": tuple(shape),
        "plane": (out, below),
        "block": (out // BLOCK, below // BLOCK),
        "channel": (below,),
    }
    if pattern not in grids:
        raise ValueError(f"expected a pattern of {', '.join(grids)}, got {pattern!r}")
    return grids[pattern]


def norms(tensor: Tensor, pattern: str) -> Tensor:
    """Return the Euclidean norm of every unit of (out, in, kh, kw), of the shape that `unit_shape` returns."""
    grid = unit_shape(tuple(tensor.shape), pattern)
    squares = tensor.detach().square()
    if pattern == "element":
        return squares.sqrt()
    planes = squares.sum((2, 3))
    if pattern == "channel":
        planes = planes.sum(0)
    if pattern == "block":
        planes = planes.reshape(grid[0], BLOCK, grid[1], BLOCK).sum((1, 3))
    return planes.sqrt()


def unit_size(shape: tuple[int, ...], pattern: str) -> int:
    """Return how many weights a unit holds."""
    return math.prod(shape) // math.prod(unit_shape(shape, pattern))


def expand(units: Tensor, shape: tuple[int, ...], pattern: str) -> Tensor:
    """Return a figure of every unit at each of its weights: what `unit_shape` says -> a view (out, in, kh, kw)."""
    grid = unit_shape(shape, pattern)
    if tuple(units.shape) != grid:
        raise ValueError(f"expected units {grid} for a weight {shape}, got {tuple(units.shape)}")
    if pattern == "element":
        return units
    if pattern == "block":
        units = units.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
    if pattern == "channel":
        units = units[None, :]
    return units[:, :, None, None].expand(shape)


def budget(units: int, sparsity: float) -> int:
    """Return how many of so many units are stored: (1 − sparsity) of them, rounded."""
    return round((1.0 - sparsity) * units)


def choose(scores: Mapping[str, Tensor], sparsity: float) -> Kept:
    """Keep the units with the largest scores over all layers together, in exact number; of equals the first ones.

    A layer may be left with none.
    """
    together = torch.cat([score.flatten() for score in scores.values()])
    chosen = torch.zeros(len(together), dtype=torch.bool)
    chosen[together.argsort(descending=True, stable=True)[: budget(len(together), sparsity)]] = True
    parts = chosen.split([score.numel() for score in scores.values()])
    return {name: part.reshape(score.shape) for (name, score), part in zip(scores.items(), parts, strict=True)}


def draw(shapes: Mapping[str, tuple[int, ...]], sparsity: float, generator: torch.Generator) -> Kept:
    """Keep units at random, about the same share in every layer, and the exact number over all.

    Args:
        shapes: of every layer's grid of units.
        sparsity: the share of absent units.
        generator: of the choice.
    """
    total = budget(sum(math.prod(shape) for shape in shapes.values()), sparsity)
    counts = {name: budget(math.prod(shape), sparsity) for name, shape in shapes.items()}
    counts[max(counts, key=lambda name: counts[name])] += total - sum(counts.values())
    kept = {}
    for name, shape in shapes.items():
        places = torch.randperm(math.prod(shape), generator=generator)[: counts[name]]
        kept[name] = torch.zeros(math.prod(shape), dtype=torch.bool).index_fill_(0, places, True).reshape(shape)
    return kept
