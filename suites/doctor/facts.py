"""Tell what is known of the processor, in lines of less than 100 columns."""

from __future__ import annotations

import importlib.metadata

import torch

from sparsebench.kernels.common import processor
from sparsebench.kernels.common.processor import Processor
from sparsebench.suites import text
from sparsebench.suites.measure import machine

_LIBRARIES = ("torch", "numba", "llvmlite", "scipy", "mkl")
_GIGA = 1e-9


def lines(known: Processor | None) -> list[str]:
    """Return what is known of the processor; None says what to do about it."""
    told = [_line("system", f"{machine.cpu_name()}")]
    if known is None:
        return [
            *told,
            _line("facts", "nothing was measured yet: sparsebench doctor --measure (a second)"),
            _libraries(),
        ]
    vectors = f"vectors of {8 * known.vector_bytes} bits, {text.count(known.threads, 'thread')}"
    told.append(_line("processor", f"{known.name}, {vectors} (torch {torch.get_num_threads()})"))
    for part in known.caches:
        shared = "of each processor" if part.sharers == 1 else f"shared by {part.sharers}"
        source = "as the system says" if part.told else "measured"
        size = f"{text.size(part.size)}, {part.ways} ways, lines of {part.line} bytes, {shared}, {source}"
        told.append(_line(f"L{part.level}", size))
    told += [
        _line(
            "float32",
            f"generated kernel {_giga(known.thread_flops)} Gflop/s on a thread, {_giga(known.flops)} on all; "
            f"dense product {_giga(known.dense_flops)}",
        ),
        *(
            _line(
                f"{level.name}",
                f"read {_giga(level.read)} GB/s, written {_giga(level.written)} GB/s on all threads, "
                f"{text.size(level.span)} each",
            )
            for level in known.levels
        ),
        _libraries(),
    ]
    return told


def look(*, measure: bool) -> Processor | None:
    """Return what is known of the processor, after another look at it if `measure`."""
    return processor.look_again() if measure else processor.known()


def _libraries() -> str:
    return _line("libraries", ", ".join(f"{name} {_version(name)}" for name in _LIBRARIES))


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _giga(rate: float) -> str:
    return text.significant(rate * _GIGA)


def _line(name: str, told: str) -> str:
    return f"{name:<10} {told}".replace(text.SPACE, " ")
