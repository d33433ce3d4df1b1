"""Train every model on all digits, keep what each learned, and put all figures of the test images into study.json.

python -m sparsebench.suites.workloads.sparse_coding.study --data DIR --jobs 2 --out DIR
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from sparsebench.suites.workloads.sparse_coding import plans, record
from sparsebench.suites.workloads.sparse_coding.images import images
from sparsebench.suites.workloads.sparse_coding.trained import folder, train
from sparsebench.suites.workloads.study import Job, Study


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


def line(row: dict[str, Any]) -> str:
    """Return what is printed of a training."""
    name = f"{row['workload']}, seed {row['seed']}"
    if row["status"] != "ok":
        return f"{name}: {row['reason']}"
    told = {n: row["figures"][n] for n in ("l1_clipped", "r2", "l0_weak", "dead_units")}
    figures = ", ".join(f"{n} {value:.4g}" for n, value in told.items() if value is not None)
    return f"{name}: {figures}, {row['seconds']:.0f} s"


STUDY = Study(
    description="Train the whole list of sparse-coding models.",
    seeds=1,
    choice=("--profile", {"choices": ["quick", "full"], "default": "full", "help": "which list of models"}),
    plans=plans.plans,
    name=lambda plan: str(plan.workload),
    do=do,
    line=line,
    result=lambda rows: {"summary": summarise(rows)},
    folder=folder,
)

if __name__ == "__main__":
    sys.exit(STUDY.main())
