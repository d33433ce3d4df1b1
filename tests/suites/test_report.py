"""The report: what is read, and what the page shows."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch

from sparsebench.representations.pattern import Pattern
from sparsebench.suites.cell import COLUMNS, STATUSES, Case, Cell, blank
from sparsebench.suites.report import ReportError, read_run, write_report
from sparsebench.suites.report.journal import frame_of
from sparsebench.suites.report.trust import DEMANDS
from sparsebench.suites.runner.journal import RunFolder, parse
from sparsebench.suites.workloads.data import Digits
from sparsebench.suites.workloads.sparse_coding.notebook.conserved_flow import Settings, learn
from sparsebench.suites.workloads.sparse_coding.notebook.loops import epoch_numpy
from sparsebench.suites.workloads.sparse_coding.record import artifact

PATTERNS = (
    Pattern(kind="element"),
    Pattern(kind="power-law"),
    Pattern(kind="block", block=(32, 32)),
    Pattern(kind="plane", block=(1, 16)),
    Pattern(kind="channel", block=(1, 16)),
    Pattern(kind="n:m", m=16),
)
COST = {
    "dense": 1.0, "dense-masked": 1.3, "planes": 1.2, "scipy-csr": 14.0, "scipy-coo": 40.0, "torch-coo": 220.0,
    "torch-csr": 6.0, "torch-csc": 30.0, "torch-bsr": 5.0, "torch-bsc": 9.0, "block-sparse": 1.6, "acme-tiles": 2.5,
}  # fmt: skip
"""Of an element, in elements of a dense product; the last one is a plug-in."""
BLOCKED = ("torch-bsr", "torch-bsc", "block-sparse", "acme-tiles")
MACHINE = {
    "cpu": "Some CPU @ 2.1 GHz", "cores": 2, "logical_cores": 4, "threads": 2, "memory_bytes": 25_200_000_000,
    "load_average": [0.1, 0.25, 0.5], "python": "3.11.9", "libraries": {"torch": "2.13.0", "scipy": "1.17.0"},
    "blas": [{"internal_api": "mkl", "version": "2025.3"}, {"internal_api": "openblas", "version": "0.3.30"}],
    "torch_has_mkl": True, "commit": "0123abcd+", "gpu": None,
}  # fmt: skip


def make_cells(
    patterns: tuple[Pattern, ...] = PATTERNS,
    shapes: tuple[tuple[int, int, int], ...] = ((512, 512, 128), (2048, 512, 128)),
    seed: int = 0,
    noise: float = 0.02,
) -> list[Cell]:
    """Return cells as a run writes them: a cost model of time and bytes, with noise, failures and refusals."""
    rng = np.random.default_rng(seed)
    cells = []
    for shape in shapes:
        for pattern in patterns:
            for sparsity in (0.5, 0.75, 0.875, 0.9375) if pattern.kind == "n:m" else (0.5, 0.8, 0.9, 0.97, 0.99):
                for name in COST:
                    layer = f"layer {shape[0]}×{shape[1]}"
                    case = Case(suite="matmul", workload=layer, operation="matmul", shape=shape, pattern=pattern,
                                sparsity=sparsity)  # fmt: skip
                    cells.append(make_cell(case, name, rng, noise))
    return cells


def make_cell(case: Case, name: str, rng: np.random.Generator, noise: float) -> Cell:
    cell = blank(case, name, "cpu", status="crashed", reason="in progress")
    if name == "torch-bsc" and case.pattern.kind == "n:m":
        return dataclasses.replace(cell, status="unsupported", reason="expected blocks in 16, got <none> & more")
    if name == "scipy-coo" and case.sparsity == 0.5:
        return dataclasses.replace(cell, status="timeout", reason="expected an end within 60 s, got none")
    if name == "torch-csc" and case.pattern.kind == "power-law" and case.sparsity == 0.9:
        return dataclasses.replace(cell, status="wrong", reason="expected a relative error of at most 1e-05, got 0.3",
                                   relative_error=0.3, tolerance=1e-5)  # fmt: skip
    assert case.sparsity is not None
    m, k, n = case.shape
    density = 1 - case.sparsity
    fits = case.pattern.kind == "block" if name in BLOCKED else case.pattern.kind in ("plane", "channel")
    fill = 1.0
    if name in BLOCKED and not fits:
        fill = min(1 / density, 1 + 30 * (1 - density))
    if name == "planes" and not fits:
        fill = min(1 / density, 16.0)
    if name.startswith("dense"):
        fill = 1 / density
    reference = 2 * m * k * n / 8e10
    elapsed = reference * COST[name] * min(1.0, density * fill) + 4e-6
    speedup = reference / elapsed * math.exp(rng.normal(0, noise))
    half = abs(rng.normal(0, noise)) + 0.01
    value_bytes = round(4 * m * k * min(1.0, density * fill))
    index_bytes = 0 if name.startswith("dense") else round(8 * m * k * density / (1024 if fits else 1)) + 4 * m
    build = 40 * elapsed
    return dataclasses.replace(
        cell, status="ok", reason=None, provenance="derived" if name == "scipy-coo" else "native",
        kernel=f"{name}:{'derived' if name == 'scipy-coo' else 'native'}", achieved_sparsity=case.sparsity,
        time_s=reference / speedup, time_spread=float(abs(rng.normal(0.05, 0.04))), reference="dense row-major",
        reference_time_s=reference, speedup=speedup, speedup_low=speedup / (1 + half),
        speedup_high=speedup * (1 + half), rounds=int(rng.integers(8, 40)), inner_iterations=10, build_time_s=build,
        pays_off_after=build / (reference - reference / speedup) if speedup > 1 else None,
        stored_bytes=value_bytes + index_bytes, value_bytes=value_bytes, index_bytes=index_bytes, dense_bytes=4 * m * k,
        fill=fill, workspace_bytes=4096, build_peak_bytes=5 * m * k, relative_error=float(rng.uniform(1e-7, 6e-7)),
        tolerance=1e-5, useful_gflops=2 * m * k * n * density / elapsed * 1e-9, threads=2, profile="quick",
        finished_at="2026-11-01T12:00:00+00:00",
    )  # fmt: skip


def make_coding_cells() -> list[Cell]:
    """Return cells as the sparse-coding suite writes them: levels of a code with a figure of merit, and a training."""
    rng = np.random.default_rng(5)
    cells = []
    for operation, shape in {"decode": (256, 100, 784), "encode": (256, 784, 100)}.items():
        for sparsity in (0.0, 0.5, 0.8, 0.95):
            for name in COST:
                case = Case(suite="sparse_coding", workload="conserved flow f=0.0001", operation=operation, shape=shape,
                            pattern=Pattern(kind="element"), sparsity=sparsity)  # fmt: skip
                cell = make_cell(case, name, rng, 0.02)
                if operation == "encode" and cell.status == "ok":
                    cell = dataclasses.replace(cell, kernel="build", pays_off_after=None, speedup=0.9, speedup_low=0.89,
                                               speedup_high=0.91)  # fmt: skip
                elif cell.status == "ok":
                    cell = dataclasses.replace(cell, quality=60 + 40 * sparsity**2, quality_metric="l1_per_image")
                cells.append(cell)
    case = Case(suite="sparse_coding", workload="conserved flow f=0.0001", operation="train", shape=(30_000, 100, 784),
                pattern=Pattern(kind="element"), sparsity=None, representation="dense")  # fmt: skip
    training = blank(case, "dense", "cpu", status="crashed", reason="in progress")
    cells.append(
        dataclasses.replace(training, status="ok", reason=None, quality=63.1, quality_metric="l1_per_image", time_s=2.1)
    )
    return cells


def write_run(folder: Path, cells: list[Cell], machine: dict[str, object] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cells.jsonl").write_text("".join(json.dumps(cell.row()) + "\n" for cell in cells), encoding="utf-8")
    (folder / "machine.json").write_text(json.dumps(machine or MACHINE), encoding="utf-8")
    return folder


def train_a_little(run: Path) -> str:
    """Train the real network on made-up images, keep what the suite keeps, and return the name it is kept under."""
    pixels = torch.rand(60, 784, generator=torch.Generator().manual_seed(0))
    images = Digits(images=pixels, labels=torch.zeros(60, dtype=torch.int64), source="made up")
    learned = learn(images, Settings(flow=0.2, units=9, epochs=2, images=60), seed=0, loop=epoch_numpy)
    RunFolder(path=run).keep(learned.name, artifact(learned, images))
    return learned.name


class Page(HTMLParser):
    """Collects what a page loads, which anchors it has and links to, and that its tags close."""

    CLOSES: ClassVar = {"td": ("td", "th"), "th": ("td", "th"), "tr": ("td", "th", "tr")}  # HTML understands these ends
    ENDS: ClassVar = {"thead": ("td", "th", "tr"), "tbody": ("td", "th", "tr")}
    VOID = ("meta", "img", "br", "input", "link", "path", "use", "rect")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.anchors: set[str] = set()
        self.rows = 0
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.addresses += [str(named[name]) for name in ("src", "href", "xlink:href", "action") if name in named]
        self.anchors |= {str(named["id"])} if "id" in named else set()
        self.rows += tag == "tr"
        self._understand(self.CLOSES.get(tag, ()))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def _understand(self, ended: tuple[str, ...]) -> None:
        while self.open and self.open[-1] in ended:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        self._understand(self.ENDS.get(tag, ()))
        if tag not in self.VOID:
            assert self.open.pop() == tag


def page_of(run: Path) -> tuple[str, Page]:
    text = write_report(run).read_text(encoding="utf-8")
    seen = Page(text)
    assert seen.open == []
    return text, seen


# Reading


def test_a_journal_loses_only_the_line_that_was_cut(tmp_path: Path) -> None:
    cells = make_cells(patterns=PATTERNS[:1], shapes=((64, 64, 8),))
    run = write_run(tmp_path / "run", cells)
    whole = (run / "cells.jsonl").read_text(encoding="utf-8")
    (run / "cells.jsonl").write_text(whole[: len(whole) - 40], encoding="utf-8")
    found = read_run(run)
    assert len(found.frame) == len(cells) - 1
    assert found.notes == (f"line {len(cells)} of cells.jsonl is cut short: skipped",)


def test_a_cut_inside_a_letter_of_two_bytes_is_a_cut_line_too(tmp_path: Path) -> None:
    row = json.dumps(make_cells()[0].row(), ensure_ascii=False).encode()
    run = write_run(tmp_path / "run", [])
    (run / "cells.jsonl").write_bytes(row + b"\n" + row[: row.index("×".encode()) + 1])
    found = read_run(run)
    assert (len(found.frame), len(found.notes)) == (1, 1)


def test_bad_lines_inside_a_journal_are_named(tmp_path: Path) -> None:
    row = json.dumps(make_cells()[0].row())
    rows, notes = parse(f'{row}\n{{"half": \n[1, 2]\n{{"suite": "matmul"}}\n\n')
    assert len(rows) == 1
    assert [note.split(" of ")[0] for note in notes] == ["line 2", "line 3", "line 4"]
    assert "no JSON" in notes[0]
    assert "lacks workload" in notes[2]


def test_the_later_row_of_a_cell_wins() -> None:
    first = make_cells()[0]
    later = dataclasses.replace(first, speedup=7.0)
    other = dataclasses.replace(first, seed=1)
    rows, notes = parse("\n".join(json.dumps(cell.row()) for cell in (first, other, later)))
    assert [(row["seed"], row["speedup"]) for row in rows] == [(0, 7.0), (1, other.speedup)]
    assert notes == []  # every visit writes a cell's row again: nothing to remark


def test_numbers_are_numbers_and_nothing_else_is() -> None:
    row = make_cells()[0].row() | {"speedup": "fast", "rounds": True, "time_s": math.nan, "fill": None, "new": 3}
    frame = frame_of([row])
    assert frame[["speedup", "rounds", "time_s", "fill"]].isna().all(axis=None)
    assert list(frame.columns) == [*COLUMNS, "new"]
    assert frame["shape"].iloc[0] == "512x512x128"


@pytest.mark.parametrize("kind", ["missing", "empty", "file"])
def test_a_folder_that_is_no_run_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "thing"
    if kind == "empty":
        path.mkdir()
    if kind == "file":
        path.write_text("")
    with pytest.raises(ReportError, match=r"expected a folder with cells\.jsonl, got ") as error:
        write_report(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


# The page


def test_a_whole_run_gives_one_file_that_loads_nothing(tmp_path: Path) -> None:
    cells = make_cells(patterns=PATTERNS[::2] + PATTERNS[-1:], shapes=((512, 512, 128),)) + make_coding_cells()
    run = write_run(tmp_path / "run", cells)
    name = train_a_little(run)
    text, seen = page_of(run)
    assert all(address.startswith(("#", "data:,", "data:image/png;base64,")) for address in seen.addresses)
    assert {address[1:] for address in seen.addresses if address.startswith("#")} <= seen.anchors
    assert not re.search(r"@import|url\((?!#)", text)
    assert text.count('class="tiles"') == 2  # dictionary, reconstructions
    assert text.count('class="legend"') == 3  # the first screen, time against bytes, and a workload's
    assert "acme-tiles" in text
    assert "0123abcd+" in text
    assert "got &lt;none&gt; &amp; more" in text
    assert "<none>" not in text
    assert name.removeprefix("sparse_coding-") in text
    for anchor in ("answer", "machine", "break-even", "speed-up", "pareto", "memory", "error", "kernels", "build",
                   "coverage", "sparse-coding", "cells", "trust"):  # fmt: skip
        assert anchor in seen.anchors

    short = (run / "report.md").read_text(encoding="utf-8")
    assert "![" not in short
    assert "<svg" not in short
    for title in ("The answer", "Break-even", "Coverage", "Sparse coding of digits", "Building"):
        assert f"## {title}" in short
    for block in re.findall(r"(?:^\|.*\n)+", short, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1  # no ragged table

    table = pd.read_csv(run / "cells.csv")
    assert list(table.columns) == list(COLUMNS)
    assert len(table) == len(cells)
    assert table["speedup"].sum() == pytest.approx(sum(cell.speedup or 0 for cell in cells))


def test_an_operation_that_builds_is_no_headline_and_never_pays_off(tmp_path: Path) -> None:
    write_run(tmp_path / "run", make_coding_cells())
    short = write_report(tmp_path / "run").with_name("report.md").read_text(encoding="utf-8")
    answer = short[short.index("## The answer") : short.index("## Break-even")]
    assert "decoding" in answer
    assert "encod" not in answer
    assert "encode" not in short[short.index("## Building") : short.index("## Error")]


def test_one_row_only_failures_and_nothing_at_all(tmp_path: Path) -> None:
    good, bad = [next(cell for cell in make_cells() if (cell.status == "ok") is ok) for ok in (True, False)]
    one, _ = page_of(write_run(tmp_path / "one", [good]))
    assert "1 of 1\N{NO-BREAK SPACE}cell ok" in one
    failed, _ = page_of(write_run(tmp_path / "failed", [bad]))
    assert "0 of 1\N{NO-BREAK SPACE}cell ok" in failed
    assert "no break-even to tell" in failed
    assert bad.reason is not None
    assert bad.reason in failed
    none, seen = page_of(write_run(tmp_path / "none", []))
    assert "Nothing is measured yet" in none
    assert "break-even" not in seen.anchors
    assert (tmp_path / "none" / "cells.csv").read_text().strip() == ",".join(COLUMNS)


def test_a_run_that_was_killed_says_what_it_lost(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", make_cells(patterns=PATTERNS[:2], shapes=((64, 64, 8),))[:20])
    with (run / "cells.jsonl").open("a", encoding="utf-8") as journal:
        journal.write('{"suite": "mat')
    (run / "machine.json").write_text("{", encoding="utf-8")
    (run / "sparse_coding-broken.npz").write_bytes(b"PK no archive")
    text, _ = page_of(run)
    assert "line 21 of cells.jsonl is cut short" in text
    assert "machine.json cannot be read" in text
    assert "sparse_coding-broken.npz cannot be read" in text


def test_arrays_that_are_not_as_expected_are_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [make_cells()[0]])
    np.savez(run / "sparse_coding-odd.npz", curve=np.zeros((2, 2)), dictionary=np.zeros((3, 10)), images=np.zeros(4),
             reconstructions=np.array("text"), settings=np.array("{no json"), l1=np.array(61.5))  # fmt: skip
    text, _ = page_of(run)
    assert "Sparse coding of digits" in text
    assert re.search(r">61\.5[\s<]", text)
    assert 'class="tiles"' not in text


# Figures


def test_the_readers_own_matplotlib_stays_as_it_was(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", make_cells(patterns=PATTERNS[:1], shapes=((64, 64, 8),)))
    code = f"""
import matplotlib
from pathlib import Path
matplotlib.rcParams["svg.fonttype"] = "path"
before = dict(matplotlib.rcParams)
from sparsebench.suites.report import write_report
write_report(Path({str(run)!r}))
import matplotlib.pyplot
assert dict(matplotlib.rcParams) == before, "settings changed"
assert matplotlib.pyplot.get_fignums() == [], "figures left behind"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_column_and_mark_is_told() -> None:
    told = (Path(__file__).resolve().parents[2] / "results" / "README.md").read_text(encoding="utf-8")
    table = "\n".join(line for line in told.splitlines() if line.startswith("| `"))
    assert [name for name in (*COLUMNS, *STATUSES) if f"`{name}`" not in table] == []
    for name, demand in DEMANDS.items():
        line = next(line for line in told.splitlines() if line.startswith(f"| {name} |"))
        assert [float(found) for found in re.findall(r"[\d.]+", line)] == [
            100 * demand.width, demand.rounds, demand.spread,
        ]  # fmt: skip
    assert all(f"| {name} |" in told for name in ("same", "unclear"))
