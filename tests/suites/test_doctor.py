"""`sparsebench doctor`: facts, choices with their margins, and rooflines, in lines that fit a terminal."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import SPARSEBENCH

from sparsebench.kernels.block_sparse import cpu_choice
from sparsebench.kernels.common import choices, chooser, processor
from sparsebench.kernels.common.caches import Cache
from sparsebench.kernels.common.processor import Level, Processor
from sparsebench.representations.formats.block_sparse import BlockSparse
from sparsebench.representations.pattern import Pattern
from sparsebench.suites.doctor import bounds, draw, facts, kept

KNOWN = Processor(
    name="chip", vector_bytes=64, threads=2, thread_flops=1e11, flops=2e11, dense_flops=1e11,
    caches=(Cache(level=1, size=48 << 10, ways=12), Cache(level=2, size=2 << 20, ways=16, told=False),
            Cache(level=3, size=32 << 20, ways=16, sharers=8)),
    levels=tuple(Level(name=name, span=1 << 20, read=read, written=read / 2)
                 for name, read in (("L1", 4e11), ("L2", 2e11), ("L3", 1e11), ("memory", 2e10))),
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(choices, "folder", lambda: tmp_path / "choices")
    chooser.forget()
    yield tmp_path / "choices"
    chooser.forget()


def test_facts_are_told_in_short_lines() -> None:
    told = facts.lines(KNOWN)
    assert max(map(len, told)) < 100
    whole = "\n".join(told)
    assert "L2         2.00 MiB, 16 ways, lines of 64 bytes, of each processor, measured" in whole
    assert "L3         32.0 MiB, 16 ways, lines of 64 bytes, shared by 8, as the system says" in whole
    assert "generated kernel 100 Gflop/s on a thread, 200 on all; dense product 100" in whole
    assert "memory     read 20.0 GB/s, written 10.0 GB/s on all threads" in whole
    assert f"torch {torch.__version__.partition('+')[0]}" in whole


def test_what_was_never_measured_is_said_with_what_to_do(folder: Path) -> None:
    assert "sparsebench doctor --measure" in facts.lines(None)[1]
    assert kept.lines(None) == ["choices    none yet: they are measured when a product is first computed, and kept"]
    assert "sparsebench doctor --measure" in bounds.lines(KNOWN)[0]
    assert not folder.exists()


def test_a_choice_is_told_with_margin_noise_and_roofline(folder: Path) -> None:
    note = {
        "choice": {"micro": "generated", "tile": 256, "rows": 8, "dots": False, "near": True},
        "second": {"micro": "blas"}, "margin": 0.0834, "noise": 0.021, "seconds": 2e-3, "tried": 12, "decided": True,
        "work": {"flops": 1e8, "read": 1e3, "written": 1e3, "near": 0.0},
    }  # fmt: skip
    assert kept.told_of(note, KNOWN) == (
        "generated near rows 8 tile 256; 8.3 % before the second of 12; noise 2.1 %; 2.00 ms; 25 % of the roofline"
    )
    assert kept.told_of(note | {"decided": False, "work": {"flops": 1}}, KNOWN).endswith("noise 2.1 %, close; 2.00 ms")
    assert kept.told_of({"choice": {"name": "ours"}, "margin": None}, KNOWN) == "ours; nothing else was tried"
    assert kept.told_of({}, None) == "unknown; nothing else was tried"
    choices.remember(f"{processor.machine()} scipy", "block dsd", note)
    choices.remember("another chip", "block dds", note)
    told = kept.lines(KNOWN)
    assert told[0].startswith("choices    1, kept in ")
    assert told[1] == "  block dsd"
    assert " ".join(line.strip() for line in told[2:]) == kept.told_of(note, KNOWN)
    assert max(map(len, told[1:])) < 100


def test_products_are_measured_beside_their_rooflines(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bounds.measure(side=256, columns=32)
    told = bounds.lines(KNOWN)
    assert len(told) == 1 + 2 * len(bounds.BLOCKS)
    assert max(map(len, told)) < 100
    assert told[1].startswith("  256×256 @ 32, blocks of ")
    assert told[1].endswith(" possible")
    assert told[2].startswith("      numba + ")
    assert "nothing was measured yet" in bounds.lines(None)[0]
    best = {}
    for factor in (1, 2):  # twice as fast a processor allows twice the ε
        chip = dataclasses.replace(
            KNOWN, flops=KNOWN.flops * factor, dense_flops=KNOWN.dense_flops * factor,
            levels=tuple(dataclasses.replace(level, read=level.read * factor, written=level.written * factor)
                         for level in KNOWN.levels),
        )  # fmt: skip
        best[factor] = float(bounds.lines(chip)[1].partition(" possible")[0].rpartition(" ")[2])
    assert best[2] == pytest.approx(2 * best[1], abs=0.02)


def test_the_drawn_products_are_the_same_for_a_seed_and_span_what_was_asked() -> None:
    drawn = list(draw.draw(60, 0))
    assert [part.told for part in drawn[:5]] == [part.told for part in draw.draw(5, 0)]
    assert {part.product for part in drawn} >= {"dsd", "dsdᵀ", "dds", "sdd", "sddᵀ"}
    assert {part.dtype for part in drawn} == {torch.float32, torch.bfloat16}
    assert {part.index.block[0] for part in drawn} == {8, 16, 32, 64}
    sides = [side for part in drawn for side in part.index.shape]
    assert 300 <= min(sides) <= max(sides) <= 3000
    assert {512, 1024, 2048} <= set(sides)
    assert 1 <= min(part.n for part in drawn) < 8 < 500 < max(part.n for part in drawn) <= 1500
    assert all(len(part.told) < 80 for part in drawn)


def test_a_choice_that_is_far_from_the_best_is_seen_and_dropped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A candidate that was made slow is written into the kept choices."""
    small = Pattern(kind="block", block=(32, 32)).tensor((512, 512), 0.8, seed=0)
    drawn = draw.Drawn(product="dsd", index=BlockSparse.build(small).index, dtype=torch.float32, n=64)
    given = (drawn.product, drawn.index, drawn.dtype, 64)
    listed = cpu_choice.candidates(drawn.product, drawn.index.block, drawn.dtype, 64)
    real = draw.cpu_trial.problem
    slow = listed[0]

    def problem(*arguments: Any) -> Any:
        made = real(*arguments)

        def run(choice: object) -> torch.Tensor:
            for _ in range(29 if choice == slow else 0):
                made.run(choice)
            return made.run(choice)

        return made._replace(run=run)

    monkeypatch.setattr(draw.cpu_trial, "problem", problem)
    key = cpu_choice.key_of(*given)
    choices.remember(cpu_choice.machine(), key, {"choice": chooser.described(slow), "noise": 0.0})
    found = draw.compare(drawn, bound_s=3.0)
    assert found.chosen == slow.name != found.best
    assert found.ratio < 0.7
    assert choices.recall(cpu_choice.machine(), key) is None
    assert draw.summary([found, dataclasses.replace(found, ratio=1.0)]).startswith("chosen ÷ best over 2 products:")


def test_the_command_says_what_it_knows(tmp_path: Path) -> None:
    command = [str(SPARSEBENCH), "doctor"]
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("system ")
    assert sum("sparsebench doctor --measure" in line for line in lines) == 2
    assert max(map(len, lines)) < 100
    wrong = subprocess.run([*command, "--threads", "999"], capture_output=True, text=True, timeout=120, check=False)
    assert wrong.returncode == 2
    assert "expected 1 to" in wrong.stderr
