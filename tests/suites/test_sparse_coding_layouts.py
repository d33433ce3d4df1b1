"""Check how codes are laid out and put together, and that what is not finite is seen."""

from __future__ import annotations

import pytest
import torch

from sparsebench.suites.workloads.sparse_coding.solvers.code_layouts import csr_code, joined, strided, to_csr
from sparsebench.suites.workloads.sparse_coding.solvers.finite import all_finite


def test_k_entries_a_row_are_a_csr_code_zeros_included() -> None:
    values = torch.tensor([[1.0, 0.0], [3.0, 4.0], [5.0, 6.0]])
    places = torch.tensor([[0, 4], [1, 2], [2, 3]], dtype=torch.int32)
    code = csr_code(values, places, 5)
    assert code.shape == (3, 5)
    assert code.values().tolist() == [1, 0, 3, 4, 5, 6]
    assert code.crow_indices().dtype == code.col_indices().dtype == torch.int64
    assert strided(code).tolist() == [[1, 0, 0, 0, 0], [0, 3, 4, 0, 0], [0, 0, 5, 6, 0]]
    assert csr_code(values[:0], places[:0], 5).to_dense().shape == (0, 5)


@pytest.mark.parametrize("indices", [torch.int32, torch.int64])
def test_codes_are_joined_in_order(indices: torch.dtype) -> None:
    whole = torch.randn(11, 7, generator=torch.Generator().manual_seed(0)).relu()
    whole[4:6] = 0.0  # a part without an entry
    parts = whole.split([4, 2, 5])
    found = joined([
        torch.sparse_csr_tensor(c.crow_indices().to(indices), c.col_indices().to(indices), c.values(), size=c.shape)
        for c in map(to_csr, parts)
    ])  # fmt: skip
    assert torch.equal(found.to_dense(), whole)
    assert found.col_indices().dtype == torch.int64
    assert torch.equal(joined(parts), whole)
    assert joined(parts[:1]) is parts[0]


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_number_that_is_not_finite_is_seen_wherever_it_stands(wrong: float, dtype: torch.dtype) -> None:
    fine = torch.full((5, 67), torch.finfo(dtype).max, dtype=dtype)
    assert all_finite(fine)
    for place in (0, 33, 200, 334):
        soiled = fine.clone()
        soiled.view(-1)[place] = wrong
        assert not all_finite(soiled)
    assert all_finite(fine[:0])
