"""A new operation is one entry and one method: the conformance checks, the rows and the kernel names know it then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from sparsebench.representations import operations
from sparsebench.representations.base import Representation
from sparsebench.representations.conformance import check
from sparsebench.representations.formats.scipy_csr import ScipyCsr
from sparsebench.representations.formats.torch_csr import TorchCsr
from sparsebench.representations.operations import Derivation, Operation, lacking
from sparsebench.representations.pattern import Pattern
from sparsebench.suites.cell import Case, Cell
from sparsebench.suites.measure.clocks import CpuClock
from sparsebench.suites.measure.gauge import Gauge, ReferenceChoice
from sparsebench.suites.measure.one_cell import measure
from sparsebench.suites.measure.timing import Effort
from sparsebench.suites.workloads.problem import Action, Problem

GRAM = Operation(
    name="gram",
    operands={},
    oracle=lambda matrix: matrix @ matrix.t(),
    derivations=(Derivation(base="matmul", kernel="to_dense + {}"),),
)
ELEMENT = Pattern(kind="element")


def derived_gram(self: Representation) -> Tensor:
    """Return self @ selfᵀ, (m, k) -> (m, m), as the base class would: through dense."""
    return self.matmul(self.to_dense().reshape(self.matrix_shape).t().contiguous())


@pytest.fixture(autouse=True)
def _operation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operations, "_OPERATIONS", dict(operations._OPERATIONS))
    operations.add(GRAM)
    monkeypatch.setattr(Representation, "gram", derived_gram, raising=False)


class Own(ScipyCsr):
    """Multiply without dense."""

    name = "own"
    routines = ScipyCsr.routines | {"gram": "scipy csr_matmat"}

    def gram(self) -> Tensor:
        return torch.from_numpy((self._array @ self._array.T).toarray())


class Wrong(Own):
    """Forget the diagonal."""

    name = "wrong"

    def gram(self) -> Tensor:
        return super().gram().fill_diagonal_(0)


def test_it_has_a_provenance_a_kernel_name_and_a_conformance_check() -> None:
    tensor = ELEMENT.tensor((30, 40), 0.8, 1)
    derived, own = TorchCsr.build(tensor), Own.build(tensor)
    assert (derived.provenance("gram"), own.provenance("gram")) == ("derived", "native")
    assert (derived.kernel("gram"), own.kernel("gram")) == (
        f"to_dense + {derived.kernel('matmul')}",
        "scipy csr_matmat",
    )
    assert lacking(TorchCsr, "gram") is None
    results = {result.name: result for result in check(Own).results}
    assert results["gram"].status == "passed"
    results = {result.name: result for result in check(Wrong).results}
    assert results["gram"].detail.startswith("expected gram within "), results["gram"]
    skipped = {result.name: result for result in check(TorchCsr).results}["gram"]
    assert (skipped.status, skipped.detail) == ("skipped", "gram is derived: the class does not give it")


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="expected the name of no operation, got 'gram'"):
        operations.add(GRAM)
    with pytest.raises(ValueError, match=r"expected an operation of matmul, .*, gram, got 'nothing'"):
        operations.get("nothing")


class GramProblem(Problem):
    """Multiply one matrix by its own transpose."""

    operation = "gram"

    def __init__(self, case: Case) -> None:
        self.case, self.device = case, "cpu"
        rows, columns = case.shape
        self.tensor = ELEMENT.tensor((rows, columns), 0.9, 1)

    def references(self) -> Mapping[str, Action]:
        return {"contiguous": lambda: self.tensor @ self.tensor.t()}

    def action(self, cls: type[Representation], built: Representation) -> Action:
        return built.gram  # type: ignore[attr-defined, no-any-return]

    def exact(self) -> tuple[Tensor, ...]:
        return (GRAM.oracle(self.tensor.double()),)

    def useful_flops(self) -> float:
        return 2.0 * int(torch.count_nonzero(self.tensor)) * self.tensor.shape[0]


@pytest.mark.parametrize(("name", "provenance"), [("scipy-csr", "derived"), (f"{__name__}:Own", "native")])
def test_it_is_measured_and_its_row_says_what_ran(name: str, provenance: str, benchmark: Any) -> None:
    case = Case(suite="gram", workload="small", operation="gram", shape=(60, 80), pattern=ELEMENT, sparsity=0.9,
                dtype="float32")  # fmt: skip
    clock = CpuClock()
    effort = Effort(visits=1, budget_s=0.01, min_rounds=2, max_rounds=4, min_sample_s=1e-5)
    gauge = Gauge(clock=clock, effort=effort, choice=ReferenceChoice(clock))
    row: Cell = measure(GramProblem(case), name, benchmark, gauge)[0]
    assert (row.status, row.operation, row.provenance) == ("ok", "gram", provenance), row.reason
    assert row.kernel == ("scipy csr_matmat" if provenance == "native" else "to_dense + scipy csr_matvecs, one thread")
