"""What leads to a row, the command that measures it again, and what time, bytes and error say of it."""

from __future__ import annotations

import shlex

import pytest
from report_rows import rows_of

from sparsebench.suites import plan
from sparsebench.suites.report.anchors import cell_anchor, command
from sparsebench.suites.report.breakeven import break_evens
from sparsebench.suites.report.chapters import break_even_section
from sparsebench.suites.report.colours import looks
from sparsebench.suites.report.curves import speedup_section
from sparsebench.suites.report.draw.scale import doubling_scale, log_scale, sparsity_scale
from sparsebench.suites.report.inventory import cells_section
from sparsebench.suites.report.journal import frame_of
from sparsebench.suites.report.memory import memory_section
from sparsebench.suites.report.pareto import pareto_section, rated
from sparsebench.suites.search.curves import agenda
from sparsebench.suites.text import size


def options(line: str) -> dict[str, str]:
    parts = shlex.split(line)
    assert parts[:2] == ["sparsebench", "run"]
    return dict(zip(parts[2::2], parts[3::2], strict=True))


@pytest.mark.parametrize("suite", ["matmul", "conv2d", "sparse_cnn", "sparse_coding"])
def test_a_rows_command_measures_that_cell_and_no_other(suite: str) -> None:
    workload = plan.workload_of(suite)
    cells = plan.plan(workload, "quick", ["csr", "planes"])
    for planned in cells[:: max(1, len(cells) // 12)]:
        row = frame_of([planned.draft("cpu").row() | {"profile": "quick"}]).iloc[0].to_dict()
        asked = options(command(row))
        levels = [float(asked["--levels"])] if "--levels" in asked else None
        found = agenda(workload, "quick", [asked["--representation"]], asked["--only"], levels)
        assert asked["--suite"] == suite
        assert [cell.id for cell in found.fixed] == [planned.id]
        assert found.curves == ()


def test_a_searched_level_that_no_plan_has_is_measured_again_too() -> None:
    workload = plan.workload_of("matmul")
    found = agenda(workload, "quick", ["csr"])
    curve = next(one for one in found.curves if one.case.pattern.kind == "block")
    level = next(one for one in curve.levels if 0.61 < one < 0.63)
    row = frame_of([curve.at(level).draft("cpu").row() | {"threads": 2, "profile": "quick"}]).iloc[0].to_dict()
    asked = options(command(row))
    assert asked["--threads"] == "2"
    [cell] = agenda(workload, "quick", ["csr"], asked["--only"], [float(asked["--levels"])]).fixed
    assert cell.case.sparsity == level
    assert cell.any_id == curve.at(level).any_id


def test_a_row_of_another_profile_device_and_package_says_so() -> None:
    [row] = rows_of({0.9: 2.0}, suite="no-such-suite", profile="full", device="cuda", workload="it's <b>")
    asked = options(command(frame_of([row]).iloc[0].to_dict()))
    assert asked["--profile"] == "full"
    assert asked["--device"] == "cuda"
    assert asked["--only"] == "torch-csr|it's <b>|matmul|8x8x8|element|0.9|float32|0"
    assert "--levels" not in asked


def test_every_break_even_leads_to_its_cells_and_every_cell_is_a_place() -> None:
    frame = frame_of(rows_of({0.5: 0.5, 0.8: 0.9, 0.9: 2.0}))
    [cells] = cells_section(frame).tables
    [table] = break_even_section(break_evens(frame)).tables
    assert cells.anchors == tuple(map(cell_anchor, frame.index))
    assert len(set(cells.anchors)) == 3
    levels = table.rows[0][table.head.index("levels measured, %")]
    assert [text for text, _ in levels.links] == ["50", "80", "90"]
    assert tuple(to for _, to in levels.links) == cells.anchors
    assert table.rows[0][table.head.index("best speed-up")].href == cells.anchors[2]


def test_plugins_that_are_not_checked_are_marked_in_the_tables() -> None:
    frame = frame_of(rows_of({0.9: 2.0}, "acme", checked="expected 12 bytes, got 10") + rows_of({0.9: 2.0}, "csr"))
    for table in (*cells_section(frame).tables, *break_even_section(break_evens(frame)).tables):
        named = {row[table.head.index("representation")].text: row for row in table.rows}
        assert sorted(named) == ["acme – not checked", "csr"]


# Pictures


def test_only_curves_of_three_levels_are_drawn_and_the_rest_is_counted() -> None:
    frame = frame_of(rows_of({0.5: 0.5, 0.8: 0.9, 0.9: 2.0}, "csr") + rows_of({0.5: 0.5, 0.9: 1.0}, "planes"))
    found = speedup_section(frame, looks(frame["representation"]))
    [picture] = found.pictures
    assert "csr: 0.500× at 50" in picture.html
    assert "planes" not in picture.html
    assert any(text.startswith("Not drawn: 1\N{NO-BREAK SPACE}curve of fewer than 3") for text in found.text)
    assert picture.html.count('class="band"') == 1
    for key in frame.index[:3]:
        assert f'href="#{cell_anchor(key)}"' in picture.html


def test_time_bytes_and_error_name_the_front_and_fade_the_rest() -> None:
    rows = []
    for name, time_s, stored, error in (
        ("dense", 4.0, 400, 1e-7), ("csr", 1.0, 200, 1e-7), ("planes", 2.0, 100, 2e-7), ("ell", 2.5, 300, 1e-7),
        ("torch-csr", 3.0, 300, 1e-9),
    ):  # fmt: skip
        rows += rows_of({0.9: 4 / time_s}, name, time_s=time_s, stored_bytes=stored, relative_error=error)
    rows += rows_of({0.5: 1.0}, "csr", time_s=1.0, stored_bytes=999, relative_error=1e-7)  # another level
    frame = frame_of(rows)
    beaten = {str(one.row["representation"]): one.beaten for one in rated(frame[frame["sparsity"] == 0.9])}
    # csr is the fastest, planes the smallest, torch-csr the most exact; ell is beaten by csr
    assert beaten == {"csr": False, "planes": False, "ell": True, "torch-csr": False, "dense": True}
    found = pareto_section(frame, looks(frame["representation"]))
    [picture] = found.pictures
    assert picture.html.count('<use class="faded"') == 2
    assert ">ell</text>" not in picture.html
    assert ">csr</text>" in picture.html
    [table] = found.tables
    assert [row[table.head.index("representation")].text for row in table.rows] == ["csr", "planes", "torch-csr"]


def test_memory_is_drawn_as_shares_of_dense_each_kind_for_itself() -> None:
    extra = {"dense_bytes": 1000, "stored_bytes": 500, "build_peak_bytes": 3000}
    frame = frame_of(rows_of({0.5: 1.0, 0.9: 2.0}, "csr", workspace_bytes=0, **extra))
    found = memory_section(frame, looks(frame["representation"]))
    assert len(found.pictures) == 3
    assert "csr: 0\N{NO-BREAK SPACE}B at 50" in found.pictures[1].html
    assert "peak of a build" in found.pictures[2].html


def test_axes_have_ticks_inside_their_ends() -> None:
    for scale in (
        log_scale("x", [0.9, 1.1], str), log_scale("x", [1e-6, 1e3], str), log_scale("x", [2.0], str),
        doubling_scale("x", [300.0, 5e7], size), doubling_scale("x", [300.0], size), sparsity_scale({0.5, 0.95}),
    ):  # fmt: skip
        assert 1 <= len(scale.ticks) <= 8
        places = [scale.at(value, 0, 100) for value, _ in scale.ticks]
        assert places == sorted(places)
        assert all(scale.ends[0] <= value <= scale.ends[1] for value, _ in scale.ticks) or len(places) == 1
    assert 1.0 in [value for value, _ in log_scale("x", [1e-3, 1e4], str).ticks]
