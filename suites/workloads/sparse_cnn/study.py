"""Run the trainings of the CNN over many seeds, side by side, and put means, spreads and paired tests into study.json.

python -m sparsebench.suites.workloads.sparse_cnn.study --data DIR --seeds 10 --jobs 2 --out DIR
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparsebench.suites.workloads.sparse_cnn import images, plans, record, store
from sparsebench.suites.workloads.sparse_cnn.plans import Plan
from sparsebench.suites.workloads.sparse_cnn.training import Trained, train

GROUPS: dict[str, Callable[[], list[Plan]]] = {"targets": plans.targets, "comparison": plans.comparison}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training to do.

    Attributes:
        plan: what.
        seed: of it.
        data: folder with MNIST's files, or None.
        out: where its .npz goes.
    """

    plan: Plan
    seed: int
    data: Path | None
    out: Path


@cache
def _images(data: Path | None) -> images.Images:
    return images.load(data)


def fit(plan: Plan, seed: int, data: Path | None) -> Trained:
    """Train a plan on the images of a folder, from the store as far as it has been trained already."""
    found = _images(data)
    return train(plan.fitted(len(found.x)), seed, found)


def _do(job: Job) -> dict[str, Any]:
    """Train, keep the .npz, and return the figures of the table."""
    trained = fit(job.plan, job.seed, job.data)
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


def _one_thread(niceness: int) -> None:
    torch.set_num_threads(1)
    os.nice(niceness)


def run(jobs: Sequence[Job], workers: int, niceness: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the figures of every job as it ends; each training has one thread, however many cores there are."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, initializer=_one_thread, initargs=(niceness,)) as pool:
        yield from pool.imap_unordered(_do, jobs, chunksize=1)


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


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="study", description="Train the sparse CNN's whole list over many seeds.")
    parser.add_argument("--data", type=Path, help="folder with MNIST's files; without it the 5,000 offline digits")
    parser.add_argument("--seeds", type=int, default=plans.SEEDS["full"])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="trainings at a time, one thread each")
    parser.add_argument("--nice", type=int, default=0, help="how far to step back for other work, 0 to 19")
    parser.add_argument("--group", choices=[*GROUPS, "all"], default="all")
    parser.add_argument("--only", default="", help="only trainings whose label holds this text")
    parser.add_argument("--out", type=Path, required=True, help="where the .npz files and study.json go")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run or resume the trainings asked for; study.json is written anew after each of them."""
    asked = _arguments(words)
    chosen = [plan for name, group in GROUPS.items() if asked.group in (name, "all") for plan in group()]
    chosen = [plan for plan in chosen if asked.only in plan.settings.label]
    # all plans of a seed before the next seed: whenever it is stopped, every plan has about as many
    jobs = [Job(plan=plan, seed=seed, data=asked.data, out=asked.out) for seed in range(asked.seeds) for plan in chosen]
    if asked.seeds < 1 or asked.jobs < 1 or not jobs:
        sys.stderr.write("expected at least one seed, one job and one training of that label; see --help\n")
        return 2
    sys.stdout.write(f"{len(jobs)} trainings, kept in {store.folder()}\n")
    rows: list[dict[str, Any]] = []
    begin = time.perf_counter()
    for row in run(jobs, asked.jobs, asked.nice):
        rows.append(row)
        left = (time.perf_counter() - begin) / len(rows) * (len(jobs) - len(rows))
        sys.stdout.write(
            f"{len(rows)}/{len(jobs)} {row['label']} seen {row['seen']:,} seed {row['seed']}: "
            f"{row['accuracy']:.2%}, planes {row['planes']:.1%}, active {row['activity']:.1%}, "
            f"{row['parameters']:,} parameters, {row['seconds']:.0f} s; about {left / 60:.0f} min left\n"
        )
        sys.stdout.flush()
        _write(asked.out / "study.json", rows)
    return 0


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the summary, whole or not at all."""
    ordered = sorted(rows, key=lambda row: (-row["seen"], row["label"], row["seed"]))
    result = {"summary": summarise(ordered), "paired": pairs(ordered), "trainings": ordered}
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(result, indent=1), encoding="utf-8")
    draft.replace(path)


if __name__ == "__main__":
    sys.exit(main())
