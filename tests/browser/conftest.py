"""Write the report of a kept run, and open it in Debian's Chromium without a network."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parents[2]
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
Open = Callable[..., AbstractContextManager["Page"]]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Return the browser."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None:
        pytest.fail("expected Debian's chromium on the path, got none; apt-get install chromium", pytrace=False)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        yield running
        running.close()


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of a kept run: real rows, with everything that a report draws."""
    from sparsebench.suites.report import write_report

    run = tmp_path_factory.mktemp("page") / "run"
    shutil.copytree(ROOT / "results" / "reference" / "epyc-2-cores", run)
    return write_report(run)


@pytest.fixture(scope="session")
def opened(browser: Browser) -> Open:
    """Return what opens a page at a width; what it asked for and complained of is in `asked` and `complaints`."""

    @contextmanager
    def opening(path: Path, width: int = 1280, **options: Any) -> Iterator[Page]:
        context = browser.new_context(viewport={"width": width, "height": 800}, offline=True, **options)
        page = context.new_page()
        asked: list[str] = []
        complaints: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri())
        yield page
        context.close()
        assert [url for url in asked if not url.startswith(("file://", "data:"))] == []
        assert complaints == []

    return opening


@pytest.fixture(scope="session")
def desk(opened: Open, report: Path) -> Iterator[Page]:
    """Return the page at 1280 pixels, shared: each test leaves its own parts behind as it likes."""
    with opened(report) as page:
        yield page
