"""A report in the form that is asked for: Markdown, CSV, Parquet, a small picture; and several runs side by side."""

from __future__ import annotations

import io
import json
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from sparsebench.representations.pattern import Pattern
from sparsebench.suites.cell import Case, blank
from sparsebench.suites.cli import app
from sparsebench.suites.report import ReportError, given, overview_svg, read_run
from sparsebench.suites.report.journal import frame_of
from sparsebench.suites.report.side_by_side import columns

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
EPYC, XEON = REFERENCE / "epyc-2-cores", REFERENCE / "xeon-2-cores"
SVG = "{http://www.w3.org/2000/svg}"
LARGEST = 60_000


def asked(*words: object) -> Result:
    return CliRunner().invoke(app, ["report", *map(str, words)])


def curve(crossing: float, name: str, pattern: str = "element", shape: tuple[int, ...] = (8, 8, 8)) -> list[dict]:
    """Return rows of a representation that is faster than dense from a sparsity on, each visited four times."""
    rows = []
    for level in (0.05, 0.3, 0.5, 0.7, 0.8, 0.9, 0.99):
        case = Case(suite="matmul", workload="<b>layer</b>", operation="matmul", shape=shape,
                    pattern=Pattern(kind=pattern), sparsity=level)  # fmt: skip
        speedup = (1 - crossing) / (1 - level)
        made = blank(case, name, "cpu", status="ok").row() | {"level_range": [0.05, 0.99], "threads": 2}
        visits = [speedup * factor for factor in (0.995, 1.0, 1.0, 1.005)]
        rows.append(made | {"speedup": speedup, "speedup_low": speedup * 0.99, "speedup_high": speedup * 1.01,
                            "visit_speedups": visits, "visit_errors": [0.005] * 4, "time_s": 1e-3})  # fmt: skip
    return rows


def run_of(folder: Path, rows: list[dict[str, Any]], **machine: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "cells.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    facts = {"cpu": "A", "threads": 2, "libraries": {"sparsebench": "0.1.0"}, "commit": "0123456789"} | machine
    (folder / "machine.json").write_text(json.dumps(facts), encoding="utf-8")
    return folder


def test_markdown_is_what_the_report_writes(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", curve(0.6, "csr"))
    printed = asked(run, "--format", "md")
    assert printed.exit_code == 0
    assert not (run / "report.md").exists()  # only that
    assert asked(run).exit_code == 0
    assert printed.stdout == (run / "report.md").read_text(encoding="utf-8")
    assert {path.name for path in run.iterdir()} >= {"report.html", "report.md", "cells.csv"}


def test_csv_and_parquet_hold_every_cell_of_a_real_run(tmp_path: Path) -> None:
    frame = read_run(EPYC).frame
    table = pd.read_csv(io.StringIO(asked(EPYC, "--format", "csv").stdout))
    assert list(table.columns) == list(frame.columns)
    assert len(table) == len(frame)
    done = asked(EPYC, "--format", "parquet", "--out", tmp_path / "in" / "cells.parquet")
    assert done.stdout == f"cells: {tmp_path / 'in' / 'cells.parquet'}\n"
    held = pd.read_parquet(tmp_path / "in" / "cells.parquet")
    assert list(held.columns) == list(frame.columns)
    pd.testing.assert_series_equal(held["speedup"], frame["speedup"].reset_index(drop=True))
    assert held["shape"].tolist() == frame["shape"].tolist()


def test_parquet_takes_a_column_of_mixed_kinds(tmp_path: Path) -> None:
    rows = curve(0.6, "csr")
    rows[0]["new"], rows[1]["new"] = 3, "three"
    run = run_of(tmp_path / "run", rows)
    assert asked(run, "--format", "parquet").exit_code == 0
    assert pd.read_parquet(run / "cells.parquet")["new"].tolist()[:2] == ["3", "three"]


def test_without_pyarrow_one_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as if it were not installed
    done = asked(run_of(tmp_path / "run", curve(0.6, "csr")), "--format", "parquet")
    assert done.exit_code == 2
    assert done.stderr == (
        "sparsebench: expected pyarrow for --format parquet, got none; install sparsebench[parquet], "
        "or take --format csv\n"
    )
    assert not (tmp_path / "run" / "cells.parquet").exists()


def test_the_picture_is_small_stands_alone_and_names_the_first_to_win(tmp_path: Path) -> None:
    rows = [*curve(0.6, "csr"), *curve(0.75, "ell"), *curve(0.999, "planes", pattern="power-law")]
    run = run_of(tmp_path / "run", rows)
    assert asked(run, "--format", "svg", "--out", tmp_path / "picture.svg").exit_code == 0
    text = (tmp_path / "picture.svg").read_text(encoding="utf-8")
    root = ET.fromstring(text)
    said = [element.text or "" for element in root.iter(f"{SVG}text")]
    assert any(re.match(r"csr 60 % \[\d+, \d+\]", line.replace("\N{NO-BREAK SPACE}", " ")) for line in said)
    assert "none up to 99 %" in said
    assert "csr" in root.attrib["aria-label"]
    big, small = (
        [float(one.attrib["cx"]) for one in root.iter(f"{SVG}circle") if one.attrib["r"] == r] for r in ("5", "2.5")
    )
    assert len(big) == len(small) == 1
    assert big[0] < small[0]  # the later break-even stands farther to the right
    assert "prefers-color-scheme:dark" in text
    assert not re.search(r"(href|src|url)\s*[=(]", text)  # nothing is loaded
    assert "<b>" not in text


def test_the_picture_of_a_real_run_stays_small() -> None:
    text = overview_svg(read_run(EPYC).frame, "AMD EPYC")
    assert len(text.encode()) <= LARGEST
    many = [row for i in range(60) for row in curve(0.6, "csr", shape=(8, 8, i + 1))]
    text = overview_svg(frame_of(many), "A")
    assert "30 of 60\N{NO-BREAK SPACE}groups" in text
    assert len(text.encode()) <= LARGEST


def test_nothing_to_draw_is_said(tmp_path: Path) -> None:
    rows = [row | {"status": "oom", "reason": "no memory", "speedup": None} for row in curve(0.6, "csr")]
    done = asked(run_of(tmp_path / "run", rows), "--format", "svg")
    assert done.exit_code == 2
    assert done.stderr == (
        "sparsebench: expected cells with a sparsity and a speed-up to draw, got none; run a suite first\n"
    )


def test_runs_stand_side_by_side(tmp_path: Path) -> None:
    first = run_of(tmp_path / "a", [*curve(0.6, "csr"), *curve(0.75, "ell")])
    second = run_of(tmp_path / "b", [*curve(0.61, "csr"), *curve(0.5, "ell"), *curve(0.4, "planes")], cpu="B")
    told = asked(first, second).stdout.replace("\\", "").replace("\N{NO-BREAK SPACE}", " ")
    assert "3 curves, of which 2 were answered by every run; 1 of these answers lie within 3 points" in told
    a, b = "A, 2 threads, 0.1.0 at 0123456", "B, 2 threads, 0.1.0 at 0123456"
    assert re.search(rf"\| fact \| {a} \| {b} \|\n.*\n\| cpu \| A \| B \|", told)
    rows = {name: re.search(rf"^\|.*\| {name} \| .*$", told, flags=re.M) for name in ("csr", "ell", "planes")}
    assert all(rows.values())
    cells = {name: [part.strip() for part in row[0].split("|")[-4:-1]] for name, row in rows.items() if row}
    assert cells["csr"][0].startswith("60 % [")
    assert cells["csr"][1].startswith("61 % [")
    assert float(cells["ell"][2]) == pytest.approx(25, abs=1.5)
    assert cells["planes"][0] == cells["planes"][2] == "–"
    winners = told[told.index("## Who wins") : told.index("## Break-evens")]
    assert "csr, 60 % (40.0× at 99 %)" in winners
    assert "planes, 40 % (60.0× at 99 %)" in winners


def test_equal_machines_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    folders = [run_of(tmp_path / name, curve(0.6, "csr")) for name in ("a", "b", "c/a")]
    names = [one.name.replace("\N{NO-BREAK SPACE}", " ") for one in columns(folders)]
    assert len(set(names)) == 3
    assert names[1] == "A, 2 threads, 0.1.0 at 0123456 (b)"
    told = asked(*folders).stdout
    assert "What differs" not in told
    assert "1 curve, of which 1 were answered by every run" in told


def test_real_runs_of_two_machines_stand_side_by_side(tmp_path: Path) -> None:
    done = asked(EPYC, XEON, "--out", tmp_path / "both.md")
    assert done.exit_code == 0
    text = (tmp_path / "both.md").read_text(encoding="utf-8")
    assert "| cpu | AMD EPYC | Intel(R) Xeon(R) Processor |" in text
    assert text.count("| matmul ") > 100
    assert asked(EPYC, XEON, "--format", "html", "--out", tmp_path / "both.html").exit_code == 0
    page = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert "<h1>sparsebench · runs side by side</h1>" in page
    assert page.count("<tr") > 190


def test_a_run_without_facts_or_levels_has_a_column_all_the_same(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "cells.jsonl").write_text("", encoding="utf-8")
    told = asked(bare, run_of(tmp_path / "a", curve(0.6, "csr"))).stdout
    assert "unknown processor" in told
    assert "machine.json is missing" in told.replace("\\", "")
    assert "none was answered by every run" in told
    empty = asked(bare, bare)
    assert empty.exit_code == 0
    assert "No run has a break-even" in empty.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{run}", "--format", "pdf"], "expected --format html, md, csv, parquet, svg, got 'pdf'"),
        (["{run}", "{none}"], "expected a folder with cells.jsonl, got {none}, which does not exist"),
        (
            ["{run}", "{run}", "--format", "csv"],
            "expected --format md or html for several runs, got csv; or",
        ),
        (["{run}", "--out", "{none}"], "expected --out with another format, got html"),
        (["{run}", "--format", "md", "--out", "{run}"], "expected to write {run}, got IsADirectoryError"),
        (
            ["{run}", "--format", "parquet", "--out", "{run}/cells.jsonl/x"],
            "expected to write {run}/cells.jsonl/x, got",
        ),
    ],
)
def test_wrong_input_is_said_in_one_line(words: list[str], said: str, tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", curve(0.6, "csr"))
    known = {"run": run, "none": tmp_path / "none"}
    done = asked(*(word.format(**known) for word in words))
    assert done.exit_code == 2
    assert done.stderr.startswith("sparsebench: " + said.format(**known))
    assert done.stderr.count("\n") == 1


def test_one_run_is_not_side_by_side(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="expected at least two runs"):
        columns([run_of(tmp_path / "run", [])])
    with pytest.raises(ReportError, match="expected --format"):
        given([tmp_path / "run"], "x", None)
