"""Representations that go wrong while they are measured, each in one way; they are named as module:Class."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import ClassVar, Self

import torch
from torch import Tensor

from sparsebench.representations.base import Representation, Spec, Storage, strided_matrix
from sparsebench.representations.formats.dense import Dense
from sparsebench.representations.pattern import Pattern


class Wrong(Dense):
    """Off by one per mille: less than an eye sees, more than fp32 rounds."""

    name = "wrong"

    def matmul(self, x: Tensor) -> Tensor:
        return super().matmul(x) * 1.001


class NotANumber(Dense):
    name = "not-a-number"

    def matmul(self, x: Tensor) -> Tensor:
        return super().matmul(x) * float("nan")


class WrongShape(Dense):
    name = "wrong-shape"

    def matmul(self, x: Tensor) -> Tensor:
        return super().matmul(x)[:-1]


class Raises(Dense):
    name = "raises"

    def matmul(self, x: Tensor) -> Tensor:
        raise KeyError("lost the index")


class Hungry(Dense):
    """Asks for more memory than any address space has."""

    name = "hungry"

    def matmul(self, x: Tensor) -> Tensor:
        return super().matmul(x) + torch.empty(1 << 60).sum()


class Refuses(Dense):
    name = "refuses"

    @classmethod
    def unsupported(cls, spec: Spec) -> str | None:
        return "never on a Sunday"


class NeedsMore(Dense):
    name = "needs-more"
    requires = ("a_module_that_nobody_has",)


class Dies(Dense):
    """Takes its process with it, as native code can."""

    name = "dies"

    def matmul(self, x: Tensor) -> Tensor:
        os.kill(os.getpid(), signal.SIGSEGV)
        return x


class Hangs(Dense):
    name = "hangs"

    def matmul(self, x: Tensor) -> Tensor:
        time.sleep(3600)
        return x


class Smallest(Representation):
    """Gives what a representation must give, and nothing more: right, but it does not train."""

    name = "smallest"

    def __init__(self, source: Tensor) -> None:
        super().__init__(source)
        self.matrix = strided_matrix(source).clone()

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        return cls(tensor)

    def to_dense(self) -> Tensor:
        return self.matrix.reshape(self.shape).clone()

    def matmul(self, x: Tensor) -> Tensor:
        return self.matrix @ x

    def storage(self) -> Storage:
        return Storage(value_bytes=self.matrix.numel() * self.matrix.element_size(), index_bytes=0)


class LeavesAChild(Dense):
    """Starts a process that outlives it, and would run beside every later cell."""

    name = "leaves-a-child"

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)  # left behind by a plug-in"])
        return super().build(tensor, pattern)


class ChangesTheTensor(Dense):
    name = "changes-the-tensor"

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        tensor.mul_(2.0)
        return super().build(tensor, pattern)


class ChangesTheOperand(Dense):
    name = "changes-the-operand"

    def matmul(self, x: Tensor) -> Tensor:
        result = super().matmul(x)
        x[0, 0] += 1.0
        return result


class RightWhenJudged(Dense):
    """Gives zeros from its second call on: fast, and right the first time."""

    name = "right-when-judged"

    def matmul(self, x: Tensor) -> Tensor:
        self._calls = getattr(self, "_calls", 0) + 1
        return super().matmul(x) if self._calls == 1 else x.new_zeros(self.shape[0], x.shape[1])


class Remembers(Dense):
    """Computes its first result, and hands it out for every later call: 36,881 times as fast as dense."""

    name = "remembers"

    def matmul(self, x: Tensor) -> Tensor:
        if not hasattr(self, "_first"):
            self._first = super().matmul(x)
        return self._first


class LiesAboutItsBytes(Dense):
    """Says that it stores a hundredth of what it holds."""

    name = "lies-about-its-bytes"

    def storage(self) -> Storage:
        said = super().storage()
        return Storage(value_bytes=said.value_bytes // 100, index_bytes=0)


class LosesAnElement(Dense):
    """Multiplies as it should, and does not give back what it was built from."""

    name = "loses-an-element"

    def to_dense(self) -> Tensor:
        dense = super().to_dense()
        dense[0, 0] += 1.0
        return dense


class InDoubles(Dense):
    name = "in-doubles"

    def matmul(self, x: Tensor) -> Tensor:
        return super().matmul(x).double()


class CannotGoBack(Dense):
    name = "cannot-go-back"

    def to_dense(self) -> Tensor:
        raise MemoryError("no room")


class Instant(Dense):
    """Has every result at hand that it will be asked for, of the turned operand too: no check of values finds it."""

    name = "instant"

    def matmul(self, x: Tensor) -> Tensor:
        if not hasattr(self, "_both"):
            first = super().matmul(x)
            self._version, self._both = x._version, (first, -first)
        return self._both[(x._version - self._version) % 2]


class LeavesADaemon(Dense):
    """Starts a process in a session of its own, whose parent is gone: neither its group nor its parent leads to it."""

    name = "leaves-a-daemon"

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        sleeper = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)"
        sleeper += "  # left behind by a plug-in'], start_new_session=True)"
        subprocess.run([sys.executable, "-c", sleeper], check=True)
        return super().build(tensor, pattern)


class Forks(Dense):
    """Forks, and lets both processes go on."""

    name = "forks"

    @classmethod
    def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
        os.fork()
        return super().build(tensor, pattern)


class Grows(Dense):
    """Holds another half gigabyte after each tenth of a second, and uses it."""

    name = "grows"

    def matmul(self, x: Tensor) -> Tensor:
        held = []
        while True:
            held.append(torch.ones(1 << 27))
            time.sleep(0.1)


class Exits(Dense):
    name = "exits"

    def matmul(self, x: Tensor) -> Tensor:
        sys.exit("enough")


CHANGES: dict[str, Callable[[], object]] = {
    "default-dtype": lambda: torch.set_default_dtype(torch.float64),
    "default-device": lambda: torch.set_default_device("meta"),
    "torch-threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "gradient-mode": lambda: torch._C._set_grad_enabled(False),
    "deterministic": lambda: torch.use_deterministic_algorithms(True),
    "signal-handler": lambda: signal.signal(signal.SIGUSR1, lambda *_: None),
    "folder": lambda: os.chdir("/"),
    "environment": lambda: os.environ.update(OMP_NUM_THREADS="1", LEFT_BY="a plug-in"),
    "closed-stream": lambda: sys.stdout.close(),
    "closed-file": lambda: os.close(1),
    "warnings": lambda: warnings.simplefilter("error"),
    "busy-thread": lambda: threading.Thread(target=_spin, name="spinner", daemon=True).start(),
    "flood": lambda: os.write(1, b"x" * (20 << 20)),
}
"""Each changes something that all cells of a process share."""


def _spin() -> None:
    while True:
        pass


def _changing(change: str) -> type[Dense]:
    class Changing(Dense):
        name = change
        _done: ClassVar[bool] = False

        @classmethod
        def build(cls, tensor: Tensor, pattern: Pattern | None = None) -> Self:
            if not cls._done:
                cls._done = True
                CHANGES[change]()
            return super().build(tensor, pattern)

    return Changing


def __getattr__(name: str) -> type[Dense]:
    """Give a class for each of CHANGES, as `bad_representations:default-dtype`."""
    if name in CHANGES:
        return _changing(name)
    raise AttributeError(name)
