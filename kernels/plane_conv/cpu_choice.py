"""Choose between two ways to compute the same: measured once per machine and size, and kept on disk."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sparsebench.kernels.common import chooser, processor
from sparsebench.kernels.common.chooser import Trial
from sparsebench.kernels.plane_conv.geometry import Geometry
from sparsebench.kernels.plane_conv.layout import SharedMaps

SMALL = 1 << 24
"""Multiplications below which nothing is measured: ours, which calls no library, takes well below a millisecond."""
_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-12}


def faster(
    operation: str,
    geometry: Geometry,
    maps: SharedMaps,
    operand: Tensor,
    ours: Callable[[], Tensor],
    library: Callable[[], Tensor],
) -> Tensor:
    """Return the result of whichever is faster; the library's is verified against ours before it may win.

    Which one it was stands in `maps.made` under the name of the operation, "ours" or "library".

    Args:
        operation: what is computed, for the key.
        geometry: kernel, stride, padding, dilation.
        maps: the stored maps; only how many they are matters.
        operand: x or g (n, c, h, w).
        ours: computes it, in the dtype that is computed in.
        library: computes it by torch.
    """
    stored = maps.rows.numel() * maps.maps.numel()
    maps.made[operation] = "ours"
    small = stored * geometry.taps * operand.numel() // max(1, operand.shape[1]) < SMALL
    if small or operand.dtype not in _TOLERANCE:
        return ours()
    ways = {"ours": ours, "library": library}
    device, key = processor.machine(), _key(operation, geometry, maps, operand)
    if not chooser.knows(device, key) and not _agree(ours(), library(), _TOLERANCE[operand.dtype]):
        return ours()  # operands with NaN, or a library that is wrong: nothing to remember
    way = chooser.choose(device, key, list(ways), lambda: Trial(run=lambda way: ways[way](), right=lambda way: True))
    maps.made[operation] = way
    return ways[way]()


def _key(operation: str, geometry: Geometry, maps: SharedMaps, operand: Tensor) -> str:
    """Return what a choice depends on; counts of maps and samples are rounded to steps of an eighth of an octave."""
    counts = [2 ** (round(8 * math.log2(n)) / 8) for n in (maps.rows.numel(), maps.maps.numel(), operand.shape[0])]
    sizes = "x".join(f"{n:.4g}" for n in (*counts, *maps.shape, *operand.shape[2:]))
    sliding = f"{geometry.kernel} {geometry.stride} {geometry.padding} {geometry.dilation}"
    return f"{operation} shared {sizes} {sliding} {operand.dtype} {torch.get_num_threads()} threads"


def _agree(own: Tensor, other: Tensor, tolerance: float) -> bool:
    """Tell whether two results are the same but for rounding."""
    if not own.numel():
        return True
    return float((own - other).abs().max()) <= tolerance * float(own.abs().max())
