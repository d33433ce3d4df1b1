"""Check what a representation computes: every product against a float64 oracle, on every kind of input."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sparsebench.representations import autograd, operations
from sparsebench.representations.base import Representation
from sparsebench.representations.conformance.subject import (
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
from sparsebench.representations.pattern import Pattern
from sparsebench.representations.registry import first_line

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


def compare(built: Representation, operation: str, dense: Tensor, *operands: Tensor, what: str = "") -> None:
    """Compare an operation with its oracle, `dense` (m, k) being what is stored, in float64.

    Raises:
        SkipError: if nobody knows where the class puts the values of the result.
        WrongError: at the first difference.
    """
    record = operations.get(operation)
    if not all(built.native(part) for part in record.needs):
        raise SkipError(f"the order of its values is unknown without {' and '.join(record.needs)}")
    want = record.oracle(dense, *(operand.double() for operand in operands))
    scale = record.oracle(dense.abs(), *(operand.double().abs() for operand in operands))
    sizes = dict(zip("mk", dense.shape, strict=True))
    for letters, operand in zip(record.operands.values(), operands, strict=True):
        sizes.update(zip(letters, operand.shape, strict=True))
    got, terms = getattr(built, operation)(*operands), sizes[record.sums]
    if record.needs:
        expect_laid_out(what or operation, built, dense, got, want, scale, terms)
    else:
        like = torch.empty((), dtype=built.dtype, device=built.device)
        expect_close(what or operation, got, want, scale, like, terms)


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
    label = "×".join(map(str, shape))
    expect_same(f"to_dense of {label}", built.to_dense(), dense.to(dtype).reshape(shape))
    for name in subject.given_products(shape, dtype):
        operands = subject.operands(name, (dense.shape[0], dense.shape[1]), columns, dtype=dtype)
        compare(built, name, dense, *operands, what=f"{name} of {label}")


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
        raise SkipError(f"takes no 4-D weight: {first_line(error)}") from error
    compare_all(subject, matrix.reshape(16, 8, 3, 3))


def check_of(operation: str) -> Callable[[Subject], None]:
    """Return the check of one product of a matrix."""

    def check(subject: Subject) -> None:
        tensor = subject.sparse()
        built = subject.build(tensor, operation)
        compare(built, operation, tensor.double(), *subject.operands(operation, SHAPE, 24))

    operands = ", ".join(f"{name} ({', '.join(sizes)})" for name, sizes in operations.get(operation).operands.items())
    check.__doc__ = f"Compare {operation} of a matrix (m, k) and {operands or 'nothing else'} with float64."
    return check


def transpose(subject: Subject) -> None:
    """Transpose, and compare the matrix and its product."""
    if not subject.cls.native("transpose"):
        raise SkipError("transpose is derived: the class does not give it")
    tensor = subject.sparse()
    turned = subject.build(tensor).transpose()
    expect_same("to_dense of the transpose", turned.to_dense(), tensor.t())
    compare(turned, "matmul", tensor.t().double(), subject.normal(SHAPE[0], 5), what="matmul of the transpose")


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
    strides: dict[str, Callable[[Tensor], Tensor]] = {
        "transposed": lambda x: x.t().contiguous().t(),
        "strided": lambda x: x.repeat_interleave(2, 0).repeat_interleave(2, 1)[::2, ::2],
        "expanded": lambda x: x[:, :1].expand(x.shape),
        "cut": lambda x: torch.nn.functional.pad(x, (2, 2))[:, 2:-2],
    }
    for kind, make in strides.items():
        for name in subject.given_products(SHAPE):
            operands = [make(operand) for operand in subject.operands(name, SHAPE, 5)]
            compare(built, name, dense, *operands, what=f"{name} by {kind} operands")


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


def other_dtypes(subject: Subject) -> None:
    """Refuse operands of another dtype, or return the stored one, also where nothing is stored."""
    for tensor in (subject.sparse(), torch.zeros(SHAPE, device=subject.device)):
        built = subject.build(tensor, "matmul")
        for name in subject.given_products(SHAPE):
            for dtype in (torch.float64, torch.int64, torch.bool, torch.complex64):
                try:
                    got = getattr(built, name)(*(part.to(dtype) for part in subject.operands(name, SHAPE, 5)))
                except (ValueError, TypeError, RuntimeError):
                    continue
                if not isinstance(got, Tensor) or got.dtype != tensor.dtype:
                    kind = got.dtype if isinstance(got, Tensor) else type(got).__name__
                    raise WrongError(f"expected {name} to refuse {dtype} or return {tensor.dtype}, got {kind}")
