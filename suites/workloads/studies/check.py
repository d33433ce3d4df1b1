"""Check in seconds that a training still ends where the kept study says: one small case, trained anew in the run.

The kept figures are those of some seeds. A training of one more seed lies within the tolerance in 99 of 100 cases: it
is Student's prediction interval, t · sd · √(1 + 1/n). Another processor rounds otherwise, which acts as another seed.

python -m sparsebench.suites.workloads.studies.check --seeds 10 --out results/reference/epyc-2-cores-check
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparsebench.suites.cell import Case
from sparsebench.suites.text import known, significant
from sparsebench.suites.workloads.problem import Quality, Training
from sparsebench.suites.workloads.studies.read import held, source

OPERATION = "check"
SURE = 0.99
"""Share of further seeds that lie within the tolerance."""
CHECKED: tuple[str, ...] = ("sparse_cnn", "sparse_coding")
"""Workloads with a short check: CHECK in their module `short`."""


@dataclass(frozen=True, kw_only=True)
class ShortCheck:
    """One small case.

    Attributes:
        suite: the workload's.
        label: of the case, as its rows call it.
        metric: what is found.
        train: trains anew on the digits that need no network, with a seed, and returns the figure.
    """

    suite: str
    label: str
    metric: str
    train: Callable[[int], float]


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the kept study says of a check.

    Attributes:
        values: by seed from 0.
    """

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Return the mean over the seeds."""
        return float(np.mean(self.values))

    @property
    def tolerance(self) -> float:
        """Return how far from the mean a training of one more seed lies at most, in SURE of all cases."""
        from scipy.stats import t  # imported late: a third of a second

        count = len(self.values)
        return float(t.ppf((1 + SURE) / 2, count - 1) * np.std(self.values, ddof=1) * math.sqrt(1 + 1 / count))


def expected(suite: str) -> Expected:
    """Return what the kept study says of a workload's check."""
    return Expected(values=tuple(held()["checks"]["kept"][suite]["values"]))


class CheckTraining(Training):
    """The small case, trained in this run and compared with the kept figure; nothing that was kept before counts."""

    def __init__(self, case: Case, device: str, check: ShortCheck) -> None:
        """Take what is checked; trainings are on the CPU, whatever the device is."""
        self.case, self.device, self._check = case, device, check

    def train(self) -> float:
        """Train, and return the figure."""
        return self._check.train(self.case.seed)

    def quality(self, result: float) -> Quality:
        """Return the figure found, and beside it `kept`, `tolerance`, `kept_seeds`, and `reproduced`: 1 or 0."""
        kept = expected(self._check.suite)
        figures = {"kept": kept.mean, "tolerance": kept.tolerance, "kept_seeds": float(len(kept.values))}
        figures["reproduced"] = float(abs(result - kept.mean) <= kept.tolerance)
        return Quality(value=result, metric=self._check.metric, figures=figures)


def reproduced(row: Mapping[Any, Any]) -> bool | None:
    """Tell whether a check's row reproduces the kept figure; None if it does not say."""
    figures = _figures(row)
    return bool(figures["reproduced"]) if known(figures.get("reproduced")) else None


def told(rows: Sequence[Mapping[Any, Any]]) -> str | None:
    """Return in one sentence what the short check of a run found, or None if it has none.

    Args:
        rows: of one suite, as `Run.frame` has them.
    """
    mine = [row for row in rows if row["operation"] == OPERATION]
    if not mine:
        return None
    row, figures = mine[-1], _figures(mine[-1])
    if row["status"] != "ok" or not figures:
        return f"Short check: {row['workload']} could not be trained here: {row['reason']}."
    verdict = "reproduces" if reproduced(row) else "does NOT reproduce"
    return (
        f"Short check: {row['workload']}, trained in this run, {verdict} the kept figure: {row['quality_metric']} "
        f"{significant(row['quality'], 4)} found, {significant(figures['kept'], 4)} ± "
        f"{significant(figures['tolerance'], 2)} kept ({figures['kept_seeds']:g} seeds of {source('checks').run}; a "
        f"training of another seed lies within in {SURE:.0%} of cases)."
    )


def warned(rows: Sequence[Mapping[Any, Any]]) -> list[str]:
    """Return a note for a check that does not reproduce the kept figure, to stand at the head of a report."""
    failed = any(row["operation"] == OPERATION and reproduced(row) is False for row in rows)
    return [text] if failed and (text := told(rows)) is not None else []


def _figures(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the column `qualities`, which a table holds as JSON."""
    found = row.get("qualities")
    try:
        parsed = json.loads(found) if isinstance(found, str) else found
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def main(words: Sequence[str] | None = None) -> int:
    """Train every check on some seeds, write check.json and machine.json, and return the exit status."""
    from sparsebench.suites.measure import machine  # imported late: nothing else here needs it

    parser = argparse.ArgumentParser(prog="check", description="Make the kept figures of the short checks.")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, required=True, help="where check.json and machine.json go")
    asked = parser.parse_args(words)
    if asked.seeds < 2:
        sys.stderr.write("check: expected at least 2 seeds, as one has no spread; give --seeds more\n")
        return 2
    found = {}
    for suite in CHECKED:
        check: ShortCheck = importlib.import_module(f"sparsebench.suites.workloads.{suite}.short").CHECK
        values = [check.train(seed) for seed in range(asked.seeds)]
        found[suite] = {"label": check.label, "metric": check.metric, "values": values}
        sys.stdout.write(f"{check.label}: {np.mean(values):.4g} ± {np.std(values, ddof=1):.2g} ({check.metric})\n")
    asked.out.mkdir(parents=True, exist_ok=True)
    for name, told_ in (("check.json", found), ("machine.json", machine.describe("cpu", 1))):
        text = json.dumps(told_, indent=1, ensure_ascii=False) + "\n"
        (asked.out / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
