"""Run the trainings of the CNN over many seeds, side by side, and put means, spreads and paired tests into study.json.

python -m sparsebench.suites.workloads.sparse_cnn.study --data DIR --seeds 10 --jobs 2 --out DIR
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sparsebench.suites.workloads.sparse_cnn import images, kept, plans, record
from sparsebench.suites.workloads.sparse_cnn.plans import Plan
from sparsebench.suites.workloads.sparse_cnn.training import train
from sparsebench.suites.workloads.study import Job, Study

GROUPS: dict[str, Callable[[], list[Plan]]] = {"targets": plans.targets, "comparison": plans.comparison}


def do(job: Job) -> dict[str, Any]:
    """Train, or fetch what was trained already, keep the .npz, and return the figures of the table."""
    found = images.load(job.data)
    trained = train(job.plan.fitted(len(found.x)), job.seed, found)
    job.out.mkdir(parents=True, exist_ok=True)
    arrays = record.artifact(trained)
    np.savez_compressed(job.out / f"{record.name(trained)}.npz", **arrays)  # type: ignore[arg-type]
    return {
        "workload": job.plan.workload,
        "label": trained.settings.label,
        "seen": job.plan.seen,
        "seed": job.seed,
        "accuracy": trained.accuracy[-1],
        "activity": float(np.mean(trained.activity)),
        "plane_activity": float(np.mean(trained.plane_activity)),
        "planes": record.planes(trained),
        "parameters": trained.parameters,
        "seconds": trained.seconds,
        "empty": record.empty_layers(trained),
    }


def summarise(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row a plan: mean and sd (n − 1) of the accuracy over its seeds, and means of the other figures."""
    found = []
    for key in dict.fromkeys((row["label"], row["seen"]) for row in rows):
        same = [row for row in rows if (row["label"], row["seen"]) == key]
        accuracy = np.array([row["accuracy"] for row in same])
        means = ("activity", "plane_activity", "planes", "parameters", "seconds")
        found.append(
            {
                "label": key[0],
                "seen": key[1],
                "seeds": len(same),
                "accuracy": float(accuracy.mean()),
                "accuracy_sd": float(accuracy.std(ddof=1)) if len(same) > 1 else None,
                **{name: float(np.mean([row[name] for row in same])) for name in means},
            }
        )
    return found


def paired(rows: Sequence[dict[str, Any]], sparse: str, narrow: str, seen: int) -> dict[str, Any] | None:
    """Compare two labels over the seeds that both have, by t-test and by Wilcoxon's; None for fewer than two seeds.

    Args:
        rows: of single trainings.
        sparse: label of the one.
        narrow: label of the other.
        seen: images seen in both.
    """
    from scipy import stats  # imported late: a third of a second

    by_seed = [
        {row["seed"]: row["accuracy"] for row in rows if (row["label"], row["seen"]) == (label, seen)}
        for label in (sparse, narrow)
    ]
    seeds = sorted(by_seed[0].keys() & by_seed[1].keys())
    if len(seeds) < 2:
        return None
    first, second = (np.array([accuracy[seed] for seed in seeds]) for accuracy in by_seed)
    difference = first - second
    constant = bool((difference == difference[0]).all())  # then neither test is defined
    return {
        "sparse": sparse,
        "narrow": narrow,
        "seen": seen,
        "seeds": len(seeds),
        "sparse_mean": float(first.mean()),
        "narrow_mean": float(second.mean()),
        "difference": float(difference.mean()),
        "difference_sd": float(difference.std(ddof=1)),
        "wins": int((difference > 0).sum()),
        "t_test_p": None if constant else float(stats.ttest_rel(first, second).pvalue),
        "wilcoxon_p": None if constant else float(stats.wilcoxon(first, second).pvalue),
    }


def pairs(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the comparisons of every plane-sparse training with its narrower dense counterpart."""
    found = []
    for label, seen in dict.fromkeys((row["label"], row["seen"]) for row in rows):
        if label.startswith("narrow-plane-"):
            level = label.removeprefix("narrow-plane-")
            for method in ("group-lasso", "rigl", "magnitude"):
                result = paired(rows, f"{method}-plane-{level}", label, seen)
                found += [result] if result is not None else []
    return found


def line(row: dict[str, Any]) -> str:
    """Return what is printed of a training."""
    return (
        f"{row['label']} seen {row['seen']:,} seed {row['seed']}: {row['accuracy']:.2%}, planes {row['planes']:.1%}, "
        f"active {row['activity']:.1%}, {row['parameters']:,} parameters, {row['seconds']:.0f} s"
    )


STUDY = Study(
    description="Train the sparse CNN's whole list over many seeds.",
    seeds=plans.SEEDS["full"],
    choice=("--group", {"choices": [*GROUPS, "all"], "default": "all"}),
    plans=lambda asked: [plan for name, group in GROUPS.items() if asked in (name, "all") for plan in group()],
    name=lambda plan: str(plan.settings.label),
    do=do,
    line=line,
    result=lambda rows: {"summary": summarise(rows), "paired": pairs(rows)},
    folder=kept.folder,
)

if __name__ == "__main__":
    sys.exit(STUDY.main())
