"""Representations that go wrong while they are measured, each in one way; they are named as module:Class."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Self

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
