"""Let tests of many tiny operations run on one thread."""

from __future__ import annotations

from collections.abc import Iterator

import numba
import pytest
import torch


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Set torch and numba to one thread: tiny operations wait for a pool longer than they compute.

    Both have to be: numba's loops set the number of OpenMP's threads, which torch's loops then run on.
    """
    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    numba.set_num_threads(before[1])
