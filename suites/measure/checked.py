"""Check of what a cell builds the cheap part of what `sparsebench check` checks, while it is at hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from sparsebench.representations.base import Representation
from sparsebench.representations.conformance.state import expect_storage
from sparsebench.representations.conformance.subject import SkipError, WrongError, expect_same
from sparsebench.representations.registry import first_line
from sparsebench.suites.cell import Cell
from sparsebench.suites.workloads.problem import Problem

CHECKED = "ok"
"""What the column says of a cell that keeps the promises."""
NOT_CHECKED = "not checked"
"""What it begins with where nothing could be said."""
_BYTES = ("stored_bytes", "value_bytes", "index_bytes", "fill")


def checked(
    cell: Cell, problem: Problem, built: Representation, outputs: tuple[Tensor, ...], known: Cell | None = None
) -> Cell:
    """Return the cell with what a check of it found; bytes that are told wrongly are left out, as no measurement.

    Checked are the dtype of the results, the round trip, and the bytes that are held against those of `storage()`, on
    the very object that is timed, after its first use. That its inputs are left alone is seen of every cell anyway.

    Args:
        cell: with its bytes filled in.
        problem: what it was built from.
        built: the representation.
        outputs: of its first call.
        known: the row of an earlier visit: what it found of the same class on the same tensor holds.
    """
    if known is not None and known.checked is not None:
        return dataclasses.replace(cell, checked=known.checked, **{name: getattr(known, name) for name in _BYTES})
    want = problem.tensor.dtype
    if strange := [output.dtype for output in outputs if output.dtype != want]:
        return dataclasses.replace(cell, checked=f"expected results of {want}, got {strange[0]}")
    try:
        with torch.no_grad():
            dense = built.to_dense()
            if not (dense.dtype == want and torch.equal(dense, problem.tensor)):  # the quick way to say what is likely
                expect_same("to_dense", dense, problem.tensor)
    except (WrongError, SkipError) as error:
        return dataclasses.replace(cell, checked=first_line(error))
    except Exception as error:  # it may lack the memory for it, or not be able to
        return dataclasses.replace(cell, checked=f"{NOT_CHECKED}: {type(error).__name__}: {first_line(error)}")
    try:
        expect_storage(built, "after its first use")
    except WrongError as error:
        nothing: dict[str, Any] = dict.fromkeys(_BYTES)
        return dataclasses.replace(cell, checked=first_line(error), **nothing)
    return dataclasses.replace(cell, checked=CHECKED)
