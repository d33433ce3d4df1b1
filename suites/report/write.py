"""Write report.html, report.md and cells.csv into a run's folder."""

from __future__ import annotations

from pathlib import Path

from sparsebench.suites.files import write_whole
from sparsebench.suites.report.contents import Contents, contents
from sparsebench.suites.report.journal import Run, read_run
from sparsebench.suites.report.page import page
from sparsebench.suites.report.table import escape, markdown
from sparsebench.suites.text import count


def write_report(run: Path) -> Path:
    """Write report.html, report.md and cells.csv beside a run's journal; a run that is not finished will do.

    Args:
        run: the run's folder.

    Returns:
        the path of report.html.

    Raises:
        ReportError: if the folder is no run.
    """
    found = read_run(run)
    said = contents(found)
    path = found.folder / "report.html"
    text = page(title(found), lead(found), said.notes, said.first, said.chapters, said.looks)
    write_whole(path, text)
    write_whole(found.folder / "report.md", in_markdown(found, said))
    write_whole(found.folder / "cells.csv", found.frame.to_csv(index=False))
    return path


def as_markdown(run: Run) -> str:
    """Return a run's report as Markdown."""
    return in_markdown(run, contents(run))


def title(run: Run) -> str:
    """Return the report's heading."""
    profiles = [str(name) for name in dict.fromkeys(run.frame["profile"]) if isinstance(name, str)]
    return f"sparsebench · {run.folder.resolve().name}" + (f" · {', '.join(profiles)}" if profiles else "")


def lead(run: Run) -> str:
    """Return the line beneath the heading."""
    machine = run.machine
    about = [str(machine[name]) for name in ("cpu",) if machine.get(name)]
    if isinstance(machine.get("gpu"), dict) and machine["gpu"].get("name"):
        about.append(str(machine["gpu"]["name"]))
    if machine.get("threads"):
        about.append(count(int(machine["threads"]), "thread"))
    good = int((run.frame["status"] == "ok").sum())
    return " · ".join([*about, f"{good} of {count(len(run.frame), 'cell')} ok"])


def in_markdown(run: Run, said: Contents) -> str:
    """Return the same tables in short, without pictures."""
    parts = [f"# {escape(title(run))}", escape(lead(run))]
    parts += ["\n".join(f"- {escape(note)}" for note in said.notes)] if said.notes else []
    for section in said.sections:
        tables = [table for table in section.tables if not table.folded]
        if not tables and not section.text:
            continue
        parts.append(f"## {escape(section.title)}")
        parts += [escape(line) for line in section.text]
        parts += [markdown(table) for table in tables]
    return "\n\n".join(parts) + "\n"
