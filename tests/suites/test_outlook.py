"""What a run says before it begins, and of what it had no time for."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparsebench.suites.cell import blank
from sparsebench.suites.plan import PlanError
from sparsebench.suites.runner.journal import RunFolder
from sparsebench.suites.runner.outlook import after, before
from sparsebench.suites.runner.run import Order, agendas_of


def order_of(folder: Path, **changes: object) -> Order:
    given = {
        "suites": ["matmul"], "representations": ["dense", "csr"], "device": "cpu", "profile": "quick", "data": None,
        "threads": 1, "cell_timeout_s": 60.0, "out": RunFolder(path=folder / "run"),
    }  # fmt: skip
    return Order(**(given | changes))


def test_what_is_to_come_is_told_with_its_time(tmp_path: Path) -> None:
    order = order_of(tmp_path, time_s=420.0)
    agendas = agendas_of(order)
    line = before(order, agendas).replace("\N{NO-BREAK SPACE}", " ")
    assert f"{len(agendas['matmul'].curves)} curves to search and {len(agendas['matmul'].fixed)} cells" in line
    assert line.endswith("for a first pass, at most 7 min in all")
    assert "in all" in before(order_of(tmp_path), agendas)


def test_a_time_too_short_for_one_pass_is_told_before_and_after(tmp_path: Path) -> None:
    order = order_of(tmp_path, time_s=20.0, representations=["dense", "csr", "ell", "planes", "torch-csr"])
    agendas = agendas_of(order)
    assert "some will not be measured at all; give --time more" in before(order, agendas)
    every = len(agendas["matmul"].curves)
    first = agendas["matmul"].curves[0]
    order.out.append(blank(first.case, first.representation, "cpu", status="ok"))
    told = (after(order, agendas) or "").replace("\N{NO-BREAK SPACE}", " ")
    assert told.startswith(f"the time was too short for one pass: {every - 1} curves and ")
    assert told.endswith(f"go on with --out {order.out.path}")
    for curve in agendas["matmul"].curves:
        order.out.append(blank(curve.case, curve.representation, "cpu", status="ok"))
    for cell in agendas["matmul"].fixed:
        order.out.append(blank(cell.case, cell.representation, "cpu", status="ok"))
    assert after(order, agendas) is None


def test_an_order_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="expected --only to name cells, got 'nowhere'"):
        agendas_of(order_of(tmp_path, only="nowhere"))
