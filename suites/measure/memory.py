"""Weigh cells, in a pass of its own: never while anything is timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from sparsebench.representations.allocation import peak_allocations
from sparsebench.representations.base import Representation
from sparsebench.suites.workloads.problem import Problem


@dataclass(frozen=True, kw_only=True)
class Weight:
    """Bytes of a cell.

    Attributes:
        workspace_bytes: peak of one call of the operation, less the bytes of its results.
        build_peak_bytes: peak of building the representation, what it keeps included.
    """

    workspace_bytes: int
    build_peak_bytes: int


class _Turn:
    """What one representation does while it is weighed; an error ends its turn, and no other's."""

    def __init__(self, problem: Problem, cls: type[Representation]) -> None:
        self._problem, self._cls = problem, cls
        self._action: Callable[[], Any] | None = None
        self.error: Exception | None = None
        self.result_bytes = 0

    def build(self) -> None:
        """Build it."""
        try:
            self._action = self._problem.action(
                self._cls, self._cls.build(self._problem.tensor, self._problem.case.pattern)
            )
        except Exception as error:
            self.error = error

    def first(self) -> None:
        """Run the operation once: what a first call prepares for all later ones is no workspace."""
        self._call()

    def second(self) -> None:
        """Run the operation, and let go of everything."""
        self._call()
        self._action = None

    def _call(self) -> None:
        if self._action is not None and self.error is None:
            try:
                result = self._action()
                self.result_bytes = sum(held_bytes(output) for output in self._problem.held(result))
            except Exception as error:
                self.error = error


def weigh(
    problem: Problem, classes: Sequence[type[Representation]], begin: Callable[[int], None]
) -> list[Weight | Exception]:
    """Run the build and the operation of several representations under one allocation tracker.

    To start the tracker takes a tenth of a second, as long as a cell is timed: a problem's cells share it.

    Args:
        problem: the case on its device.
        classes: what to weigh.
        begin: told the number of each class before its turn, so that a death can be laid at its door.

    Returns:
        for each class its bytes, or what it raised.
    """
    turns = [_Turn(problem, cls) for cls in classes]
    calls: list[Callable[[], Any]] = []
    for number, turn in enumerate(turns):
        calls += [partial(begin, number), turn.build, turn.first, turn.second]
    _, peaks = peak_allocations(calls, problem.device)
    return [
        turn.error or Weight(workspace_bytes=max(0, call - turn.result_bytes), build_peak_bytes=build)
        for turn, build, call in zip(turns, peaks[1::4], peaks[3::4], strict=True)
    ]


def held_bytes(output: Any) -> int:
    """Return the bytes that a result's storage takes."""
    return int(output.untyped_storage().nbytes()) if isinstance(output, Tensor) else 0
