"""Read idx files, the format that MNIST was published in, and check them."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np

PIXELS = 784
"""28 × 28, row-major."""
IMAGES, LABELS = 2051, 2049
"""Magic numbers: unsigned bytes in three dimensions, and in one."""


class DataError(ValueError):
    """The data are not as expected. A user's mistake, told in one line."""


def read_idx(path: Path, magic: int, md5: str) -> np.ndarray:
    """Return the payload of an idx file: uint8 (n, 784) of images, (n,) of labels.

    The format: big-endian int32 magic and sizes, then bytes, as published with MNIST.
    """
    again = "fetch it again"
    try:
        payload = path.read_bytes()
        if payload[:2] == b"\x1f\x8b":
            payload = gzip.decompress(payload)
    except (OSError, EOFError, zlib.error) as error:  # gzip.BadGzipFile is an OSError
        raise DataError(f"expected a whole file at {path}, got {type(error).__name__}: {error}; {again}") from error
    fields = 4 if magic == IMAGES else 2
    if len(payload) < 4 * fields:
        raise DataError(f"expected an idx header of {4 * fields} bytes in {path}, got {len(payload)}; {again}")
    header = np.frombuffer(payload, dtype=">i4", count=fields)
    if header[0] != magic:
        raise DataError(f"expected {path} to begin with idx magic {magic}, got {header[0]}; {again}")
    size = PIXELS if magic == IMAGES else 1
    if magic == IMAGES and tuple(header[2:]) != (28, 28):
        raise DataError(f"expected images of 28×28 in {path}, got {header[2]}×{header[3]}; {again}")
    expected = 4 * fields + int(header[1]) * size
    if len(payload) != expected:
        raise DataError(f"expected {expected:,} bytes in {path} once unpacked, got {len(payload):,}; {again}")
    got = hashlib.md5(payload, usedforsecurity=False).hexdigest()
    if got != md5:
        raise DataError(f"expected md5 {md5} of {path} once unpacked, got {got}; {again}")
    items = np.frombuffer(payload, dtype=np.uint8, offset=4 * fields)
    return items.reshape(-1, PIXELS) if magic == IMAGES else items
