"""Hand a check its subject: the class under test, data to try it on, and comparisons that speak in one line."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparsebench.representations import operations
from sparsebench.representations.base import Representation, Spec
from sparsebench.representations.pattern import Pattern

ELEMENT = Pattern(kind="element")
SHAPE = (48, 64)
"""Shape of the checks that are not about shapes: multiples of the usual blocks, so that raggedness fails alone."""


class SkipError(Exception):
    """A check does not apply; the message says why."""


class WrongError(Exception):
    """A check failed; the message says "expected …, got …"."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The class under test on one device.

    Attributes:
        cls: the class.
        device: "cpu" or "cuda".
    """

    cls: type[Representation]
    device: str

    def refused(self, operation: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> str | None:
        """Return why the class refuses an operation, or None."""
        reason = self.cls.unsupported(Spec(operation=operation, shape=shape, dtype=dtype, device=self.device))
        if reason is not None and (not isinstance(reason, str) or not reason.strip()):
            raise WrongError(f"expected unsupported() to return None or a reason, got {reason!r}")
        return reason

    def require(self, operation: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> None:
        """Raise SkipError if the class refuses an operation, or leaves an optional one to the base class."""
        product = operation in operations.names() and operations.get(operation).of_matrix
        provenance = self.cls.provenance(operation) if product else "native"
        if provenance != "native":
            raise SkipError(f"{operation} is {provenance}: the class does not give it")
        if operation == "train" and not self.cls.trains():
            raise SkipError("does not train: it needs values, with_values and sampled_matmul")
        reason = self.refused(operation, shape, dtype)
        if reason is not None:
            raise SkipError(f"refused: {reason}")

    def gives(self, operation: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> bool:
        """Tell whether the class itself gives an operation and does not refuse it."""
        try:
            self.require(operation, shape, dtype)
        except SkipError:
            return False
        return True

    def build(self, tensor: Tensor, *operations: str, pattern: Pattern | None = None) -> Representation:
        """Build from a tensor, if building it and `operations` are not refused.

        Raises:
            SkipError: if one is refused.
            WrongError: if what comes is not such a representation.
        """
        for operation in ("build", *operations):
            self.require(operation, tuple(tensor.shape), tensor.dtype)
        built = self.cls.build(tensor, pattern)
        if not isinstance(built, self.cls):
            raise WrongError(f"expected build to return a {self.cls.__name__}, got {type(built).__name__}")
        for name, got, want in (
            ("shape", built.shape, tuple(tensor.shape)),
            ("dtype", built.dtype, tensor.dtype),
            ("device", torch.device(built.device).type, self.device),
        ):
            if got != want:
                raise WrongError(f"expected {name} {want}, got {got}")
        return built

    def sparse(
        self,
        shape: tuple[int, int] = SHAPE,
        *,
        sparsity: float = 0.8,
        seed: int = 1,
        dtype: torch.dtype = torch.float32,
        pattern: Pattern = ELEMENT,
        layout: torch.layout = torch.strided,
    ) -> Tensor:
        """Draw a matrix with exactly so many zeros; no value is near 0."""
        return pattern.tensor(shape, sparsity, seed, dtype=dtype, layout=layout).to(self.device)

    def operands(self, operation: str, shape: tuple[int, int], columns: int, **options: torch.dtype) -> list[Tensor]:
        """Draw the operands of a product of a matrix (m, k), n being `columns`."""
        sizes = {"m": shape[0], "k": shape[1], "n": columns}
        drawn = enumerate(operations.get(operation).operands.values(), start=2)
        return [self.normal(*(sizes[letter] for letter in letters), seed=seed, **options) for seed, letters in drawn]

    def given_products(self, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[str]:
        """Return the products of a matrix that the class itself gives, does not refuse, and whose layout is known."""
        records = {name: operations.get(name) for name in operations.names()}
        placed = [name for name, record in records.items() if all(self.cls.native(part) for part in record.needs)]
        return [name for name in placed if records[name].of_matrix and self.gives(name, shape, dtype)]

    def normal(self, *shape: int, seed: int = 2, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw a strided operand."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).to(self.device)


def as_matrix(tensor: Tensor) -> Tensor:
    """Return a strided copy of a tensor of any layout as a float64 matrix."""
    dense = tensor.detach() if tensor.layout == torch.strided else tensor.detach().to_dense()
    return dense.double().reshape(dense.shape[0], -1).clone()


def expect_tensor(what: str, got: object, shape: tuple[int, ...], dtype: torch.dtype, device: str) -> Tensor:
    """Return `got` if it is a strided tensor of that shape, dtype and device.

    Raises:
        WrongError: if it is not.
    """
    if not isinstance(got, Tensor):
        raise WrongError(f"expected a tensor from {what}, got {type(got).__name__}")
    for name, is_, want in (
        ("layout", got.layout, torch.strided),
        ("shape", tuple(got.shape), shape),
        ("dtype", got.dtype, dtype),
        ("device", got.device.type, device),
    ):
        if is_ != want:
            raise WrongError(f"expected {what} of {name} {want}, got {is_}")
    return got


def expect_close(what: str, got: object, want: Tensor, scale: Tensor, like: Tensor, terms: int) -> None:
    """Compare a product with its float64 oracle.

    Args:
        what: its name in the message.
        got: the product.
        want: the oracle, float64.
        scale: |a| @ |b|, float64: the size of the terms that were added up.
        like: gives the dtype and the device that are expected.
        terms: how many terms each element is the sum of; the error may reach (terms + 16) · eps · max(scale).

    Raises:
        WrongError: at the first difference.
    """
    tensor = expect_tensor(what, got, tuple(want.shape), like.dtype, like.device.type)
    if not want.numel():
        return
    error = (tensor.detach().double() - want).abs()
    limit = (terms + 16) * torch.finfo(like.dtype).eps * float(scale.max()) + torch.finfo(like.dtype).tiny
    bad = ~(error <= limit)  # so that NaN is bad
    if bool(bad.any()):
        place = tuple(int(i) for i in bad.nonzero()[0])
        raise WrongError(
            f"expected {what} within {limit:.1e} of float64, got {float(tensor[place]):g} "
            f"for {float(want[place]):g} at {place} and {int(bad.sum())} of {bad.numel()} elements wrong"
        )


def expect_same(what: str, got: object, want: Tensor) -> None:
    """Compare exactly; NaN equals NaN.

    Raises:
        WrongError: at the first difference.
    """
    tensor = expect_tensor(what, got, tuple(want.shape), want.dtype, want.device.type)
    bad = ~((tensor == want) | (tensor.isnan() & want.isnan()))
    if bool(bad.any()):
        place = tuple(int(i) for i in bad.nonzero()[0])
        raise WrongError(
            f"expected {what} to be {float(want[place]):g} at {place}, got {float(tensor[place]):g} "
            f"and {int(bad.sum())} of {bad.numel()} elements different"
        )
