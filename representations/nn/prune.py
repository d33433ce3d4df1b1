"""Choose what a layer keeps: the units of a pattern that have the largest sum of squares."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sparsebench.representations.nn.groups import group_places
from sparsebench.representations.pattern import Pattern

KINDS: tuple[str, ...] = ("element", "plane", "channel", "filter-channel", "block:SIDE", "n:M")
"""What a pattern may be called by, so that each layer has its own planes."""


def layer_pattern(pattern: Pattern | str, shape: tuple[int, ...]) -> Pattern:
    """Return the pattern of one layer.

    Args:
        pattern: one that is the same for all layers, or one of KINDS with numbers, as "block:32" or "n:4". A plane of a
            linear layer is one element; a block of a convolution is SIDE × SIDE planes.
        shape: of the weight, (out, in) or (out, in, kh, kw).

    Raises:
        ValueError: if there is no such kind, the units do not divide the weight, or a plane of the pattern is not one
            of the weight.
    """
    plane = math.prod(shape[2:])
    made = pattern if isinstance(pattern, Pattern) else _named(pattern, plane)
    if made.kind == "power-law":
        raise ValueError("expected a pattern of whole units, got power-law, which is drawn; prune by element")
    height, width = made.block
    rows, columns = shape[0], math.prod(shape[1:])
    if made.kind in Pattern.MAPS and len(shape) == 4 and width != plane:
        raise ValueError(f"expected planes of {plane} for a weight {shape}, got {made.label}; name the kind as a str")
    if rows % height or columns % width or columns % (made.m or 1):
        raise ValueError(f"expected units that divide {rows} × {columns}, got {made.label}; choose another block")
    return made


def _named(text: str, plane: int) -> Pattern:
    kind, _, number = text.partition(":")
    if kind == "block" and number.isdecimal() and int(number):
        return Pattern(kind="block", block=(int(number), int(number) * plane))
    if kind == "n" and number.isdecimal():
        return Pattern(kind="n:m", m=int(number))
    if text == "element":
        return Pattern(kind="element")
    if text in Pattern.MAPS:
        return Pattern(kind=text, block=(1, plane))
    raise ValueError(f"expected a pattern of {', '.join(KINDS)}, got {text!r}; write it so or give a Pattern")


def magnitude_mask(weight: Tensor, pattern: Pattern, sparsity: float, seed: int, groups: int = 1) -> Tensor:
    """Return which elements the best units of a pattern cover; how many units are kept is exact, as in `Pattern`.

    The score of a unit is its sum of squares, in float64; NaN is best. The seed decides among equal scores.

    Args:
        weight: (out, in) or (out, in, kh, kw).
        pattern: whose units divide the weight, of a kind other than power-law.
        sparsity: the share of units that go, in [0, 1).
        seed: of the order of units of equal score.
        groups: of a convolution; units between groups do not count.

    Returns:
        bool, shaped as the weight.

    Raises:
        ValueError: if n:m has no whole n for the sparsity.
    """
    rows, columns = weight.shape[0], math.prod(weight.shape[1:])
    squares = weight.detach().double().square().nan_to_num(nan=torch.inf, posinf=torch.inf).reshape(rows, columns)
    inside = group_places(weight.shape[0], weight.shape[1], groups, weight.device)
    places = inside.repeat_interleave(math.prod(weight.shape[2:]), dim=1)
    generator = torch.Generator().manual_seed(seed)
    if pattern.kind == "n:m":
        mask = _best_of_groups(squares, pattern, sparsity, generator)
    elif pattern.kind == "filter-channel":
        width = pattern.block[1]
        kept_rows = _best_units(squares, places, (1, columns), sparsity, generator)
        mask = kept_rows & _best_units(squares, places, (rows, width), sparsity, generator)
    else:
        unit = (rows, pattern.block[1]) if pattern.kind == "channel" else pattern.block
        mask = _best_units(squares, places, unit, sparsity, generator)
    return (mask & places).reshape(weight.shape)


def _best_units(
    squares: Tensor, places: Tensor, unit: tuple[int, int], sparsity: float, generator: torch.Generator
) -> Tensor:
    """Return where the best units (height, width) are, bool; units without any place are neither kept nor counted."""
    (rows, columns), (height, width) = squares.shape, unit

    def units(matrix: Tensor) -> Tensor:
        return matrix.reshape(rows // height, height, columns // width, width)

    there = units(places).any(3).any(1).flatten()
    score = torch.where(there, units(squares).sum((1, 3)).flatten(), -1.0)
    count = round((1.0 - sparsity) * int(there.sum()))
    keep = torch.zeros_like(there)
    keep[_ranked(score[None], generator)[0, :count]] = True
    grid = keep.reshape(rows // height, 1, columns // width, 1)
    return grid.expand(-1, height, -1, width).reshape(rows, columns)


def _best_of_groups(squares: Tensor, pattern: Pattern, sparsity: float, generator: torch.Generator) -> Tensor:
    """Return the n best of every m neighbours in a row; m divides the columns."""
    length = pattern.m or 1
    share = (1.0 - sparsity) * length
    if abs(share - round(share)) > 1e-9 * length:
        raise ValueError(f"expected a sparsity of which {length} neighbours keep a whole number, got {sparsity}")
    groups = squares.reshape(-1, length)
    keep = torch.zeros_like(groups, dtype=torch.bool)
    keep.scatter_(1, _ranked(groups, generator)[:, : round(share)], torch.ones_like(keep))
    return keep.reshape(squares.shape)


def _ranked(score: Tensor, generator: torch.Generator) -> Tensor:
    """Return the places of each row, best first; equal ones in an order that the generator draws."""
    order = torch.randperm(score.shape[1], generator=generator).to(score.device)
    return order[score[:, order].argsort(dim=1, descending=True, stable=True)]
