"""Know the processor's caches: what the system tells of them, else what a walk through memory tells."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sparsebench.kernels.common.jit import njit

_FOLDER = Path("/sys/devices/system/cpu/cpu0/cache")
_USUAL = {1: (32 << 10, 8), 2: (1 << 20, 16), 3: (16 << 20, 16)}
"""Bytes and ways of a level that neither the system nor a walk tells."""
_STEPS, _MOST_STEPS = 1 << 12, 1 << 15
_SLOWER = 1.5
"""Times that a load must take longer to have left a cache: the next level takes three times as long or more."""
_PAGE = 4096


@dataclass(frozen=True, kw_only=True)
class Cache:
    """One cache that holds data.

    Attributes:
        level: 1 is the nearest.
        size: bytes.
        ways: lines of a set.
        line: bytes that are moved together.
        sharers: processors that share it.
        told: by the system; else it was measured, or is what is usual.
    """

    level: int
    size: int
    ways: int
    line: int = 64
    sharers: int = 1
    told: bool = True


@cache
def caches() -> tuple[Cache, ...]:
    """Return the caches of levels 1, 2 and 3, those that the system does not tell of measured once (half a second)."""
    told = _told(_FOLDER)
    if len(told) == len(_USUAL):
        return tuple(told[level] for level in sorted(told))
    walked = _walked()
    return tuple(told.get(level, walked[level]) for level in sorted(_USUAL))


def cache_bytes(level: int) -> int:
    """Return the size of a cache of level 1, 2 or 3."""
    return caches()[level - 1].size


def _told(folder: Path) -> dict[int, Cache]:
    """Return what the system tells of each level; a container may hide the files, and some are empty."""
    found: dict[int, Cache] = {}
    for index in sorted(folder.glob("index[0-9]*")):
        try:
            if _text(index / "type") == "Instruction":
                continue
            level, size = int(_text(index / "level")), _bytes(_text(index / "size"))
        except (OSError, ValueError):
            continue
        if level in _USUAL and size > 0:
            found[level] = Cache(
                level=level,
                size=size,
                ways=_number(index / "ways_of_associativity", _USUAL[level][1]),
                line=_number(index / "coherency_line_size", 64),
                sharers=_sharers(index / "shared_cpu_list"),
            )
    return found


def _text(path: Path) -> str:
    return path.read_text(encoding="ascii", errors="replace").strip()


def _bytes(text: str) -> int:
    """Return the bytes of "48K", "2M" or "4096"."""
    return int(text.rstrip("KMG")) << {"K": 10, "M": 20, "G": 30}.get(text[-1:], 0)


def _number(path: Path, usual: int) -> int:
    try:
        return int(_text(path)) or usual
    except (OSError, ValueError):
        return usual


def _sharers(path: Path) -> int:
    """Return how many processors "0-3,8" are."""
    try:
        spans = [part.split("-") for part in _text(path).split(",")]
        return max(1, sum(int(span[-1]) - int(span[0]) + 1 for span in spans))
    except (OSError, ValueError):
        return 1


def _walked() -> dict[int, Cache]:
    """Return the caches as loads that wait for each other tell them: where more bytes make each take longer."""
    spans = [part << power for power in range(12, 24) for part in (2, 3)]
    taken = [(span, _load_s(np.arange(0, span, 64))) for span in spans]
    sizes = borders(taken)
    line = next((gap for gap in (32, 64, 128) if _pair_s(gap) > _SLOWER * _pair_s(8)), 64)
    ways = _ways()
    return {
        level: Cache(
            level=level,
            size=sizes[level - 1] if level <= len(sizes) else max(usual, 2 * max(sizes, default=0)),
            ways=ways if level == 1 else usual_ways,
            line=line,
            told=False,
        )
        for level, (usual, usual_ways) in _USUAL.items()
    }


def borders(taken: list[tuple[int, float]]) -> list[int]:
    """Return the sizes of the caches, three at most, from (bytes walked through, seconds a load), ascending.

    A cache ends before the first size at which a load takes _SLOWER times what it took in the cache; the next one
    begins where the time of a load has settled, that is, where it grows less than by a tenth from one size to the next.
    """
    sizes: list[int] = []
    level = taken[0][1]
    rising = False
    for (before, earlier), (_, seconds) in itertools.pairwise(taken):
        if rising:
            if seconds < 1.1 * earlier:
                level, rising = seconds, False
        elif seconds > _SLOWER * level:
            sizes.append(before)
            rising = True
    return sizes[:3]


def _ways() -> int:
    """Return the lines of a set of the first cache: as many lines a page apart as are loaded without leaving it.

    Its sets are chosen by an address within a page, which is the same in virtual and in physical memory.
    """
    fast = _load_s(np.arange(4) * _PAGE)
    fitting = [count for count in (8, 12, 16) if _load_s(np.arange(count) * _PAGE) < _SLOWER * fast]
    return max(fitting, default=_USUAL[1][1])


def _pair_s(gap: int) -> float:
    """Return the seconds of a load where every second one is `gap` bytes behind another, far apart from all others."""
    places = np.random.default_rng(0).permutation(1 << 13)[:, None] * 1024 + np.array([0, gap])
    return _load_s(places.ravel(), shuffled=False)


def _load_s(places: Any, *, shuffled: bool = True) -> float:
    """Return the seconds of a load, each of which tells where the next one is.

    Args:
        places: int64, offsets in bytes, multiples of 8.
        shuffled: walk through them in an order that nobody foresees.
    """
    order = np.random.default_rng(1).permutation(places) if shuffled else np.asarray(places)
    memory = np.zeros((int(order.max()) + 2 * _PAGE) // 8, np.int64)
    memory = memory[-memory.ctypes.data % _PAGE // 8 :]
    memory[order // 8] = np.roll(order, -1) // 8
    steps, place, taken = min(max(_STEPS, order.size), _MOST_STEPS), int(order[0]) // 8, []
    for _ in range(4):  # each goes on where the last one ended: what is larger than a cache is not walked in it
        begin = time.perf_counter()
        place = _walk(memory, place, steps)
        taken.append(time.perf_counter() - begin)
    return min(taken[1:]) / steps


@njit()
def _walk(memory: Any, place: int, steps: int) -> int:
    for _ in range(steps):
        place = memory[place]
    return place
