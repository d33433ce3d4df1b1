"""Say of each operation, once, what it takes, what it computes, and what it can be derived from.

Everything else reads it here: `Representation.provenance`, `kernel`, `trains` and `check_operands`, the conformance
checks, and the reasons of cells that are not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d as torch_conv2d

from sparsebench.kernels.plane_conv.geometry import Pair

if TYPE_CHECKING:
    from sparsebench.representations.base import Representation

TO_DENSE = "to_dense"
"""What every class gives, and what is derived in the last resort."""


@dataclass(frozen=True, kw_only=True)
class Derivation:
    """One way in which the base class builds an operation from others.

    Attributes:
        base: the operation that does the work, or TO_DENSE.
        kernel: its name in rows; {} stands for the kernel of `base`.
        needs: methods that a class must give itself for this way.
        native: whether it counts as the class's own work, since nothing is made dense or unfolded on the way.
    """

    base: str
    kernel: str
    needs: tuple[str, ...] = ()
    native: bool = False


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One thing that can be asked of a representation, a method of that name.

    Attributes:
        name: of the method.
        operands: name and sizes of each tensor that it takes, by letters: the matrix is (m, k), n is free.
        oracle: takes the dense tensor and the operands, in float64, and returns the result; where the result is laid
            out as the values, it is returned at all places.
        sums: the size that each element of a matrix product is a sum over.
        derivations: ways to do without a method of the class's own, the best first; none: it is missing then.
        needs: methods without which nobody could lay its result out.
        trains: whether training a matrix needs it, as the class's own work.
    """

    name: str
    operands: Mapping[str, tuple[str, ...]]
    oracle: Callable[..., Tensor]
    sums: str = "k"
    derivations: tuple[Derivation, ...] = ()
    needs: tuple[str, ...] = ()
    trains: bool = False

    @property
    def of_matrix(self) -> bool:
        """Tell whether it is a product of the matrix (m, k), whose sizes its letters are."""
        return all(set(sizes) <= set("mkn") for sizes in self.operands.values())

    def derivation(self, cls: type[Representation]) -> Derivation | None:
        """Return the way in which the base class builds this for a class, or None if there is none."""
        ways = (way for way in self.derivations if all(cls.native(part) for part in way.needs))
        return next(ways, None)


_LAID_OUT = ("values", "with_values")
_MAPS = ("batch", "in", "h", "w")
_GRADIENT = ("batch", "out", "h'", "w'")


def _conv2d_input(weight: Tensor, g: Tensor, size: Pair, **options: Any) -> Tensor:
    x = weight.new_zeros((g.shape[0], weight.shape[1], *size), requires_grad=True)
    (gradient,) = torch.autograd.grad(torch_conv2d(x, weight, None, **options), x, g)
    return gradient


def _conv2d_weight(weight: Tensor, g: Tensor, x: Tensor, **options: Any) -> Tensor:
    leaf = weight.new_zeros(weight.shape, requires_grad=True)
    (gradient,) = torch.autograd.grad(torch_conv2d(x, leaf, None, **options), leaf, g)
    return gradient


_OPERATIONS: dict[str, Operation] = {}


def add(operation: Operation) -> None:
    """Make an operation known; `Representation` has a method of its name.

    Raises:
        ValueError: if there is one of that name.
    """
    if operation.name in _OPERATIONS:
        raise ValueError(f"expected the name of no operation, got {operation.name!r}; choose another")
    _OPERATIONS[operation.name] = operation


def names() -> tuple[str, ...]:
    """Return what can be asked of a representation; `Representation.provenance` answers for each one."""
    return tuple(_OPERATIONS)


def get(name: str) -> Operation:
    """Return an operation.

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in _OPERATIONS:
        raise ValueError(f"expected an operation of {', '.join(_OPERATIONS)}, got {name!r}")
    return _OPERATIONS[name]


def product_of(name: str, cls: type[Representation]) -> str:
    """Return the operation of a class that does the work in an operation, by the derivations between them."""
    while name in _OPERATIONS and not cls.native(name):
        way = _OPERATIONS[name].derivation(cls)
        if way is None:
            break
        name = way.base
    return name


def lacking(cls: type[Representation], name: str) -> str | None:
    """Return what a class would have to give for an operation, or "train", and does not, in one line, or None."""
    if name == "train":
        if cls.trains():
            return None
        own = [part for part, operation in _OPERATIONS.items() if operation.trains and part != "matmul"]
        return f"does not train: needs {', '.join(_LAID_OUT)}, {' and '.join(own)} of its own"
    operation = _OPERATIONS.get(name)
    if operation is None:
        return None
    missing = [part for part in operation.needs if not cls.native(part)]
    if cls.provenance(name) == "missing":
        missing = [next((way.base for way in operation.derivations), name), *missing]
    return (
        f"cannot be derived: needs {', '.join(missing)} of its own, to compute or to lay out the result"
        if missing
        else None
    )


add(Operation(
    name="matmul", operands={"x": ("k", "n")}, oracle=lambda matrix, x: matrix @ x, trains=True,
))  # fmt: skip
add(Operation(
    name="rmatmul", operands={"x": ("m", "n")}, oracle=lambda matrix, x: matrix.t() @ x, sums="m", trains=True,
    derivations=(
        Derivation(base="matmul", kernel="transposed in each call + {}", needs=("transpose",), native=True),
        Derivation(base=TO_DENSE, kernel="{} + torch.mm"),
    ),
))  # fmt: skip
add(Operation(
    name="sampled_matmul", operands={"a": ("m", "n"), "b": ("n", "k")}, oracle=lambda matrix, a, b: a @ b, sums="n",
    needs=_LAID_OUT, trains=True,
))  # fmt: skip
add(Operation(
    name="conv2d", operands={"x": _MAPS},
    oracle=lambda weight, x, **options: torch_conv2d(x, weight, None, **options),
    derivations=(Derivation(base="matmul", kernel="torch unfold + {}"),),
))  # fmt: skip
add(Operation(
    name="conv2d_input", operands={"g": _GRADIENT}, oracle=_conv2d_input,
    derivations=(Derivation(base="rmatmul", kernel="{} + torch fold"),),
))  # fmt: skip
add(Operation(
    name="conv2d_values", operands={"g": _GRADIENT, "x": _MAPS}, oracle=_conv2d_weight, needs=_LAID_OUT,
    derivations=(Derivation(base="sampled_matmul", kernel="torch unfold + {}", needs=("sampled_matmul",)),),
))  # fmt: skip
add(Operation(
    name="conv2d_with", operands={"weight": ("out", "in", "kh", "kw")},
    oracle=lambda stored, weight, **options: torch_conv2d(stored, weight, None, **options),
    derivations=(Derivation(base=TO_DENSE, kernel="{} + torch.conv2d"),),
))  # fmt: skip
