"""Tell what was chosen on this machine: each choice with its margin, its noise, and its roofline beside it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from sparsebench.kernels.common import choices, processor
from sparsebench.kernels.common.chooser import Work
from sparsebench.kernels.common.processor import Processor
from sparsebench.suites import text

WIDTH = 99
"""Columns that a line may take."""


def lines(known: Processor | None) -> list[str]:
    """Return what is known of each choice that was kept on this machine with as many threads as now."""
    found = {
        key: note
        for device in choices.devices()
        if device.startswith(processor.machine())
        for key, note in choices.kept(device).items()
        if "choice" in note
    }
    if not found:
        return ["choices    none yet: they are measured when a product is first computed, and kept"]
    told = [f"choices    {len(found)}, kept in {choices.folder()}"]
    for key, note in sorted(found.items()):
        told += textwrap.wrap(key, WIDTH, initial_indent="  ", subsequent_indent="  ")
        told += textwrap.wrap(told_of(note, known), WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return told


def told_of(note: Mapping[str, Any], known: Processor | None) -> str:
    """Return what was chosen, how sure that is, and how near it comes to what the processor can do."""
    parts = [named(note.get("choice"))]
    margin, noise, seconds = (note.get(name) for name in ("margin", "noise", "seconds"))
    if text.known(margin):
        parts.append(f"{text.percent(round(margin, 3))} before the second of {note.get('tried')}")
    elif note.get("second") is None:
        parts.append("nothing else was tried")
    if text.known(noise):
        parts.append(f"noise {text.percent(round(noise, 3))}{'' if note.get('decided', True) else ', close'}")
    if text.known(seconds):
        parts.append(text.seconds(seconds))
        if known is not None and (work := _work(note.get("work"))) is not None:
            least = known.least_s(work.flops, work.read, work.written, near=work.near)
            parts.append(f"{text.percent(round(least / seconds, 2))} of the roofline")
    return "; ".join(parts).replace(text.SPACE, " ")


def named(choice: object) -> str:
    """Return a candidate in words: what it is called, what is set, and numbers by name."""
    if not isinstance(choice, dict):
        return "unknown"
    words = []
    for name, value in sorted(choice.items(), key=lambda item: (not isinstance(item[1], str), item[0])):
        if isinstance(value, bool):
            words += [name] if value else []
        else:
            words.append(value if isinstance(value, str) else f"{name} {value}")
    return " ".join(words)


def _work(noted: object) -> Work | None:
    try:
        return Work(**noted) if isinstance(noted, dict) else None
    except TypeError:
        return None
