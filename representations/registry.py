"""Find representations by name: our own, and everybody else's through entry points."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass

from sparsebench.representations.base import Representation

GROUP = "sparsebench.representations"
"""Entry-point group in which a package offers representations: `name = "module:Class"`."""

METHODS: tuple[str, ...] = ("build", "to_dense", "matmul", "storage")

_FORMATS = "sparsebench.representations.formats."
BUILTIN: dict[str, str] = {
    "dense": _FORMATS + "dense:Dense",
    "dense-masked": _FORMATS + "dense_masked:DenseMasked",
    "planes": _FORMATS + "planes:Planes",
    "block-sparse": _FORMATS + "block_sparse:BlockSparse",
    "csr": _FORMATS + "csr:Csr",
    "bitmap": _FORMATS + "bitmap:Bitmap",
    "ell": _FORMATS + "ell:Ell",
    "scipy-csr": _FORMATS + "scipy_csr:ScipyCsr",
    "scipy-coo": _FORMATS + "scipy_coo:ScipyCoo",
    "scipy-bsr": _FORMATS + "scipy_bsr:ScipyBsr",
    "torch-coo": _FORMATS + "torch_coo:TorchCoo",
    "torch-csr": _FORMATS + "torch_csr:TorchCsr",
    "torch-csc": _FORMATS + "torch_csc:TorchCsc",
    "torch-bsr": _FORMATS + "torch_bsr:TorchBsr",
    "torch-bsc": _FORMATS + "torch_bsc:TorchBsc",
    "torch-embedding-bag": _FORMATS + "torch_embedding_bag:TorchEmbeddingBag",
    "torch-semi-structured": _FORMATS + "torch_semi_structured:TorchSemiStructured",
}
"""In the order of tables: what we compute ourselves first, where it is seen. Each is loaded when asked for, so that one
broken file costs one name."""

_registered: dict[str, type[Representation]] = {}


class UnknownRepresentationError(ValueError):
    """Nothing is known under this name. A user's mistake."""


class BrokenRepresentationError(RuntimeError):
    """The name is known, but its class cannot be loaded or lacks a method."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One known representation, not loaded yet.

    Attributes:
        name: what tables call it.
        target: "module:Class".
        package: the distribution that it comes from.
    """

    name: str
    target: str
    package: str


def register(cls: type[Representation]) -> type[Representation]:
    """Make a class known under its name in this process; usable as a decorator.

    Raises:
        ValueError: if another class has the name already.
        BrokenRepresentationError: if a method is missing.
    """
    check_class(cls, cls.__qualname__)
    other = _registered.get(cls.name)
    if cls.name in BUILTIN or (other is not None and other is not cls):
        raise ValueError(f"expected a new name, got {cls.name!r}, which is taken; choose another `name`")
    _registered[cls.name] = cls
    return cls


def entries() -> dict[str, Entry]:
    """Return everything that is known, by name; nothing is imported.

    Our own come first; an entry point may not take a name of ours.
    """
    known = {name: Entry(name=name, target=target, package="sparsebench") for name, target in BUILTIN.items()}
    for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda point: point.name):
        package = point.dist.name if point.dist is not None else "?"
        known.setdefault(point.name, Entry(name=point.name, target=point.value, package=package))
    for name, cls in _registered.items():
        known.setdefault(name, Entry(name=name, target=f"{cls.__module__}:{cls.__qualname__}", package="registered"))
    return known


def names() -> list[str]:
    """Return the known names, our own first."""
    return list(entries())


def load(name: str) -> type[Representation]:
    """Return the class known as `name`, or the one at "module:Class".

    Raises:
        UnknownRepresentationError: if there is no such name.
        BrokenRepresentationError: if it fails to import or lacks a method.
    """
    if name in _registered:
        return _registered[name]
    if ":" in name:
        return load_target(name)
    if name in BUILTIN:  # no entry point may take such a name, and to scan for them takes milliseconds
        return load_target(BUILTIN[name], name)
    known = entries()
    if name not in known:
        raise UnknownRepresentationError(
            f"expected a representation of {', '.join(known)} or module:Class, got {name!r}"
        )
    return load_target(known[name].target, known[name].name)


def load_target(target: str, name: str | None = None) -> type[Representation]:
    """Import "module:Class" and check that it can be used.

    Raises:
        BrokenRepresentationError: if it fails to import, lacks a method, or calls itself otherwise than `name`.
    """
    module_name, _, class_name = target.partition(":")
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except Exception as error:
        raise BrokenRepresentationError(
            f"expected {target} to import, got {type(error).__name__}: {first_line(error)}; mend that package"
        ) from error
    check_class(cls, target)
    if name is not None and cls.name != name:
        raise BrokenRepresentationError(
            f"expected {target} to be named {name!r} as its entry point is, got {cls.name!r}; make the two equal"
        )
    return cls  # type: ignore[no-any-return]  # check_class saw that it is a Representation


def check_class(cls: object, target: str) -> None:
    """Raise BrokenRepresentationError unless `cls` is a Representation with a name and every required method."""
    if not (isinstance(cls, type) and issubclass(cls, Representation)):
        raise BrokenRepresentationError(f"expected {target} to be a subclass of Representation, got {cls!r}")
    missing = [method for method in METHODS if method in getattr(cls, "__abstractmethods__", ())]
    if missing:
        raise BrokenRepresentationError(
            f"expected {target} to give {', '.join(METHODS)}, got none of {', '.join(missing)}; write what is missing"
        )
    if not isinstance(getattr(cls, "name", None), str):
        raise BrokenRepresentationError(f"expected {target} to have a class attribute name: str; add one")


def missing_requirements(cls: type[Representation]) -> list[str]:
    """Return the modules that a class requires and that cannot be found here."""
    return [module for module in cls.requires if importlib.util.find_spec(module) is None]


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, for a one-line report."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "(no message)"
