"""The report's chapter on the sparse CNN: what is read, what is claimed, and what is drawn."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer
from scipy import stats

from sparsebench.representations.pattern import Pattern
from sparsebench.suites.cell import Case, Cell, blank
from sparsebench.suites.report import read_run, write_report
from sparsebench.suites.workloads.sparse_cnn.chapter.figures import penalty_figure, side_by_side
from sparsebench.suites.workloads.sparse_cnn.chapter.pareto import timed_cells, undominated
from sparsebench.suites.workloads.sparse_cnn.chapter.runs import Setting, read_trained
from sparsebench.suites.workloads.sparse_cnn.chapter.step import step_table, step_text
from sparsebench.suites.workloads.sparse_cnn.chapter.tables import accuracy_table, contest_text, contests

LAYERS = {"first": (8, 1), "second": (16, 8), "third": (16, 16)}
SPACE = "\N{NO-BREAK SPACE}"


def arrays_of(
    method: str = "group-lasso", pattern: str = "plane", sparsity: float = 0.75, seed: int = 0,
    accuracy: float = 0.98, rho: float | None = None, epochs: int = 6, parameters: int = 5000,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Return a file's arrays as the workload writes them, with made-up numbers."""
    rng = np.random.default_rng(seed)
    sparse = method not in ("dense", "narrow")
    masks = {name: rng.random(shape) >= (sparsity if sparse else 0.0) for name, shape in LAYERS.items()}
    kept = [float(mask.mean()) for mask in masks.values()]
    on = 0.4 if rho is None else rho * 1.1
    return {
        "method": np.array(method), "pattern": np.array(pattern), "data": np.array("MNIST, 60,000"),
        "sparsity": np.array(sparsity), "seed": np.array(seed), "epochs": np.array(epochs),
        "parameters": np.array(parameters), "rho": np.array(math.nan if rho is None else rho),
        "planes": np.array(np.mean(kept)), "seconds": np.array(12.0),
        "accuracy": np.array([0.5, 0.999, accuracy]),  # the best epoch is not the last one
        "layers": np.array([*LAYERS, "classifier"]), "weight_density": np.array([*kept, 1.0]),
        "plane_density": np.array([*kept, 1.0]), "hidden": np.array(["relu1", "relu2"]),
        "activity": np.array([on, on / 2]), "plane_activity": np.array([min(1.0, 2 * on), on]),
        **{f"mask_{name}": mask for name, mask in masks.items()},
    }  # fmt: skip


def keep(run: Path, arrays: dict[str, np.ndarray]) -> None:
    rho = float(arrays["rho"])
    parts = [str(arrays[name]) for name in ("method", "pattern", "sparsity", "epochs", "seed")]
    label = "-".join(parts + ([] if math.isnan(rho) else [f"rho{rho:g}"]))
    np.savez(run / f"sparse_cnn-{label}.npz", **arrays)  # type: ignore[arg-type]


def run_of(folder: Path, trainings: list[dict[str, np.ndarray]], cells: list[Cell] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for arrays in trainings:
        keep(folder, arrays)
    text = "".join(json.dumps(cell.row()) + "\n" for cell in cells or [])
    (folder / "cells.jsonl").write_text(text, encoding="utf-8")
    (folder / "machine.json").write_text("{}", encoding="utf-8")
    return folder


def study(count: int, gain: float = 0.004) -> list[dict[str, np.ndarray]]:
    """Return trainings of `count` seeds: dense, sparse and narrow at three budgets, patterns, and penalties."""
    rng = np.random.default_rng(1)
    found = []
    for seed in range(count):
        noise = iter(rng.normal(0, 5e-4, 40))
        found.append(arrays_of("dense", sparsity=0.0, seed=seed, accuracy=0.993 + next(noise), parameters=60_000))
        for sparsity in (0.75, 0.875, 0.9375):
            size = round(60_000 * (1 - sparsity))
            for method, level in {"group-lasso": 0.99, "narrow": 0.99 - gain, "rigl": 0.985}.items():
                accuracy = level - 0.02 * (sparsity - 0.75) + next(noise)
                found.append(arrays_of(method, "plane", sparsity, seed, accuracy, parameters=size))
        found += [
            arrays_of("magnitude", pattern, sparsity, seed, 0.985 + next(noise))
            for pattern in ("element", "block", "channel")
            for sparsity in (0.75, 0.9375)
        ]
        found += [
            arrays_of("dense", sparsity=0.0, seed=seed, accuracy=0.99 + next(noise), rho=rho)
            for rho in (0.02, 0.05, 0.1, 0.2)
        ]
    return found


def timed(operation: str = "inference") -> list[Cell]:
    """Return cells of one operation: two networks on three representations."""
    found = []
    names = {"dense": (8e-3, 240_000), "planes": (2e-3, 30_000), "csr": (3e-3, 60_000)}
    for sparsity, accuracy in ((0.75, 0.99), (0.9, 0.98)):
        for name, (elapsed, stored) in names.items():
            case = Case(
                suite="sparse_cnn", workload="digits CNN, magnitude", operation=operation, shape=(32, 1, 28, 28),
                pattern=Pattern(kind="plane", block=(1, 9)), sparsity=sparsity,
            )  # fmt: skip
            scale = 1.0 if name == "dense" else (1 - sparsity) / 0.25
            cell = blank(case, name, "cpu", status="crashed", reason="in progress")
            found.append(dataclasses.replace(
                cell, status="ok", reason=None, provenance="native", kernel=name, time_s=elapsed * scale,
                reference="dense contiguous", reference_time_s=8e-3, speedup=8e-3 / (elapsed * scale), speedup_low=0.9,
                speedup_high=9.0, rounds=20, time_spread=0.05, build_time_s=1e-3, stored_bytes=round(stored * scale),
                dense_bytes=240_000, quality=accuracy, quality_metric="test accuracy", relative_error=1e-7,
                tolerance=1e-5, achieved_sparsity=sparsity,
            ))  # fmt: skip
    return found


def chapter(run: Path) -> str:
    """Return the chapter as Markdown."""
    text = write_report(run).with_name("report.md").read_text(encoding="utf-8")
    start = text.index("## Sparse CNN")
    return text[start : text.index("\n## ", start + 5)]


# Reading


def test_seeds_of_one_setting_come_together_and_the_last_epoch_counts(tmp_path: Path) -> None:
    run = run_of(tmp_path, [arrays_of(seed=seed, accuracy=value) for seed, value in enumerate((0.97, 0.98, 0.985))]
                 + [arrays_of(rho=0.05)] + [arrays_of(epochs=5)])  # fmt: skip
    settings, notes = read_trained(run)
    assert notes == []
    assert sorted(len(one.runs) for one in settings) == [1, 1, 3]
    (three,) = [one for one in settings if len(one.runs) == 3]
    assert three.mean(lambda run: run.accuracy) == pytest.approx(np.mean([0.97, 0.98, 0.985]))
    assert three.deviation(lambda run: run.accuracy) == pytest.approx(np.std([0.97, 0.98, 0.985], ddof=1))
    assert next(one for one in settings if one.one.rho is not None).deviation(lambda run: run.accuracy) is None
    assert three.label == f"group-lasso, plane 75{SPACE}%"


def test_the_share_of_weights_is_that_of_all_masked_layers_together(tmp_path: Path) -> None:
    arrays = arrays_of()
    settings, _ = read_trained(run_of(tmp_path, [arrays]))
    planes = sum(int(arrays[f"mask_{name}"].sum()) for name in LAYERS)
    total = sum(height * width for height, width in LAYERS.values())
    assert settings[0].one.weights == pytest.approx(planes / total)  # the classifier has no mask


def test_a_damaged_file_costs_itself_alone_and_a_missing_array_its_own_part(tmp_path: Path) -> None:
    whole = arrays_of(seed=0)
    bare = {name: arrays_of(seed=1, sparsity=0.5)[name] for name in ("method", "data", "sparsity", "seed", "accuracy")}
    odd = arrays_of(seed=2, sparsity=0.25) | {"activity": np.zeros((2, 2)), "mask_first": np.zeros(3), "planes":
                                              np.array("many"), "hidden": np.array(["a"])}  # fmt: skip
    run = run_of(tmp_path, [whole, odd])
    np.savez(run / "sparse_cnn-bare.npz", **bare)  # type: ignore[arg-type]
    np.savez(run / "sparse_cnn-lost.npz", method=np.array("rigl"))
    (run / "sparse_cnn-broken.npz").write_bytes(b"PK no archive")
    np.savez(run / "sparse_cnn-pickle.npz", method=np.array([{}], dtype=object))
    settings, notes = read_trained(run)
    assert len(settings) == 3
    assert len(notes) == 3
    assert [note.split(" cannot")[0] for note in notes] == [f"sparse_cnn-{name}.npz" for name in
                                                            ("broken", "lost", "pickle")]  # fmt: skip
    assert "lacks data, sparsity, seed, accuracy" in notes[1]
    page = write_report(run).read_text(encoding="utf-8")
    assert all(note.replace(">", "&gt;") in page for note in notes)
    assert "98.00" in page


# Claims


def test_the_paired_test_is_over_common_seeds(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    sparse, narrow = 0.99 + rng.normal(0, 1e-3, 6), 0.985 + rng.normal(0, 1e-3, 5)
    trainings = [arrays_of(seed=seed, accuracy=value) for seed, value in enumerate(sparse)]
    trainings += [arrays_of("narrow", seed=seed + 2, accuracy=value) for seed, value in enumerate(narrow)]
    trainings += [arrays_of("narrow", sparsity=0.5, seed=0), arrays_of("narrow", epochs=5), arrays_of("dense")]
    (one,) = contests(read_trained(run_of(tmp_path, trainings))[0])
    assert one.differences == pytest.approx(sparse[2:] - narrow[:4])
    assert one.p == pytest.approx(stats.ttest_rel(sparse[2:], narrow[:4]).pvalue)


@pytest.mark.parametrize(
    ("gain", "seeds", "verdict", "said"),
    [
        (0.005, 6, "better", "better in 1 of 1"),
        (-0.005, 6, "not better: worse", "better in 0 of 1"),
        (0.0, 6, "not better: no difference shown", "Not better: group-lasso, plane"),
        (0.005, 2, "too few seeds for a test (2 of 3)", "nothing can be said about which is better"),
        (0.005, 1, "too few seeds for a test (1 of 3)", "nothing can be said about which is better"),
    ],
)
def test_what_is_said_of_sparse_against_narrow(
    gain: float, seeds: int, verdict: str, said: str, tmp_path: Path
) -> None:
    trainings = []
    for seed in range(seeds):
        wiggle = 1e-3 * (-1) ** seed  # of the difference: without a gain its mean is 0
        trainings.append(arrays_of(seed=seed, accuracy=0.98 + gain + wiggle))
        trainings.append(arrays_of("narrow", seed=seed, accuracy=0.98))
    found = contests(read_trained(run_of(tmp_path, trainings))[0])
    assert [one.verdict for one in found] == [verdict]
    assert said in contest_text(found).replace(SPACE, " ")
    text = chapter(tmp_path)
    assert f"| {verdict} |" in text
    assert ("one seed, no sd" in text) is (seeds == 1)


def test_differences_that_are_all_alike_are_no_test(tmp_path: Path) -> None:
    trainings = [arrays_of(method, seed=seed, accuracy=0.75) for method in ("rigl", "narrow") for seed in range(4)]
    (one,) = contests(read_trained(run_of(tmp_path, trainings))[0])
    assert one.p is None
    assert one.verdict == "no test: all differences are alike"


def test_the_accuracy_table_says_what_is_stored_and_on(tmp_path: Path) -> None:
    trainings = [arrays_of(seed=seed, accuracy=0.97 + 0.01 * seed) for seed in (0, 1, 2)]
    settings, _ = read_trained(run_of(tmp_path, [*trainings, arrays_of(seed=0, rho=0.05)]))
    table = accuracy_table(settings)
    (row,) = [dict(zip(table.head, row, strict=True)) for row in table.rows if row[0].text == "group-lasso"]
    assert row["test accuracy"].text == f"98.00 ± 1.00{SPACE}%"
    stored = np.mean([float(arrays["planes"]) for arrays in trainings])
    assert row["planes stored"].sort == pytest.approx(stored)
    assert row["activation sparsity"].sort == pytest.approx(1 - 0.3)
    assert row["seeds"].text == "3"
    (penalised,) = [row for row in table.rows if row[0].text == "group-lasso, ρ=0.05"]
    assert penalised[table.head.index("test accuracy")].text == f"98.00{SPACE}%"
    assert "MNIST, 60,000" in table.note


# Pictures


def test_a_whole_study_gives_every_picture(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", study(3), [*timed(), *timed("training_step")])
    page = write_report(run).read_text(encoding="utf-8")
    body = page[page.index('id="sparse-cnn"') : page.index("</section>", page.index('id="sparse-cnn"'))]
    labels = re.findall(r'<svg role="img" aria-label="([^"]*)"', body)
    assert labels == ["accuracy over sparsity", "activity against rho", "activity per layer",
                      "time, bytes and accuracy", "time, bytes and accuracy"]  # fmt: skip
    assert body.count('class="tiles"') == 6 + 6  # two methods at three sparsities, three patterns at two
    assert "3 seeds; bars and band: ± sd over the seeds" in body
    assert "<script" not in body
    short = chapter(run)
    assert "What nothing else beats" in short
    assert "better in 3 of 6" in short.replace(SPACE, " ")
    assert "## Sparse coding" not in (run / "report.md").read_text(encoding="utf-8")  # its cells are of another suite


def test_the_line_as_asked_is_where_activity_equals_rho(tmp_path: Path) -> None:
    settings, _ = read_trained(run_of(tmp_path, [arrays_of(rho=rho) for rho in (0.02, 0.05, 0.2)]))
    settings.sort(key=lambda one: one.one.rho or 0.0)
    (axes,) = penalty_figure(settings).axes
    line = axes.lines[-1]
    assert line.get_linestyle() == "--"
    np.testing.assert_array_equal(line.get_xdata(), line.get_ydata())
    assert axes.get_xscale() == "log"
    assert len(np.asarray(line.get_xdata())) > 20  # on a log axis it is a curve
    drawn = [one.lines[0] for one in axes.containers if isinstance(one, ErrorbarContainer)]
    np.testing.assert_allclose(
        [np.asarray(one.get_ydata(orig=False)) for one in drawn if one is not None],
        [[0.022, 0.055, 0.22], [0.011, 0.0275, 0.11]],
    )


def test_a_layer_without_planes_is_named(tmp_path: Path) -> None:
    arrays = arrays_of()
    arrays["mask_second"] = np.zeros_like(arrays["mask_second"])
    text = write_report(run_of(tmp_path, [arrays])).read_text(encoding="utf-8")
    assert f"second of group-lasso, plane 75{SPACE}% (1 of 1{SPACE}seed)" in text
    assert ": none left)" in text


def test_a_run_without_a_sparse_cnn_has_no_such_chapter(tmp_path: Path) -> None:
    other = [dataclasses.replace(cell, suite="conv2d", quality=None, quality_metric=None) for cell in timed()]
    assert 'id="sparse-cnn"' not in write_report(run_of(tmp_path, [], other)).read_text(encoding="utf-8")


def test_what_nothing_beats_is_what_brute_force_finds(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    cells = [
        dataclasses.replace(timed()[0], seed=number, time_s=float(rng.integers(1, 6)),
                            stored_bytes=int(rng.integers(1, 6)), quality=float(rng.integers(1, 6)) / 10)
        for number in range(60)
    ]  # fmt: skip
    frame = timed_cells(read_run(run_of(tmp_path, [], cells)).frame)
    assert len(frame) == 60
    rows = frame.to_dict("index")

    def beats(a: Mapping[Hashable, Any], b: Mapping[Hashable, Any]) -> bool:
        pairs = [(a["time_s"], b["time_s"]), (a["stored_bytes"], b["stored_bytes"]), (b["quality"], a["quality"])]
        return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)

    want = {key for key, row in rows.items() if not any(beats(other, row) for other in rows.values())}
    assert 0 < len(want) < 60
    assert set(undominated(frame).index) == want


def test_layers_stand_side_by_side_with_a_gap() -> None:
    sheet = side_by_side([np.ones((3, 2)), np.zeros((5, 4))])
    assert sheet.shape == (5, 2 + 4 + 4)
    assert np.isnan(sheet[3:, :6]).all()
    assert np.isnan(sheet[:, 2:6]).all()
    assert sheet[:3, :2].min() > sheet[:, 6:].max()


def test_settings_without_a_penalty_are_plain(tmp_path: Path) -> None:
    winners = arrays_of() | {"winners": np.array(0.5)}
    settings, _ = read_trained(run_of(tmp_path, [arrays_of(sparsity=0.5), winners, arrays_of(sparsity=0.25, rho=0.1)]))
    assert [one.plain for one in settings] == [False, True, False]
    assert {one.method for one in settings} == {"group-lasso, ρ=0.1", "group-lasso", "group-lasso, k=0.5"}
    assert isinstance(settings[0], Setting)


def step_cells(speedup: float) -> list[Cell]:
    """Return a training step of 10 ms dense, of which 4 ms and 3 ms are layers that are as many times faster."""
    found = []
    for operation, dense in (("training_step", 0.010), ("conv2_step", 0.004), ("conv3_step", 0.003)):
        case = Case(
            suite="sparse_cnn", workload="digits CNN", operation=operation, shape=(128, 32, 64, 64),
            pattern=Pattern(kind="plane", block=(1, 9)), sparsity=0.9,
        )  # fmt: skip
        cell = blank(case, "planes", "cpu", status="ok", reason=None)
        saved = 0.007 * (1 - 1 / speedup) if operation == "training_step" else dense * (1 - 1 / speedup)
        own = dense - saved
        found.append(dataclasses.replace(cell, time_s=own, reference_time_s=dense, speedup=dense / own))
    return found


def test_where_a_training_steps_time_goes(tmp_path: Path) -> None:
    frame = read_run(run_of(tmp_path / "run", [], step_cells(4.0))).frame
    table = step_table(frame)
    assert table is not None
    assert table.head[-3:] == ("conv2", "conv3", "rest")
    (row,) = table.rows
    assert row[-1].sort == pytest.approx(0.003)  # 10 - 4 - 3, the same on both sides
    assert row[-3].sort == pytest.approx(0.001)
    told = step_text(frame)
    assert told is not None
    assert "2.1" in told
    assert "less than twice" not in told
    slow = step_text(read_run(run_of(tmp_path / "slow", [], step_cells(1.5))).frame)
    assert slow is not None
    assert "less than twice as fast" in slow


def test_no_training_step_no_word_about_it(tmp_path: Path) -> None:
    frame = read_run(run_of(tmp_path / "run", study(1))).frame
    assert step_table(frame) is None
    assert step_text(frame) is None
