"""Check that nothing is made dense on the way: memory while a matrix far too large to be dense is used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from sparsebench.representations import autograd
from sparsebench.representations.allocation import peak_allocations
from sparsebench.representations.base import Representation
from sparsebench.representations.conformance.subject import ELEMENT, SkipError, Subject, WrongError, expect_close
from sparsebench.representations.registry import first_line

SIDE = 100_000
"""Rows and columns: dense, 40 GB of float32, and a flat number of an element passes 2^31."""
STORED = 1_000
COLUMNS = 4
MOST_BYTES = 256 * 2**20
_ROOM = 6 * 2**30
"""Address space that may be added: threads and libraries take some, a 10 GB mask must not fit."""


def no_densification(subject: Subject) -> None:
    """Build, multiply and back-propagate SIDE × SIDE with STORED non-zeros in at most MOST_BYTES."""
    if subject.cls.dense_storage:
        raise SkipError("dense_storage: it stores every element by design")
    for operation in ("build", "matmul"):
        subject.require(operation, (SIDE, SIDE))
    # compilers and thread pools allocate at their first use: let them do so where it is not counted
    for _, call in _calls(subject, 1_000, 100):
        call()
    with _limited_memory():
        _bounded(subject, _calls(subject, SIDE, STORED))


def _calls(subject: Subject, side: int, stored: int) -> list[tuple[str, Callable[[], object]]]:
    """Return what is to be called in turn, each with its name; the products are compared with their oracle."""
    source = ELEMENT.tensor((side, side), 1.0 - stored / side**2, 7, layout=torch.sparse_coo).to(subject.device)
    x = subject.normal(side, COLUMNS)
    (rows, columns), values = source.indices(), source.values().double()
    terms = values[:, None] * x.double()[columns]
    want, scale = (torch.zeros_like(x, dtype=torch.float64).index_add_(0, rows, part) for part in (terms, terms.abs()))
    made: list[Representation] = []

    def build() -> None:
        made.append(subject.build(source))

    def multiply() -> None:
        expect_close(f"matmul of {side} × {side}", made[0].matmul(x), want, scale, x, stored)

    def back_propagate() -> None:
        leaf = made[0].values.detach().clone().requires_grad_()
        # a class that leaves rmatmul to the base class says so in its rows; the gradient of x is then dense on the way
        operand = x.clone().requires_grad_(subject.cls.provenance("rmatmul") == "native")
        torch.autograd.backward(autograd.matmul(made[0], operand, leaf).sum())
        if leaf.grad is None or leaf.grad.shape != leaf.shape:
            raise WrongError("expected a gradient shaped as the values, got none")

    calls: list[tuple[str, Callable[[], object]]] = [("build", build), ("matmul", multiply)]
    return [*calls, ("back-propagation", back_propagate)] if subject.gives("train", (side, side)) else calls


def _bounded(subject: Subject, calls: list[tuple[str, Callable[[], object]]]) -> None:
    """Run calls, and raise WrongError if one allocates, or asks for, more than MOST_BYTES."""
    done: list[str] = []

    def noted(what: str, call: Callable[[], object]) -> None:
        call()
        done.append(what)

    try:
        _, peaks = peak_allocations([partial(noted, what, call) for what, call in calls], subject.device)
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        what = calls[len(done)][0]
        raise WrongError(
            f"expected {what} in {MOST_BYTES >> 20} MiB, got a refused allocation: {first_line(error)}"
        ) from error
    for what, peak in zip(done, peaks, strict=True):
        if peak > MOST_BYTES:
            raise WrongError(f"expected {what} in {MOST_BYTES >> 20} MiB, got a peak of {peak >> 20} MiB")


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return any(sign in text for sign in ("can't allocate memory", "cannot allocate memory", "out of memory"))


@contextmanager
def _limited_memory() -> Iterator[None]:
    """Make a huge allocation fail instead of filling the machine: limit this process's address space (Linux only).

    CUDA maps far more addresses than it uses, so where it is initialised there is no limit; there an oversized
    allocation fails on the device, or is seen in the peak.
    """
    if sys.platform != "linux" or torch.cuda.is_initialized():
        yield
        return
    import resource  # a Unix module

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + _ROOM
    lowest = min(value for value in (soft, hard, limit) if value != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_AS, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
