"""The collection's matrices become cases and products; a run over a folder with a wrong file measures the others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from command_line import rows, sparsebench
from small_collection import MATRICES, mask_of, write_collection

from sparsebench.representations import registry
from sparsebench.suites import plan
from sparsebench.suites.measure.fidelity import TOLERANCES, worst_error
from sparsebench.suites.search.handed import read_cells, write_cells
from sparsebench.suites.text import ratio
from sparsebench.suites.workloads.dlmc import collection
from sparsebench.suites.workloads.dlmc import workload as dlmc
from sparsebench.suites.workloads.idx import DataError

SUITES = Path(plan.__file__).parent
OTHER = "rn50/magnitude_pruning/0.5/bottleneck_2_block_group1_1_1"
CONV = "rn50/magnitude_pruning/0.9/bottleneck_2_block_group1_1_1"


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    collection.choose(None)


def test_every_matrix_meets_its_own_columns_first(tmp_path: Path) -> None:
    notes = collection.choose(write_collection(tmp_path))
    assert len(notes) == 1
    cases = dlmc.cases("quick")
    assert len({case.key for case in cases}) == len(cases) == 4 * len(MATRICES) - 1  # final_dense meets 1 once
    assert [case.workload for case in cases[: len(MATRICES)]] == sorted(MATRICES)
    assert [case.shape[2] for case in cases[: len(MATRICES)]] == [49, 49, 1, 256, 256]
    for name, (height, width, _) in MATRICES.items():
        assert {case.shape[:2] for case in cases if case.workload == name} == {(height, width)}
    assert {case.sparsity for case in cases} == {None}


def test_a_sample_is_that_many_and_the_whole_is_for_full(tmp_path: Path) -> None:
    write_collection(tmp_path)
    for number in range(30):
        text = (tmp_path / f"{CONV}.smtx").read_text(encoding="utf-8")
        (tmp_path / f"{CONV}_{number}.smtx").write_text(text, encoding="utf-8")

    def chosen(sample: int | None, profile: str) -> int:
        collection.choose(tmp_path, sample, profile=profile)
        return len({case.workload for case in dlmc.cases(profile)})

    assert [chosen(3, "quick"), chosen(3, "full"), chosen(None, "quick"), chosen(None, "full")] == [3, 3, 24, 35]


@pytest.mark.parametrize("name", MATRICES)
def test_a_problem_has_values_where_the_file_says(tmp_path: Path, name: str) -> None:
    collection.choose(write_collection(tmp_path))
    case = next(case for case in dlmc.cases("quick") if case.workload == name and case.shape[2] == 32)
    problem = dlmc.problem(case, "cpu", None)
    assert ((problem.tensor != 0).numpy() == mask_of(name)).all()
    assert problem.tensor.dtype == torch.float32
    assert torch.equal(problem.tensor, dlmc.problem(case, "cpu", None).tensor)
    stored, places = problem.counts()
    assert (stored, places) == (mask_of(name).sum(), mask_of(name).size)
    for representation in ("csr", "torch-csr", "scipy-coo"):
        cls = registry.load(representation)
        action = problem.action(cls, cls.build(problem.tensor, case.pattern))
        assert worst_error(problem.outputs(action()), problem.oracle()) <= TOLERANCES[torch.float32]
        signs = problem.turned()
        turned = tuple(sign * one for sign, one in zip(signs or (), problem.oracle(), strict=True))
        assert worst_error(problem.outputs(action()), turned) <= TOLERANCES[torch.float32]
        problem.turned()


def test_values_differ_from_matrix_to_matrix(tmp_path: Path) -> None:
    write_collection(tmp_path)
    (tmp_path / f"{CONV}_twin.smtx").write_bytes((tmp_path / f"{CONV}.smtx").read_bytes())
    collection.choose(tmp_path)
    one, two = (
        dlmc.problem(next(case for case in dlmc.cases("quick") if case.workload == name), "cpu", None).tensor
        for name in (CONV, f"{CONV}_twin")
    )
    assert torch.equal(one != 0, two != 0)
    assert not torch.equal(one, two)


def test_the_quality_is_the_networks(tmp_path: Path) -> None:
    collection.choose(write_collection(tmp_path))
    found = {}
    for case in dlmc.cases("quick"):
        quality = dlmc.problem(case, "cpu", None).quality(())
        found[case.workload] = None if quality is None else (quality.value, quality.metric)
    assert found == dict(
        zip(
            MATRICES,
            [(76.53, "network_top1_percent"), (73.91, "network_top1_percent"), (65.0, "network_top1_percent"),
             (26.33, "network_bleu"), None],
            strict=True,
        )
    )  # fmt: skip


def test_nothing_chosen_or_a_file_that_changed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--dlmc DIR.*sgk-sc2020.*got none"):
        dlmc.cases("quick")
    collection.choose(write_collection(tmp_path))
    case = dlmc.cases("quick")[0]
    path = tmp_path / f"{case.workload}.smtx"
    path.write_text("2, 3, 1\n0 0 1\n2\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"expected a matrix \(19, 37\), got \(2, 3\)"):
        dlmc.problem(case, "cpu", None)
    path.unlink()
    dlmc._places.cache_clear()
    with pytest.raises(DataError, match=case.workload):
        dlmc.problem(case, "cpu", None)


@pytest.mark.parametrize("cut", [0, 300])
def test_a_worker_that_reads_first_lines_only_has_the_cells_that_it_is_handed(tmp_path: Path, cut: int) -> None:
    write_collection(tmp_path)
    path = tmp_path / f"{CONV}.smtx"
    path.write_text(path.read_text(encoding="utf-8")[:cut], encoding="utf-8")
    collection.choose(tmp_path)
    cells = plan.plan(dlmc, "quick", ["dense", "csr"])
    assert sum(cell.case.workload == CONV for cell in cells) == 1
    write_cells(tmp_path / "next.json", cells)
    collection.choose(tmp_path, whole=False)
    read = read_cells(tmp_path / "next.json", dlmc, "quick")
    assert [cell.key("cpu") for cell in read] == [cell.key("cpu") for cell in cells]


def test_a_run_measures_all_but_the_wrong_and_tells_it_in_a_line(tmp_path: Path) -> None:
    folder = write_collection(tmp_path / "dlmc")
    cut = folder / f"{CONV}.smtx"
    cut.write_text(cut.read_text(encoding="utf-8").rsplit(maxsplit=2)[0], encoding="utf-8")
    stored, run = mask_of(CONV).sum(), tmp_path / "run"
    done = sparsebench("run", "--suite", "dlmc", "--dlmc", tmp_path, "--representation", "csr", "--representation",
                       "torch-csr", "--only", "|19x37x", "--time", "30s", "--out", run)  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr  # a failed cell
    assert [line for line in done.stderr.splitlines() if str(cut) in line] == [
        f"{cut}: expected {stored} columns, got {stored - 2}; take it from the collection again"
    ]
    cells = rows(run)
    (wrong,) = [row for row in cells if row["status"] != "ok"]
    assert (wrong["workload"], wrong["status"]) == (CONV, "crashed")
    assert str(cut) in wrong["reason"]
    right = [row for row in cells if row["status"] == "ok"]
    assert {(row["workload"], row["representation"], row["shape"][2]) for row in right} == {
        (OTHER, representation, columns) for representation in ("csr", "torch-csr") for columns in (49, 1, 32, 128)
    }
    for row in right:
        assert row["achieved_sparsity"] == pytest.approx(1 - mask_of(OTHER).mean())
        assert (row["sparsity"], row["quality"], row["quality_metric"]) == (None, 76.53, "network_top1_percent")
        assert row["speedup"] > 0
    assert sparsebench("report", run).returncode == 0
    page, told = ((run / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    assert "Real networks: quality, time, bytes" in page
    assert "--dlmc DIR" in page
    assert str(cut) in page
    (own,) = [row["speedup"] for row in right if (row["representation"], row["shape"][2]) == ("csr", 49)]
    assert f"| rn50 | as the network has | csr | 1 | {ratio(own)} |" in told


def test_without_a_folder_there_is_one_line(tmp_path: Path) -> None:
    done = sparsebench("run", "--suite", "dlmc", "--out", tmp_path / "run")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("sparsebench: expected --dlmc DIR, a folder with rn50/ and transformer/")
    assert "https://storage.googleapis.com/sgk-sc2020/dlmc.tar.gz" in line
    done = sparsebench("run", "--suite", "dlmc", "--dlmc", tmp_path / "gone", "--out", tmp_path / "run")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_pytest_alone_skips_without_a_folder_and_refuses_a_wrong_one(tmp_path: Path) -> None:
    def tried(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pytest", SUITES / "bench_dlmc.py", "-c", SUITES / "pytest.ini", "-q", "-rs"]
        return subprocess.run([*map(str, command), "-p", "no:cacheprovider", *more], capture_output=True, text=True,
                              timeout=300, check=False)  # fmt: skip

    without = tried()
    assert without.returncode == 0, without.stdout + without.stderr
    assert "1 skipped" in without.stdout
    assert "expected --dlmc DIR" in without.stdout
    wrong = tried(f"--dlmc={tmp_path}")
    assert wrong.returncode == 2
    assert "which holds no MODEL/METHOD/SPARSITY/NAME.smtx" in wrong.stdout + wrong.stderr
    write_collection(tmp_path)
    some = tried(f"--dlmc={tmp_path}", "--dlmc-sample=2", "--collect-only", "--representation=csr")
    assert "7 tests collected" in some.stdout, some.stdout + some.stderr
