"""Lay the break-evens of several runs, of other machines or other versions, side by side."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparsebench.suites.report.breakeven import BreakEven, break_evens
from sparsebench.suites.report.compare import MACHINE_FACTS
from sparsebench.suites.report.inventory import flat
from sparsebench.suites.report.journal import ReportError, Run, read_run
from sparsebench.suites.report.moved import POINTS, Moved, curve_key
from sparsebench.suites.report.page import page
from sparsebench.suites.report.table import Section, Table, Value, escape, figure, markdown, without_constants, words
from sparsebench.suites.text import NONE, count, percent, ratio, times

Key = tuple[str, ...]
TITLE = "sparsebench · runs side by side"
UNNAMED = "unknown processor"
CONSTANT: tuple[str, ...] = ("operation", "workload", "shape", "dtype", "device")
"""Columns that are told once where they say the same in every row."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One run.

    Attributes:
        name: at the head of its column, which no other has.
        run: what its folder holds.
        curves: its break-evens by what was asked.
    """

    name: str
    run: Run
    curves: Mapping[Key, BreakEven]


def columns(folders: Sequence[Path]) -> list[Column]:
    """Read runs, and name each by its processor, threads, version and commit; equal names get their folder's beside.

    Args:
        folders: of at least two runs.

    Raises:
        ReportError: if there are fewer than two, or one is no run.
    """
    if len(folders) < 2:
        raise ReportError(f"expected at least two runs to lay side by side, got {len(folders)}; name another folder")
    runs = [read_run(folder) for folder in folders]
    names = [_name(run.machine) for run in runs]
    often = Counter(names)
    named = [
        f"{name} ({run.folder.resolve().name})" if often[name] > 1 else name
        for name, run in zip(names, runs, strict=True)
    ]
    again = Counter(named)
    named = [f"{name}, {i}" if again[name] > 1 else name for i, name in enumerate(named, 1)]
    return [
        Column(name=name, run=run, curves={curve_key(one): one for one in break_evens(run.frame)})
        for name, run in zip(named, runs, strict=True)
    ]


def _name(machine: Mapping[str, Any]) -> str:
    parts = [str(machine.get("cpu") or UNNAMED)]
    gpu = machine.get("gpu")
    parts += [str(gpu["name"])] if isinstance(gpu, dict) and gpu.get("name") else []
    parts += [count(int(machine["threads"]), "thread")] if machine.get("threads") else []
    libraries = machine.get("libraries")
    version = libraries.get("sparsebench") if isinstance(libraries, dict) else None
    commit = str(machine.get("commit") or "")[:7]
    if version or commit:
        parts.append(" ".join(part for part in (str(version or ""), f"at {commit}" if commit else "") if part))
    return ", ".join(parts)


def side_by_side(folders: Sequence[Path]) -> tuple[list[Section], list[str]]:
    """Return the chapters of several runs, and the notes of everything that was read.

    Raises:
        ReportError: see `columns`.
    """
    found = columns(folders)
    notes = [f"{one.name}: {note}" for one in found for note in one.run.notes]
    keys = list(dict.fromkeys(key for one in found for key in one.curves))
    keys.sort(key=lambda key: (key[2], key[4], key[5], key[3], key[6], key[1], key[7]))
    sections = [
        Section(anchor="runs", title="The runs", text=(_agreement(found, keys),), tables=_facts(found)),
        Section(anchor="winners", title="Who wins", tables=(_winners(found, keys),) if keys else ()),
        Section(anchor="break-evens", title="Break-evens", tables=(_curves(found, keys),) if keys else ()),
    ]
    return sections, notes


def in_html(sections: Sequence[Section], notes: Sequence[str]) -> str:
    """Return chapters as one HTML page that loads nothing."""
    return page(TITLE, "", notes, None, sections, {})


def in_markdown(sections: Sequence[Section], notes: Sequence[str]) -> str:
    """Return chapters as one page of GitHub's Markdown, with every row."""
    parts = [
        f"# {TITLE}",
        *(["\n".join(f"- {escape(note)}" for note in notes)] if notes else []),
    ]
    for section in sections:
        parts += [f"## {escape(section.title)}", *(escape(line) for line in section.text)]
        parts += [markdown(table) for table in section.tables]
    return "\n\n".join(parts) + "\n"


def _agreement(found: Sequence[Column], keys: Sequence[Key]) -> str:
    """Say how many curves all runs answered, and how many of these answers agree."""
    if not keys:
        return "No run has a break-even: none measured a cell at a sparsity."
    apart = [spread for key in keys if (spread := _apart(found, key)) is not None]
    if not apart:
        return f"{count(len(keys), 'curve')}, of which none was answered by every run."
    same = sum(spread <= POINTS + 1e-9 for spread in apart)
    return (
        f"{count(len(keys), 'curve')}, of which {len(apart)} were answered by every run; {same} of these answers lie "
        f"within {100 * POINTS:g} points of each other."
    )


def _apart(found: Sequence[Column], key: Key) -> float | None:
    """Return how far the answers of a curve lie apart at most, in shares of 1; None if a run has none."""
    curves = [one.curves.get(key) for one in found]
    settled = [one for one in curves if one is not None and one.answer.settled]
    if len(settled) < len(found):
        return None
    return max(Moved(a=a, b=b).apart for a in settled for b in settled)


def _facts(found: Sequence[Column]) -> tuple[Table, ...]:
    """Return the facts of the machines that differ, a column a run."""
    facts = [
        dict(flat({name: one.run.machine[name] for name in (*MACHINE_FACTS, "commit") if name in one.run.machine}))
        for one in found
    ]
    names = dict.fromkeys(name for one in facts for name in one)
    rows = tuple(
        (words(name), *(words(one.get(name, NONE), style="long") for one in facts))
        for name in names
        if len({one.get(name) for one in facts}) > 1
    )
    head = ("fact", *(one.name for one in found))
    return (Table(title="What differs between the machines", head=head, rows=rows),) if rows else ()


def _curves(found: Sequence[Column], keys: Sequence[Key]) -> Table:
    rows = tuple(
        (
            *_asked(key), words(key[7]), *(_answer(one.curves.get(key)) for one in found),
            figure(NONE if (spread := _apart(found, key)) is None else f"{100 * spread:.1f}", spread),
        )
        for key in keys
    )  # fmt: skip
    head = (*_ASKED, "representation", *(one.name for one in found), "points apart")
    note = "From which sparsity on a representation is faster than dense, with its 95 % interval."
    return without_constants(Table(title="Break-evens side by side", head=head, rows=rows, note=note), CONSTANT)


_ASKED: tuple[str, ...] = ("operation", "workload", "shape", "dtype", "device", "pattern")


def _asked(key: Key) -> tuple[Value, ...]:
    _, workload, operation, shape, dtype, device, pattern, _ = key
    return words(operation), words(workload), words(times(shape)), words(dtype), words(device), words(pattern)


def _answer(one: BreakEven | None) -> Value:
    return figure(NONE, None) if one is None else figure(one.answer.text, one.answer.order)


def _winners(found: Sequence[Column], keys: Sequence[Key]) -> Table:
    """Return who is first to be faster than dense in each group, a column a run."""
    groups: dict[Key, list[Key]] = defaultdict(list)
    for key in keys:
        groups[key[:7]].append(key)
    rows = tuple((*_asked((*group, "")), *(_winner(one, groups[group]) for one in found)) for group in groups)
    head = (*_ASKED, *(one.name for one in found))
    note = (
        "Who is faster than dense from the lowest sparsity on, with the best speed-up; none: nobody up to the highest."
    )
    return without_constants(Table(title="Winners of each group", head=head, rows=rows, note=note), CONSTANT)


def _winner(one: Column, keys: Sequence[Key]) -> Value:
    able = [
        curve
        for key in keys
        if (curve := one.curves.get(key)) is not None and curve.answer.verdict in ("from the start", "crosses")
    ]
    if not able:
        verdicts = {one.curves[key].answer.verdict for key in keys if key in one.curves}
        return words("open" if "open" in verdicts else "none" if "not up to" in verdicts else NONE)
    best = min(able, key=lambda curve: (curve.answer.order, -(curve.best or 0.0)))
    told = f"{best.representation}, {best.answer.short}"
    return words(told if best.best_at is None else f"{told} ({ratio(best.best)} at {percent(best.best_at)})")
