"""The report: what is read, what is reckoned, and what the page shows."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from sparsebench.representations.pattern import Pattern
from sparsebench.suites.cell import COLUMNS, Case, Cell, blank
from sparsebench.suites.report import ReportError, overview_figure, read_run, write_report
from sparsebench.suites.report.breakeven import break_evens, crossing
from sparsebench.suites.report.colours import OWN, looks
from sparsebench.suites.report.figures import positions, thinned
from sparsebench.suites.report.headline import heat, matrices, sentences
from sparsebench.suites.report.journal import frame_of, parse
from sparsebench.suites.report.pictures import tiles
from sparsebench.suites.report.table import Table, markdown, words
from sparsebench.suites.report.text import percent, ratio, seconds, significant, size
from sparsebench.suites.report.trust import half_width, mark, weakest

PATTERNS = (
    Pattern(kind="element"),
    Pattern(kind="power-law"),
    Pattern(kind="block", block=(32, 32)),
    Pattern(kind="plane", block=(1, 16)),
    Pattern(kind="channel", block=(1, 16)),
    Pattern(kind="n:m", m=16),
)
COST = {"dense": 1.0, "dense-masked": 1.3, "planes": 1.2, "scipy-csr": 14.0, "scipy-coo": 40.0, "torch-coo": 220.0,
        "torch-csr": 6.0, "torch-csc": 30.0, "torch-bsr": 5.0, "torch-bsc": 9.0, "block-sparse": 1.6, "acme-tiles": 2.5}  # fmt: skip
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
                    case = Case(suite="matmul", workload=f"layer {shape[0]}×{shape[1]}", operation="matmul", shape=shape,
                                pattern=pattern, sparsity=sparsity)  # fmt: skip
                    cells.append(make_cell(case, name, rng, noise))
    return cells


def make_cell(case: Case, name: str, rng: np.random.Generator, noise: float) -> Cell:
    cell = blank(case, name, "cpu", status="crashed", reason="in progress")
    if name == "torch-bsc" and case.pattern.kind == "n:m":
        return dataclasses.replace(cell, status="unsupported", reason="expected blocks that divide 16, got <none> & more")
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
        reference_time_s=reference, speedup=speedup, speedup_low=speedup / (1 + half), speedup_high=speedup * (1 + half),
        rounds=int(rng.integers(8, 40)), inner_iterations=10, build_time_s=build,
        pays_off_after=build / (reference - reference / speedup) if speedup > 1 else None,
        stored_bytes=value_bytes + index_bytes, value_bytes=value_bytes, index_bytes=index_bytes, dense_bytes=4 * m * k,
        fill=fill, workspace_bytes=4096, build_peak_bytes=5 * m * k, relative_error=float(rng.uniform(1e-7, 6e-7)),
        tolerance=1e-5, useful_gflops=2 * m * k * n * density / elapsed * 1e-9, threads=2, profile="quick",
        finished_at="2026-11-01T12:00:00+00:00",
    )  # fmt: skip


def make_coding_cells() -> list[Cell]:
    """Return cells whose sparsity the data decide, with a figure of merit."""
    rng = np.random.default_rng(5)
    cells = []
    for operation in ("encode", "decode"):
        for setting, level in (("f=0.2", 0.13), ("f=0.0001", 0.55)):
            for name in COST:
                case = Case(suite="sparse_coding", workload=f"conserved flow {setting}", operation=operation,
                            shape=(512, 100, 784), pattern=Pattern(kind="element"), sparsity=0.9)  # fmt: skip
                cell = make_cell(case, name, rng, 0.02)
                cells.append(dataclasses.replace(cell, sparsity=None, achieved_sparsity=level, quality=90 - 50 * level,
                                                 quality_metric="l1_per_image"))  # fmt: skip
    return cells


def write_run(folder: Path, cells: list[Cell], machine: dict[str, object] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cells.jsonl").write_text("".join(json.dumps(cell.row()) + "\n" for cell in cells), encoding="utf-8")
    (folder / "machine.json").write_text(json.dumps(machine or MACHINE), encoding="utf-8")
    return folder


def write_learned(folder: Path, name: str = "f0.2") -> None:
    rng = np.random.default_rng(1)
    examples = rng.random((16, 784))
    np.savez(
        folder / f"sparse_coding-{name}.npz", curve=np.array([816.0, 101, 80, 70, 66, 64]), dictionary=rng.random((120, 784)),
        examples=examples, reconstructions=examples * 0.8, codes=rng.random((16, 120)), f=0.2, source="made up",
        trivial_zero=103.0, trivial_median=88.0, trivial_pca=23.6,
    )  # fmt: skip


class Page(HTMLParser):
    """Collects what a page loads, which anchors it has and links to, and that its tags close."""

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
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_a_whole_run_gives_one_file_that_loads_nothing(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", make_cells() + make_coding_cells())
    write_learned(run)
    page = write_report(run)
    text = page.read_text(encoding="utf-8")
    seen = Page(text)
    assert seen.open == []
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in seen.addresses)
    assert {address[1:] for address in seen.addresses if address.startswith("#")} <= seen.anchors
    assert not re.search(r"@import|url\((?!#)", text)
    assert text.count("<svg role=") >= 6
    assert text.count('class="tiles"') == 2
    assert "acme-tiles" in text
    assert "0123abcd+" in text
    assert "Some CPU" in text


def dump() -> None:  # pragma: no cover
    run = write_run(Path("/tmp/demo"), make_cells() + make_coding_cells())
    write_learned(run)
    write_learned(run, "f0.0001")
    print(write_report(run))
    overview_figure(read_run(run).frame, Path("/tmp/demo/overview.png"))
