"""Runs that hold little, nothing, or names that look like markup: a page all the same, and nothing runs in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sparsebench.suites.report import write_report

pytest.importorskip("playwright", reason="the page's test wants playwright: tox -e browser brings it")

if TYPE_CHECKING:
    from conftest import Open

RUN = Path(__file__).resolve().parents[2] / "results" / "reference" / "epyc-2-cores" / "cells.jsonl"
EVIL = '<img src=x onerror="window.broken=1"></script><script>window.broken=2</script>\'`*_[x](http://nowhere.test)'


def rows() -> list[dict[str, object]]:
    """Return a few real rows."""
    found = [json.loads(line) for line in RUN.read_text(encoding="utf-8").splitlines()]
    return [row for row in found if row["operation"] == "matmul" and row["sparsity"] is not None][:120]


def page_of(folder: Path, changed: list[dict[str, object]]) -> Path:
    folder.mkdir()
    (folder / "cells.jsonl").write_text("".join(json.dumps(row) + "\n" for row in changed), encoding="utf-8")
    return write_report(folder)


def test_names_that_hold_markup_are_shown_as_they_are(opened: Open, tmp_path: Path) -> None:
    names = {"workload": EVIL, "pattern": EVIL, "operation": EVIL, "dtype": EVIL, "reason": EVIL, "kernel": EVIL}
    evil = [row | names | {"representation": f"{row['representation']}{EVIL}"} for row in rows()]
    with opened(page_of(tmp_path / "evil <b>&", evil)) as page:
        page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")
        assert page.evaluate("window.broken") is None
        assert EVIL in page.locator("#cells tbody").inner_text()
        assert page.locator("main img").count() == 0


@pytest.mark.parametrize("kind", ["empty", "statuses only", "no right cell"])
def test_a_run_without_numbers_gives_a_page_that_says_so(opened: Open, tmp_path: Path, kind: str) -> None:
    status = {"statuses only": "unsupported", "no right cell": "wrong"}.get(kind, "")
    blank = dict.fromkeys(("time_s", "speedup", "speedup_low", "speedup_high", "stored_bytes"))
    changed = (
        [row | blank | {"status": status, "reason": "expected more, got less"} for row in rows()] if status else []
    )
    with opened(page_of(tmp_path / "run", changed), 390) as page:
        said = page.locator("#answer").inner_text()
        assert ("Nothing is measured yet" if kind == "empty" else "no break-even to tell") in said
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
