"""Hold a table once, to be written as HTML and as Markdown."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from sparsebench.suites.text import count

OPEN_ROWS = 12
"""Longer tables are shown closed."""


@dataclass(frozen=True, kw_only=True)
class Value:
    """What stands at one place of a table.

    Attributes:
        text: what is shown.
        sort: what sorting goes by; None puts it last, whichever way.
        style: CSS classes, "number" for right-aligned figures.
        hint: shown when the pointer rests on it.
        href: where it leads to inside the page, without "#"; "" for nowhere.
        command: what measures it again, folded beneath the text.
        links: pairs (text, address inside the page), behind the text.
    """

    text: str
    sort: float | str | None = None
    style: str = ""
    hint: str = ""
    href: str = ""
    command: str = ""
    links: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table with its heading.

    Attributes:
        title: one line.
        head: column titles.
        rows: each as long as head.
        note: a line above it.
        brief: rows that Markdown shows at most; None for all.
        folded: left out of Markdown; in HTML it is closed, as every table longer than OPEN_ROWS.
        anchors: the address of each row inside the page, as many as rows; () for none.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    note: str = ""
    brief: int | None = None
    folded: bool = False
    anchors: tuple[str, ...] = ()

    @property
    def closed(self) -> bool:
        """Tell whether the page shows it closed."""
        return self.folded or len(self.rows) > OPEN_ROWS

    @property
    def numeric(self) -> tuple[bool, ...]:
        """Tell for each column whether it holds figures, which stand to the right."""
        columns = range(len(self.head)) if self.rows else ()
        right = [all("number" in row[i].style.split() for row in self.rows) for i in columns]
        return tuple(right) or (False,) * len(self.head)

    def __post_init__(self) -> None:
        wrong = [row for row in self.rows if len(row) != len(self.head)]
        if wrong:
            raise ValueError(f"expected rows of {len(self.head)} values in table {self.title!r}, got {len(wrong[0])}")
        if self.anchors and len(self.anchors) != len(self.rows):
            raise ValueError(f"expected {len(self.rows)} anchors in table {self.title!r}, got {len(self.anchors)}")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A drawing with its words.

    Attributes:
        html: an SVG or img element, ready for the page.
        caption: what it shows.
    """

    html: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """A chapter of the report.

    Attributes:
        anchor: its address in the page.
        title: heading.
        text: paragraphs.
        tables: in order.
        pictures: in order.
        legend: True if the pictures need the legend of representations.
        pictures_first: True if they stand before the tables.
        shown: pictures that are shown at once; the rest are closed.
    """

    anchor: str
    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    legend: bool = False
    pictures_first: bool = False
    shown: int = 1000


def without_constants(table: Table, names: tuple[str, ...]) -> Table:
    """Return a table without those of the named columns that say the same in every row; its note says it once."""
    drop = {
        i for i, name in enumerate(table.head)
        if name in names and len(table.rows) > 1 and len({row[i].text for row in table.rows}) == 1
    }  # fmt: skip
    if not drop:
        return table
    said = "All: " + ", ".join(f"{table.head[i]} {table.rows[0][i].text}" for i in sorted(drop)) + "."
    return dataclasses.replace(
        table,
        head=tuple(name for i, name in enumerate(table.head) if i not in drop),
        rows=tuple(tuple(value for i, value in enumerate(row) if i not in drop) for row in table.rows),
        note=f"{table.note} {said}".strip(),
    )


def words(text: object, hint: str = "", style: str = "", href: str = "") -> Value:
    """Return a value that sorts by its text; style "long" lets it run over several lines."""
    return Value(text=str(text), sort=str(text), hint=hint, style=style, href=href)


def figure(text: str, sort: float | None, style: str = "", hint: str = "", href: str = "") -> Value:
    """Return a value that sorts by a number."""
    missing = sort is None or sort != sort  # NaN is not itself
    return Value(text=text, sort=None if missing else sort, style=f"number {style}".strip(), hint=hint, href=href)


def markdown(table: Table) -> str:
    """Return a table as GitHub's Markdown."""
    rows = table.rows if table.brief is None else table.rows[: table.brief]
    lines = [f"**{escape(table.title)}**", ""]
    if table.note:
        lines += [escape(table.note), ""]
    lines.append(_line(table.head))
    lines.append("| " + " | ".join("---:" if right else "---" for right in table.numeric) + " |")
    lines += [_line(tuple(value.text for value in row)) for row in rows]
    if len(rows) < len(table.rows):
        lines += ["", f"… and {count(len(table.rows) - len(rows), 'more row')} in report.html."]
    return "\n".join(lines)


def escape(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    text = " ".join(text.split())
    for sign in ("\\", "|", "*", "_", "`", "<", "[", "]"):
        text = text.replace(sign, "\\" + sign)
    return text


def _line(texts: tuple[str, ...]) -> str:
    return "| " + " | ".join(escape(text) for text in texts) + " |"
