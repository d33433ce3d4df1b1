"""Show how far a run is and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

PLAIN_EVERY_S = 30.0
"""Seconds between lines where there is no terminal to draw a bar on."""


@dataclass(frozen=True, kw_only=True)
class Count:
    """How far a run is.

    Attributes:
        answered: curves whose break-even is known.
        curves: that are searched.
        done: cells of a given level that were visited.
        cells: of a given level.
        visits: made so far, of all cells.
        left_s: seconds at the most, None where no limit was given.
        label: what is being measured.
    """

    answered: int
    curves: int
    done: int
    cells: int
    visits: int
    left_s: float | None
    label: str

    @property
    def text(self) -> str:
        """Return it in words."""
        parts = [f"{self.answered} of {self.curves} curves answered"] if self.curves else []
        parts += [f"{self.done} of {self.cells} cells visited"] if self.cells else []
        parts += [f"{self.visits} visits"]
        return ", ".join(parts + ([f"at most {self.left_s:.0f} s left"] if self.left_s is not None else []))


Progress = Callable[[Count], None]
"""Told how far a run is, a few times a second."""


@contextmanager
def shown(console: Console) -> Iterator[Progress]:
    """Yield a function that is told how far a run is: it draws a bar on a terminal, else prints a line at times."""
    if not console.is_terminal:
        yield _lines(console)
        return
    with Bar(BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"), console=console) as bar:
        task = bar.add_task("", total=None)

        def tell(count: Count) -> None:
            bar.update(
                task, completed=count.answered + count.done, total=count.curves + count.cells,
                description=f"{count.text}  {count.label}",
            )  # fmt: skip

        yield tell


def _lines(console: Console) -> Progress:
    begin = time.monotonic()
    spoken = begin

    def tell(count: Count) -> None:
        nonlocal spoken
        now = time.monotonic()
        if now - spoken < PLAIN_EVERY_S:
            return
        spoken = now
        console.print(f"{count.text}, {now - begin:.0f} s")

    return tell
