"""Draw the notebook's two curves with each code decoded by every representation, and hold them to the compiled loop."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from sparsebench.representations import registry
from sparsebench.suites.measure.machine import set_threads
from sparsebench.suites.workloads.data import data_folder, digits
from sparsebench.suites.workloads.sparse_coding.notebook.conserved_flow import FLOWS, Settings, learn
from sparsebench.suites.workloads.sparse_coding.notebook.holding import decoder, why_not

PLAIN = "numba loop"
"""The row that the others are held to: `loops.epoch_compiled`, in which no representation takes part."""


def curve(
    flow: float, name: str | None, *, epochs: int, images: int, data: Path | None, seed: int = 0
) -> dict[str, Any]:
    """Train once and return a row for JSON.

    Args:
        flow: f.
        name: of the representation that decodes; None for the compiled loop.
        epochs: 20 in the notebook.
        images: 3,000 in the notebook.
        data: folder of MNIST, or None for the offline digits.
        seed: of the first dictionary.

    Returns:
        flow, representation, status ("ok" or "unsupported"), reason; if ok: curve, mean of Σ|v − r| an epoch;
        last_epochs, its mean over the last five; held, "values" or "build" (see `holding.decoder`) or None; cpu_s, of
        one thread; source.
    """
    row: dict[str, Any] = {"flow": flow, "representation": name or PLAIN, "status": "ok", "reason": None}
    settings = Settings(flow=flow, epochs=epochs, images=images)
    if name is not None:
        reason = why_not(name, settings.units)
        if reason is not None:
            return row | {"status": "unsupported", "reason": reason}
    started = time.process_time()
    learned = learn(digits(data), settings, seed, holder=name)
    return row | {
        "curve": learned.curve.tolist(),
        "last_epochs": learned.last_epochs,
        "held": None if name is None else decoder(name, settings.units)[1],
        "cpu_s": time.process_time() - started,
        "source": learned.source,
    }


def compared(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with `largest_difference`: that of any epoch from the compiled loop's at the same f, relative."""
    rows = list(rows)
    plain = {row["flow"]: row["curve"] for row in rows if row["representation"] == PLAIN}
    for row in rows:
        if row["status"] == "ok":
            pairs = zip(row["curve"], plain[row["flow"]], strict=True)
            row["largest_difference"] = max(abs(own - other) / other for own, other in pairs)
    return rows


def _on_one_thread(flow: float, name: str | None, **options: Any) -> dict[str, Any]:
    set_threads(1)  # of numba too: its layer would set those of torch again, and they would wait for each other
    return curve(flow, name, **options)


def run(
    names: Sequence[str],
    *,
    epochs: int,
    images: int,
    data: Path | None,
    seed: int = 0,
    workers: int = 2,
    done: Callable[[list[dict[str, Any]]], None] = lambda rows: None,
) -> list[dict[str, Any]]:
    """Train at both f with the compiled loop and with every representation named; each training on one thread.

    `done` is told all rows so far, in order, whenever one more of them stands.

    Raises:
        ValueError: if a representation is unknown or workers below 1.
        DataError: if the data are not as expected.
    """
    if workers < 1:
        raise ValueError(f"expected at least 1 worker, got {workers}")
    for name in names:
        registry.load(name)
    jobs = [(flow, name) for name in (None, *names) for flow in FLOWS]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = [
            pool.submit(_on_one_thread, flow, name, epochs=epochs, images=images, data=data, seed=seed)
            for flow, name in jobs
        ]
        rows: list[dict[str, Any]] = []
        for future in futures:
            rows.append(future.result())
            if len(rows) >= len(FLOWS):  # the compiled loop's own come first
                done(compared(rows))
    return compared(rows)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as lines of text: the curve epoch by epoch, its last five, and how far it is from the loop's."""
    lines = []
    for row in rows:
        head = f"f = {row['flow']:<7g} {row['representation']:22}"
        if row["status"] != "ok":
            lines.append(f"{head} {row['status']}: {row['reason']}")
            continue
        held = "" if row["held"] is None else f", held by {row['held']}"
        lines.append(
            f"{head} last five {row['last_epochs']:.2f}, off by {row['largest_difference']:.1e}, "
            f"{row['cpu_s']:.0f} s{held}"
        )
        lines.append("    " + " ".join(f"{level:.1f}" for level in row["curve"]))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; return 1 if a curve is more than 1 % off the compiled loop's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=str, help="folder of MNIST's four files; offline digits without it")
    parser.add_argument("--representation", action="append", help="a name; all of them if none is given")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--images", type=int, default=3_000, help="the first ones, in each epoch")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="trainings at a time")
    parser.add_argument("--out", type=Path, help="JSON file for the rows")
    told = parser.parse_args(arguments)
    shown = 0

    def tell(rows: list[dict[str, Any]]) -> None:
        nonlocal shown
        print(table(rows[shown:]), flush=True)
        shown = len(rows)
        if told.out is not None:
            told.out.write_text(json.dumps(rows, indent=1) + "\n")

    rows = run(
        told.representation or registry.names(),
        epochs=told.epochs,
        images=told.images,
        data=data_folder(told.data),
        seed=told.seed,
        workers=told.workers,
        done=tell,
    )
    return int(any(row["status"] == "ok" and row["largest_difference"] > 0.01 for row in rows))


if __name__ == "__main__":
    sys.exit(main())
