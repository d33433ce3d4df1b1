"""The chapter of the collection: means over matrices, and which network in which representation nothing beats."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

from sparsebench.representations.pattern import Pattern
from sparsebench.suites.cell import Case, blank
from sparsebench.suites.report.colours import looks
from sparsebench.suites.report.journal import Run, frame_of
from sparsebench.suites.report.table import Table
from sparsebench.suites.workloads.dlmc.chapter import chapter
from sparsebench.suites.workloads.dlmc.chart import even_scale, offers
from sparsebench.suites.workloads.dlmc.summary import means, told

QUALITY = {"0.5": 76.0, "0.9": 73.0, "0.98": 58.0}
Row = dict[str, object]


def row(name: str, level: str, columns: int, representation: str, speedup: float | None, **more: object) -> Row:
    case = Case(suite="dlmc", workload=f"rn50/magnitude_pruning/{level}/{name}", operation="matmul",
                shape=(8, 9, columns), pattern=Pattern(kind="element"), sparsity=None)  # fmt: skip
    cell = blank(case, representation, "cpu", status="unsupported", reason="no")
    if speedup is not None:
        cell = dataclasses.replace(
            cell, status="ok", reason=None, speedup=speedup, time_s=1e-3 / speedup, stored_bytes=144, dense_bytes=288,
            quality=QUALITY[level], quality_metric="network_top1_percent",
        )  # fmt: skip
    return cell.row() | more


def run_of(rows: list[Row]) -> Run:
    return Run(folder=Path("nowhere"), frame=frame_of(rows), machine={}, notes=())


ROWS = [
    row("a", "0.5", 49, "csr", 0.5), row("b", "0.5", 196, "csr", 2.0), row("c", "0.5", 49, "csr", 8.0),
    row("a", "0.5", 49, "torch-csr", 0.6), row("b", "0.5", 196, "torch-csr", 0.8),
    row("c", "0.5", 49, "torch-csr", None),
    *(row(name, "0.5", 49, "dense", 1.0, stored_bytes=288) for name in "abc"),
    row("a", "0.5", 1, "csr", 0.25), row("final_dense", "0.5", 1, "csr", 4.0),
]  # fmt: skip


def test_means_are_geometric_over_the_matrices_that_have_a_number() -> None:
    rows = told(run_of(ROWS).frame)
    own = rows[rows["columns"] == "own"]
    csr, torch_csr, dense = means(own)
    assert [one.representation for one in (csr, torch_csr, dense)] == ["csr", "torch-csr", "dense"]
    assert csr.speedup == pytest.approx(2.0)  # (0.5 · 2 · 8) to the power of 1/3
    assert (csr.lowest, csr.highest, csr.matrices, csr.of) == (0.5, 8.0, 3, 3)
    assert csr.won == pytest.approx(2 / 3)
    assert csr.fastest == pytest.approx(2 / 3)  # a is torch-csr's
    assert csr.bytes_ratio == pytest.approx(0.5)
    assert torch_csr.speedup == pytest.approx(math.sqrt(0.48))
    assert (torch_csr.matrices, torch_csr.of, torch_csr.won, torch_csr.fastest) == (2, 3, 0.0, 0.5)
    assert (dense.fastest, dense.bytes_ratio) == (0.0, 1.0)
    (single,) = means(rows[rows["columns"] == "1"])
    assert (single.matrices, single.speedup) == (2, 1.0)


def test_a_network_is_beaten_by_what_is_as_good_in_all_three() -> None:
    rows = [
        row("a", "0.5", 49, "csr", 1.5), row("a", "0.9", 49, "csr", 3.0, stored_bytes=60),
        row("a", "0.98", 49, "csr", 2.9, stored_bytes=60),  # worse than 0.9 in quality and time, and no smaller
        row("a", "0.98", 49, "ell", 9.0, stored_bytes=100),
        row("a", "0.5", 49, "torch-csr", 1.5),  # the same as csr: neither beats the other
        row("a", "0.5", 49, "dense", 1.0, stored_bytes=288),
    ]  # fmt: skip
    found = {(one.mean.representation, one.level): one.beaten for one in offers(told(run_of(rows).frame))}
    assert found == {("csr", 0.5): False, ("csr", 0.9): False, ("csr", 0.98): True, ("ell", 0.98): False,
                     ("torch-csr", 0.5): False, ("dense", 0.5): True}  # fmt: skip


def table(tables: tuple[Table, ...], title: str) -> Table:
    return next(one for one in tables if one.title.startswith(title))


def test_the_chapter_tells_means_by_network_and_sparsity_and_draws_quality() -> None:
    more = [row("a", "0.9", 49, "csr", 4.0), row("a", "0.9", 49, "dense", 1.0, stored_bytes=288)]
    bad = row("d", "0.9", 49, "dense", None, status="crashed", reason="DataError: /x/d.smtx: expected 3 columns, got 2")
    run = run_of([*ROWS, *more, bad])
    section, notes = chapter(run, looks(run.frame["representation"]))
    assert section is not None
    assert notes == ["/x/d.smtx: expected 3 columns, got 2"]
    overall = table(section.tables, "Over all")
    found = {tuple(value.text for value in one[:3]): [value.text for value in one[3:]] for one in overall.rows}
    assert found["rn50", "as the network has", "torch-csr"][0] == "2 of 4"
    assert found["rn50", "as the network has", "csr"][1] == "2.38×"  # (0.5 · 2 · 8 · 4) to the power of 1/4
    levels = table(section.tables, "By sparsity")
    told_levels = {tuple(value.text for value in one[1:5]): one[6].text for one in levels.rows}
    assert told_levels["as the network has", "50\N{NO-BREAK SPACE}%", "76.00", "csr"] == "2.00×"
    assert told_levels["as the network has", "90\N{NO-BREAK SPACE}%", "73.00", "csr"] == "4.00×"
    front = table(section.tables, "What nothing")
    assert {one[5].text for one in front.rows if one[1].text == "as the network has"} == {"csr"}
    (own,) = [picture for picture in section.pictures if "as the network has" in picture.caption]
    assert own.html.count("<use") == 5  # two networks in csr and dense, one in torch-csr
    assert "top-1, %" in own.html
    assert "scale(0.71)" in own.html  # half of the bytes, half of the area


def test_without_quality_there_is_no_chart_and_without_rows_no_chapter() -> None:
    run = run_of([one | {"quality": None, "quality_metric": None} for one in ROWS])
    section, _ = chapter(run, looks(run.frame["representation"]))
    assert section is not None
    assert section.pictures == ()
    assert "dlmc.csv" in section.text[1]
    assert [one.title for one in section.tables] == ["Over all matrices", "By sparsity of the network"]
    empty = run_of([row("a", "0.5", 49, "csr", None)])
    assert chapter(empty, looks(["csr"])) == (None, [])


@pytest.mark.parametrize("values", [[75.0], [57.9, 76.53], [10.0, 10.001], [0.0, 100.0]])
def test_an_even_axis_has_a_few_round_ticks_around_its_values(values: list[float]) -> None:
    scale = even_scale("quality", values)
    assert scale.ends[0] < min(values) <= max(values) < scale.ends[1]
    assert 2 <= len(scale.ticks) <= 7
    assert scale.at(scale.ends[0], 0, 10) == 0
    assert scale.at(sum(scale.ends) / 2, 0, 10) == pytest.approx(5)
