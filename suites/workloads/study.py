"""Run a workload's trainings side by side, one thread each, and put what came of them into study.json."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numba
import torch

from sparsebench.suites.files import write_whole
from sparsebench.suites.workloads.data import DataError, check_folder

Row = dict[str, Any]
"""Of study.json: one training's figures by name; "status" is "ok" if there is none."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training to do.

    Attributes:
        plan: what, as the workload lists it.
        seed: of it.
        data: folder with MNIST's files, or None.
        out: where its .npz goes.
    """

    plan: Any
    seed: int
    data: Path | None
    out: Path


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a workload trains, and how it is told.

    Attributes:
        description: of the command.
        seeds: by default.
        choice: name and further arguments of the option that chooses a list of plans.
        plans: the plans of an answer to it.
        name: of a plan, for --only to look in.
        do: trains, keeps the .npz, and returns its row; a function of a module, as it runs in other processes.
        line: what is printed of a row.
        result: what study.json holds besides the rows.
        folder: where the trainings are kept.
    """

    description: str
    seeds: int
    choice: tuple[str, dict[str, Any]]
    plans: Callable[[str], Sequence[Any]]
    name: Callable[[Any], str]
    do: Callable[[Job], Row]
    line: Callable[[Row], str]
    result: Callable[[Sequence[Row]], dict[str, Any]]
    folder: Callable[[], Path]

    def run(self, jobs: Sequence[Job], workers: int, niceness: int = 0) -> Iterator[tuple[int, Row]]:
        """Yield the number and the row of every job as it ends, however many cores there are for each."""
        context = multiprocessing.get_context("spawn")
        with context.Pool(workers, initializer=_one_thread, initargs=(niceness,)) as pool:
            yield from pool.imap_unordered(partial(_numbered, self.do), enumerate(jobs), chunksize=1)

    def write(self, path: Path, rows: Sequence[Row]) -> None:
        """Write study.json, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        told = {**self.result(rows), "trainings": rows}
        write_whole(path, json.dumps(told, indent=1, ensure_ascii=False) + "\n")

    def main(self, words: Sequence[str] | None = None) -> int:
        """Run or resume the trainings asked for, and return the exit status; study.json is written after each."""
        asked = self._arguments(words)
        chosen = [plan for plan in self.plans(asked.choice) if asked.only in self.name(plan)]
        # all plans of a seed before the next seed: whenever it is stopped, every plan has about as many
        jobs = [
            Job(plan=plan, seed=seed, data=asked.data, out=asked.out) for seed in range(asked.seeds) for plan in chosen
        ]
        if asked.jobs < 1 or not jobs:
            sys.stderr.write("expected at least one seed, one job and one training of that name; see --help\n")
            return 2
        try:
            check_folder(asked.data)
        except DataError as error:
            sys.stderr.write(f"study: {error}\n")
            return 2
        sys.stdout.write(f"{len(jobs)} trainings, kept in {self.folder()}\n")
        rows: dict[int, Row] = {}
        begin = time.perf_counter()
        for number, row in self.run(jobs, asked.jobs, asked.nice):
            rows[number] = row
            left = (time.perf_counter() - begin) / len(rows) * (len(jobs) - len(rows))
            sys.stdout.write(f"{len(rows)}/{len(jobs)} {self.line(row)}; about {left / 60:.0f} min left\n")
            sys.stdout.flush()
            self.write(asked.out / "study.json", [row for _, row in sorted(rows.items())])
        return int(any(row.get("status", "ok") != "ok" for row in rows.values()))

    def _arguments(self, words: Sequence[str] | None) -> argparse.Namespace:
        parser = argparse.ArgumentParser(prog="study", description=self.description)
        parser.add_argument("--data", type=Path, help="folder with MNIST's files; without it the 5,000 offline digits")
        parser.add_argument(self.choice[0], dest="choice", **self.choice[1])
        parser.add_argument("--seeds", type=int, default=self.seeds)
        parser.add_argument(
            "--jobs", type=int, default=os.cpu_count() or 1, help="trainings at a time, one thread each"
        )
        parser.add_argument("--nice", type=int, default=0, help="how far to step back for other work, 0 to 19")
        parser.add_argument("--only", default="", help="only trainings whose name holds this text")
        parser.add_argument("--out", type=Path, required=True, help="where the .npz files and study.json go")
        return parser.parse_args(words)


def _one_thread(niceness: int) -> None:
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    os.nice(niceness)


def _numbered(do: Callable[[Job], Row], job: tuple[int, Job]) -> tuple[int, Row]:
    return job[0], do(job[1])
