"""A whole run by the real command, with representations that take their worker down."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_line import GRID, HERE, ONE, SMALL, SPARSEBENCH, environment, rows, sparsebench

from sparsebench.suites import cli
from sparsebench.suites.measure.timing import EFFORTS
from sparsebench.suites.plan import suites
from sparsebench.suites.runner.journal import RunFolder, RunFolderError


@dataclass(frozen=True, kw_only=True)
class Said:
    """What the command left with, and what it said."""

    returncode: int
    stdout: str
    stderr: str


class Command:
    """The command in this process, without the seconds that another needs to import torch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: str | Path) -> Said:
        self._monkeypatch.setattr(sys, "argv", ["sparsebench", *map(str, arguments)])
        self._monkeypatch.setattr(sys, "path", list(sys.path))
        with pytest.raises(SystemExit) as left:
            cli.main()
        said = self._capsys.readouterr()
        assert isinstance(left.value.code, int)
        return Said(returncode=left.value.code, stdout=said.out, stderr=said.err)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


CASES = 4


def test_one_bad_representation_costs_no_other_cell(tmp_path: Path, command: Command) -> None:
    run = tmp_path / "run"
    bad = [f"--representation=bad_representations:{name}" for name in ("Dies", "Wrong", "Refuses")]
    result = sparsebench(*GRID, *bad, "--representation=dense", "--out", run)
    assert result.returncode == 1, result.stderr
    by_name = {name: [row for row in rows(run) if row["representation"].endswith(name)] for name in
               ("Dies", "Wrong", "Refuses", "dense")}  # fmt: skip
    assert Counter(row["status"] for row in by_name["dense"]) == {"ok": CASES}
    assert Counter(row["status"] for row in by_name["Wrong"]) == {"wrong": CASES}
    assert Counter(row["status"] for row in by_name["Refuses"]) == {"unsupported": CASES}
    assert Counter(row["status"] for row in by_name["Dies"]) == {"crashed": CASES}
    reasons = Counter(row["reason"] for row in by_name["Dies"])
    assert reasons["the worker died of SIGSEGV"] == 3
    assert reasons["not tried: 3 workers died on bad_representations:Dies in this suite"] == CASES - 3
    assert all(path.stat().st_size > 0 for path in run.glob("benchmark-*.json"))
    assert not (run / "current.json").exists()
    assert {row["visits"] for row in by_name["dense"]} == {EFFORTS["quick"].visits}
    assert all(row["rounds"] >= 15 for row in by_name["dense"])

    again = sparsebench(*GRID, "--representation=dense", "--representation=torch-csr", "--out", run)
    assert again.returncode == 0, again.stdout + again.stderr
    assert Counter(row["representation"] for row in rows(run))["dense"] == CASES  # finished cells were not run again
    assert Counter(row["representation"] for row in rows(run))["torch-csr"] == CASES  # the new ones were

    facts = json.loads((run / "machine.json").read_text(encoding="utf-8"))
    # as if it had been written with a thread more: how many there are here may be one
    facts["settings"]["threads"] += 1
    (run / "machine.json").write_text(json.dumps(facts), encoding="utf-8")
    other = command(*GRID, "--representation=dense", "--out", run)
    assert other.returncode == 2
    assert re.search(r"expected threads=\d+ to resume .*, got \d+; choose another --out", other.stderr)


def test_a_cell_that_hangs_is_a_timeout(tmp_path: Path) -> None:
    run = tmp_path / "run"
    names = ("bad_representations:Hangs", "dense")
    result = sparsebench(*ONE, "--out", run, "--cell-timeout", "8",
                         *(f"--representation={name}" for name in names))  # fmt: skip
    assert result.returncode == 1, result.stderr
    assert {row["representation"]: row["status"] for row in rows(run)} == {names[0]: "timeout", names[1]: "ok"}
    assert "took longer than 8 s" in rows(run)[0]["reason"]


def test_ctrl_c_keeps_finished_rows_and_the_report_works_on_them(tmp_path: Path, command: Command) -> None:
    run = tmp_path / "run"
    words = [str(SPARSEBENCH), *GRID, "--representation=dense", "--representation=bad_representations:Hangs",
               "--out", str(run)]  # fmt: skip
    process = subprocess.Popen(
        words,
        env=environment(HERE),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # a shell that put these tests into the background has them ignore Ctrl-C, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 120
        while not (run / "cells.jsonl").exists():
            assert time.monotonic() < deadline, "no cell was finished in two minutes"
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, errors.decode()
    assert "interrupted; every finished cell is in" in output.decode()
    assert [row["status"] for row in rows(run)] == ["ok"]
    assert command("report", run).returncode == 0
    assert (run / "report.html").stat().st_size > 1000


def test_a_suite_runs_under_plain_pytest_and_its_json_carries_the_row(tmp_path: Path) -> None:
    suites = Path(__file__).parents[2] / "suites"
    command = [sys.executable, "-m", "pytest", str(suites / "bench_matmul.py"), "--benchmark-only", "--representation",
               "torch-csr", "--benchmark-json=out.json", "--only", "|channel"]  # fmt: skip
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert found["sparsebench_machine"]["threads"] >= 1
    assert len(found["benchmarks"]) == 2
    for benchmark in found["benchmarks"]:
        info = benchmark["extra_info"]
        assert (info["representation"], info["status"]) == ("torch-csr", "ok")
        assert info["time_s"] > 0
        # pytest-benchmark timed whole samples of so many calls; what the row says is one call
        assert info["time_s"] * info["inner_iterations"] == pytest.approx(benchmark["stats"]["median"], rel=0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--representation", "nope"], "expected a representation of dense, "),
        (["run", "--representation", "nowhere:Nothing"], "expected nowhere:Nothing to import, got ModuleNotFoundError"),
        (["run", "--suite", "nope"], "expected a suite of conv2d, matmul, sparse_cnn, sparse_coding, dlmc, got 'nope'"),
        (["run", "--profile", "slow"], "expected a profile of gpu, quick, full, got 'slow'"),
        (["run", "--device", "tpu"], "expected a device of cpu, cuda, got 'tpu'"),
        (["run", "--threads", "0"], "expected 1 to "),
        (["run", "--cell-memory", "much"], "expected --cell-memory as 4GiB or 1500MiB, got 'much'"),
        (["run", "--cell-memory", "512M"], "expected a cell memory of at least 1024 MiB, got 512 MiB"),
        (["run", "--cell-timeout", "0"], "expected a cell timeout > 0 s, got 0.0"),
        (["run", "--data", "/nowhere/at/all"], "/nowhere/at/all"),
        (["run", "--only", "no cell is called so"], "expected --only to name cells"),
        (["run", "--levels", "0.5,half"], "expected --levels as 0.5,0.8,0.9, got '0.5,half'"),
        (["run", "--levels", "0.5,1.0"], "expected levels of at least 0 and below 1, got 1.0"),
        (["run", "--time", "soon"], "expected --time as 90s, 10m or 2h, got 'soon'"),
        (["run", "--time", "3s"], "expected a time of at least 20 s, got 3 s"),
        (["report", "/nowhere/at/all"], "expected a folder with cells.jsonl, got /nowhere/at/all"),
        (["compare", "/nowhere/a", "/nowhere/b"], "expected a folder with cells.jsonl, got /nowhere/a"),
        (["check", "nope"], "expected a representation of dense, "),
        (["check", "json:JSONDecoder"], "expected json:JSONDecoder to be a subclass of Representation"),
    ],
)
def test_a_users_mistake_is_one_line_and_status_2(
    arguments: list[str], message: str, tmp_path: Path, command: Command
) -> None:
    if arguments[0] == "run":
        arguments = [*arguments, "--out", str(tmp_path / "run")]
    result = command(*arguments)
    assert result.returncode == 2, result.stdout + result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert message in lines[0]
    assert not (tmp_path / "run").exists()


def test_a_search_answers_its_curves_and_a_resumed_one_goes_on(tmp_path: Path, command: Command) -> None:
    run = tmp_path / "run"
    chosen = [f"--representation={name}" for name in ("dense", "torch-bsr", "dense-masked")]
    result = sparsebench(*SMALL, *chosen, "--time", "60s", "--out", run)
    assert result.returncode == 0, result.stdout + result.stderr
    levels = {name: sorted(row["sparsity"] for row in rows(run) if row["representation"] == name)
              for name in ("dense", "torch-bsr", "dense-masked")}  # fmt: skip
    assert len(levels["dense"]) == 1
    assert len(levels["torch-bsr"]) >= 2  # on both sides of where it crosses
    assert levels["dense-masked"][-1] > 0.98  # never faster, and told so after the highest level
    assert len(levels["dense-masked"]) <= 3
    assert {tuple(row["level_range"]) for row in rows(run)} == {(13 / 256, 253 / 256)}
    assert not (run / "next.json").exists()
    before = len((run / "cells.jsonl").read_text(encoding="utf-8").splitlines())
    again = sparsebench(*SMALL, *chosen, "--time", "60s", "--out", run)
    assert again.returncode == 0, again.stderr
    after = len((run / "cells.jsonl").read_text(encoding="utf-8").splitlines())
    assert after == before  # all was answered, and the journal says so
    assert command("report", run).returncode == 0
    assert "not up to" in (run / "report.md").read_text(encoding="utf-8")


PLUGIN = """
import torch
from sparsebench.representations.formats.torch_csr import TorchCsr

class Mine(TorchCsr):
    name = "mine"
"""


def plugin(folder: Path, module: str, source: str, entry: str) -> Path:
    """Lay a distribution out as pip would, outside of this tree."""
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / f"{module}.py").write_text(source, encoding="utf-8")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[sparsebench.representations]\n{entry}\n", encoding="utf-8")
    return folder


def test_a_plug_in_is_listed_checked_measured_and_reported(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = plugin(tmp_path / "site", "my_plugin", PLUGIN, "mine = my_plugin:Mine")
    monkeypatch.syspath_prepend(site)
    assert re.search(r"mine\s.*my_plugin.*yes", command("list").stdout)
    check = command("check", "mine")
    assert check.returncode == 0, check.stdout
    run = tmp_path / "run"
    result = sparsebench(*ONE, "--representation=mine", "--out", run, paths=(site,))
    assert result.returncode == 0, result.stdout + result.stderr
    assert [(row["representation"], row["status"]) for row in rows(run)] == [("mine", "ok")]
    assert command("report", run).returncode == 0
    assert "mine" in (run / "report.md").read_text(encoding="utf-8")
    assert "mine" in (run / "report.html").read_text(encoding="utf-8")


def test_a_broken_plug_in_costs_its_own_cells_only(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = plugin(tmp_path / "site", "my_broken", "import not_there\n", "broken = my_broken:Broken")
    monkeypatch.syspath_prepend(site)
    listed = command("list")
    assert listed.returncode == 0, listed.stderr
    assert "not_there" in listed.stdout
    run = tmp_path / "run"
    result = sparsebench(*ONE, "--representation=dense", "--representation=broken", "--out", run, paths=(site,))
    assert result.returncode == 1, result.stderr
    assert {row["representation"]: row["status"] for row in rows(run)} == {"dense": "ok", "broken": "crashed"}
    assert "expected my_broken:Broken to import, got ModuleNotFoundError" in rows(run)[-1]["reason"]


# What a run folder and a terminal may be


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_folder_that_cannot_be_made_is_refused_before_anything_is_measured(
    tmp_path: Path, name: str, command: Command
) -> None:
    (tmp_path / "file").write_text("kept")
    done = command("run", "--only", "|matmul|", "--out", str(tmp_path / name))
    assert done.returncode == 2
    assert done.stderr.startswith("sparsebench: expected a folder to write a run into, got ")
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "file").read_text() == "kept"


def test_a_folder_that_another_run_writes_is_refused(tmp_path: Path) -> None:
    folder = RunFolder(path=tmp_path / "run")
    with folder.locked(), pytest.raises(RunFolderError, match="got one that another run is writing"), folder.locked():
        pytest.fail("locked twice")
    with folder.locked():  # and free again
        pass


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_the_characters_gets_others(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    done = sparsebench("list")
    assert done.returncode == 0, done.stderr
    assert "block-sparse" in done.stdout


@pytest.mark.parametrize("door", ["command", "pytest"])
def test_no_threads_are_refused_by_both_doors(door: str, tmp_path: Path) -> None:
    if door == "command":
        done = sparsebench("run", "--threads", "0", "--out", str(tmp_path / "run"))
    else:
        bench = suites()["matmul"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", str(bench), "-c", str(bench.parent / "pytest.ini"), "--threads=0"],
            capture_output=True, text=True, cwd=tmp_path, check=False,
        )  # fmt: skip
    assert done.returncode in (2, 4)
    assert "expected 1 to " in done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout


BENCH = """
from sparsebench.suites.workloads import matmul
from sparsebench.suites.plugin import CellRunner


class WORKLOAD:
    @staticmethod
    def cases(profile):
        return [case for case in matmul.cases(profile) if case.operation == "matmul"][:4]

    @staticmethod
    def problem(case, device, data):
        if case.sparsity == WORKLOAD.cases("quick")[0].sparsity:
            raise OSError("no such data")
        return matmul.problem(case, device, data)


def test_cell(cell_runner: CellRunner) -> None:
    cell_runner(WORKLOAD)
"""


def test_a_problem_that_cannot_be_made_costs_its_own_cells_only(tmp_path: Path) -> None:
    bench = tmp_path / "bench_mine.py"
    bench.write_text(BENCH)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(bench), "-c", str(suites()["matmul"].parent / "pytest.ini"), "--rootdir",
         str(tmp_path), "-p", "sparsebench.suites.plugin", "--benchmark-only", "--representation=torch-csr",
         f"--out={tmp_path / 'run'}"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    found = rows(tmp_path / "run")
    assert Counter(row["status"] for row in found) == {"crashed": 1, "ok": 3}, done.stdout
    assert {row["reason"] for row in found if row["status"] == "crashed"} == {"OSError: no such data"}
    assert "Traceback (most recent call last)" in done.stdout  # the worker's log has the rest
