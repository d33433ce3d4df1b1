"""The README's example is run as it stands."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from sparsebench.representations import conformance, registry

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_example_passes_the_check_and_is_as_short_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
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


def test_every_file_that_is_linked_exists() -> None:
    linked = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert linked
    assert [path for path in linked if not (Path(__file__).parents[1] / path).exists()] == []
