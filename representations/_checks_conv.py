"""Check convolutions and their gradients, native or derived, against float64 torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sparsebench.kernels.plane_conv.geometry import Pair
from sparsebench.representations._checks_products import expect_laid_out
from sparsebench.representations._checks_state import expect_storage
from sparsebench.representations._subject import SkipError, Subject, WrongError, expect_close, expect_same
from sparsebench.representations.base import Representation
from sparsebench.representations.pattern import Pattern

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


def conv2d(subject: Subject) -> None:
    """Convolve: strides, padding, dilation, every kernel shape and regime, any memory order of x."""
    for case, built, weight in _weights(subject, "conv2d"):
        x = subject.normal(*case.x, dtype=case.dtype)
        want, scale = (_convolve(case, part_x, part_w) for part_x, part_w in _with_sizes(x, weight))
        for order, operand in _orders(x) if case.name == _WIDE else (("", x),):

            def call(operand: Tensor = operand, case: _Case = case, built: Representation = built) -> Tensor:
                return built.conv2d(operand, **case.options)

            what = f"conv2d, {case.name}" + order
            expect_close(what, _result(subject, what, "conv2d", built, call, operand), want, scale, x, _terms(weight))
        if case.name == _WIDE:
            for shape in ((2, 6, 6, 37), (2, 4, 6, 37), (2, 5, 2, 37), (2, 5, 6 * 37)):
                _refuses(f"conv2d to refuse x {shape}", built.conv2d, subject.normal(*shape))


def conv2d_input(subject: Subject) -> None:
    """Give the gradient of conv2d with respect to x, for any memory order of g."""
    for case, built, weight in _weights(subject, "conv2d_input"):
        places = _places(case, weight)
        size = (case.x[2], case.x[3])
        g = subject.normal(case.x[0], case.weight[0], *places, seed=3, dtype=case.dtype)
        want, scale = (_to_input(case, part_g, part_w) for part_g, part_w in _with_sizes(g, weight))
        for order, operand in _orders(g) if case.name == _WIDE else (("", g),):

            def call(
                operand: Tensor = operand, case: _Case = case, built: Representation = built, size: Pair = size
            ) -> Tensor:
                return built.conv2d_input(operand, size, **case.options)

            what = f"conv2d_input, {case.name}" + order
            terms = case.weight[0] * case.weight[2] * case.weight[3]
            expect_close(what, _result(subject, what, "conv2d_input", built, call, operand), want, scale, g, terms)
        if case.name == _WIDE:
            for shape in ((2, 8, *places), (2, 9, places[0] + 1, places[1])):
                _refuses(f"conv2d_input to refuse g {shape}", built.conv2d_input, subject.normal(*shape), size)


def conv2d_values(subject: Subject) -> None:
    """Give the gradient of conv2d with respect to the stored values, laid out as they are."""
    cls = subject.cls
    if cls.provenance("conv2d_values") == "missing" or not (cls.native("values") and cls.native("with_values")):
        raise SkipError("conv2d_values needs sampled_matmul, values and with_values: the class does not give them")
    for case, built, weight in _weights(subject, "conv2d_values"):
        places = _places(case, weight)
        x = subject.normal(*case.x, dtype=case.dtype)
        g = subject.normal(case.x[0], case.weight[0], *places, seed=3, dtype=case.dtype)
        full, scale = (_to_weight(case, part_g, part_x) for part_g, part_x in _with_sizes(g, x))
        pairs = [("", g, x)]
        if case.name == _WIDE:
            pairs = [(order, a, b) for (order, a), (_, b) in zip(_orders(g), _orders(x), strict=True)]
        for order, a, b in pairs:

            def call(a: Tensor = a, b: Tensor = b, case: _Case = case, built: Representation = built) -> Tensor:
                return built.conv2d_values(a, b, **case.options)

            what = f"conv2d_values, {case.name}" + order
            got = _result(subject, what, "conv2d_values", built, call, a, b)
            matrix = weight.double().reshape(built.matrix_shape)
            terms = case.x[0] * places[0] * places[1]
            expect_laid_out(what, built, matrix, got, full.reshape(matrix.shape), scale, terms)


def conv2d_with(subject: Subject) -> None:
    """Store activations, and convolve them with a dense weight."""
    for case, built, x in _stored(subject, "conv2d_with", [case for case in _CASES if case.x[0]], "x"):
        weight = subject.normal(*case.weight, seed=4, dtype=case.dtype)
        want, scale = (_convolve(case, part_x, part_w) for part_x, part_w in _with_sizes(x, weight))
        for order, operand in _orders(weight) if case.name == _WIDE else (("", weight),):

            def call(operand: Tensor = operand, case: _Case = case, built: Representation = built) -> Tensor:
                return built.conv2d_with(operand, **case.options)

            what = f"conv2d_with, {case.name}" + order
            got = _result(subject, what, "conv2d_with", built, call, operand)
            expect_close(what, got, want, scale, weight, _terms(weight))
        if case.name == _WIDE:
            for shape in ((9, 6, 3, 3), (9, 4, 3, 3), (9, 5, 7, 3)):
                _refuses(f"conv2d_with to refuse a weight {shape}", built.conv2d_with, subject.normal(*shape))


# The oracles, float64


def _with_sizes(a: Tensor, b: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return two operands in float64, for the result, and their absolute values, for the size of its terms."""
    return (a.double(), b.double()), (a.double().abs(), b.double().abs())


def _convolve(case: _Case, x: Tensor, weight: Tensor) -> Tensor:
    return torch.nn.functional.conv2d(x, weight, None, case.stride, case.padding, case.dilation)


def _to_input(case: _Case, g: Tensor, weight: Tensor) -> Tensor:
    x = weight.new_zeros(case.x, requires_grad=True)
    (gradient,) = torch.autograd.grad(_convolve(case, x, weight), x, g)
    return gradient


def _to_weight(case: _Case, g: Tensor, x: Tensor) -> Tensor:
    weight = x.new_zeros(case.weight, requires_grad=True)
    (gradient,) = torch.autograd.grad(_convolve(case, x, weight), weight, g)
    return gradient


def _places(case: _Case, weight: Tensor) -> Pair:
    found = _convolve(case, weight.new_zeros((1, *case.x[1:])), weight).shape
    return int(found[2]), int(found[3])


def _terms(weight: Tensor) -> int:
    return int(weight[0].numel())


# What is asked of every call


def _weights(subject: Subject, operation: str) -> Iterator[tuple[_Case, Representation, Tensor]]:
    return _stored(subject, operation, list(_CASES), "weight")


def _stored(
    subject: Subject, operation: str, cases: list[_Case], role: str
) -> Iterator[tuple[_Case, Representation, Tensor]]:
    """Yield each case that the class does not refuse, with its tensor stored, the pattern as a hint every other time.

    Raises:
        SkipError: if it refuses all of them.
    """
    reasons = []
    for number, case in enumerate(cases):
        shape = case.weight if role == "weight" else case.x
        tensor = case.stored(subject, shape)
        reason = subject.refused("build", shape, case.dtype) or subject.refused(operation, shape, case.dtype)
        if reason is not None:
            reasons.append(reason)
            continue
        try:
            built = subject.build(tensor, pattern=case.pattern(shape) if number % 2 == 0 else None)
        except (ValueError, NotImplementedError) as error:
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise SkipError(f"takes no 4-D tensor: {line}") from error
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
    subject: Subject,
    what: str,
    operation: str,
    built: Representation,
    call: Callable[[], Tensor],
    *operands: Tensor,
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


def _refuses(what: str, call: Callable[..., Tensor], *operands: object) -> None:
    try:
        got = call(*operands)
    except (ValueError, RuntimeError):
        return
    shape = tuple(got.shape) if isinstance(got, Tensor) else type(got).__name__
    raise WrongError(f"expected {what}, got a result {shape}")
