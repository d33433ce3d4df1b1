"""The comparison of two runs: verdicts, what is counted, and what is warned of."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from sparsebench.representations.pattern import Pattern
from sparsebench.suites.cell import Case, blank
from sparsebench.suites.cli import app
from sparsebench.suites.report import Comparison, ReportError, compare
from sparsebench.suites.report.verdict import Change, change, factor_of, pooled
from sparsebench.suites.search.fit import Noise

MACHINE = {"cpu": "A", "cores": 2, "threads": 2, "libraries": {"torch": "2.13.0"}, "load_average": [0.1, 0.2, 0.3]}


def row(
    speedup: float | None, *, half: float = 0.02, name: str = "torch-csr", level: float = 0.9, **changes: Any
) -> dict:
    """Return a journal's row with an interval of ± half, a failure where there is no speed-up."""
    case = Case(suite="matmul", workload="layer", operation="matmul", shape=(8, 8, 8), pattern=Pattern(kind="element"),
                sparsity=level)  # fmt: skip
    made = blank(case, name, "cpu", status="oom", reason="no memory").row() | {"threads": 2}
    if speedup is not None:
        made |= {"status": "ok", "reason": None, "speedup": speedup, "speedup_low": speedup * (1 - half),
                 "speedup_high": speedup * (1 + half)}  # fmt: skip
    return made | changes


def run_of(folder: Path, rows: list[dict[str, Any]], machine: dict[str, Any] | None = None) -> Path:
    folder.mkdir()
    (folder / "cells.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    (folder / "machine.json").write_text(json.dumps(MACHINE if machine is None else machine), encoding="utf-8")
    return folder


def curve(crossing: float, name: str = "torch-csr") -> list[dict[str, Any]]:
    """Return rows around a break-even, each visited twice."""
    rows = []
    for level in (crossing - 0.1, crossing - 0.03, crossing + 0.03, crossing + 0.1):
        speedup = (1 - crossing) / (1 - level)
        rows.append(row(speedup, level=level, name=name, visit_speedups=[speedup * 0.99, speedup * 1.01],
                        visit_errors=[0.01, 0.01]))  # fmt: skip
    return rows


def compared(
    tmp_path: Path, a: list[dict[str, Any]], b: list[dict[str, Any]], machine: dict[str, Any] | None = None
) -> Comparison:
    return compare(run_of(tmp_path / "a", a), run_of(tmp_path / "b", b, machine))


@pytest.mark.parametrize(
    ("a", "b", "half", "expected"),
    [
        (1.0, 1.0, 0.02, "same"),
        (1.0, 1.03, 0.02, "same"),  # two sides of ±2 % are 1.4 % in a standard error, and three of these make 4 %
        (1.0, 1.06, 0.02, "faster"),
        (2.0, 1.8, 0.02, "slower"),
        (1.0, 1.019, 0.0, "same"),  # sure, and of no account
        (1.0, 1.1, 0.1, "same"),  # may be as it was
        (1.0, 1.2, 0.15, "unclear"),
        (1.0, 0.85, 0.15, "unclear"),
        (1.0, 3.0, 0.5, "unclear"),
        (1.0, 1.6, 0.2, "faster"),
    ],
)
def test_verdicts(a: float, b: float, half: float, expected: str) -> None:
    assert change(row(a, half=half), row(b, half=half), Noise()).verdict() == expected


def test_without_an_interval_a_change_is_unclear() -> None:
    for nothing in (None, math.nan):
        assert change(row(1.0, speedup_high=nothing), row(2.0), Noise()).verdict() == "unclear"
        assert change(row(1.0, speedup_high=nothing), row(1.0), Noise()).verdict() == "same"


def test_visits_that_lie_apart_make_a_change_less_sure() -> None:
    def verdict(visits: list[float], noise: float) -> str:
        before = row(1.0, visit_speedups=[1.0] * len(visits), visit_errors=[0.01] * len(visits))
        after = row(0.8, visit_speedups=visits, visit_errors=[0.01] * len(visits))
        return change(before, after, Noise(spread=noise)).verdict()

    assert verdict([0.8, 0.8, 0.8], 0.02) == "slower"
    assert verdict([0.8, 0.8, 0.8], 0.15) == "unclear"  # the run's noise
    assert verdict([0.8, 0.8, 0.8] * 4, 0.15) == "slower"  # outweighed by visits
    assert verdict([0.6, 1.1, 0.78], 0.02) == "unclear"  # its own
    assert verdict([0.8], 0.02) == "slower"
    assert verdict([0.8], 0.06) == "unclear"


def test_what_makes_a_difference_is_what_the_self_tests_ask_for() -> None:
    def facts(*factors: float) -> dict[str, Any]:
        rates = [{"level": "cell", "percent": 0, "visits": 3 * i + 1, "factor": one} for i, one in enumerate(factors)]
        return {"selftest": {"rates": [*rates, {"level": "cell", "percent": 10, "visits": 9, "factor": 99.0}]}}

    low, high = facts(2.9, 2.7), facts(5.0, 4.5)
    assert [factor_of([low], "cell", visits) for visits in (0, 1, 3, 4, 20)] == [2.9, 2.9, 2.9, 2.7, 2.7]
    assert factor_of([low, high], "cell", 1) == 5.0
    assert factor_of([low], "representation", 4) == 3.0
    assert factor_of([low, {}], "cell", 4) == factor_of([{}, {"selftest": "?"}], "cell", 4) == 3.0


def test_cells_together_show_what_none_shows_alone(tmp_path: Path) -> None:
    def rows(shift: float, wiggle: float) -> list[dict[str, Any]]:
        return [
            row(shift * (1 + wiggle * (-1) ** i), half=0.1, level=level, name=name)
            for name, shift in (("csr", shift), ("ell", 1.0))
            for i, level in enumerate((0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95))
        ]

    found = compared(tmp_path, rows(1.0, 0.02), rows(0.88, -0.02))
    assert found.counts["slower"] == 0
    assert found.representations == {"csr": "slower", "ell": "same"}
    assert "all cells together: csr slower" in found.summary
    assert found.has("slower")
    assert not found.has("faster")


def test_cells_that_disagree_are_less_sure_together() -> None:
    agree = pooled([Change(log=-0.1, error=0.05) for _ in range(9)])
    apart = pooled([Change(log=-0.1 + 0.3 * (i % 3 - 1), error=0.05) for i in range(9)])
    assert agree.log == pytest.approx(apart.log) == pytest.approx(-0.1)
    assert agree.error == pytest.approx(0.05 / 3)
    assert apart.error > 4 * agree.error
    assert pooled([Change(log=0.2, error=0.1)]).error == pytest.approx(0.1)


def test_cells_are_matched_counted_and_summed_up(tmp_path: Path) -> None:
    a = [row(1.0, level=0.5), row(1.0, level=0.6), row(1.0, level=0.7), row(1.0, level=0.8, half=0.3),
         row(3.0, name="planes"), row(1.0, level=0.99), row(None, level=0.3), row(None, level=0.4)]  # fmt: skip
    b = [row(None, level=0.4), row(2.0, level=0.3), row(1.0, level=0.95), row(3.3, name="planes"),
         row(1.3, level=0.8, half=0.3), row(0.5, level=0.7), row(2.0, level=0.6), row(1.02, level=0.5)]  # fmt: skip
    found = compared(tmp_path, a, b)
    assert found.counts == {"same": 1, "faster": 2, "slower": 1, "unclear": 1}
    assert found.share_within == pytest.approx(0.4)
    assert found.headline.replace("\N{NO-BREAK SPACE}", " ") == "2 of 5 cells (40.0 %) within 10 %"
    assert found.medians == pytest.approx({"planes": 1.1, "torch-csr": (1.02 + 1.3) / 2})
    assert [pair.ratio for pair in found.pairs] == pytest.approx([1.02, 2.0, 0.5, 1.3, 1.1])
    assert [key.split("|")[7] for key in found.only_a] == ["0.99"]
    assert [key.split("|")[7] for key in found.only_b] == ["0.95"]
    assert [(key.split("|")[7], one, other) for key, one, other in found.status_changes] == [("0.3", "oom", "ok")]
    assert found.untimed == 1
    assert found.warnings == ()


def test_it_prints_itself_and_writes_markdown(tmp_path: Path) -> None:
    found = compared(tmp_path, [row(1.0), row(1.0, level=0.5)], [row(2.0), row(1.0, level=0.5)])
    console = Console(width=160, file=io.StringIO())
    with console.capture() as capture:
        console.print(found)
    printed = capture.get().replace("\N{NO-BREAK SPACE}", " ")
    assert printed.rstrip().endswith("1 of 2 cells (50.0 %) within 10 %")
    assert "torch-csr" in printed
    assert "faster" in printed
    text = found.markdown()
    assert "**1 of 2" in text
    assert "| torch-csr |" in text
    assert "2.00×" in text


def test_another_machine_or_other_threads_are_named(tmp_path: Path) -> None:
    other = MACHINE | {"cpu": "B", "load_average": [9, 9, 9], "libraries": {"torch": "2.14.0"}}
    found = compared(tmp_path, [row(1.0)], [row(1.0, threads=4)], other)
    machine, threads = found.warnings
    assert "cpu: A → B" in machine
    assert "torch 2.13.0 → torch 2.14.0" in machine
    assert "load" not in machine
    assert "number of threads" in threads


def test_an_unknown_machine_and_a_cut_journal_are_named(tmp_path: Path) -> None:
    a, b = run_of(tmp_path / "a", [row(1.0)]), run_of(tmp_path / "b", [row(1.0)])
    (b / "machine.json").unlink()
    with (b / "cells.jsonl").open("a", encoding="utf-8") as journal:
        journal.write('{"cut')
    found = compare(a, b)
    assert "does not say which machine" in found.warnings[0]
    assert any("cut short" in line for line in found.warnings)
    assert found.counts["same"] == 1


def test_runs_with_nothing_in_common(tmp_path: Path) -> None:
    found = compared(tmp_path, [row(1.0)], [row(1.0, name="planes")])
    assert found.share_within is None
    assert "nothing to compare" in found.headline
    assert found.markdown()
    assert (len(found.only_a), len(found.only_b)) == (1, 1)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"expected a folder with cells\.jsonl"):
        compare(run_of(tmp_path / "a", []), tmp_path)


def test_break_evens_of_two_searches_are_compared_though_they_share_no_cell(tmp_path: Path) -> None:
    found = compared(tmp_path, curve(0.7) + curve(0.8, "csr"), curve(0.71) + curve(0.85, "csr"))
    assert len(found.pairs) == 0
    [far, near] = found.curves
    assert (far.a.representation, far.agrees, near.agrees) == ("csr", False, True)
    assert far.apart == pytest.approx(0.05, abs=0.01)
    summary = " ".join(found.summary).replace("\N{NO-BREAK SPACE}", " ")
    assert "1 of 2 break-evens (50.0 %) within 3 points" in summary
    assert [table.title for table in found.tables()][-1] == "Break-evens that differ"


def test_ci_can_fail_on_what_became_slower(tmp_path: Path) -> None:
    runner = CliRunner()
    a, b = run_of(tmp_path / "a", [row(2.0)]), run_of(tmp_path / "b", [row(1.0)])
    assert runner.invoke(app, ["compare", str(a), str(b)]).exit_code == 0
    assert runner.invoke(app, ["compare", str(a), str(b), "--fail-on", "slower"]).exit_code == 1
    assert runner.invoke(app, ["compare", str(b), str(a), "--fail-on", "slower"]).exit_code == 0
    wrong = runner.invoke(app, ["compare", str(a), str(b), "--fail-on", "worse"])
    assert wrong.exit_code == 2
    assert "expected --fail-on same, faster, slower, unclear, got 'worse'" in wrong.output
