"""The gate that a cell passes before it is timed."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from sparsebench.suites.measure.fidelity import TOLERANCES, fingerprints, relative_error, worst_error


def test_relative_error_is_that_of_frobenius_norms() -> None:
    expected = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    assert relative_error(torch.tensor([[3.0, 4.5]]), expected) == pytest.approx(0.1)


def test_an_expected_zero_is_judged_absolutely() -> None:
    assert relative_error(torch.full((2, 2), 0.5), torch.zeros(2, 2, dtype=torch.float64)) == pytest.approx(1.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_fail_where_the_oracle_is_finite(value: float) -> None:
    output = torch.tensor([1.0, value])
    assert not relative_error(output, torch.tensor([1.0, 1.0], dtype=torch.float64)) <= TOLERANCES[torch.float32]


def test_nan_and_infinity_pass_where_the_oracle_has_them() -> None:
    values = torch.tensor([1.0, float("nan"), float("-inf")])
    assert relative_error(values, values.double()) == 0.0
    assert math.isinf(relative_error(torch.tensor([1.0, 2.0, float("-inf")]), values.double()))


def test_shapes_and_numbers_of_outputs_must_agree() -> None:
    one = torch.ones(2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"expected a result of shape \(2,\), got \(3,\)"):
        relative_error(torch.ones(3), one)
    with pytest.raises(ValueError, match="expected 1 outputs, got 2"):
        worst_error((one, one), (one,))


def test_the_worst_output_counts() -> None:
    one = torch.ones(1, dtype=torch.float64)
    assert worst_error((one, 1.5 * one), (one, one)) == 0.5


def test_a_fingerprint_tells_one_changed_number_in_any_dtype_and_order() -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        problem = SimpleNamespace(
            x=torch.randn(6, 5).to(dtype).t(), scale=torch.tensor(2.0, dtype=dtype), other="no tensor"
        )
        before = fingerprints(problem)
        assert set(before) == {"x", "scale"}
        problem.x.neg_().neg_()
        assert fingerprints(problem) == before
        problem.x[1, 2] += 1
        assert fingerprints(problem)["x"] != before["x"]
        assert fingerprints(problem)["scale"] == before["scale"]
