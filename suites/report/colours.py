"""Give every representation one colour and one marker, the same in every figure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import seaborn as sns
from matplotlib.markers import MarkerStyle

from sparsebench.representations.registry import BUILTIN

INK = "#010203"
"""Text and axes of a figure; the SVG writer turns it into the page's own text colour."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a representation is drawn.

    Attributes:
        colour: "#rrggbb", readable on white and on near-black.
        marker: matplotlib's letter, or (corners, 1 for a star, degrees); a filled one, as edges are not drawn.
        dash: matplotlib's line style: plug-ins are dashed.
    """

    colour: str
    marker: str | tuple[int, Literal[1], int]
    dash: Literal["-", "--"] = "-"


OWN: dict[str, Look] = {
    "dense": Look(colour="#7f8794", marker="o"),
    "dense-masked": Look(colour="#b58f7a", marker="s"),
    "planes": Look(colour="#e8843c", marker="P"),
    "scipy-csr": Look(colour="#2f7fd0", marker="v"),
    "scipy-coo": Look(colour="#58b4e5", marker="^"),
    "scipy-bsr": Look(colour="#3f5fa8", marker=">"),
    "torch-coo": Look(colour="#9a6bd8", marker="<"),
    "torch-csr": Look(colour="#1f9e7a", marker="D"),
    "torch-csc": Look(colour="#7bb63a", marker="d"),
    "torch-bsr": Look(colour="#cfa21a", marker="h"),
    "torch-bsc": Look(colour="#a3702c", marker="H"),
    "torch-semi-structured": Look(colour="#5f6b2f", marker="8"),
    "csr": Look(colour="#7d2a86", marker="*"),
    "bitmap": Look(colour="#5b3fd6", marker=(5, 1, 0)),
    "ell": Look(colour="#b04fc4", marker="p"),
    "torch-embedding-bag": Look(colour="#4d8f3a", marker=(4, 1, 0)),
    "block-sparse": Look(colour="#d83a68", marker="X"),
}
"""Hue by family: reds hold blocks, greens torch's rows and columns, blues SciPy, greys dense, purple our own rows."""

_SPARE = Look(colour="#c05fb0", marker=(3, 1, 0))
_PLUGIN_MARKERS = "*pX8>Ds"


def order(names: Iterable[str]) -> list[str]:
    """Return representations in the order of tables: our own first, then the others by name."""
    own = list(BUILTIN)
    return sorted(set(names), key=lambda name: (own.index(name) if name in own else len(own), name))


def looks(names: Iterable[str]) -> dict[str, Look]:
    """Return the look of each representation; plug-ins share out a wheel of hues, by name."""
    names = order(names)
    plugins = [name for name in names if name not in BUILTIN]
    wheel = sns.husl_palette(max(1, len(plugins)), h=0.83, s=0.75, l=0.6).as_hex()
    found = {name: OWN.get(name, _SPARE) for name in names if name in BUILTIN}
    for number, name in enumerate(plugins):
        marker = _PLUGIN_MARKERS[number % len(_PLUGIN_MARKERS)]
        found[name] = Look(colour=str(wheel[number]), marker=marker, dash="--")
    return found


def swatch(look: Look) -> dict[str, str]:
    """Return what a legend in HTML needs: "colour", "dash", and "path", matplotlib's own marker as an SVG path."""
    marker = MarkerStyle(look.marker)
    letters = {1: "M", 2: "L", 3: "Q", 4: "C"}
    parts = []
    for points, code in marker.get_path().transformed(marker.get_transform()).iter_segments(simplify=False):
        flipped = (f"{-value if i % 2 else value:.2f}" for i, value in enumerate(points))  # SVG's y points down
        parts.append(letters[int(code)] + " ".join(flipped) if int(code) in letters else "Z")
    return {"colour": look.colour, "dash": "4 2" if look.dash == "--" else "", "path": "".join(parts)}
