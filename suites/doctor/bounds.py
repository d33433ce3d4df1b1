"""Measure a few block-sparse products beside the best that their rooflines allow."""

from __future__ import annotations

from functools import partial

import torch

from sparsebench.kernels.block_sparse.cpu_trial import work_of
from sparsebench.kernels.common import choices, processor
from sparsebench.kernels.common.chooser import other_work
from sparsebench.kernels.common.processor import Processor
from sparsebench.kernels.common.race import duel
from sparsebench.kernels.common.rates import least_s
from sparsebench.representations.formats.block_sparse import BlockSparse
from sparsebench.representations.pattern import Pattern
from sparsebench.suites import text

SIDE, COLUMNS, SPARSITY = 2048, 1024, 0.9
BLOCKS = (64, 32, 16)
_KEY = "bound"


def measure(side: int = SIDE, columns: int = COLUMNS) -> None:
    """Time block-sparse against dense for each of BLOCKS, and keep what came out; ε = speed-up × (1 − sparsity)."""
    x = torch.rand(side, columns) - 0.5
    for block in BLOCKS:
        pattern = Pattern(kind="block", block=(block, block))
        weight = pattern.tensor((side, side), SPARSITY, seed=0)
        stored = BlockSparse.build(weight, pattern)
        dense, sparse = partial(torch.mm, weight, x), partial(stored.matmul, x)
        sparse()  # compiled and chosen
        ratio, error = duel(dense, sparse, lambda way: way(), between=other_work, bound_s=3.0)
        work = work_of("dsd", stored.index, columns, torch.float32)
        density = work.flops / (2.0 * side * side * columns)
        note = {
            "epsilon": ratio * density,
            "error": error * density,
            "dense_s": least_s(dense, tries=5),
            "kernel": stored.kernel("matmul"),
            "density": density,
            "flops": work.flops,
            "read": work.read,
            "written": work.written,
            "near": work.near,
        }
        choices.remember(_device(), f"{_KEY} {side}×{side} @ {columns}, blocks of {block}", note)


def lines(known: Processor | None) -> list[str]:
    """Return a line for each product that was measured: the best ε possible, and the one that was reached."""
    found = {key: note for key, note in choices.kept(_device()).items() if key.startswith(_KEY)}
    if known is None or not found:
        return ["rooflines  nothing was measured yet: sparsebench doctor --measure (ten seconds)"]
    told = ["rooflines  ε = time of dense · (share that is stored) ÷ time; float32, 90 % zeros"]
    for key, note in sorted(found.items(), key=lambda item: -item[1].get("density", 0.0)):
        try:
            least = known.least_s(note["flops"], note["read"], note["written"], near=note["near"])
            best = note["dense_s"] * note["density"] / least
            reached = f"ε {note['epsilon']:.2f} ± {2 * note['error']:.2f} of {best:.2f} possible"
            told.append(f"  {key.removeprefix(_KEY).strip()}: {reached}")
            told.append(f"      {note['kernel']}")
        except (KeyError, TypeError, ValueError):
            continue
    return [line.replace(text.SPACE, " ") for line in told]


def _device() -> str:
    return f"{processor.machine()} doctor"
