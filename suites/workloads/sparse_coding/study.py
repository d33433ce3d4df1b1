"""Train every model on all digits, keep what each learned, and put all figures of the test images into study.json.

python -m sparsebench.suites.workloads.sparse_coding.study --data DIR --jobs 2 --out DIR
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch

from sparsebench.suites.workloads.data import DataError, check_folder
from sparsebench.suites.workloads.sparse_coding import plans, record
from sparsebench.suites.workloads.sparse_coding.images import images
from sparsebench.suites.workloads.sparse_coding.plans import Plan
from sparsebench.suites.workloads.sparse_coding.trained import folder, train


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


def do(job: Job) -> dict[str, Any]:
    """Train or fetch one model, keep its .npz, and return its row of study.json.

    A training that cannot be done has a reason and no figures.
    """
    plan = job.plan
    row: dict[str, Any] = {"workload": plan.workload, "model": plan.short, "data": plan.data, "units": plan.units}
    row |= {"level": plan.level, "settings": dict(plan.settings), "images": plan.images, "seed": job.seed}

    def tell(number: int, epochs: int, level: float) -> None:
        sys.stdout.write(f"  {plan.workload}, seed {job.seed}: epoch {number} of {epochs}, L1 {level:.2f}\n")
        sys.stdout.flush()

    try:
        found = train(plan, job.seed, job.data, progress=tell)
    except Exception as error:  # a model is anybody's code; the other trainings go on
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return row | {"status": "failed", "reason": f"{type(error).__name__}: {reason}"}
    job.out.mkdir(parents=True, exist_ok=True)
    arrays = record.model_artifact(found, images(plan.data, "test", job.data)[0])
    record.save(job.out / f"{record.model_name(found)}.npz", arrays)
    row |= {"status": "ok", "reason": None, "epochs": len(found.curve), "last_epoch": float(found.curve[-1])}
    row |= {"seconds": found.seconds, "encode_s": found.encode_s, "decode_s": found.decode_s}
    return row | {"figures": found.figures}


def _one_thread(niceness: int) -> None:
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    os.nice(niceness)


def run(jobs: Sequence[Job], workers: int, niceness: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the row of every job as it ends; each training has one thread, however many cores there are."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, initializer=_one_thread, initargs=(niceness,)) as pool:
        yield from pool.imap_unordered(do, jobs, chunksize=1)


def summarise(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row a workload: means of all figures over its seeds, with the sd (n − 1) of those that vary.

    A training without figures is counted under "failed" and enters no mean.
    """
    found = []
    for workload in dict.fromkeys(row["workload"] for row in rows):
        same = [row for row in rows if row["workload"] == workload]
        good = [row for row in same if row["status"] == "ok"]
        means, spreads = {}, {}
        for name in good[0]["figures"] if good else ():
            values = [row["figures"][name] for row in good]
            if None not in values:
                means[name] = float(np.mean(values))
                spreads[name] = float(np.std(values, ddof=1)) if len(values) > 1 else None
        seconds = float(np.mean([row["seconds"] for row in good])) if good else None
        about = {"workload": workload, "seeds": len(good), "failed": len(same) - len(good), "seconds": seconds}
        found.append(about | {"figures": means, "sd": spreads})
    return found


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="study", description="Train the whole list of sparse-coding models.")
    parser.add_argument("--data", type=Path, help="folder with MNIST's files; without it the 5,000 offline digits")
    parser.add_argument("--profile", choices=["quick", "full"], default="full", help="which list of models")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="trainings at a time, one thread each")
    parser.add_argument("--nice", type=int, default=0, help="how far to step back for other work, 0 to 19")
    parser.add_argument("--only", default="", help="only models whose name holds this text, as 'topk' or 'patches'")
    parser.add_argument("--out", type=Path, required=True, help="where the .npz files and study.json go")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run or resume the trainings asked for; study.json is written anew after each of them."""
    asked = _arguments(words)
    chosen = [plan for plan in plans.plans(asked.profile) if asked.only in plan.workload]
    if asked.seeds < 1 or asked.jobs < 1 or not chosen:
        sys.stderr.write("expected at least one seed, one job and one model of that name; see --help\n")
        return 2
    try:
        check_folder(asked.data)
    except DataError as error:
        sys.stderr.write(f"study: {error}\n")
        return 2
    # all models of a seed before the next seed: whenever it is stopped, every model has about as many
    jobs = [Job(plan=plan, seed=seed, data=asked.data, out=asked.out) for seed in range(asked.seeds) for plan in chosen]
    sys.stdout.write(f"{len(jobs)} trainings, kept in {folder()}\n")
    rows: list[dict[str, Any]] = []
    begin = time.perf_counter()
    for row in run(jobs, asked.jobs, asked.nice):
        rows.append(row)
        left = (time.perf_counter() - begin) / len(rows) * (len(jobs) - len(rows))
        sys.stdout.write(f"{len(rows)}/{len(jobs)} {_line(row)}; about {left / 60:.0f} min left\n")
        sys.stdout.flush()
        _write(asked.out / "study.json", rows, jobs)
    return int(any(row["status"] != "ok" for row in rows))


def _line(row: dict[str, Any]) -> str:
    name = f"{row['workload']}, seed {row['seed']}"
    if row["status"] != "ok":
        return f"{name}: {row['reason']}"
    told = {n: row["figures"][n] for n in ("l1_clipped", "r2", "l0_weak", "dead_units")}
    figures = ", ".join(f"{n} {value:.4g}" for n, value in told.items() if value is not None)
    return f"{name}: {figures}, {row['seconds']:.0f} s"


def _write(path: Path, rows: Sequence[dict[str, Any]], jobs: Sequence[Job]) -> None:
    """Write the summary, whole or not at all, in the order of the plans."""
    order = {(job.plan.workload, job.seed): number for number, job in enumerate(jobs)}
    ordered = sorted(rows, key=lambda row: order[row["workload"], row["seed"]])
    result = {"summary": summarise(ordered), "trainings": ordered}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draft.replace(path)


if __name__ == "__main__":
    sys.exit(main())
