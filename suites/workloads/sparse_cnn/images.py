"""Hold the digits as the CNN takes them, and move them about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from sparsebench.suites.workloads.data import DataError, digits
from sparsebench.suites.workloads.sparse_cnn.network import SIDE, last


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """Digits to train on and to be judged by.

    Attributes:
        x: float32 (n, 1, 28, 28) in [0, 1].
        y: int64 (n,) classes.
        test_x: the same for testing.
        test_y: the same for testing.
        source: where they come from.
    """

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor
    source: str

    def first(self, count: int | None) -> Images:
        """Return the first training images, sharing memory, with all test images; None for all.

        Raises:
            DataError: if there are fewer.
        """
        if count is None or count == len(self.x):
            return self
        if not 1 <= count <= len(self.x):
            raise DataError(f"expected between 1 and {len(self.x):,} images of {self.source}, got {count:,}")
        return Images(x=self.x[:count], y=self.y[:count], test_x=self.test_x, test_y=self.test_y, source=self.source)


@cache
def load(data: Path | None) -> Images:
    """Load MNIST from a folder, or the 5,000 digits that need no network; the same object in every call.

    Raises:
        DataError: if the folder is not as expected.
    """
    train, test = digits(data, "train"), digits(data, "test")
    return Images(
        x=train.images.reshape(-1, 1, SIDE, SIDE),
        y=train.labels,
        test_x=test.images.reshape(-1, 1, SIDE, SIDE),
        test_y=test.labels,
        source=f"{train.source}; {test.source}",
    )


def batches(images: Images, batch: int, shift: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield images (b, 1, 28, 28) and classes (b,) of one epoch, in random order, each batch moved as a whole.

    What is left over at the end of an epoch is left out, unless it is all there is.

    Args:
        images: to train on.
        batch: images at a time.
        shift: pixels to move by at most, both ways; blank comes in.
        generator: of the order and the moves.
    """
    order = torch.randperm(len(images.x), generator=generator)
    for start in range(0, steps(len(order), batch) * batch, batch):
        chosen = order[start : start + batch]
        x = images.x[chosen]
        if shift:
            down, right = torch.randint(0, 2 * shift + 1, (2,), generator=generator).tolist()
            padded = torch.nn.functional.pad(x, (shift,) * 4)
            x = padded[:, :, down : down + SIDE, right : right + SIDE]
        yield last(x), images.y[chosen]


def steps(images: int, batch: int) -> int:
    """Return the steps of an epoch."""
    return max(1, images // batch)
