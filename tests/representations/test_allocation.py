"""Peaks of allocation, on real allocations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sparsebench.representations.allocation import peak_allocations, peaks_between_marks

MEGABYTE = 1_000_000


def two_at_once() -> torch.Tensor:
    kept = torch.zeros(MEGABYTE // 4)
    passing = np.ones(MEGABYTE // 8)
    del passing
    return kept


def one_after_the_other() -> None:
    for _ in range(3):
        torch.zeros(MEGABYTE // 4)


def test_a_peak_counts_what_lives_at_the_same_time() -> None:
    [result], [peak] = peak_allocations([two_at_once])
    assert result.shape == (MEGABYTE // 4,)
    assert 2 * MEGABYTE <= peak < 2.1 * MEGABYTE


def test_calls_are_told_apart_and_what_is_kept_counts_once() -> None:
    results, peaks = peak_allocations([two_at_once, lambda: None, one_after_the_other, two_at_once])
    assert len(results) == 4
    assert peaks == [pytest.approx(2 * MEGABYTE, rel=0.05), pytest.approx(0, abs=20_000),
                     pytest.approx(MEGABYTE, rel=0.05), pytest.approx(2 * MEGABYTE, rel=0.05)]  # fmt: skip


def test_untouched_memory_counts_as_asked_for() -> None:
    _, [peak] = peak_allocations([lambda: torch.empty(500 * MEGABYTE)])
    assert peak >= 2000 * MEGABYTE


def test_what_was_there_before_does_not_count() -> None:
    entries = [(1, 50, False), (2, 1_234_577, False), (2, 0, True), (3, 10, False), (1, 0, True), (4, 30, False)]
    assert peaks_between_marks(entries) == [10]
