"""Get the images that models learn from and are judged on: digits, or patches of natural images."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from torch import Tensor

from sparsebench.suites.workloads.data import digits
from sparsebench.suites.workloads.sparse_coding import quality

KINDS: tuple[str, ...] = ("digits", "patches")
PATCHES: dict[str, int] = {"train": 50_000, "test": 10_000}
"""Patches drawn of the two pictures, by part."""
SEEDS: dict[str, int] = {"train": 0, "test": 1}


@cache
def images(kind: str, part: str, data: Path | None) -> tuple[Tensor, str]:
    """Return images (n, d), float32, and where they come from.

    Args:
        kind: "digits", in [0, 1], or "patches", whitened and of either sign.
        part: "train" or "test".
        data: folder with MNIST's files, or None for the digits that need no download; patches need neither.

    Raises:
        DataError: if the folder is not as expected.
        ValueError: if kind or part is unknown.
    """
    if kind not in KINDS or part not in PATCHES:
        raise ValueError(f"expected {' or '.join(KINDS)}, train or test, got {kind!r}, {part!r}")
    if kind == "digits":
        found = digits(data, part)
        return found.images, found.source
    from sparsebench.suites.workloads.sparse_coding.patches import patches  # imported late: reads two pictures

    drawn = patches(PATCHES[part], SEEDS[part], part=part)
    return drawn, f"patches {part} {len(drawn):,}"


@cache
def trivial(kind: str, data: Path | None) -> dict[str, float | None]:
    """Return the trivial rows of the test images; see quality.trivial_rows. Cut to [0, 1] only where pixels are."""
    found: dict[str, float | None] = dict(quality.trivial_rows(images(kind, "test", data)[0]))
    if kind != "digits":
        found["pca_100_clipped"] = None
    return found
