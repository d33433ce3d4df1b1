"""Check that every thread of a pool is called once, wherever its threads come from, and that pages change nothing."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

import pytest
import torch

from sparsebench.kernels.common import forks, pages, pool
from sparsebench.kernels.microkernels import host

COUNT = """
define void @count(i64 %data, i64 %thread) {
  %place = add i64 %data, 16
  %place.pointer = inttoptr i64 %place to ptr
  %out = load i64, ptr %place.pointer, align 8
  %offset = mul i64 %thread, 8
  %mine = add i64 %out, %offset
  %pointer = inttoptr i64 %mine to ptr
  %before = load i64, ptr %pointer, align 8
  %after = add i64 %before, 1
  store i64 %after, ptr %pointer, align 8
  ret void
}
"""
"""Adds 1 at out[thread]; out is the first entry of the data behind pool.HEAD."""


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    pool.runner.cache_clear()
    yield
    pool.runner.cache_clear()


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("where", ["torch's", "numba's", "forked"])
def test_each_thread_is_called_once(where: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if where == "numba's":
        monkeypatch.setattr(pool, "_openmp", lambda: None)
    if where == "forked":
        monkeypatch.setattr(forks, "_forked", True)
        assert pool.threads() == 1
    function = host.compile_module(COUNT).get_function_address("count")
    out = array("q", [0] * 4)
    for _ in range(5):
        pool.run(function, array("q", [0, 0, out.buffer_info()[0]]), threads)
    assert out.tolist() == [5 if thread < threads else 0 for thread in range(4)]


def test_threads_are_torchs() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert pool.threads() == 1
    finally:
        torch.set_num_threads(before)
    assert pool.threads() == before


def test_memory_in_huge_pages_is_memory() -> None:
    for size in (0, 5, (1 << 21) + 3):
        made = pages.empty(size, torch.float32)
        assert made.shape == (size,)
        assert made.untyped_storage().nbytes() == 4 * size
        made.fill_(1.5)
        assert torch.equal(pages.settled(made), made)
    grid = torch.arange(12.0).reshape(3, 4).t()
    copied = pages.settled(grid)
    assert torch.equal(copied, grid)
    assert copied.is_contiguous()
    assert copied.data_ptr() != grid.data_ptr()
