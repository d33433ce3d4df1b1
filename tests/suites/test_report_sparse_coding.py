"""The report's chapter on sparse coding: what is read of models, what stands in tables, and what is drawn."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sparsebench.representations.pattern import Pattern
from sparsebench.suites.cell import COLUMNS, Case, Cell, blank
from sparsebench.suites.report import read_run, write_report
from sparsebench.suites.report.colours import looks
from sparsebench.suites.report.compare import compare
from sparsebench.suites.workloads.sparse_coding.chapter.figures import activity_figures, cost_figures
from sparsebench.suites.workloads.sparse_coding.chapter.runs import models, read_learned, representatives
from sparsebench.suites.workloads.sparse_coding.chapter.section import chapter
from sparsebench.suites.workloads.sparse_coding.chapter.tables import COLUMNS as FIGURES
from sparsebench.suites.workloads.sparse_coding.chapter.tables import TRIVIAL_ROWS, models_table

SPACE = "\N{NO-BREAK SPACE}"
TRIVIAL = {"all_zero": 103.0, "median_image": 99.0, "pca_100": 31.4, "pca_100_clipped": 23.6}


def figures_of(l1: float, active: float) -> dict[str, float | None]:
    figures = dict.fromkeys(FIGURES, 1.0)
    return (
        figures | {"l1_clipped": l1, "l1": l1 + 2, "r2": 0.75, "l0_weak": active, "multiply_adds": 78_400.0} | TRIVIAL
    )


def file_of(
    model: str, k: float, l1: float, seed: int = 0, data: str = "digits", units: int = 100
) -> dict[str, np.ndarray]:
    """Return a file's arrays as the workload writes them, with made-up numbers."""
    rng = np.random.default_rng(seed)
    side = 28 if data == "digits" else 12
    figures = figures_of(l1, k)
    if data == "patches":
        figures |= {"l1_clipped": None, "kl": None, "pca_100_clipped": None}
    numbers = {"level": k, "seed": seed, "seconds": 12.0, "encode_s": 2e-5, "decode_s": 1e-5}
    numbers |= {name: math.nan if value is None else value for name, value in figures.items()}
    ending = "" if data == "digits" else ", patches"
    return {
        "model": np.array(model), "workload": np.array(f"{model} N={units} k={k:g}{ending}"), "data": np.array(data),
        "settings": np.array(json.dumps({"units": units, "k": k, "seed": seed})), "curve": np.array([90.0, 60.0, l1]),
        "dictionary": rng.random((min(units, 100), side**2)).astype(np.float16), "norms": np.ones(units),
        "images": rng.random((16, side**2)), "reconstructions": rng.random((16, side**2)),
        "codes": rng.random((16, units)) * (rng.random((16, units)) < k / units),
        **{name: np.array(value) for name, value in numbers.items()},
    }  # fmt: skip


def keep(run: Path, arrays: dict[str, np.ndarray]) -> None:
    run.mkdir(parents=True, exist_ok=True)
    name = str(arrays["workload"]).replace(" ", "-").replace(",", "")
    np.savez(run / f"sparse_coding-{name}-seed{arrays['seed']}.npz", **arrays)  # type: ignore[arg-type]


def cell_of(workload: str, operation: str, time_s: float, sparsity: float | None = None, name: str = "csr") -> Cell:
    shape = (200, 100, 784) if operation == "decode" else (200, 784, 100)
    case = Case(suite="sparse_coding", workload=workload, operation=operation, shape=shape,
                pattern=Pattern(kind="element"), sparsity=sparsity)  # fmt: skip
    return dataclasses.replace(
        blank(case, name, "cpu", status="ok"), time_s=time_s, achieved_sparsity=sparsity or 0.93, quality=40.0,
        quality_metric="l1_clipped", qualities=figures_of(40.0, 7.0), speedup=1.2, speedup_low=1.1, speedup_high=1.3,
        stored_bytes=1000, value_bytes=600, index_bytes=400, dense_bytes=4000, reference_time_s=1.2 * time_s,
    )  # fmt: skip


def write_run(run: Path, cells: list[Cell]) -> Path:
    run.mkdir(parents=True, exist_ok=True)
    (run / "cells.jsonl").write_text("".join(json.dumps(cell.row()) + "\n" for cell in cells), encoding="utf-8")
    return run


def test_seeds_are_put_together_and_times_come_from_the_journal(tmp_path: Path) -> None:
    run = write_run(tmp_path, [cell_of("a N=100 k=7", "encode", 0.004), cell_of("a N=100 k=7", "decode", 0.002)])
    for seed, l1 in enumerate((40.0, 42.0)):
        keep(run, file_of("a", 7, l1, seed))
    (one,) = models(read_run(run).frame, read_learned(run)[0])
    assert (one.workload, one.model, one.data, one.units, one.seeds) == ("a N=100 k=7", "a", "digits", 100, 2)
    assert one.figures["l1_clipped"] == 41
    assert one.spread == pytest.approx(math.sqrt(2))
    assert one.times == pytest.approx({"encode": 2e-5, "decode": 1e-5})
    (row,) = [row for row in models_table([one]).rows if row[0].text.startswith("a N=100")]
    texts = [value.text for value in row]
    assert f"41.0 ± {math.sqrt(2):.2f}" in texts
    assert f"20.0{SPACE}µs" in texts  # an image's, not the batch's
    assert f"[30.0{SPACE}µs]" in texts  # end to end was not timed: the sum of what judging took


def test_a_model_without_a_file_has_the_journals_figures(tmp_path: Path) -> None:
    run = write_run(tmp_path, [cell_of("a N=100 k=7", "encode", 0.004)])
    (one,) = models(read_run(run).frame, [])
    assert (one.seeds, one.units, one.get("l1_clipped")) == (0, 100, 40.0)
    assert math.isnan(one.learning_s)
    assert math.isnan(one.get("nothing of the kind"))


def test_the_trivial_rows_stand_beneath_each_kind_of_images(tmp_path: Path) -> None:
    run = write_run(tmp_path, [])
    keep(run, file_of("a", 7, 40.0))
    keep(run, file_of("b", 7, 30.0, data="patches"))
    table = models_table(models(read_run(run).frame, read_learned(run)[0]))
    assert [(row[0].text, row[1].text.split(":")[0]) for row in table.rows] == [
        ("digits", "a N=100 k=7"), *([("digits", "trivial")] * 4), ("patches", "b N=100 k=7"),
        *([("patches", "trivial")] * 3),
    ]  # fmt: skip
    place = table.head.index("L1 cut to [0, 1]")
    cut = next(row for row in table.rows if row[1].text == f"trivial: {TRIVIAL_ROWS['pca_100_clipped'][0]}")
    assert cut[place].text == "23.6"
    assert table.rows[5][place].text == "–"  # a patch is not cut


def test_one_of_each_model_is_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path, [])
    for k in (3, 14, 50):
        keep(run, file_of("a", k, 60.0 - k))
    keep(run, file_of("a", 14, 20.0, units=400))
    keep(run, file_of("b", 7, 50.0))
    shown = representatives(models(read_run(run).frame, read_learned(run)[0]))
    assert [one.workload for one in shown] == ["a N=100 k=14", "b N=100 k=7"]


def test_quality_is_drawn_against_activity(tmp_path: Path) -> None:
    run = write_run(tmp_path, [])
    for k in (3, 14, 50):
        keep(run, file_of("a", k, 60.0 - k))
    keep(run, file_of("b", 14, 44.0, data="patches"))
    digits, patches = activity_figures(models(read_run(run).frame, read_learned(run)[0]))
    for text in ("a N=100", "PCA, 100 components", "median image", "active units", "multiply-adds"):
        assert text in digits.html
    assert "R²" in patches.html
    assert "median image" not in patches.html  # its L1 says nothing about R²


def test_time_and_bytes_are_drawn_where_there_are_levels(tmp_path: Path) -> None:
    names = ("csr", "dense")
    cells = [
        cell_of(workload, "decode", 1e-3, sparsity, name)
        for workload, levels in (("codes of a", (0.5, 0.9)), ("random codes", (0.99,)))
        for sparsity in levels
        for name in names
    ]
    frame = read_run(write_run(tmp_path, cells)).frame
    (drawn,) = cost_figures(frame, looks(names))
    assert drawn.caption.startswith("codes of a: time and bytes")
    for text in ("decode: time", "stored bytes"):
        assert text in drawn.html


def test_the_chapter_is_one_page_without_a_link(tmp_path: Path) -> None:
    lost = dataclasses.replace(
        cell_of("c N=100 k=7", "encode", 1.0), status="crashed", quality=None, qualities=None, time_s=None,
        reason="DivergedError: diverged in epoch 3 of 9: expected <finite> numbers", speedup=None,
    )  # fmt: skip
    run = write_run(tmp_path / "run", [cell_of("a N=100 k=7", "encode", 0.004), lost])
    keep(run, file_of("a", 7, 40.0))
    keep(run, file_of("large", 7, 30.0, units=2_000))  # its codes are too wide to be drawn
    keep(run, file_of("b", 7, 30.0, data="patches"))
    text = write_report(run).read_text(encoding="utf-8")
    assert "Models beside each other" in text
    assert "diverged in epoch 3 of 9: expected &lt;finite&gt; numbers" in text
    assert f"1{SPACE}model not trained" in text
    assert "Learning curves of models" in text
    assert text.count('class="tiles"') == 3 + 2 + 3
    assert not re.search(r'(src|href)="(?!#|data:)', text)
    assert "c N=100" not in text[text.index("Models beside each other") : text.index("Learning curves")]
    table = pd.read_csv(run / "cells.csv")
    assert list(table.columns) == list(COLUMNS)
    assert json.loads(table["qualities"].iloc[0])["l1_clipped"] == 40.0
    short = (run / "report.md").read_text(encoding="utf-8")
    assert "**Models beside each other**" in short


def test_files_that_lack_almost_everything_are_read(tmp_path: Path) -> None:
    run = write_run(tmp_path, [])
    np.savez(run / "sparse_coding-odd.npz", workload=np.array("odd N=3"), codes=np.zeros(3), l1=np.array(61.5))
    np.savez(run / "sparse_coding-none.npz", workload=np.array("none N=3"), curve=np.array(["text"]))
    learned, notes = read_learned(run)
    assert notes == []
    assert [one.workload for one in models(read_run(run).frame, learned)] == ["odd N=3"]
    section, _ = chapter(read_run(run), {})
    assert section is not None
    assert "61.5" in [value.text for row in section.tables[0].rows for value in row]


@pytest.mark.parametrize("folder", ["xeon-2-cores", "xeon-2-cores-mnist", "epyc-2-cores"])
def test_kept_runs_of_old_are_read_as_before(folder: str) -> None:
    run = Path(__file__).resolve().parents[2] / "results" / "reference" / folder
    learned, notes = read_learned(run)
    frame = read_run(run).frame
    assert notes == []
    assert [one.workload for one in learned] == [None, None]
    assert models(frame, learned) == []
    section, _ = chapter(read_run(run), looks(frame["representation"]))
    assert section is not None
    shown = {row[0].text for row in section.tables[0].rows}
    assert {"entries of a code above 0.01, mean", "sum of a code, mean", "units above 0.01 in no image"} <= shown


def test_runs_that_reach_another_quality_say_so(tmp_path: Path) -> None:
    cell = cell_of("a N=100 k=7", "encode", 0.004)
    first = write_run(tmp_path / "a", [cell, cell_of("b N=100 k=7", "encode", 0.004)])
    moved = dataclasses.replace(cell, quality=40.5)
    second = write_run(
        tmp_path / "b", [moved, dataclasses.replace(cell_of("b N=100 k=7", "encode", 0.004), quality=40.3)]
    )
    found = compare(first, second)
    assert [(metric, a, b) for _, metric, a, b in found.quality_changes] == [("l1_clipped", 40.0, 40.5)]
    assert f"1{SPACE}change of quality" in " ".join(found.summary)
    assert "**Quality changes**" in found.markdown()
    assert compare(first, first).quality_changes == ()
