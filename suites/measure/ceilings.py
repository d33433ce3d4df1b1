"""Measure what a GPU can do at the most: dense products, copies, and reads from its cache.

`python -m sparsebench.suites.measure.ceilings` prints JSON. Against these figures a kernel's own speed means something.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch

from sparsebench.kernels.common.gpu import cold_cache, device_times
from sparsebench.suites.measure import machine

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
NEEDED = (
    "torch", "triton", "numpy", "scipy", "numba", "llvmlite", "threadpoolctl", "psutil", "pytest", "pytest_benchmark",
    "hypothesis", "xdist", "pandas", "seaborn", "jinja2", "typer", "rich", "pynvml", "sklearn",
)  # fmt: skip
"""What a measurement on a GPU imports, or can make use of."""


def ceilings(sides: Sequence[int], megabytes: int, dtypes: Sequence[torch.dtype] = DTYPES) -> dict[str, Any]:
    """Return dense products in TFLOP/s by dtype and side, and bandwidths in TB/s.

    Args:
        sides: of square matrices, and of those that meet 16 columns.
        megabytes: 10⁶ bytes that are copied.
        dtypes: of the products.
    """
    scratch = cold_cache()

    def seconds(action: Callable[[], Any], *, cold: bool = True) -> float:
        action()
        return median(device_times(action, 15, scratch if cold else None))

    found: dict[str, Any] = {"empty_s": seconds(lambda: None)}
    for dtype in dtypes:
        name = str(dtype).removeprefix("torch.")
        for side in sides:
            left, right = (torch.randn(side, side, device="cuda").to(dtype) for _ in range(2))
            narrow = right[:, :16].contiguous()
            found[f"dense_{name}_{side}_tflops"] = 2 * side**3 / seconds(partial(torch.matmul, left, right)) * 1e-12
            found[f"dense_{name}_{side}x16_s"] = seconds(partial(torch.matmul, left, narrow))
    big = torch.empty(megabytes * 1_000_000, dtype=torch.int8, device="cuda")
    to = torch.empty_like(big)
    found["copy_tb_per_s"] = 2 * big.numel() / seconds(lambda: to.copy_(big)) * 1e-12
    cached = torch.ones(scratch.numel() // 4 // 3, dtype=torch.int8, device="cuda")  # a third of the cache
    kept = torch.empty_like(cached)
    found["cached_copy_tb_per_s"] = 2 * cached.numel() / seconds(lambda: kept.copy_(cached), cold=False) * 1e-12
    return found


def versions() -> dict[str, str]:
    """Return the version of each library of NEEDED, or why it does not import, in one line."""
    found = {}
    for name in NEEDED:
        try:
            found[name] = str(getattr(importlib.import_module(name), "__version__", "unknown"))
        except Exception as error:  # whatever an import throws is an answer here
            found[name] = f"missing: {type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print versions, the machine's facts and its ceilings as JSON; return 2 where there is no GPU, else 0."""
    parser = argparse.ArgumentParser(prog="python -m sparsebench.suites.measure.ceilings", description=main.__doc__)
    parser.add_argument("--commit", help="what is measured, where no git can tell")
    parser.add_argument("--side", type=int, action="append", help="of the square matrices; may be repeated")
    parser.add_argument("--megabytes", type=int, default=2000, help="that are copied")
    given = parser.parse_args(arguments)
    if (reason := machine.device_problem("cuda")) is not None:
        print(reason, file=sys.stderr)
        return 2
    machine.exact_float32()
    facts = machine.describe("cuda", machine.default_threads())
    facts["commit"] = facts["commit"] or given.commit
    found = {
        "versions": versions(),
        "machine": facts,
        "ceilings": ceilings(given.side or (8192, 4096, 1024), given.megabytes),
    }
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
