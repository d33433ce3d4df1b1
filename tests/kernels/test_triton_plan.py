"""Check that planned launches skip Triton's own way, on a stand-in for the driver, and that they are found again."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before the kernels are imported: they are made for it then

pytest.importorskip("triton")

from sparsebench.kernels.common import triton_plan
from sparsebench.kernels.common.triton_direct import listens

SCRIPT = Path(__file__).parent.parent / "stand_in" / "host_time.py"


@pytest.mark.skipif(shutil.which("cc") is None, reason="builds a stand-in for libcuda with a C compiler")
@pytest.mark.skipif(torch.cuda.is_available(), reason="stands in for a GPU")
def test_a_planned_call_launches_without_tritons_own_way() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    names = [
        "block-sparse dsd, descriptors",
        "block-sparse dsd, a split row",
        "csr dsd",
        "codes decode_values",
        "planes conv",
    ]
    done = subprocess.run(
        [sys.executable, SCRIPT, "0", *names], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = dict(line.split(": ") for line in done.stdout.splitlines())
    once = "1 launches, 0 encoded, 0 by Triton's own way"
    assert found == {
        "block-sparse dsd, descriptors": once,
        "block-sparse dsd, a split row": once.replace("1", "2"),
        "csr dsd": once,
        "csr dsd transposed": once,
        "codes decode_values": once,
        "planes convolution": once,
        "planes convolution's input": once,
    }


def test_signatures_tell_apart_all_that_a_plan_depends_on() -> None:
    x = torch.zeros(8, 16, dtype=torch.float16)
    memory = torch.zeros(200, dtype=torch.float16)
    alike = torch.ones(8, 16, dtype=torch.float16)
    others = [
        torch.zeros(16, 8, dtype=torch.float16),
        torch.zeros(16, 8, dtype=torch.float16).t(),
        x.bfloat16(),
        torch.zeros(8, 16, dtype=torch.float16, device="meta"),
        memory[1:129].view(8, 16),
    ]
    key = triton_plan.signature(("a",), x)
    assert key == triton_plan.signature(("a",), alike)
    keys = [key, triton_plan.signature(("b",), x), *(triton_plan.signature(("a",), other) for other in others)]
    assert len(set(keys)) == len(keys)
    assert triton_plan.signature(("a",), x.to_sparse()) is None


def test_plans_live_with_their_index_and_are_few() -> None:
    class Index:
        pass

    index, other = Index(), Index()
    assert triton_plan.recall(index, ("a",)) is None
    assert triton_plan.keep(index, ("a",), "plan") == "plan"
    assert triton_plan.keep(index, None, "of no use again") == "of no use again"
    assert triton_plan.recall(index, ("a",)) == "plan"
    assert triton_plan.recall(other, ("a",)) is None
    for number in range(1000):
        triton_plan.keep(index, (number,), number)
    assert triton_plan.recall(index, (999,)) == 999
    assert len(triton_plan._held[index]) <= triton_plan._MOST
    gc.collect()
    held = len(triton_plan._held)
    del index
    gc.collect()
    assert len(triton_plan._held) == held - 1


def test_only_hooks_that_call_something_listen() -> None:
    class Chain:
        def __init__(self, *calls: object) -> None:
            self.calls = list(calls)

    assert not listens(None)
    assert not listens(Chain())
    assert listens(Chain(print))
    assert listens(print)
