"""Turn arrays of small images into one picture inside the page."""

from __future__ import annotations

import base64
import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]
GAP = 1
"""Pixels between tiles."""
SHADES = 48
"""Of grey: as many as the eye tells apart in a tile, and a third fewer bytes than 256."""


def tiles(images: Array, columns: int, *, own_scale: bool) -> Array:
    """Lay out square images on a grid; returned as shades in [0, 1], the gaps NaN.

    Args:
        images: (count, side²).
        columns: of the grid.
        own_scale: True if each image uses the whole range of shades, False if all share one.

    Raises:
        ValueError: if the images are not square or there are none.
    """
    if images.ndim != 2 or not images.size:
        raise ValueError(f"expected images (count, side²), got an array of shape {images.shape}")
    count, pixels = images.shape
    side = math.isqrt(pixels)
    if side * side != pixels:
        raise ValueError(f"expected square images, got {pixels} pixels each")
    values = np.where(np.isfinite(images), images, 0.0)
    low = values.min(axis=1, keepdims=True) if own_scale else values.min()
    high = values.max(axis=1, keepdims=True) if own_scale else values.max()
    shades = (values - low) / np.where(high > low, high - low, 1.0)
    rows = math.ceil(count / columns)
    step = side + GAP
    sheet = np.full((rows * step - GAP, min(columns, count) * step - GAP), np.nan)
    for number, tile in enumerate(shades.reshape(count, side, side)):
        top, left = number // columns * step, number % columns * step
        sheet[top : top + side, left : left + side] = tile
    return sheet


def img(sheet: Array, title: str, scale: int = 2) -> str:
    """Return an img element that carries its PNG; gaps are transparent.

    Args:
        sheet: shades in [0, 1] or NaN.
        title: what a screen reader says.
        scale: page pixels for one of the sheet's.
    """
    gap = np.isnan(sheet)
    shades = np.where(gap, SHADES, (np.nan_to_num(sheet) * (SHADES - 1)).round()).astype(np.uint8)
    picture = Image.fromarray(shades, mode="P")
    picture.putpalette(
        [value for shade in (*np.linspace(0, 255, SHADES).round().astype(int), 0) for value in [shade] * 3]
    )
    buffer = io.BytesIO()
    picture.save(buffer, format="png", optimize=True, transparency=SHADES)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    height, width = (scale * pixels for pixels in sheet.shape)
    return (
        f'<img class="tiles" width="{width}" height="{height}" alt="{title.replace(chr(34), " ")}" '
        f'src="data:image/png;base64,{data}">'
    )
