"""Everything in the tree is in the package list, and everything in the list is in the wheel."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOFED = ("representations", "kernels", "suites")


def tree() -> list[Path]:
    """Return the folders that are packages, and with them every file that belongs into the wheel."""
    return [folder for top in ROOFED for folder in ((ROOT / top), *(ROOT / top).rglob("*"))
            if folder.is_dir() and folder.name != "__pycache__"]  # fmt: skip


def test_every_folder_is_a_listed_package() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    found = ["sparsebench." + ".".join(folder.relative_to(ROOT).parts) for folder in tree()]
    assert sorted(listed) == sorted(found)
    assert all((folder / "__init__.py").exists() for folder in tree())


def test_the_installed_wheel_holds_every_file() -> None:
    # an editable install leaves an egg-info folder in the tree, which is a distribution too, but says not where from
    known = importlib.metadata.distributions(name="sparsebench")
    distribution, origin = next((found, url) for found in known if (url := found.read_text("direct_url.json")))
    if json.loads(origin).get("dir_info", {}).get("editable"):
        pytest.skip("sparsebench is installed in editable mode here, so there is no wheel to look into")
    held = {str(path) for path in distribution.files or []}
    wanted = {
        "sparsebench/" + str(file.relative_to(ROOT))
        for folder in tree()
        for file in folder.iterdir()
        if file.suffix in (".py", ".md", ".html", ".css", ".js", ".ini", ".typed", ".gz")
    }
    assert wanted - held == set()
    assert not [path for path in held if path.startswith(ROOFED)]  # no bare top-level package


def test_the_command_line_is_installed() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="sparsebench")
    assert script.load().__module__ == "sparsebench.suites.cli"


def test_importing_sparsebench_changes_no_other_pytest_session(tmp_path: Path) -> None:
    points = importlib.metadata.entry_points(group="pytest11")
    assert not [point for point in points if point.value.startswith("sparsebench")]
    (tmp_path / "test_other.py").write_text("def test_it():\n    pass\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "--profile=quick", "-p", "no:cacheprovider", str(tmp_path)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert "unrecognized arguments: --profile" in result.stderr


def test_the_citation_says_what_the_package_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = (ROOT / "CITATION.cff").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("version:")] == [f"version: {project['version']}"]
    assert [line for line in lines if line.startswith("license:")] == [f"license: {project['license']}"]
    owner = re.search(r"^Copyright \(c\) \d+ (.+)$", (ROOT / "LICENSE").read_text(encoding="utf-8"), flags=re.M)
    assert owner is not None
    assert f'  - name: "{owner[1]}"' in lines
