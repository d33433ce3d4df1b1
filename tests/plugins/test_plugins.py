"""Every plug-in here can be installed as it stands, and keeps the interface's promises where its library is there."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from sparsebench.representations.registry import BUILTIN, GROUP, check_class, missing_requirements

HERE = Path(__file__).parent
SPARSEBENCH = Path(sys.executable).with_name("sparsebench")
PLUGINS = sorted(path.parent.name for path in HERE.glob("*/pyproject.toml"))


def project(plugin: str) -> dict[str, object]:
    return tomllib.loads((HERE / plugin / "pyproject.toml").read_text(encoding="utf-8"))


def entry(plugin: str) -> tuple[str, str, str]:
    """Return the name, the module and the class of a plug-in's one entry point."""
    points = project(plugin)["project"]["entry-points"][GROUP]  # type: ignore[index]
    ((name, target),) = points.items()
    module, _, cls = target.partition(":")
    return name, module, cls


def imported(plugin: str) -> ModuleType:
    """Return a plug-in's module from its file; it imports its library late, so that this needs none."""
    _, module, _ = entry(plugin)
    spec = importlib.util.spec_from_file_location(module, HERE / plugin / f"{module}.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_there_are_some_and_no_two_have_a_name() -> None:
    names = [entry(plugin)[0] for plugin in PLUGINS]
    assert len(names) >= 3
    assert len(set(names) | set(BUILTIN)) == len(names) + len(BUILTIN)


@pytest.mark.parametrize("plugin", PLUGINS)
def test_its_package_names_a_class_that_is_whole(plugin: str) -> None:
    name, module, class_name = entry(plugin)
    cls = getattr(imported(plugin), class_name)
    check_class(cls, f"{module}:{class_name}")
    assert cls.name == name
    assert cls.requires
    described = project(plugin)
    assert described["tool"]["setuptools"]["py-modules"] == [module]  # type: ignore[index]
    assert described["project"]["dependencies"][0] == "sparsebench"  # type: ignore[index]
    told = (HERE / "README.md").read_text(encoding="utf-8")
    assert f"`{name}`" in told
    assert f"]({plugin}/)" in told


TRIED = """
import sys, torch
from sparsebench.representations.registry import load
from sparsebench.suites.measure import surroundings

torch.set_num_threads(2)
cls, before = load(sys.argv[1]), surroundings.noted()
tensor = torch.zeros(30, 20)
tensor[2:, ::3] = 1.5
found = cls.build(tensor).matmul(torch.ones(20, 5))
print(surroundings.changed(before), "changed")
torch.testing.assert_close(found, tensor @ torch.ones(20, 5))
"""


def called(plugin: str, *command: str | Path) -> str:
    """Return what a command prints in a process of its own: these libraries start threads, and may set what it shares.

    Raises:
        AssertionError: if it fails.
    """
    done = subprocess.run(
        [*map(str, command)], cwd=HERE / plugin, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("plugin", PLUGINS)
def test_it_passes_the_checks_where_its_library_is_installed(plugin: str) -> None:
    _, module, class_name = entry(plugin)
    cls = getattr(imported(plugin), class_name)
    if missing := missing_requirements(cls):
        pytest.skip(f"{cls.name} needs {', '.join(missing)}; pip install tests/plugins/{plugin}")
    # a cell that changes what all cells share is wrong, however right its result is
    assert "[] changed" in called(plugin, sys.executable, "-c", TRIED, f"{module}:{class_name}")
    assert " 0 failed" in called(plugin, SPARSEBENCH, "check", f"{module}:{class_name}")
