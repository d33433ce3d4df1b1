"""Hand neighbour files to the tests, which pytest's import mode keeps off the path."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def neighbour(name: str) -> ModuleType:
    """Return the module of a file beside this one."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


for helper in (
    "command_line",
    "report_rows",
    "small_collection",
):  # imported by name: they are functions, not what a test is given
    sys.modules[helper] = neighbour(helper)


@pytest.fixture(scope="session")
def bars() -> ModuleType:
    """Return the module that draws bars: a learner is right if each of its units finds one."""
    return neighbour("bars")
