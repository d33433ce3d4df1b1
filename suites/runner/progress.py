"""Show how far a run is and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_EVERY_S = 30.0
"""Seconds between lines where there is no terminal to draw a bar on."""


@contextmanager
def shown(console: Console) -> Iterator[Callable[[int, int, str], None]]:
    """Yield a function that is told (done, total, label): it draws a bar on a terminal, else prints a line at times."""
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.description}"), console=console, speed_estimate_period=120) as bar:
        task = bar.add_task("", total=None)

        def tell(done: int, total: int, label: str) -> None:
            bar.update(task, completed=done, total=total, description=label)

        yield tell


def _lines(console: Console) -> Callable[[int, int, str], None]:
    begin = time.monotonic()
    spoken = begin
    first: int | None = None

    def tell(done: int, total: int, label: str) -> None:
        nonlocal spoken, first
        first = done if first is None else first
        now = time.monotonic()
        if now - spoken < PLAIN_EVERY_S:
            return
        spoken = now
        new = done - first
        left = f"about {(now - begin) / new * (total - done):.0f} s left" if new else "time left unknown"
        console.print(f"{done} of {total} cells, {now - begin:.0f} s, {left}")

    return tell
