"""Time candidates for the same result against each other, to choose one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

Candidate = TypeVar("Candidate")
_ROUNDS = 5


def fastest(candidates: Sequence[Candidate], run: Callable[[Candidate], object]) -> Candidate:
    """Return the candidate whose best time is the least; one that takes twice as long is not called again.

    They run in turn: what disturbs the machine for a while disturbs all of them.
    """
    best = dict.fromkeys(candidates, math.inf)
    for _ in range(_ROUNDS):
        for candidate in best:
            begin = time.perf_counter()
            run(candidate)
            best[candidate] = min(best[candidate], time.perf_counter() - begin)
        least = min(best.values())
        best = {candidate: seconds for candidate, seconds in best.items() if seconds < 2 * least}
    return min(best, key=lambda candidate: best[candidate])
