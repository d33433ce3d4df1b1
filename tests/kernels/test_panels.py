"""Check what brings operands near: copies are exact, and asking for memory that is not there does nothing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numba import njit

from sparsebench.kernels.common import panels
from sparsebench.kernels.common.sharing import share, shares_for
from sparsebench.kernels.microkernels.call import call


@njit
def run(address: int, arguments: tuple[int, ...]) -> None:
    call(address, arguments)


@pytest.mark.parametrize("width", [1, 2, 3, 6, 16, 40, 63, 64, 65, 100, 512, 1000])
def test_rows_are_copied_as_they_are(width: int) -> None:
    """Every width, between rows that lie further apart on both sides; what stands between them is left alone."""
    rng = np.random.default_rng(width)
    source = rng.integers(0, 255, (7, width + 5), dtype=np.uint8)
    target = np.full((7, width + 3), 7, np.uint8)
    run(
        panels.copier(width),
        (source.ctypes.data + 2, source.strides[0], target.ctypes.data, target.strides[0], np.int64(7)),
    )
    assert (target[:, :width] == source[:, 2 : 2 + width]).all()
    assert (target[:, width:] == 7).all()


@pytest.mark.parametrize("write", [False, True])
def test_asking_changes_nothing_and_harms_nothing(write: bool) -> None:
    data = np.arange(1000, dtype=np.float32)
    run(panels.asker(write=write), (data.ctypes.data, 4000, np.int64(1 << 10), np.int64(4000)))  # far past the end
    run(panels.asker(write=write), (64, 64, np.int64(3), np.int64(640)))  # no page lies there
    assert (data == np.arange(1000)).all()


@pytest.mark.parametrize("shares", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_shares_hold_every_row_once_and_about_as_much(shares: int, dtype: type) -> None:
    rng = np.random.default_rng(shares)
    counts = rng.integers(0, 9, 30)
    starts = np.concatenate([[0], counts.cumsum()]).astype(dtype)
    bounds = [int(share(starts, shares, number, 1)) for number in range(shares + 1)]
    assert bounds[0] == 0
    assert bounds[-1] == 30
    assert bounds == sorted(bounds)
    work = [int(starts[b] - starts[a]) + b - a for a, b in itertools.pairwise(bounds)]
    assert max(work) <= (int(starts[-1]) + 30) / shares + 2 * 10


def test_tasks_are_cut_until_few_threads_wait() -> None:
    assert [shares_for(tasks, 2) for tasks in (1, 2, 3, 8, 9, 11)] == [2, 1, 2, 1, 2, 1]
    assert shares_for(5, 1) == 1
    assert shares_for(3, 4) == 4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (32, 48), (5, 7), (17, 33), (1, 64), (40, 3)])
def test_what_is_turned_is_the_transpose(rows: int, columns: int, dtype: str) -> None:
    rng = np.random.default_rng(rows)
    source = rng.standard_normal((rows, columns + 3)).astype(dtype)
    target = np.full((columns, rows + 2), 7, dtype)
    run(
        panels.turner(dtype),
        (
            source.ctypes.data,
            source.strides[0],
            target.ctypes.data,
            target.strides[0],
            np.int64(rows),
            np.int64(columns),
        ),
    )
    assert (target[:, :rows] == source[:, :columns].T).all()
    assert (target[:, rows:] == 7).all()
