"""Representations are found by name, a plug-in package's too, and what is broken says so in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from sparsebench.representations import registry
from sparsebench.representations.base import Representation
from sparsebench.representations.formats.dense import Dense
from sparsebench.representations.registry import BrokenRepresentationError, UnknownRepresentationError

PLUGIN = '''
"""A plug-in: one class."""

from sparsebench.representations.base import Representation, Storage, strided_matrix


class Doubled(Representation):
    """Hold the tensor twice."""

    name = "acme-doubled"
    dense_storage = True

    def __init__(self, source, matrix):
        super().__init__(source)
        self._pair = (matrix, matrix.clone())

    @classmethod
    def build(cls, tensor, pattern=None):
        return cls(tensor, strided_matrix(tensor).clone())

    def to_dense(self):
        return self._pair[0].reshape(self.shape).clone()

    def matmul(self, x):
        return self._pair[1] @ x

    def storage(self):
        return Storage(value_bytes=sum(part.nbytes for part in self._pair), index_bytes=0)


class Lacking(Representation):
    name = "acme-lacking"

    @classmethod
    def build(cls, tensor, pattern=None):
        return cls(tensor)

    def matmul(self, x):
        return x


class Nameless(Doubled):
    name = None


class NotOne:
    name = "acme-not-one"
'''

ENTRY_POINTS = """
[sparsebench.representations]
acme-doubled = acme_sparse:Doubled
acme-lacking = acme_sparse:Lacking
acme-nameless = acme_sparse:Nameless
acme-not-one = acme_sparse:NotOne
acme-renamed = acme_sparse:Doubled
acme-no-class = acme_sparse:Gone
acme-no-module = acme_missing:Doubled
acme-raises = acme_raises:Doubled
dense = acme_sparse:Doubled
"""

SCRIPT = """
import json, sys
from sparsebench.representations import registry
from sparsebench.representations.conformance import check

found = {name: [entry.target, entry.package] for name, entry in registry.entries().items()}
errors = {}
for name in sys.argv[1:]:
    try:
        registry.load(name)
    except Exception as error:
        errors[name] = [type(error).__name__, str(error)]
report = check(registry.load("acme-doubled"))
dense = registry.load("dense")
print(json.dumps({
    "names": registry.names(), "found": found, "errors": errors, "passed": report.passed, "report": str(report),
    "dense": f"{dense.__module__}:{dense.__qualname__}",
    "by_target": registry.load("acme_sparse:Doubled").name,
}))
"""


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what a process sees that has the plug-in package, installed as pip leaves it, on its path."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "acme_sparse.py").write_text(PLUGIN)
    (folder / "acme_raises.py").write_text("raise OSError('the driver is asleep\\nsecond line')\n")
    info = folder / "acme_sparse-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-sparse\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    asked = [line.split(" = ")[0] for line in ENTRY_POINTS.splitlines() if " = " in line]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *asked, "acme-unheard-of"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_a_plugin_is_listed_after_our_own_with_its_package(outside: dict[str, Any]) -> None:
    ours = list(registry.BUILTIN)
    assert outside["names"][: len(ours)] == ours
    assert outside["found"]["acme-doubled"] == ["acme_sparse:Doubled", "acme-sparse"]
    assert outside["found"]["torch-csr"][1] == "sparsebench"


def test_a_plugin_loads_by_name_and_by_target_and_is_checked(outside: dict[str, Any]) -> None:
    assert "acme-doubled" not in outside["errors"]
    assert outside["by_target"] == "acme-doubled"
    assert outside["passed"], outside["report"]


def test_a_plugin_cannot_take_a_name_of_ours(outside: dict[str, Any]) -> None:
    assert outside["dense"] == registry.BUILTIN["dense"]
    assert outside["names"].count("dense") == 1


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("acme-no-module", ["acme_missing:Doubled to import", "ModuleNotFoundError", "acme_missing"]),
        ("acme-no-class", ["acme_sparse:Gone to import", "AttributeError", "Gone"]),
        ("acme-raises", ["acme_raises:Doubled to import", "OSError: the driver is asleep"]),
        ("acme-lacking", ["acme_sparse:Lacking", "to_dense", "storage"]),
        ("acme-renamed", ["named 'acme-renamed'", "got 'acme-doubled'"]),
        ("acme-nameless", ["acme_sparse:Nameless", "name: str"]),
        ("acme-not-one", ["acme_sparse:NotOne", "subclass of Representation"]),
    ],
)
def test_a_broken_plugin_says_in_one_line_what_is_wrong(outside: dict[str, Any], name: str, says: list[str]) -> None:
    kind, message = outside["errors"][name]
    assert kind == "BrokenRepresentationError"
    assert message.startswith("expected ")
    assert len(message.splitlines()) == 1
    for part in says:
        assert part in message


def test_only_the_broken_ones_fail_to_load(outside: dict[str, Any]) -> None:
    fine = {"acme-doubled", "dense"}
    assert not fine & set(outside["errors"])
    assert len(outside["errors"]) == 8


def test_an_unknown_name_names_the_known_ones(outside: dict[str, Any]) -> None:
    kind, message = outside["errors"]["acme-unheard-of"]
    assert kind == "UnknownRepresentationError"
    assert "got 'acme-unheard-of'" in message
    assert "torch-bsr" in message
    assert "acme-doubled" in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("name", registry.BUILTIN)
def test_our_own_load_under_their_names(name: str) -> None:
    assert registry.load(name).name == name
    assert registry.entries()[name].package == "sparsebench"


def test_an_unknown_name_is_a_users_mistake() -> None:
    with pytest.raises(UnknownRepresentationError, match=r"expected a representation of dense, .* got 'tensor-csr'"):
        registry.load("tensor-csr")
    assert issubclass(UnknownRepresentationError, ValueError)


@pytest.mark.parametrize("target", ["no.such.module:Class", "sparsebench.representations.base:Missing", ":", "json:"])
def test_a_target_that_leads_nowhere(target: str) -> None:
    with pytest.raises(BrokenRepresentationError, match=r"^expected .* to import, got "):
        registry.load(target)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> dict[str, type[Representation]]:
    """Keep what a test registers from the other tests."""
    own: dict[str, type[Representation]] = {}
    monkeypatch.setattr(registry, "_registered", own)
    return own


def test_register_makes_a_class_known_in_this_process(registered: dict[str, type[Representation]]) -> None:
    class Mine(Dense):
        name = "mine"

    assert registry.register(Mine) is Mine
    assert registry.register(Mine) is Mine  # twice is no other class
    assert registry.load("mine") is Mine
    assert registry.names()[-1] == "mine"
    assert registry.entries()["mine"].package == "registered"

    class Other(Dense):
        name = "mine"

    with pytest.raises(ValueError, match="expected a new name, got 'mine', which is taken"):
        registry.register(Other)
    with pytest.raises(ValueError, match="expected a new name, got 'dense'"):
        registry.register(Dense)
    assert list(registered) == ["mine"]


def test_register_refuses_a_class_that_lacks_a_method(registered: dict[str, type[Representation]]) -> None:
    class Half(Representation):
        name = "half"

    with pytest.raises(BrokenRepresentationError, match="build, to_dense, matmul, storage"):
        registry.register(Half)
    assert not registered


def test_missing_requirements_are_named() -> None:
    class Needy(Dense):
        name = "needy"
        requires = ("torch", "no_such_module_anywhere")

    assert registry.missing_requirements(Needy) == ["no_such_module_anywhere"]
    assert registry.missing_requirements(Dense) == []
