"""A package outside of the tree brings a workload: it is listed, measured and told; a broken one costs one line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sparsebench.representations import registry
from sparsebench.suites import cli
from sparsebench.suites.runner.journal import RunFolder

SPARSEBENCH = Path(sys.executable).with_name("sparsebench")
SUITES = Path(__file__).resolve().parents[2] / "suites"
GOOD = """
import dataclasses

from sparsebench.representations.pattern import Pattern
from sparsebench.suites.cell import Case
from sparsebench.suites.report.table import Section, Table, figure, words
from sparsebench.suites.workloads.matmul import MatmulProblem
from sparsebench.suites.workloads.problem import Quality


class Colder(MatmulProblem):
    def quality(self, outputs):
        return Quality(value=273.15, metric="kelvin")


def cases(profile):
    return [
        Case(suite="weather", workload="a front", operation="matmul", shape=(48, 32, 8),
             pattern=Pattern(kind="element"), sparsity=level)
        for level in (0.5, 0.9)
    ]


def problem(case, device, data):
    if case.sparsity == 0.9 and data == "never":
        raise ValueError("too warm")
    return Colder(case, device)


def chapter(run, looks):
    rows = tuple((words(row["representation"]), figure("cold", row["quality"])) for row in run.frame.to_dict("records"))
    table = Table(title="How cold it got", head=("representation", "temperature"), rows=rows)
    return Section(anchor="weather", title="The weather chapter", tables=(table,)), ["a thermometer was lost"]
"""
BROKEN = {
    "gone": "import a_module_that_nobody_has",
    "mute": "",
    "raises": "def cases(profile):\n    raise RuntimeError('no cases today\\nreally')",
    "thief": GOOD.replace('suite="weather"', 'suite="matmul"'),
}


def installed(folder: Path, sources: dict[str, str]) -> Path:
    """Lay a distribution out as pip would, each module of it a workload."""
    info = folder / "weather_station-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: weather-station\nVersion: 1.0\n", encoding="utf-8")
    points = "".join(f"{name} = weather_{name}\n" for name in sources)
    (info / "entry_points.txt").write_text(f"[sparsebench.workloads]\n{points}", encoding="utf-8")
    for name, source in sources.items():
        (folder / f"weather_{name}.py").write_text(source, encoding="utf-8")
    return folder


def call(site: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(site)}
    return subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, timeout=300,
                          check=False)  # fmt: skip


def here(site: Path, *arguments: str | Path) -> Result:
    """Call the command in this process, where importing torch has been paid for, as if the package were installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        patch.setattr(cli.console, "width", 220)
        result = CliRunner().invoke(cli.app, [*map(str, arguments)])
    for name in [name for name in sys.modules if name.startswith("weather_")]:
        del sys.modules[name]
    return result


def test_it_is_listed_measured_and_has_its_chapter_and_broken_ones_cost_a_line(tmp_path: Path) -> None:
    site = installed(tmp_path / "site", {"weather": GOOD, **BROKEN})
    listed = here(site, "list")
    assert listed.exit_code == 0, listed.output
    cells = 2 * len(registry.names())  # two cases on every representation
    assert re.search(rf"weather\s.*yes\D*{cells}\D*{cells}\D", listed.stdout), listed.stdout
    assert re.search(r"matmul\s.*yes", listed.stdout)
    for name, why in {"gone": "ModuleNotFoundError", "mute": "AttributeError", "raises": "RuntimeError: no cases today",
                      "thief": "expected all cases to be of suite thief, got matmul"}.items():  # fmt: skip
        assert re.search(rf"{name}\s.*no: .*{why}", listed.stdout), listed.stdout

    run = tmp_path / "run"
    done = call(site, SPARSEBENCH, "run", "--suite=weather", *(f"--suite={name}" for name in BROKEN),
                "--representation=dense", "--representation=csr", "--out", run)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == [f"{name} left out" for name in BROKEN]
    cells = RunFolder(path=run).rows()
    assert {(row["representation"], row["sparsity"]) for row in cells} == {
        (name, level) for name in ("dense", "csr") for level in (0.5, 0.9)
    }
    for row in cells:
        assert (row["suite"], row["status"], row["quality"]) == ("weather", "ok", 273.15)
        assert row["time_s"] > 0
    assert len(list(run.glob("worker-weather-*.log"))) == row["visits"]

    told = here(site, "report", run)
    assert told.exit_code == 0, told.output
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "The weather chapter" in page
    assert "How cold it got" in (run / "report.md").read_text(encoding="utf-8")
    assert "a thermometer was lost" in page
    assert "Sparse coding of digits" not in page  # a figure of merit is not the mark of that chapter

    # without the package, and with a chapter that fails, the report is whole but for that chapter
    assert here(tmp_path, "report", run).exit_code == 0
    assert "The weather chapter" not in (run / "report.html").read_text(encoding="utf-8")
    failing = installed(tmp_path / "failing", {"weather": GOOD.replace('words(row["rep', 'words(row["nep')})
    assert here(failing, "report", run).exit_code == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "the chapter of weather is left out: KeyError" in page
    assert "Coverage" in page


def test_nothing_to_run_is_one_line(tmp_path: Path) -> None:
    site = installed(tmp_path / "site", {"gone": BROKEN["gone"]})
    done = here(site, "run", "--suite=gone", "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == "sparsebench: expected a suite that can be run, got gone; mend its package"
    assert not (tmp_path / "run").exists()


def test_its_bench_file_wants_a_name(tmp_path: Path) -> None:
    site = installed(tmp_path / "site", {"weather": GOOD})
    refused = call(site, sys.executable, "-m", "pytest", SUITES / "outside.py", "-c", SUITES / "pytest.ini", "-q")
    assert refused.returncode != 0
    assert "weather, got 'None'; give --workload" in refused.stdout + refused.stderr
