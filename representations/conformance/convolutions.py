"""Check convolutions and their gradients, native or derived, against float64 torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sparsebench.kernels.plane_conv.geometry import Pair
from sparsebench.representations import operations
from sparsebench.representations.base import Representation
from sparsebench.representations.conformance.products import expect_laid_out
from sparsebench.representations.conformance.state import expect_storage
from sparsebench.representations.conformance.subject import SkipError, Subject, WrongError, expect_close, expect_same
from sparsebench.representations.pattern import Pattern
from sparsebench.representations.registry import first_line

_ELEMENT = Pattern(kind="element")
_WIDE = "wide"


@dataclass(frozen=True, kw_only=True)
class _Case:
    """One convolution: x (n, in, h, w) with a weight (out, in, kh, kw), and where the zeros of the stored one are."""

    name: str
    weight: tuple[int, int, int, int]
    x: tuple[int, int, int, int]
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    kind: str = "plane"
    sparsity: float = 0.6
    dtype: torch.dtype = torch.float32

    @property
    def options(self) -> dict[str, Pair]:
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}

    def pattern(self, shape: tuple[int, int, int, int]) -> Pattern:
        """Return the pattern of the kind, its units made of whole planes of a tensor of this shape."""
        if self.kind == "element":
            return _ELEMENT
        plane = shape[2] * shape[3]
        return Pattern(kind=self.kind, block=(8, 8 * plane) if self.kind == "block" else (1, plane))

    def stored(self, subject: Subject, shape: tuple[int, int, int, int]) -> Tensor:
        """Draw the tensor to be stored."""
        pattern = self.pattern(shape)
        matrix = (shape[0], shape[1] * shape[2] * shape[3])
        drawn = subject.sparse(matrix, sparsity=self.sparsity, dtype=self.dtype, pattern=pattern)
        return drawn.reshape(shape)


_CASES = (
    _Case(name=_WIDE, weight=(9, 5, 3, 3), x=(2, 5, 6, 37)),
    _Case(
        name="stride, padding and dilation",
        weight=(6, 4, 3, 3),
        x=(2, 4, 11, 9),
        stride=(2, 1),
        padding=(1, 2),
        dilation=(1, 2),
        kind="element",
    ),
    _Case(name="shared maps", weight=(8, 6, 3, 3), x=(1, 6, 8, 7), padding=(1, 1), kind="channel", sparsity=0.5),
    _Case(name="blocks", weight=(16, 16, 3, 3), x=(2, 16, 5, 5), padding=(1, 1), kind="block", sparsity=0.5),
    _Case(name="a kernel 1 × 3", weight=(5, 3, 1, 3), x=(3, 3, 7, 6), padding=(0, 1)),
    _Case(name="a kernel 4 × 2", weight=(3, 4, 4, 2), x=(2, 4, 9, 7), stride=(1, 2), padding=(2, 0)),
    _Case(name="a kernel 1 × 1", weight=(7, 5, 1, 1), x=(1, 5, 6, 4)),
    _Case(name="a kernel 1 × 1 of stride 2", weight=(7, 5, 1, 1), x=(2, 5, 6, 5), stride=(2, 2)),
    _Case(name="no sample", weight=(6, 4, 3, 3), x=(0, 4, 5, 6), padding=(1, 1)),
    _Case(name="nothing stored", weight=(6, 4, 3, 3), x=(2, 4, 5, 6), padding=(1, 1), sparsity=1.0),
    _Case(name="everything stored", weight=(6, 4, 3, 3), x=(2, 4, 9, 8), stride=(3, 4), sparsity=0.0),
    _Case(name="float64", weight=(6, 4, 3, 3), x=(2, 4, 7, 9), padding=(1, 0), dtype=torch.float64),
)
"""None is larger than it must be to have every edge: kernels are compiled and tuned while they are checked."""


_DOCS = {
    "conv2d": "Convolve: strides, padding, dilation, every kernel shape and regime, any memory order of x.",
    "conv2d_input": "Give the gradient of conv2d with respect to x, for any memory order of g.",
    "conv2d_values": "Give the gradient of conv2d with respect to the stored values, laid out as they are.",
    "conv2d_with": "Store activations, and convolve them with a dense weight.",
}


@dataclass(frozen=True, kw_only=True)
class _Call:
    """What one operation is called with.

    Attributes:
        operands: tensors.
        terms: how many terms each element of the result is the sum of.
        size: (h, w) of x, for conv2d_input only.
        refused: shapes of a first operand that do not fit.
    """

    operands: tuple[Tensor, ...]
    terms: int
    size: tuple[Pair, ...] = ()
    refused: tuple[tuple[int, ...], ...]


def check_of(operation: str) -> Callable[[Subject], None]:
    """Return the check of one of the convolutions."""

    def check(subject: Subject) -> None:
        for case, built, stored in _stored(subject, operation):
            call = _drawn(subject, operation, case, stored)
            _compare(subject, operation, case, built, stored, call)
            if case.name == _WIDE:
                for shape in call.refused:
                    _refuses(
                        operation, getattr(built, operation), subject.normal(*shape), *call.operands[1:], *call.size
                    )

    check.__doc__ = _DOCS[operation]
    return check


def _drawn(subject: Subject, operation: str, case: _Case, stored: Tensor) -> _Call:
    """Draw what an operation of `stored` is called with."""
    if operation == "conv2d_with":
        weight = subject.normal(*case.weight, seed=4, dtype=case.dtype)
        refused = ((9, 6, 3, 3), (9, 4, 3, 3), (9, 5, 7, 3))
        return _Call(operands=(weight,), terms=weight[0].numel(), refused=refused)
    x = subject.normal(*case.x, dtype=case.dtype)
    if operation == "conv2d":
        refused = ((2, 6, 6, 37), (2, 4, 6, 37), (2, 5, 2, 37))
        return _Call(operands=(x,), terms=stored[0].numel(), refused=(*refused, (2, 5, 6 * 37)))
    output = torch.nn.functional.conv2d(x, stored, None, case.stride, case.padding, case.dilation)
    count, _, *places = output.shape
    g = subject.normal(count, case.weight[0], *places, seed=3, dtype=case.dtype)
    other = ((2, 8, *places), (2, 9, places[0] + 1, places[1]))
    if operation == "conv2d_input":
        return _Call(operands=(g,), size=((case.x[2], case.x[3]),), terms=stored[:, 0].numel(), refused=other)
    return _Call(operands=(g, x), terms=count * places[0] * places[1], refused=other)


def _compare(subject: Subject, operation: str, case: _Case, built: Representation, stored: Tensor, call: _Call) -> None:
    """Compare an operation with its oracle; the widest case in every memory order of its operands."""
    record = operations.get(operation)
    parts = (stored, *call.operands)
    want = record.oracle(*(part.double() for part in parts), *call.size, **case.options)
    scale = record.oracle(*(part.double().abs() for part in parts), *call.size, **case.options)
    orders = [("", list(call.operands))]
    if case.name == _WIDE:
        orders = [
            (kinds[0][0], [operand for _, operand in kinds])
            for kinds in zip(*(_orders(operand) for operand in call.operands), strict=True)
        ]
    for order, operands in orders:
        what = f"{operation}, {case.name}{order}"
        run = partial(getattr(built, operation), *operands, *call.size, **case.options)
        got = _result(subject, what, operation, built, run, *operands)
        if record.needs:
            matrix = stored.double().reshape(built.matrix_shape)
            expect_laid_out(what, built, matrix, got, want.reshape(matrix.shape), scale, call.terms)
        else:
            expect_close(what, got, want, scale, stored, call.terms)


# What is asked of every call


def _stored(subject: Subject, operation: str) -> Iterator[tuple[_Case, Representation, Tensor]]:
    """Yield each case that the class does not refuse, with its tensor stored, the pattern as a hint every other time.

    Raises:
        SkipError: if it refuses all of them, or does not give what the operation needs.
    """
    if reason := operations.lacking(subject.cls, operation):
        raise SkipError(reason)
    activations = operation == "conv2d_with"
    cases = [case for case in _CASES if case.x[0] or not activations]
    reasons = []
    for number, case in enumerate(cases):
        shape = case.x if activations else case.weight
        tensor = case.stored(subject, shape)
        reason = subject.refused("build", shape, case.dtype) or subject.refused(operation, shape, case.dtype)
        if reason is not None:
            reasons.append(reason)
            continue
        try:
            built = subject.build(tensor, pattern=case.pattern(shape) if number % 2 == 0 else None)
        except (ValueError, NotImplementedError) as error:
            raise SkipError(f"takes no 4-D tensor: {first_line(error)}") from error
        yield case, built, tensor
    if len(reasons) == len(cases):
        raise SkipError(f"refused: {reasons[0]}")


def _orders(x: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield one tensor in several memory orders."""
    yield "", x
    yield " of a channels-last operand", x.to(memory_format=torch.channels_last)
    wide = x.new_zeros((*x.shape[:3], 2 * x.shape[3]))
    wide[..., ::2] = x
    yield " of a strided operand", wide[..., ::2]
    yield " of a transposed operand", x.permute(3, 1, 2, 0).contiguous().permute(3, 1, 2, 0)


def _result(
    subject: Subject, what: str, operation: str, built: Representation, call: Callable[[], Tensor], *operands: Tensor
) -> Tensor:
    """Call an operation; if it is the class's own, see that it repeats itself, and leaves alone what is not its own."""
    got = call()
    if not subject.cls.native(operation) or not isinstance(got, Tensor):
        return got
    kept, want = [operand.clone() for operand in operands], got.clone()
    again = call()
    expect_same(f"{what}, called again,", again, want)
    again.fill_(123.0)
    expect_same(f"the result of {what} after another one was overwritten", got, want)
    expect_same(f"{what}, after its last result was overwritten,", call(), want)
    for operand, before in zip(operands, kept, strict=True):
        expect_same(f"the operand of {what}, afterwards,", operand, before)
    expect_storage(built, f"after {operation}")
    return got


def _refuses(operation: str, call: Callable[..., Tensor], wrong: Tensor, *others: object) -> None:
    try:
        got = call(wrong, *others)
    except (ValueError, RuntimeError):
        return
    shape = tuple(got.shape) if isinstance(got, Tensor) else type(got).__name__
    raise WrongError(f"expected {operation} to refuse an operand {tuple(wrong.shape)}, got a result {shape}")
