"""Representations under a second name, as fast as they were or slower by a known share."""

from __future__ import annotations

import time
import types
from typing import Any

from torch import Tensor

from sparsebench.representations.base import Representation
from sparsebench.representations.registry import load

SUBJECTS: tuple[str, ...] = ("dense", "csr", "block-sparse", "torch-csr")
"""What is tried: BLAS, our own kernels, and a library's."""
SLOWER: tuple[int, ...] = (5, 10, 20)
"""Percent by which a copy takes longer."""
PREFIX = "sparsebench.suites.selftest.copies:"


def name_of(subject: str, percent: int = 0) -> str:
    """Return "module:Class" of the copy of a representation that takes so many percent longer."""
    return f"{PREFIX}{subject.title().replace('-', '')}Copy{percent or ''}"


def __getattr__(name: str) -> Any:
    """Make the class of a name that `name_of` gives."""
    for subject in SUBJECTS:
        for percent in (0, *SLOWER):
            if name_of(subject, percent) == PREFIX + name:
                globals()[name] = _copy(load(subject), subject, percent)
                return globals()[name]
    raise AttributeError(name)


def _copy(base: type[Representation], subject: str, percent: int) -> type[Representation]:
    """Return a subclass whose product is followed by doing nothing for a share of the time that it took."""

    def matmul(self: Representation, x: Tensor) -> Tensor:
        begin = time.perf_counter_ns()
        result: Tensor = base.matmul(self, x)
        now = time.perf_counter_ns()
        end = now + (now - begin) * percent // 100
        while time.perf_counter_ns() < end:
            pass
        return result

    body: dict[str, Any] = {"name": f"{subject} +{percent} %" if percent else f"copy of {subject}"}
    made: type[Representation] = types.new_class(
        "Copy", (base,), exec_body=lambda inside: inside.update(body | ({"matmul": matmul} if percent else {}))
    )
    return made
