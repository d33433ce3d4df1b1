"""Natural-image patches are whitened, seeded, apart in training and testing, and refuse what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sparsebench.suites.workloads.sparse_coding import patches as module
from sparsebench.suites.workloads.sparse_coding.patches import patches, whiten


def test_patches_are_drawn_by_their_seed() -> None:
    first = patches(50, 3)
    assert (tuple(first.shape), first.dtype) == ((50, 144), torch.float32)
    assert torch.equal(first, patches(50, 3))
    assert not torch.equal(first, patches(50, 4))
    assert tuple(patches(2, 0, side=7, part="test").shape) == (2, 49)


def test_the_unit_is_that_of_the_training_area() -> None:
    drawn = patches(4000, 0)
    assert abs(float(drawn.mean())) < 0.03
    assert 0.9 < float(drawn.var()) < 1.1
    assert 0.1 < float(patches(4000, 0, part="test").var()) < 2


def test_the_spectrum_is_flat_below_the_cutoff() -> None:
    """Amplitudes fall between 0.05 and 0.25 cycles a pixel, by far more in the picture than once it is whitened."""

    def steepness(pictures: list[np.ndarray]) -> float:
        tiles = [p[r : r + 64, c : c + 64] for p in pictures for r in range(0, 300, 64) for c in range(0, 400, 64)]
        window = np.hanning(64)[:, None] * np.hanning(64)[None]
        amplitude = np.mean([np.abs(np.fft.fft2((tile - tile.mean()) * window)) for tile in tiles], axis=0)
        f = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64)[None])
        low, high = (amplitude[(f > a) & (f < b)].mean() for a, b in ((0.04, 0.06), (0.22, 0.28)))
        return float(low / high)

    plain = list(module._pictures())
    white = [whiten(picture) for picture in plain]
    assert steepness(plain) > 5
    assert 0.5 < steepness(white) < 2.5


def test_whitening_has_zero_phase_and_its_formula() -> None:
    """A point stays where it is and becomes symmetric; a cosine of f = 1/8 is scaled by f exp(−(f ÷ 0.4)⁴)."""
    point = np.zeros((33, 33))
    point[16, 16] = 1.0
    white = whiten(point)
    assert np.unravel_index(white.argmax(), white.shape) == (16, 16)
    np.testing.assert_allclose(white[16, 9:24], white[16, 9:24][::-1], atol=1e-3 * white.max())
    wave = np.cos(2 * np.pi / 8 * (np.arange(64) + 0.5))[None].repeat(40, 0)  # mirrored, it goes on
    np.testing.assert_allclose(whiten(wave), wave * 0.125 * np.exp(-((0.125 / 0.4) ** 4)), atol=1e-12)


def test_constant_grey_becomes_zero() -> None:
    assert np.abs(whiten(np.full((20, 30), 0.7))).max() < 1e-12


def test_no_test_pixel_was_learned_from() -> None:
    """Both areas are cut before they are whitened: the test area alone decides what the test patches are."""
    picture = module._pictures()[0]
    train, test = module._areas(picture)
    changed = picture.copy()
    changed[:, : train.shape[1]] = np.random.default_rng(0).random((picture.shape[0], train.shape[1]))
    other = module._areas(changed)[1]
    assert train.shape[1] + test.shape[1] == picture.shape[1]
    np.testing.assert_allclose(other / other.std(), test / test.std())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count and side ≥ 1"),
        ({"side": 0}, "count and side ≥ 1"),
        ({"part": "all"}, "a part of train, test"),
        ({"side": 161, "part": "test"}, "a side of at most 160"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    told: dict[str, object] = {"count": 2, "seed": 0, **arguments}
    with pytest.raises(ValueError, match=message):
        patches(**told)  # type: ignore[arg-type]
