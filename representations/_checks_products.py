"""Check what a representation computes: every product against a float64 oracle, on every kind of input."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sparsebench.representations import autograd
from sparsebench.representations._subject import (
    ELEMENT,
    SHAPE,
    SkipError,
    Subject,
    WrongError,
    as_matrix,
    expect_close,
    expect_same,
    expect_tensor,
)
from sparsebench.representations.base import Representation
from sparsebench.representations.pattern import Pattern

_RAGGED = ((37, 53), (1, 1), (1, 70), (70, 1), (17, 33))
_HINTS = (
    Pattern(kind="block", block=(8, 8)),
    Pattern(kind="block", block=(3, 5)),
    Pattern(kind="plane", block=(1, 9)),
    Pattern(kind="channel", block=(1, 9)),
    Pattern(kind="power-law"),
    Pattern(kind="n:m", m=4),
)


# The products one by one


def compare_matmul(built: Representation, dense: Tensor, x: Tensor, what: str = "matmul") -> None:
    """Compare self @ x with the oracle `dense` (m, k), float64."""
    want, scale = dense @ x.double(), dense.abs() @ x.double().abs()
    expect_close(what, built.matmul(x), want, scale, x, dense.shape[1])


def compare_rmatmul(built: Representation, dense: Tensor, x: Tensor, what: str = "rmatmul") -> None:
    """Compare selfᵀ @ x with the oracle `dense` (m, k), float64."""
    want, scale = dense.t() @ x.double(), dense.t().abs() @ x.double().abs()
    expect_close(what, built.rmatmul(x), want, scale, x, dense.shape[0])


def compare_sampled(built: Representation, dense: Tensor, a: Tensor, b: Tensor, what: str = "sampled_matmul") -> None:
    """Compare (a @ b) at the stored places with the oracle, laid out by with_values."""
    if not (built.native("values") and built.native("with_values")):
        raise SkipError("the order of its values is unknown without values and with_values")
    expect_laid_out(what, built, dense, built.sampled_matmul(a, b), a.double() @ b.double(), _scale(a, b), a.shape[1])


def expect_laid_out(
    what: str, built: Representation, dense: Tensor, got: object, full: Tensor, scale: Tensor, terms: int
) -> None:
    """Compare values with the elements of the matrix `full` at the stored places, wherever the layout puts them."""
    values = expect_tensor(what, got, tuple(built.values.shape), built.dtype, built.values.device.type)
    stored = built.with_values(torch.ones_like(built.values)).to_dense().reshape(dense.shape) != 0
    if bool(((dense != 0) & ~stored).any()):
        raise WrongError("expected every non-zero to have a stored place, got some without")
    placed = built.with_values(values.detach()).to_dense().reshape(dense.shape)
    expect_close(f"{what} at the stored places", placed, full * stored, scale, built.values, terms)


def compare_all(subject: Subject, tensor: Tensor, columns: int = 5, pattern: Pattern | None = None) -> None:
    """Build from a tensor; compare the round trip and every product that the class gives."""
    built = subject.build(tensor, "matmul", pattern=pattern)
    shape, dtype, dense = tuple(tensor.shape), tensor.dtype, as_matrix(tensor)
    rows, width = dense.shape
    label = "×".join(map(str, shape))
    expect_same(f"to_dense of {label}", built.to_dense(), dense.to(dtype).reshape(shape))
    compare_matmul(built, dense, subject.normal(width, columns, dtype=dtype), f"matmul of {label}")
    if subject.gives("rmatmul", shape, dtype):
        compare_rmatmul(built, dense, subject.normal(rows, columns, seed=3, dtype=dtype), f"rmatmul of {label}")
    if subject.gives("sampled_matmul", shape, dtype) and built.native("values") and built.native("with_values"):
        a, b = subject.normal(rows, columns, seed=4, dtype=dtype), subject.normal(columns, width, seed=5, dtype=dtype)
        compare_sampled(built, dense, a, b, f"sampled_matmul of {label}")


def _scale(a: Tensor, b: Tensor) -> Tensor:
    return a.double().abs() @ b.double().abs()


# The checks


def round_trip(subject: Subject) -> None:
    """Build from every layout and with every hint, and get the same tensor back."""
    tensor = subject.sparse()
    sources = {
        "strided": tensor,
        "COO": tensor.to_sparse(),
        "CSR": tensor.to_sparse_csr(),
        "CSC": tensor.to_sparse_csc(),
        "BSR": tensor.to_sparse_bsr((16, 16)),
        "BSC": tensor.to_sparse_bsc((16, 16)),
    }
    for layout, source in sources.items():
        expect_same(f"to_dense of a {layout} source", subject.build(source).to_dense(), tensor)
    for pattern in _HINTS:
        built = subject.build(tensor, pattern=pattern)
        expect_same(f"to_dense with the hint {pattern.label}", built.to_dense(), tensor)


def round_trip_4d(subject: Subject) -> None:
    """Build from a weight (out, in, kh, kw), and multiply as the matrix (out, in·kh·kw)."""
    matrix = subject.sparse((16, 72), sparsity=0.5, pattern=Pattern(kind="plane", block=(1, 9)))
    try:
        subject.build(matrix.reshape(16, 8, 3, 3))
    except (ValueError, NotImplementedError) as error:
        raise SkipError(f"takes no 4-D weight: {_first_line(error)}") from error
    compare_all(subject, matrix.reshape(16, 8, 3, 3))


def matmul(subject: Subject) -> None:
    """Multiply from the left."""
    tensor = subject.sparse()
    compare_matmul(subject.build(tensor, "matmul"), tensor.double(), subject.normal(SHAPE[1], 24))


def rmatmul(subject: Subject) -> None:
    """Multiply the transpose from the left."""
    tensor = subject.sparse()
    compare_rmatmul(subject.build(tensor, "rmatmul"), tensor.double(), subject.normal(SHAPE[0], 24))


def sampled_matmul(subject: Subject) -> None:
    """Multiply two strided matrices at the stored places only."""
    tensor = subject.sparse()
    built = subject.build(tensor, "sampled_matmul")
    a, b = subject.normal(SHAPE[0], 24, seed=4), subject.normal(24, SHAPE[1], seed=5)
    compare_sampled(built, tensor.double(), a, b)


def transpose(subject: Subject) -> None:
    """Transpose, and compare the matrix and its product."""
    if not subject.cls.native("transpose"):
        raise SkipError("transpose is derived: the class does not give it")
    tensor = subject.sparse()
    turned = subject.build(tensor).transpose()
    expect_same("to_dense of the transpose", turned.to_dense(), tensor.t())
    compare_matmul(turned, tensor.t().double(), subject.normal(SHAPE[0], 5), "matmul of the transpose")


def gradients(subject: Subject) -> None:
    """Differentiate through the one autograd Function, for the values and for x, against float64 autograd."""
    tensor = subject.sparse()
    built = subject.build(tensor, "matmul", "train")
    x = subject.normal(SHAPE[1], 7).requires_grad_()
    weight = subject.normal(SHAPE[0], 7, seed=3)
    values = built.values.detach().clone().requires_grad_()
    result = autograd.matmul(built, x, values)
    dense, x64 = tensor.double().requires_grad_(), x.detach().double().requires_grad_()
    full = dense @ x64
    expect_close("matmul under autograd", result, full.detach(), _scale(tensor, x.detach()), tensor, SHAPE[1])
    torch.autograd.backward((result * weight).sum())
    torch.autograd.backward((full * weight.double()).sum())
    if x.grad is None or values.grad is None or x64.grad is None or dense.grad is None:
        raise WrongError("expected gradients of x and of the values, got none")
    expect_close("the gradient of x", x.grad, x64.grad, _scale(tensor.t(), weight), tensor, SHAPE[0])
    scale = _scale(weight, x.detach().t())
    expect_laid_out("the gradient of the values", built, tensor.double(), values.grad, dense.grad, scale, 7)


def float64(subject: Subject) -> None:
    """Compute in float64 to float64's precision."""
    compare_all(subject, subject.sparse(dtype=torch.float64))


def empty_rows(subject: Subject) -> None:
    """Leave first, last and inner rows and columns without anything stored."""
    tensor = subject.sparse(sparsity=0.5)
    tensor[[0, 1, 20, 21, 22, 47]] = 0
    tensor[16:32, :] = 0
    compare_all(subject, tensor)
    tensor[:, [0, 5, 63]] = 0
    tensor[:, 16:48] = 0
    compare_all(subject, tensor)


def nothing_stored(subject: Subject) -> None:
    """Store a matrix of zeros, strided and sparse."""
    tensor = torch.zeros(SHAPE, device=subject.device)
    compare_all(subject, tensor)
    compare_all(subject, tensor.to_sparse())


def everything_stored(subject: Subject) -> None:
    """Store a matrix without zeros."""
    compare_all(subject, subject.sparse(sparsity=0.0))


def ragged_shapes(subject: Subject) -> None:
    """Store shapes that no block divides, rows and columns alone among them."""
    for shape in _RAGGED:
        compare_all(subject, subject.sparse(shape, sparsity=0.5))
    compare_all(subject, subject.sparse((37, 53)), pattern=Pattern(kind="block", block=(8, 8)))


def few_columns(subject: Subject) -> None:
    """Multiply by one column, and by none."""
    tensor = subject.sparse()
    for columns in (1, 0):
        compare_all(subject, tensor, columns)


def non_contiguous(subject: Subject) -> None:
    """Take sources and operands whose strides are not those of a fresh tensor."""
    wide = subject.sparse((64, 96), sparsity=0.5)
    for source in (subject.sparse((64, 48)).t(), wide[::2, ::2], wide[5:, 7:50]):
        compare_all(subject, source)
    tensor = subject.sparse()
    built, dense = subject.build(tensor, "matmul"), tensor.double()
    operands: dict[str, Callable[[int], Tensor]] = {
        "transposed": lambda rows: subject.normal(5, rows).t(),
        "strided": lambda rows: subject.normal(2 * rows, 10)[::2, ::2],
        "expanded": lambda rows: subject.normal(rows, 1).expand(rows, 5),
        "cut": lambda rows: subject.normal(rows, 9)[:, 2:7],
    }
    for name, make in operands.items():
        compare_matmul(built, dense, make(SHAPE[1]), f"matmul by a {name} x")
        if subject.gives("rmatmul", SHAPE):
            compare_rmatmul(built, dense, make(SHAPE[0]), f"rmatmul by a {name} x")
        if subject.gives("sampled_matmul", SHAPE) and built.native("values") and built.native("with_values"):
            compare_sampled(built, dense, make(SHAPE[0]), make(SHAPE[1]).t(), f"sampled_matmul of {name} operands")


def unsorted_source(subject: Subject) -> None:
    """Take a COO source in any order, with explicit zeros, and with duplicates, which add up."""
    coo = subject.sparse(layout=torch.sparse_coo)
    order = torch.randperm(coo.values().numel(), generator=torch.Generator().manual_seed(6)).to(subject.device)
    indices, values = coo.indices()[:, order], coo.values()[order]
    # exact binary halves and an element that cancels: sums do not depend on the order
    indices = torch.cat([indices, indices[:, :40], indices[:, :3]], dim=1)
    values = torch.cat([values, values[:40], -2 * values[:3]])
    source = torch.sparse_coo_tensor(indices, values, SHAPE, check_invariants=True)
    compare_all(subject, source)


def nan_propagates(subject: Subject) -> None:
    """Store a NaN, and find it in the result, in its row only."""
    tensor = subject.sparse()
    row, column = (int(i) for i in tensor.nonzero()[17])
    tensor[row, column] = float("nan")
    built = subject.build(tensor, "matmul")
    expect_same("to_dense with a NaN", built.to_dense(), tensor)
    got = expect_tensor(
        "matmul", built.matmul(subject.normal(SHAPE[1], 5)), (SHAPE[0], 5), tensor.dtype, subject.device
    )
    where = got.isnan().any(dim=1).nonzero().flatten().tolist()
    if where != [row] or not bool(got[row].isnan().all()):
        raise WrongError(f"expected NaN in all of row {row}, where one is stored, got NaN in rows {where}")


def wrong_shapes(subject: Subject) -> None:
    """Refuse operands and sources of a wrong shape instead of returning something."""
    built = subject.build(ELEMENT.tensor((12, 20), 0.5, 1).to(subject.device), "matmul")
    cases = [("matmul", built.matmul, rows) for rows in (21, 19, 12, 1, 40)]
    if subject.gives("rmatmul", (12, 20)):
        cases += [("rmatmul", built.rmatmul, rows) for rows in (13, 11, 20, 1, 24)]
    for name, product, rows in cases:
        want = 20 if name == "matmul" else 12
        try:
            got = product(subject.normal(rows, 3))
        except (ValueError, RuntimeError):
            continue
        shape = tuple(got.shape) if isinstance(got, Tensor) else type(got).__name__
        raise WrongError(f"expected {name} to refuse x ({rows}, 3), needing ({want}, 3), got a result {shape}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
