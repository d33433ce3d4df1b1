"""Hand a worker the cells that it is to measure, in a file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from sparsebench.suites.cell import Case
from sparsebench.suites.files import write_whole
from sparsebench.suites.plan import PlanError, Planned, all_cases
from sparsebench.suites.workloads.problem import Workload


def write_cells(path: Path, cells: Sequence[Planned]) -> None:
    """Write cells for a worker to measure."""
    noted = [
        {
            "case": cell.case.any_key,
            "sparsity": cell.case.sparsity,
            "representation": cell.representation,
            "visit": cell.visit,
            "weigh": cell.weigh,
            "level_range": cell.level_range,
        }
        for cell in cells
    ]
    write_whole(path, json.dumps(noted))


def read_cells(path: Path, workload: Workload, profile: str) -> list[Planned]:
    """Return the cells that `write_cells` wrote.

    Raises:
        PlanError: if they are none of the workload's.
    """
    known: dict[str, Case] = {}
    for case in all_cases(workload, profile, train=True):
        known.setdefault(case.any_key, case)
    try:
        return [
            Planned(
                case=dataclasses.replace(known[one["case"]], sparsity=one["sparsity"]),
                representation=one["representation"],
                visit=one["visit"],
                weigh=one["weigh"],
                level_range=one["level_range"] and tuple(one["level_range"]),
            )
            for one in json.loads(path.read_text(encoding="utf-8"))
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PlanError(
            f"expected cells of this workload in {path}, got {type(error).__name__}: {error}; run it anew"
        ) from error
