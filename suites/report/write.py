"""Write report.html, report.md and cells.csv into a run's folder."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import jinja2
import pandas as pd

from sparsebench.representations.registry import first_line
from sparsebench.suites import plan
from sparsebench.suites.report.artifacts import read_artifacts
from sparsebench.suites.report.breakeven import break_evens
from sparsebench.suites.report.chapters import break_even_section, build_section, speedup_section
from sparsebench.suites.report.colours import Look, looks, swatch
from sparsebench.suites.report.facts import bytes_section, error_section, kernels_section
from sparsebench.suites.report.headline import matrices, sentences
from sparsebench.suites.report.inventory import cells_section, coverage_section, machine_section
from sparsebench.suites.report.journal import Run, read_run
from sparsebench.suites.report.table import Section, escape, markdown
from sparsebench.suites.report.trust import DEMANDS, mark_row
from sparsebench.suites.text import count

HERE = Path(__file__).resolve().parent

NOTHING = "Nothing is measured yet: the journal holds no cells."


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
    chapters, notes = sections(found)
    page = found.folder / "report.html"
    page.write_text(html(found, chapters, notes), encoding="utf-8")
    (found.folder / "report.md").write_text(in_markdown(found, chapters, notes), encoding="utf-8")
    found.frame.to_csv(found.folder / "cells.csv", index=False)
    return page


def as_markdown(run: Run) -> str:
    """Return a run's report as Markdown."""
    return in_markdown(run, *sections(run))


def sections(run: Run) -> tuple[list[Section], list[str]]:
    """Return the chapters of a report and the notes of everything that was read."""
    frame, palette = run.frame, looks(run.frame["representation"])
    told, notes = told_by_workloads(run, palette)
    breaks = break_evens(frame)
    answer = Section(
        anchor="answer",
        title="The answer",
        text=sentences(breaks) if len(frame) else (NOTHING,),
        tables=matrices(breaks),
    )
    measured = [
        break_even_section(breaks),
        speedup_section(frame, palette),
        bytes_section(frame, palette),
        error_section(frame, palette),
        kernels_section(frame),
        build_section(frame),
    ]
    chapters = [
        answer,
        machine_section(run.machine),
        *(measured if len(frame) else []),
        *told,
        coverage_section(frame),
        *([cells_section(frame), trust_section(frame)] if len(frame) else []),
    ]
    return chapters, [*run.notes, *notes]


def told_by_workloads(run: Run, palette: Mapping[str, Look]) -> tuple[list[Section], list[str]]:
    """Return the chapters that the workloads of a run bring, in the order of `plan.suites`, and their notes.

    Asked is every workload that the run has cells of, or files that a training of it left. It is anybody's code: one
    that fails costs a note, and one that is not installed here tells nothing.
    """
    found: list[Section] = []
    notes: list[str] = []
    for suite in plan.suites():
        kept = next(read_artifacts(run.folder, f"{suite}-*.npz"), None)
        if kept is None and suite not in set(run.frame["suite"]):
            continue
        try:
            chapter = getattr(plan.workload_of(suite), "chapter", None)
            if chapter is None:
                continue
            mine = dataclasses.replace(run, frame=run.frame[run.frame["suite"] == suite])
            section, said = chapter(mine, palette)
        except Exception as error:
            notes.append(f"the chapter of {suite} is left out: {type(error).__name__}: {first_line(error)}")
            continue
        found += [] if section is None else [section]
        notes += said
    return found, notes


def trust_section(frame: pd.DataFrame) -> Section:
    """Say what the trust marks mean, and how many numbers have each."""
    marks = Counter(mark_row(row) for row in frame.to_dict("records"))
    told = [
        f"{name}: the 95 % interval stays within ±{100 * demand.width:g} % of the speed-up, from at least "
        f"{demand.rounds} rounds, and the interquartile range of the times is at most {100 * demand.spread:g} % "
        f"of their median ({count(marks[name], 'cell')})."
        for name, demand in DEMANDS.items()
    ]
    return Section(
        anchor="trust",
        title="How far to trust a number",
        text=(
            *told,
            f"loose: anything wider ({count(marks['loose'], 'cell')}). Measure again on a quiet machine, or longer, "
            "before you build on it.",
            "A break-even has the weakest mark of the levels that it stands on.",
        ),
    )


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


def html(run: Run, chapters: list[Section], notes: list[str]) -> str:
    """Return the page: one file, nothing is loaded from elsewhere, and it reads without JavaScript too."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters["brackets"] = brackets
    shown = looks(run.frame["representation"])
    return environment.get_template("report.html").render(
        title=title(run),
        lead=lead(run),
        notes=notes,
        sections=chapters,
        css=(HERE / "report.css").read_text(encoding="utf-8"),
        legend={name: swatch(look) for name, look in shown.items()},
    )


def brackets(text: str) -> list[str]:
    """Split "70 % (50 % … never)" into its number and what stands in brackets."""
    found = re.fullmatch(r"([^(]+) \((.+)\)", text)
    return list(found.groups()) if found else [text]


def in_markdown(run: Run, chapters: list[Section], notes: list[str]) -> str:
    """Return the same tables in short, without pictures."""
    parts = [f"# {escape(title(run))}", escape(lead(run))]
    parts += ["\n".join(f"- {escape(note)}" for note in notes)] if notes else []
    for section in chapters:
        tables = [table for table in section.tables if not table.folded]
        if not tables and not section.text:
            continue
        parts.append(f"## {escape(section.title)}")
        parts += [escape(line) for line in section.text]
        parts += [markdown(table) for table in tables]
    return "\n\n".join(parts) + "\n"
