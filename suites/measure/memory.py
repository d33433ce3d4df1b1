"""Weigh a cell, in a pass of its own: never while anything is timed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sparsebench.representations.allocation import peak_allocations
from sparsebench.representations.base import Representation
from sparsebench.suites.workloads.problem import Action, Problem


@dataclass(frozen=True, kw_only=True)
class Weight:
    """Bytes of a cell.

    Attributes:
        workspace_bytes: peak of one call of the operation, less the bytes of its results.
        build_peak_bytes: peak of building the representation, what it keeps included.
    """

    workspace_bytes: int
    build_peak_bytes: int


def weigh(problem: Problem, cls: type[Representation], action: Action) -> Weight:
    """Run the build and the operation once each under the allocation tracker."""
    (_, result), (build_peak, peak) = peak_allocations(
        [lambda: cls.build(problem.tensor, problem.case.pattern), action], problem.device
    )
    return Weight(
        workspace_bytes=max(0, peak - sum(held_bytes(output) for output in problem.held(result))),
        build_peak_bytes=build_peak,
    )


def held_bytes(output: Any) -> int:
    """Return the bytes that a result's storage takes."""
    return int(output.untyped_storage().nbytes()) if isinstance(output, Tensor) else 0
