"""Tell where the time of a training step of the CNN goes: its pruned layers one by one, and what is left."""

from __future__ import annotations

import pandas as pd

from sparsebench.suites.report.table import Table, Value, figure, words
from sparsebench.suites.text import NONE, ratio, seconds

STEP = "training_step"
NETWORK: tuple[str, ...] = ("workload", "pattern", "sparsity", "device", "dtype")
"""Columns that the cells of one network share."""
ASKED = 2.0
"""A step that is this much faster than dense needs no explanation."""


def step_table(frame: pd.DataFrame) -> Table | None:
    """Return every representation's training step beside its pruned layers alone, or None if nothing was timed.

    Args:
        frame: `Run.frame`.
    """
    mine = frame[(frame["status"] == "ok") & (frame["time_s"] > 0)]
    layers = sorted({str(name) for name in mine["operation"] if str(name).startswith("conv")})
    rows = []
    for key, cells in mine.groupby(list(NETWORK), sort=False, dropna=False):
        for name, same in cells.groupby("representation", sort=False):
            by_operation = {row["operation"]: row for row in same.to_dict("records")}
            step = by_operation.get(STEP)
            if step is None:
                continue
            parts = [by_operation.get(layer) for layer in layers]
            known = [part for part in parts if part is not None]
            rest = step["time_s"] - sum(part["time_s"] for part in known)
            dense = step["reference_time_s"] - sum(part["reference_time_s"] for part in known)
            rows.append((
                words(f"{key[0]}, {key[1]}"), words(name), figure(ratio(step["speedup"]), step["speedup"]),
                *(_pair(row["time_s"], row["reference_time_s"]) if row else words(NONE) for row in (step, *parts)),
                _pair(rest, dense) if len(known) == len(layers) and layers else words(NONE),
            ))  # fmt: skip
    if not rows:
        return None
    head = ("network", "representation", "speed-up", "step", *(layer.removesuffix("_step") for layer in layers), "rest")
    note = (
        "Each figure beside dense's own. The rest stays dense everywhere: first layer, classifier, loss, activations."
    )
    return Table(title="Where a training step's time goes", head=head, rows=tuple(rows), note=note, brief=20)


def step_text(frame: pd.DataFrame) -> str | None:
    """Return a sentence on how much faster than dense the best training step on sparse planes is, or None."""
    mine = frame[(frame["operation"] == STEP) & (frame["status"] == "ok")]
    mine = mine[(mine["representation"] == "planes") & mine["speedup"].notna()]
    if mine.empty:
        return None
    best = mine.sort_values("speedup").iloc[-1]
    told = (
        f"A training step of the pruned network ({best['pattern']}, {best['sparsity']:.0%} absent) takes "
        f"{seconds(best['time_s'])} on planes and {seconds(best['reference_time_s'])} dense, {ratio(best['speedup'])}."
    )
    return (
        told if best["speedup"] >= ASKED else told + " That is less than twice as fast; the table says where it goes."
    )


def _pair(own: float, dense: float) -> Value:
    return figure(f"{seconds(own)} / {seconds(dense)}", own)
