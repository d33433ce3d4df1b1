"""Write a report's chapters as one HTML page that loads nothing and reads without JavaScript too."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from sparsebench.suites.report.anchors import colour, mark_id
from sparsebench.suites.report.colours import Look, swatch
from sparsebench.suites.report.first.screen import Screen
from sparsebench.suites.report.table import Section, Value
from sparsebench.suites.text import NONE, SPACE

HERE = Path(__file__).resolve().parent
UNITS: dict[str, float] = {
    "": 1.0, "×": 1.0, "%": 0.01, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9,
    "B": 1.0, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30,
}  # fmt: skip
READS = re.compile(rf"(\d[\d{SPACE}]*(?:\.\d+)?(?:e[+-]?\d+)?){SPACE}?(×|%|[mµn]?s|[KMG]iB|B)?(?: – .*)?")
"""A number with its unit, as report.js reads it too where a table is sorted."""
BARE = re.compile(r' (class|data-s)="([\w.+-]+)"(?= |>)')
"""Attributes that need no quotes: tens of thousands of them are in a page's tables."""
CELL = re.compile(r"<td[^>]*>")
ROUNDING = 0.06
"""How far a number that is shown may be from the one that it stands for."""


def page(
    title: str, lead: str, notes: Sequence[str], first: Screen | None, chapters: Sequence[Section],
    looks: Mapping[str, Look],
) -> str:  # fmt: skip
    """Return the page.

    Args:
        title: heading.
        lead: the line beneath it.
        notes: of what was read.
        first: the first screen; None where there is nothing to tell.
        chapters: in order.
        looks: of the representations.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters |= {"brackets": brackets, "attributes": attributes, "plain": plain}
    text = environment.get_template("report.html").render(
        title=title,
        lead=lead,
        notes=notes,
        first=first,
        sections=chapters,
        css=(HERE / "report.css").read_text(encoding="utf-8"),
        script=(HERE / "report.js").read_text(encoding="utf-8"),
        marks={name: {**swatch(look), "id": mark_id(name), "ink": colour(name)} for name, look in looks.items()},
    )
    for end in ("</td>", "</th>", "</tr>"):  # HTML has them understood where the next one begins
        text = text.replace(end, "")
    return CELL.sub(lambda tag: BARE.sub(r" \1=\2", tag[0]), text)


def plain(text: str) -> Markup:
    """Return text for the inside of an element, where quotes stand for themselves."""
    return Markup(str(escape(text)).replace("&#39;", "'").replace("&#34;", '"'))


def brackets(text: str) -> list[str]:
    """Split "70 % (50 % … never)" into its number and what stands in brackets."""
    found = re.fullmatch(r"([^(]+) \((.+)\)", text)
    return list(found.groups()) if found else [text]


def attributes(value: Value) -> dict[str, Any]:
    """Return the attributes of a table's td; what sorts as it reads needs none for it."""
    found: dict[str, Any] = {}
    styles = ["n" if style == "number" else style for style in value.style.split()]
    if styles:
        found["class"] = " ".join(styles)
    if value.sort is None:
        if value.text != NONE:
            found["data-s"] = ""
    elif isinstance(value.sort, str):
        if value.sort != value.text:
            found["data-s"] = value.sort
    elif not _reads_as(value.text, value.sort):
        found["data-s"] = f"{value.sort:.4g}"
    if value.hint:
        found["title"] = value.hint
    return found


def _reads_as(text: str, number: float) -> bool:
    """Tell whether a text is read as a number by who sorts by it, but for rounding."""
    found = READS.fullmatch(text)
    if not found:
        return False
    read = float(found[1].replace(SPACE, "")) * UNITS[found[2] or ""]
    return abs(read - number) <= ROUNDING * abs(number)
