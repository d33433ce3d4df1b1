"""Studies ship with the package: what the file holds, what is timed and checked by it, and what chapters say of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sparsebench.representations import registry
from sparsebench.suites.cell import Cell, blank
from sparsebench.suites.measure.fidelity import worst_error
from sparsebench.suites.report import write_report
from sparsebench.suites.search.curves import agenda
from sparsebench.suites.search.handed import read_cells, write_cells
from sparsebench.suites.workloads.problem import Problem
from sparsebench.suites.workloads.sparse_cnn import kept_nets, short
from sparsebench.suites.workloads.sparse_cnn import workload as cnn
from sparsebench.suites.workloads.sparse_cnn.chapter.runs import kept_trained, read_trained
from sparsebench.suites.workloads.sparse_coding import coding_cases
from sparsebench.suites.workloads.sparse_coding import short as coding_short
from sparsebench.suites.workloads.sparse_coding import workload as coding
from sparsebench.suites.workloads.studies import arrays, check, pack, read

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
LARGEST = 300_000
"""Bytes of the shipped file at most."""


def test_the_file_is_what_the_command_makes_of_the_kept_runs(tmp_path: Path) -> None:
    held = pack.pack(REFERENCE)
    assert held == read.held()
    pack.write(held, tmp_path / "a.gz")
    pack.write(held, tmp_path / "b.gz")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert read.FILE.stat().st_size < LARGEST
    assert read.source("sparse_cnn").processor == "AMD EPYC"


def test_the_command_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = read.FILE.read_bytes()
    assert pack.main([str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"pack: expected the kept runs in {tmp_path}, got FileNotFoundError")
    assert said.count("\n") == 1
    assert read.FILE.read_bytes() == before
    with pytest.raises(ValueError, match=r"expected sparse_cnn-\*.npz in .*, got none"):
        pack._cnn(tmp_path)


def test_arrays_come_back() -> None:
    rng = np.random.default_rng(0)
    mask = rng.random((5, 7)) > 0.5
    np.testing.assert_array_equal(arrays.unpacked(json.loads(json.dumps(arrays.bits(mask)))), mask)
    rows = np.vstack([rng.normal(size=(4, 30)), np.full((1, 30), 3.0)])
    back = arrays.unpacked(json.loads(json.dumps(arrays.shades(rows))))
    assert np.abs(back - rows).max() <= np.ptp(rows[:4], axis=1).max() / arrays.SHADES / 2 + 1e-5
    np.testing.assert_allclose(back[4], 3.0)
    with pytest.raises(ValueError, match="expected bits or shades, got shape, x"):
        arrays.unpacked({"shape": [1], "x": 0})


def test_kept_settings_are_those_of_the_kept_run() -> None:
    ours, theirs = kept_trained(), read_trained(REFERENCE / pack.CNN)[0]
    assert [one.one.key for one in ours] == [one.one.key for one in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert len(mine.runs) == len(other.runs)
        assert mine.mean(lambda run: run.accuracy) == pytest.approx(other.mean(lambda run: run.accuracy), abs=1e-6)
        for name, mask in other.one.masks.items():
            np.testing.assert_array_equal(mine.one.masks[name], mask)


@pytest.mark.parametrize(
    "kept", [*kept_nets.PLANES, *kept_nets.ELEMENTS], ids=lambda one: f"{one.pattern}-{one.sparsity}"
)
def test_a_kept_network_has_the_zeros_of_the_study(kept: kept_nets.KeptPlan) -> None:
    first = kept_nets.trainings(kept)[0]
    net = kept_nets.network(kept).net
    density = dict(zip(first["layers"].tolist(), first["weight_density"].tolist(), strict=True))
    for name in ("conv2", "conv3"):
        stored = net.get_parameter(f"{name}.weight") != 0
        np.testing.assert_array_equal(stored.flatten(2).any(2).numpy(), first[f"mask_{name}"])
        assert int(stored.sum()) == round(density[name] * stored.numel())
    accuracies = [one["accuracy"][-1] for one in kept_nets.trainings(kept)]
    assert len(accuracies) == (10 if kept.seen == 360_000 else 3)
    assert kept_nets.network(kept).accuracy[0] == pytest.approx(np.mean(accuracies))
    with pytest.raises(ValueError, match="in the kept study, got none"):
        kept_nets.trainings(kept_nets.KeptPlan(method="rigl", pattern="plane", sparsity=0.5, seen=1))


def timed_cases() -> list[Any]:
    return [case for suite in (cnn, coding) for case in suite.cases("quick") if case.operation != check.OPERATION]


@pytest.mark.parametrize(
    "case", timed_cases(), ids=lambda case: f"{case.operation}-{case.pattern.kind}-{case.sparsity}"
)
def test_what_is_timed_is_right_and_brings_the_kept_quality(case: Any) -> None:
    problem = (cnn if case.suite == "sparse_cnn" else coding).problem(case, "cpu", None)
    assert isinstance(problem, Problem)
    cls = registry.load("csr")
    outputs = problem.outputs(problem.action(cls, cls.build(problem.tensor, case.pattern))())
    assert worst_error(outputs, problem.oracle()) < 1e-5
    quality = problem.quality(outputs)
    assert quality is not None
    assert quality.metric.startswith("kept ")
    if case.suite == "sparse_coding":
        k = round((1 - case.sparsity) * 100)
        assert (problem.tensor != 0).sum(1).tolist() == [k] * 256
        row = next(row for row in read.coding_rows() if row["workload"] == f"topk-autoencoder N=100 k={k}")
        assert quality.value == row["figures"]["l1_clipped"]


def test_quick_trains_nothing_but_the_checks() -> None:
    for workload in (cnn, coding):
        cases = workload.cases("quick")
        assert [case.operation for case in cases].count(check.OPERATION) == 1
        assert not [case for case in cases if case.operation in ("train", "notebook_epoch")]
        assert not {case.key for case in cases} & {case.key for case in workload.trainings("quick")}
        assert "train" in {case.operation for case in workload.trainings("quick")}


def test_train_adds_cells_that_a_worker_understands(tmp_path: Path) -> None:
    plain, more = (agenda(cnn, "quick", ["dense", "csr"], train=train).fixed for train in (False, True))
    assert len(more) - len(plain) == 10 + 2 * 3  # trainings, and three timed cases in two representations
    write_cells(tmp_path / "next.json", more)
    assert [cell.case.any_key for cell in read_cells(tmp_path / "next.json", cnn, "quick")] == [
        cell.case.any_key for cell in more
    ]
    curves = {cell.any_id for cell in plain}
    assert sum(cell.weigh for cell in plain) == len(curves) < len(plain)  # one level of a curve is weighed


@pytest.mark.parametrize("suite", [short, coding_short], ids=["sparse_cnn", "sparse_coding"])
def test_the_short_check_reproduces_the_kept_figure(suite: Any) -> None:
    workload = cnn if suite is short else coding
    case = next(case for case in workload.cases("quick") if case.operation == check.OPERATION)
    problem = workload.problem(case, "cpu", None)
    assert isinstance(problem, check.CheckTraining)
    found = problem.train()
    quality = problem.quality(found)
    assert quality.figures is not None
    assert quality.figures["reproduced"] == 1.0
    assert abs(found - check.expected(case.suite).mean) <= check.expected(case.suite).tolerance
    off = problem.quality(found + 2 * check.expected(case.suite).tolerance)
    assert off.figures is not None
    assert off.figures["reproduced"] == 0.0


def test_the_tolerance_holds_one_more_training_in_99_of_100() -> None:
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(4_000):
        values = rng.normal(size=11)
        kept = check.Expected(values=tuple(values[:10]))
        inside.append(abs(values[10] - kept.mean) <= kept.tolerance)
    assert 0.985 < np.mean(inside) < 0.995


def test_the_figures_of_checks_need_a_spread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(["--seeds", "1", "--out", str(tmp_path)]) == 2
    assert "expected at least 2 seeds" in capsys.readouterr().err


def run_of(folder: Path, cells: list[Cell]) -> str:
    folder.mkdir()
    text = "".join(json.dumps(cell.row(), ensure_ascii=False) + "\n" for cell in cells)
    (folder / "cells.jsonl").write_text(text, encoding="utf-8")
    (folder / "machine.json").write_text("{}", encoding="utf-8")
    write_report(folder)
    return (folder / "report.md").read_text(encoding="utf-8").replace("\\", "")


def checked(workload: Any, shift: float = 0.0) -> Cell:
    case = next(case for case in workload.cases("quick") if case.operation == check.OPERATION)
    kept = check.expected(case.suite)
    quality = check.CheckTraining(case, "cpu", (short if workload is cnn else coding_short).CHECK).quality(
        kept.mean + shift * kept.tolerance
    )
    row = blank(case, "dense", "cpu", status="ok").row()
    row |= {"quality": quality.value, "quality_metric": quality.metric, "qualities": dict(quality.figures or {})}
    return Cell(**(row | {"time_s": 1.0, "rounds": 1}))


def measured(workload: Any, names: tuple[str, ...] = ("dense", "csr")) -> list[Cell]:
    found = []
    for case in workload.cases("quick"):
        if case.operation in (check.OPERATION, "training_step"):
            continue
        quality = workload.problem(case, "cpu", None).quality(())
        for name in names:
            row = blank(case, name, "cpu", status="ok").row()
            row |= {"quality": quality.value, "quality_metric": quality.metric, "qualities": dict(quality.figures)}
            row |= {"time_s": 1e-3, "reference_time_s": 2e-3, "speedup": 2.0, "speedup_low": 1.9, "speedup_high": 2.1}
            found.append(Cell(**(row | {"stored_bytes": 1000, "dense_bytes": 4000, "rounds": 9, "visits": 1})))
    return found


@pytest.mark.parametrize(("workload", "name"), [(cnn, "mnist-cnn"), (coding, "mnist-coding")])
def test_chapters_name_the_kept_study_and_the_check(workload: Any, name: str, tmp_path: Path) -> None:
    told = run_of(tmp_path / "run", [checked(workload), *measured(workload)])
    assert f"shows the kept study epyc-2-cores-{name} (AMD EPYC, 2 cores, sparsebench 0.1.0" in told
    assert "reproduces the kept figure" in told
    assert "stands alone" not in told
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    joined = "accuracy, time and bytes over sparsity" if workload is cnn else "kept l1_clipped"
    assert joined in page
    if workload is coding:
        for row in read.coding_rows():
            assert row["workload"].removesuffix(", patches") in told


@pytest.mark.parametrize("workload", [cnn, coding])
def test_without_times_a_chapter_says_so_and_shows_quality(workload: Any, tmp_path: Path) -> None:
    told = run_of(tmp_path / "run", [checked(workload, shift=1.5)])
    assert told.count("stands alone; time them with: sparsebench run --suite") == 1
    assert told.count("does NOT reproduce the kept figure") == 2  # in the chapter, and at the head
    assert "99.29 ± 0.04" in told.replace("\N{NO-BREAK SPACE}", " ") if workload is cnn else "topk-autoencoder" in told


@pytest.mark.parametrize("workload", [cnn, coding])
def test_one_representation_without_times_is_named(workload: Any, tmp_path: Path) -> None:
    case = workload.cases("quick")[1]
    lost = blank(case, "ell", "cpu", status="unsupported", reason="too round")
    told = run_of(tmp_path / "run", [checked(workload), *measured(workload), lost])
    assert "ell (too round)." in told


def test_kept_plans_are_found_by_their_sparsity() -> None:
    assert [plan_.level for plan_ in coding_cases.kept_plans()] == [50, 25, 14, 7, 3]
