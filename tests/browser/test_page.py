"""The report in a browser: it asks for nothing, sorts, filters, leads to rows, and cuts nothing off."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("playwright", reason="the page's test wants playwright: tox -e browser brings it")

if TYPE_CHECKING:
    from conftest import Open
    from playwright.sync_api import Page

OPEN_ALL = "document.querySelectorAll('details').forEach(fold => fold.open = true)"
OUTSIDE = """() => [...document.querySelectorAll('h1, h2, h3, p, a, li, svg, img, figure, summary, input, select')]
  .filter(one => !one.closest('.scroll') && !one.closest('.marks') && one.getClientRects().length)
  .filter(one => !(one.tagName !== 'svg' && one.closest('svg')))
  .map(one => [one, one.getBoundingClientRect()])
  .filter(([, box]) => box.width && (box.left < -0.5 || box.right > innerWidth + 0.5))
  .map(([one, box]) => `${one.tagName}.${one.className.baseVal ?? one.className} ${box.left} to ${box.right}`)"""
CUT = """() => [...document.querySelectorAll('main svg text')]
  .map(text => [text, text.getBoundingClientRect(), text.closest('figure svg.plot, svg.line, svg.axis, svg')])
  .filter(([, box]) => box.width)
  .map(([text, box, svg]) => { for (let at = svg; at; at = at.parentElement.closest('svg')) svg = at;
                               return [text, box, svg.getBoundingClientRect()]; })
  .filter(([, box, edge]) => box.left < edge.left - 1.5 || box.right > edge.right + 1.5
                          || box.top < edge.top - 1.5 || box.bottom > edge.bottom + 1.5)
  .map(([text, box, edge]) => `${text.textContent}: ${box.left} to ${box.right} in ${edge.left} to ${edge.right}`)"""
SIDEWAYS = """() => [...document.querySelectorAll('.scroll')]
  .filter(one => one.scrollWidth > one.clientWidth + 1)
  .map(one => `${one.getAttribute('aria-label')}: ${one.scrollWidth} in ${one.clientWidth}`)"""


def cells_table(page: Page) -> None:
    page.evaluate(OPEN_ALL)
    page.locator("#cells").scroll_into_view_if_needed()


def column(page: Page, name: str) -> list[str]:
    """Return what stands in a column of the table of cells, of the rows shown."""
    found: list[str] = page.evaluate(
        """name => { const table = document.querySelector('#cells table');
             const at = [...table.tHead.rows[0].cells].findIndex(cell => cell.textContent === name);
             return [...table.tBodies[0].rows].filter(row => !row.hidden).map(row => row.cells[at].textContent); }""",
        name,
    )
    return found


def numbers(texts: list[str]) -> list[float]:
    return [float(text.rstrip("×").replace("\N{NO-BREAK SPACE}", "")) for text in texts if text != "–"]


def test_a_column_sorts_by_its_numbers_both_ways_with_what_is_missing_last(desk: Page) -> None:
    cells_table(desk)
    head = desk.locator("#cells th", has_text=re.compile("^speed-up$"))
    head.get_by_role("button").click()
    up = column(desk, "speed-up")
    assert head.get_attribute("aria-sort") == "ascending"
    assert numbers(up) == sorted(numbers(up))
    assert len(numbers(up)) > 100
    head.get_by_role("button").press("Enter")
    down = column(desk, "speed-up")
    assert head.get_attribute("aria-sort") == "descending"
    assert numbers(down) == sorted(numbers(up), reverse=True)
    assert down[len(numbers(down)) :] == ["–"] * (len(down) - len(numbers(down)))


def test_a_filter_keeps_the_rows_that_hold_all_words(desk: Page) -> None:
    cells_table(desk)
    every = len(column(desk, "representation"))
    box = desk.locator("#cells").get_by_role("searchbox")
    box.fill("block-sparse OK matmul")
    kept = column(desk, "representation")
    assert 0 < len(kept) < every
    assert set(kept) == {"block-sparse"}
    assert set(column(desk, "status")) == {"ok"}
    assert desk.locator("#cells .filter").inner_text().endswith(f"{len(kept)} of {every} rows")
    box.fill("")
    assert len(column(desk, "representation")) == every


def test_numbers_lead_to_their_rows_and_these_to_their_command(opened: Open, report: Path) -> None:
    with opened(report) as page:
        page.locator("#answer .say a").first.click()
        row = page.locator("tr:target")
        assert row.evaluate("row => row.closest('section').id") == "break-even"
        row.locator(".levels a").first.click()
        row = page.locator("#cells tr:target")
        top, bottom = row.evaluate("row => [row.getBoundingClientRect().top, row.getBoundingClientRect().bottom]")
        assert 0 <= top < bottom <= 800
        row.get_by_text("again", exact=True).click()
        command = row.locator("code")
        assert command.is_visible()
        assert command.inner_text().startswith("sparsebench run --suite ")


def test_a_dot_leads_to_its_break_even_though_a_filter_hides_it(opened: Open, report: Path) -> None:
    with opened(report) as page:
        page.evaluate(OPEN_ALL)
        page.locator("#break-even").get_by_role("searchbox").fill("no such row")
        dot = page.locator("#answer .line a.dot").first
        to = str(dot.get_attribute("href"))
        dot.dispatch_event("click")
        assert page.locator(to).is_visible()
        assert page.locator(to).evaluate("row => row.matches(':target')")


def test_figures_lead_to_rows_that_are_there(desk: Page) -> None:
    broken = desk.evaluate(
        "() => [...document.querySelectorAll('a[href^=\"#\"]')].map(a => a.getAttribute('href').slice(1))"
        ".filter(to => !document.getElementById(to))"
    )
    assert broken == []
    assert desk.locator("#speed-up svg.plot a").count() > 20


def test_the_form_answers_for_every_group_and_sparsity(desk: Page) -> None:
    answers = set()
    for level in ("10", "80", "95"):
        desk.locator(".picker input").fill(level)
        answer = desk.locator(".picker [name=answer]").inner_text()
        assert re.match(r"Use .+: (about )?[\d.]+× as fast as dense|Stay dense|Not measured", answer)
        answers.add(answer)
    assert len(answers) > 1
    first = desk.locator(".picker select[name=group]")
    first.select_option(index=1)
    assert desk.locator(".picker [name=answer]").inner_text()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off(opened: Open, report: Path, width: int, scheme: str) -> None:
    with opened(report, width, color_scheme=scheme) as page:
        page.evaluate(OPEN_ALL)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate(OUTSIDE) == []
        assert page.evaluate(CUT) == []
        if width == 1280:
            assert page.evaluate(SIDEWAYS) == []


def test_everything_that_can_be_seen_or_used_has_a_name(opened: Open, report: Path) -> None:
    named = {"figure", "image", "img", "button", "link", "searchbox", "slider", "combobox", "table", "region"}
    with opened(report) as page:
        page.evaluate(OPEN_ALL)
        tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    seen = [node for node in tree if not node.get("ignored") and node["role"].get("value") in named]
    assert len(seen) > 100
    assert [node for node in seen if not str(node.get("name", {}).get("value", "")).strip()] == []


def test_it_answers_without_javascript(opened: Open, report: Path) -> None:
    with opened(report, java_script_enabled=False) as page:
        assert not page.locator(".picker").is_visible()
        said = page.locator("#answer .say").first
        assert said.is_visible()
        assert re.match("Use |Stay dense", said.inner_text())
        assert page.locator("#answer svg.line").first.is_visible()
        page.locator("#break-even summary").first.click()
        assert page.locator("#break-even tbody tr").first.is_visible()


def test_the_first_screen_holds_chart_answer_and_trust(opened: Open, report: Path) -> None:
    with opened(report) as page:
        for part in (".trustline", ".legend >> nth=0", ".axis >> nth=0", ".line >> nth=3", ".say >> nth=3"):
            box = page.locator(f"#answer {part}").bounding_box()
            assert box is not None
            assert box["y"] + box["height"] <= 800
