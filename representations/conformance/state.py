"""Check what a representation holds and touches: copies, side effects, bytes, repeatability."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sparsebench.representations import operations
from sparsebench.representations.base import Representation, Storage
from sparsebench.representations.conformance.held import held_bytes
from sparsebench.representations.conformance.subject import SHAPE, SkipError, Subject, WrongError, expect_same
from sparsebench.representations.pattern import Pattern

_COLUMNS = 6


def _products(subject: Subject, built: Representation) -> dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]]:
    """Return every product that the class gives, with fresh operands."""
    products = {name: getattr(built, name) for name in ("matmul", *subject.given_products(built.shape))}
    return {
        name: (product, tuple(subject.operands(name, built.matrix_shape, _COLUMNS)))
        for name, product in products.items()
    }


def _parts(source: Tensor) -> tuple[Tensor, ...]:
    """Return the strided tensors that a source consists of, sharing its memory."""
    if source.layout == torch.sparse_coo:
        return source._indices(), source._values()
    if source.layout == torch.sparse_csr:
        return source.crow_indices(), source.col_indices(), source.values()
    return (source,)


def _sources(subject: Subject) -> dict[str, Tensor]:
    tensor = subject.sparse()
    csr = tensor.to_sparse_csr()
    narrow = torch.sparse_csr_tensor(
        csr.crow_indices().int(), csr.col_indices().int(), csr.values(), SHAPE, check_invariants=False
    )
    return {"strided": tensor, "COO": tensor.to_sparse(), "CSR": csr, "CSR int32": narrow}


def inputs_unchanged(subject: Subject) -> None:
    """Leave sources and operands as they were."""
    for layout, source in _sources(subject).items():
        before = [part.clone() for part in _parts(source)]
        built = subject.build(source, "matmul")
        products = _products(subject, built)
        for name, (product, operands) in products.items():
            kept = [operand.clone() for operand in operands]
            product(*operands)
            for operand, want in zip(operands, kept, strict=True):
                expect_same(f"the operand of {name}, afterwards,", operand, want)
        for part, want in zip(_parts(source), before, strict=True):
            expect_same(f"the {layout} source, afterwards,", part, want)


def own_copy(subject: Subject) -> None:
    """Keep what was stored when the source is changed afterwards, its indices included."""
    for layout, source in _sources(subject).items():
        built = subject.build(source)
        before = built.to_dense().clone()
        for part in _parts(source):
            part.zero_()
        expect_same(f"to_dense after its {layout} source was zeroed", built.to_dense(), before)


def own_results(subject: Subject) -> None:
    """Return results that share no memory with operands, with one another, or with what is stored."""
    built = subject.build(subject.sparse(), "matmul")
    products = _products(subject, built)
    calls = {**products, "to_dense": (built.to_dense, ())}
    for name, (product, operands) in calls.items():
        first = product(*operands)
        want = first.clone()
        product(*[operand * 2 + 1 for operand in operands])
        expect_same(f"the result of {name} after another call", first, want)
        first.fill_(123.0)
        expect_same(f"{name} after its last result was overwritten", product(*operands), want)
        last = product(*operands)
        for operand in operands:
            operand.fill_(7.0)
        expect_same(f"the result of {name} after its operands were overwritten", last, want)
    eye = subject.build(torch.eye(32, device=subject.device))
    x = subject.normal(32, _COLUMNS)
    got, want = eye.matmul(x), x.clone()
    x.fill_(7.0)
    expect_same("identity @ x after x was overwritten", got, want)


def with_values(subject: Subject) -> None:
    """Swap values in a twin without touching the original, and share memory through `values`."""
    cls = subject.cls
    if not (cls.native("values") and cls.native("with_values")):
        raise SkipError("values and with_values are not given: it is not trained")
    tensor = subject.sparse()
    built = subject.build(tensor, "matmul")
    x = subject.normal(SHAPE[1], _COLUMNS)
    dense, values, product = built.to_dense().clone(), built.values.clone(), built.matmul(x).clone()
    twin = built.with_values(built.values * 2)
    twin.matmul(x)
    expect_same("to_dense after with_values of something else", built.to_dense(), dense)
    expect_same("values after with_values of something else", built.values, values)
    expect_same("matmul after with_values of something else", built.matmul(x), product)
    expect_same("to_dense of the twin with doubled values", twin.to_dense(), 2 * dense)
    expect_same("matmul of the twin with doubled values", twin.matmul(x), 2 * product)
    if twin.storage() != built.storage():
        raise WrongError(f"expected the twin's storage() to be {built.storage()}, got {twin.storage()}")
    built.values.mul_(4)
    expect_same("to_dense after its values were changed in place", built.to_dense(), 4 * dense)
    expect_same("matmul after its values were changed in place", built.matmul(x), 4 * product)
    expect_same("to_dense of the twin after the original was changed", twin.to_dense(), 2 * dense)


def storage(subject: Subject) -> None:
    """Count exactly the bytes that are held, before and after it is used."""
    for tensor, pattern in (
        (subject.sparse(), None),
        (subject.sparse((37, 53), sparsity=0.5), None),
        (subject.sparse(pattern=Pattern(kind="block", block=(8, 8))), Pattern(kind="block", block=(8, 8))),
        (torch.zeros(SHAPE, device=subject.device), None),
    ):
        built = subject.build(tensor, "matmul", pattern=pattern)
        expect_storage(built, "after build")
        for product, operands in _products(subject, built).values():
            product(*operands)
        built.to_dense()
        expect_storage(built, "after use")


def expect_storage(built: Representation, when: str) -> None:
    """Compare storage() with the bytes that are held, and its values with `values`."""
    said = built.storage()
    if not isinstance(said, Storage):
        raise WrongError(f"expected a Storage from storage(), got {type(said).__name__}")
    held = held_bytes(built)
    if said.stored_bytes != held:
        raise WrongError(
            f"expected storage() to give the {held} bytes held {when}, "
            f"got {said.value_bytes} of values + {said.index_bytes} of indices = {said.stored_bytes}"
        )
    if built.native("values"):
        want = built.values.numel() * built.values.element_size()
        if said.value_bytes != want:
            raise WrongError(f"expected value_bytes {want}, as `values` has, got {said.value_bytes}")


def deterministic(subject: Subject) -> None:
    """Give the same bits twice, from one object and from two."""
    tensor = subject.sparse()
    first, second = subject.build(tensor, "matmul"), subject.build(tensor)
    expect_same("to_dense of a second build", second.to_dense(), first.to_dense())
    if first.storage() != second.storage():
        raise WrongError(f"expected a second build to store {first.storage()}, got {second.storage()}")
    again = _products(subject, second)
    for name, (product, operands) in _products(subject, first).items():
        want = product(*operands)
        expect_same(f"{name}, called again,", product(*operands), want)
        expect_same(f"{name} of a second build", again[name][0](*operands), want)


def kernel_names(subject: Subject) -> None:
    """Name in one line the kernel that each operation runs on, of what is derived also whose, and describe itself."""
    built = subject.build(subject.sparse(), "matmul")
    for operation in operations.names():
        name = built.kernel(operation)
        if not isinstance(name, str) or not name.strip() or len(name.splitlines()) != 1:
            raise WrongError(f"expected kernel({operation!r}) to be one line of text, got {name!r}")
        way = operations.get(operation).derivation(subject.cls)
        if built.origin(operation) != "derived" or way is None:
            continue
        base = way.base if way.base == operations.TO_DENSE else built.kernel(way.base)
        if base not in name:
            raise WrongError(f"expected kernel({operation!r}) to say that {base!r} does it, got {name!r}")
    if subject.cls.name not in repr(built):
        raise WrongError(f"expected repr() to hold the name {subject.cls.name}, got {built!r}")
