"""The README's example is run as it stands."""

from __future__ import annotations

import re
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sparsebench.representations import conformance, registry
from sparsebench.representations.modules import SparseConv2d
from sparsebench.suites.report import ReportError
from sparsebench.suites.report.readme import renewed

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES: list[str] = re.findall(r"```python\n(.*?)```", README, flags=re.S)


def test_the_example_passes_the_check_and_is_as_short_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source,) = (block for block in EXAMPLES if "class " in block)
    (tmp_path / "my_format.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    (target,) = set(re.findall(r"my_format:\w+", README))
    try:
        report = conformance.check(registry.load(target))
    finally:
        sys.modules.pop("my_format", None)
    assert report.passed, [result for result in report.results if result.status == "failed"]
    body = source[source.index("class ") :]
    assert len([line for line in body.splitlines() if line.strip()]) <= 30


def test_a_model_is_converted_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (source,) = (block for block in EXAMPLES if "convert" in block)
    layers = [("first", nn.Conv2d(3, 10, 3)), ("flat", nn.Flatten()), ("classifier", nn.Linear(160, 3))]
    found: dict[str, Any] = {"model": nn.Sequential(OrderedDict(layers))}
    exec(source, found)
    sparse = found["sparse"]
    assert sparse(torch.rand(2, 3, 6, 6)).shape == (2, 3)
    assert type(sparse.classifier) is nn.Linear
    assert isinstance(sparse.first, SparseConv2d)


@pytest.mark.parametrize("name", ["README.md", "results/reference/README.md", "representations/README.md"])
def test_every_file_that_is_linked_exists(name: str) -> None:
    linked = re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / name).read_text(encoding="utf-8"))
    assert linked or name.startswith("representations")
    assert [path for path in linked if not ((ROOT / name).parent / path).exists()] == []


def test_its_answers_and_its_picture_are_what_the_kept_run_says() -> None:
    text, pictures = renewed(README, ROOT)
    assert text == README, "renew it: python -m sparsebench.suites.report.readme README.md"
    assert pictures
    assert all(path.read_text(encoding="utf-8") == picture for path, picture in pictures.items())


def test_it_is_read_in_three_minutes() -> None:
    assert len(README.splitlines()) <= 130


def test_a_readme_without_marks_or_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="expected <!-- answers: FOLDER -->"):
        renewed("# Nothing", tmp_path)
    with pytest.raises(ReportError, match=r"expected a folder with cells\.jsonl"):
        renewed("<!-- answers: nowhere -->\n<!-- end of answers -->", tmp_path)


def test_what_is_told_of_the_representations_is_what_there_is() -> None:
    told = (ROOT / "representations" / "README.md").read_text(encoding="utf-8")
    table = told[told.index("## What is compared") : told.index("Convolutions are native")]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| ")]
    named = re.findall(r"`([a-z-]+)`", " ".join(rows))
    assert sorted(named) == sorted(registry.BUILTIN)
    changes = " ".join((ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split())
    assert f"runs {len(conformance.CHECKS)} checks" in changes
