"""Facts of the processor: read where the system tells, measured where it does not, kept for the next process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sparsebench.kernels.common import caches, choices, jit, processor, rates
from sparsebench.kernels.common.caches import Cache
from sparsebench.kernels.common.processor import Level, Processor

FILES = {"level": "2", "type": "Unified", "size": "2048K", "ways_of_associativity": "16",
         "coherency_line_size": "64", "shared_cpu_list": "0-1,8"}  # fmt: skip
KNOWN = Processor(
    name="chip", vector_bytes=64, threads=2, thread_flops=1e11, flops=2e11, dense_flops=3e11,
    caches=(Cache(level=1, size=48 << 10, ways=12), Cache(level=2, size=2 << 20, ways=16),
            Cache(level=3, size=32 << 20, ways=16, sharers=8)),
    levels=tuple(Level(name=name, span=1, read=read, written=read / 2)
                 for name, read in (("L1", 4e11), ("L2", 2e11), ("L3", 1e11), ("memory", 2e10))),
)  # fmt: skip


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name).write_text(text + "\n")


@pytest.mark.parametrize(
    ("text", "size"), [("2048K", 2 << 20), ("32M", 32 << 20), ("1G", 1 << 30), ("4096", 4096), ("", 0), ("unknown", 0)]
)
def test_what_the_system_tells_is_read(text: str, size: int, tmp_path: Path) -> None:
    write(tmp_path / "index0", **FILES | {"size": text})
    write(tmp_path / "index1", **FILES | {"level": "1", "type": "Instruction"})
    write(tmp_path / "index2", level="3")  # a container hides the rest
    told = caches._told(tmp_path)
    assert told == ({2: Cache(level=2, size=size, ways=16, sharers=3)} if size else {})


def test_what_is_not_told_of_a_cache_is_as_usual(tmp_path: Path) -> None:
    write(tmp_path / "index0", level="1", type="Data", size="48K", ways_of_associativity="", shared_cpu_list="all")
    assert caches._told(tmp_path) == {1: Cache(level=1, size=48 << 10, ways=8)}


def test_a_cache_ends_where_loads_begin_to_take_longer() -> None:
    spans = [part << power for power in range(12, 25) for part in (2, 3)]
    rng = np.random.default_rng(0)

    def seconds(span: int) -> float:
        steps = ((48 << 10, 1.2e-9), (2 << 20, 4e-9), (1 << 24, 2e-8))
        return next((taken for size, taken in steps if span <= size), 1e-7) * rng.uniform(1.0, 1.05)

    assert caches.borders([(span, seconds(span)) for span in spans]) == [48 << 10, 2 << 20, 1 << 24]
    assert caches.borders([(span, 1e-9) for span in spans]) == []


def test_without_the_system_a_walk_tells_three_caches_that_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caches, "_FOLDER", tmp_path)
    found = caches.caches.__wrapped__()
    assert [part.level for part in found] == [1, 2, 3]
    assert not any(part.told for part in found)
    assert 0 < found[0].size <= found[1].size <= found[2].size
    assert all(part.line in (32, 64, 128) and part.ways >= 4 for part in found)


def test_this_machine_is_measured_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "folder", lambda: tmp_path / "choices")
    monkeypatch.setattr(processor, "_MOST", 1 << 20)
    processor._measured.cache_clear()
    assert processor.known() is None
    found = processor.facts()
    assert found.threads == jit.threads()
    assert [level.name for level in found.levels] == ["L1", "L2", "L3", "memory"]
    assert found.flops > 1e8
    assert all(min(level.read, level.written) > 1e7 for level in found.levels)
    monkeypatch.setattr(processor, "measure", lambda threads: pytest.fail("measured again"))
    processor._measured.cache_clear()
    assert processor.facts() == found == processor.known()
    (path,) = (tmp_path / "choices").iterdir()
    path.write_text(path.read_text().replace('"version": 1', '"version": 0'))
    assert processor.known() is None
    processor._measured.cache_clear()


def test_damaged_facts_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for noted in ({}, {"version": 1}, {"version": 1, "caches": 3}, {"version": 1, "caches": [{"size": 3}]}):
        monkeypatch.setattr(choices, "recall", lambda device, key, noted=noted: noted)
        assert processor.known() is None


def test_the_roof_takes_the_slowest_part() -> None:
    assert KNOWN.level(40 << 10).name == "L1"
    assert KNOWN.level(50 << 10).name == "L2"
    assert KNOWN.level(10 << 20).name == "L3"  # two threads have halves of 32 MiB
    assert KNOWN.level(17 << 20).name == "memory"
    assert KNOWN.least_s(3e9, 1e3, 1e3) == pytest.approx(0.01)
    assert KNOWN.least_s(1e3, 2e9, 1e9) == pytest.approx(0.2)
    assert KNOWN.least_s(1e3, 1e3, 1e3, near=2e9) == pytest.approx(0.01)


def test_of_two_looks_the_higher_rates_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "folder", lambda: tmp_path / "choices")
    disturbed = replace(
        KNOWN, flops=1e10, thread_flops=2e11, levels=(replace(KNOWN.levels[0], read=1e9, written=9e11),)
    )
    seen = iter((disturbed, KNOWN, disturbed))
    monkeypatch.setattr(processor, "measure", lambda threads: next(seen))
    assert processor.look_again() == disturbed
    for _ in range(2):
        found = processor.look_again()
        assert (found.flops, found.thread_flops) == (2e11, 2e11)
        assert (found.levels[0].read, found.levels[0].written) == (4e11, 9e11)
    assert processor.known() == found


def test_facts_without_a_rate_are_refused() -> None:
    with pytest.raises(ValueError, match="expected caches, and rates above 0"):
        replace(KNOWN, flops=0.0)


def test_rates_count_what_every_thread_does() -> None:
    """A rate is bytes ÷ seconds: a clock that stands still but for one second a call says how many bytes it counted."""
    seconds = rates.least_s(lambda: None)
    assert 0.0 <= seconds < 0.1
    assert rates.generated_flops(1) > 1e8
    assert rates.read_rate(1 << 14, 1) > 1e7
    assert rates.write_rate(1 << 14, 1) > 1e7
    assert rates.copy_rate(1 << 14) > 1e7
