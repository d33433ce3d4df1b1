"""Work out once for an index what every product asks of it: addresses, sizes, and which thread has which groups."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsebench.kernels.bitmap.layout import COLUMNS, ROWS, BitmapIndex
from sparsebench.kernels.common import pool

_THREAD = 1 << 16
"""Places times columns that a thread has to have for it to be woken up."""
_plans: dict[int, Plan] = {}
"""By the identity of the index, which is looked up without a line of Python; an index takes its plan with it."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Which groups each thread has.

    Attributes:
        groups: int64 (threads + 1): thread t has the groups groups[t] .. groups[t + 1].
        address: of them.
        threads: how many.
    """

    groups: np.ndarray
    address: int
    threads: int


class Plan:
    """What is the same in all products with an index; no more than a few numbers a thread.

    Attributes:
        bits: address of the words.
        starts: address of the numbers of the groups' first values.
        groups: how many.
        chunks: of a group.
        padded: columns of all chunks.
        jobs: what cpu_launch.py works out once.
        quick: the same for products of which nothing but addresses is left to find out.
        stored: shape of the values.
    """

    def __init__(self, index: BitmapIndex) -> None:
        """Read an index; it is not kept."""
        self.bits, self.starts = index.bits.data_ptr(), index.starts.data_ptr()
        self.groups, self.chunks = int(index.bits.shape[0]), int(index.bits.shape[1])
        self.padded = self.chunks * COLUMNS
        self._begins = index.starts.numpy()
        self._bounds: dict[tuple[int, int, int], Bounds] = {}
        self._tails: dict[int, int] = {}
        self.jobs: dict[tuple[object, ...], Any] = {}
        self.quick: dict[tuple[object, ...], Any] = {}
        self.stored = (index.nnz,)

    def threads(self, columns: int) -> int:
        """Return how many threads run: a short job is done before a second one has woken up."""
        most = self.groups * self.chunks * ROWS * COLUMNS * columns // _THREAD
        return min(pool.threads(), self.groups, most) if most > 1 else 1

    def bounds(self, threads: int, first: int = 0, last: int = -1) -> Bounds:
        """Return groups first .. last in shares of about the same cost."""
        last = self.groups if last < 0 else last
        found = self._bounds.get((threads, first, last))
        if found is None:
            # a place costs time whether it is stored or not, a stored one its bytes as well
            cost = self._begins[first : last + 1] + self.padded * np.arange(last - first + 1)
            goals = cost[0] + (cost[-1] - cost[0]) * np.arange(threads + 1) // threads
            groups = first + np.searchsorted(cost, goals).astype(np.int64)
            found = Bounds(groups=groups, address=groups.ctypes.data, threads=threads)
            self._bounds[threads, first, last] = found
        return found

    def whole(self, reach: int) -> int:
        """Return how many groups can be read with vectors that reach so far, without one that passes the last value."""
        if reach == 0:
            return self.groups
        found = self._tails.get(reach)
        if found is None:
            found = self._tails[reach] = int(np.searchsorted(self._begins, self._begins[-1] - reach, "right")) - 1
            found = self._tails[reach] = max(0, found)
        return found

    def tail(self, values: Tensor, reach: int) -> Tensor:
        """Return a copy of the values of the groups behind the `whole` ones, with room for a vector behind them."""
        begin, end = int(self._begins[self.whole(reach)]), int(self._begins[-1])
        copied = torch.zeros(end - begin + reach, dtype=values.dtype)
        copied[: end - begin] = values[begin:]
        return copied

    def begin(self, group: int) -> int:
        """Return the number of a group's first value."""
        return int(self._begins[group])


def plan(index: BitmapIndex) -> Plan:
    """Return the plan of an index, which lives as long as the index does."""
    found = known(id(index))
    if found is None:
        found = _plans[id(index)] = Plan(index)
        weakref.finalize(index, _plans.pop, id(index), None)
    return found


known = _plans.get
"""Return the plan of an index by its identity, if it has one."""
