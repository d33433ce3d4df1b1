"""Check what `sparsebench.representations` offers, and that it costs nothing until it is asked for."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

from sparsebench import representations
from sparsebench.representations import base, conformance, modules, pattern, registry


def test_names_are_those_of_the_modules_that_they_are_at_home_in() -> None:
    assert representations.Representation is base.Representation
    assert representations.Storage is base.Storage
    assert representations.Spec is base.Spec
    assert representations.Pattern is pattern.Pattern
    assert representations.load is registry.load
    assert representations.names is registry.names
    assert representations.check is conformance.check
    assert representations.convert is modules.convert
    assert representations.restore is modules.restore
    assert representations.__version__ == importlib.metadata.version("sparsebench")
    assert {"Representation", "convert", "__version__"} <= set(dir(representations))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        representations.nothing  # noqa: B018


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    code = "import sys, sparsebench.representations; print([m for m in ('torch', 'numba') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
