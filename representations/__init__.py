"""Store tensors that are mostly zeros, each representation in one way.

What a user needs is here, loaded when it is first asked for: `from sparsebench.representations import load, convert`.
`__version__` is that of the installed package.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsebench.representations.base import Representation as Representation
    from sparsebench.representations.base import Spec as Spec
    from sparsebench.representations.base import Storage as Storage
    from sparsebench.representations.conformance import check as check
    from sparsebench.representations.modules import convert as convert
    from sparsebench.representations.modules import restore as restore
    from sparsebench.representations.pattern import Pattern as Pattern
    from sparsebench.representations.registry import load as load
    from sparsebench.representations.registry import names as names

    __version__: str

_HOMES = {
    "Representation": "base",
    "Storage": "base",
    "Pattern": "pattern",
    "Spec": "base",
    "load": "registry",
    "names": "registry",
    "check": "conformance",
    "convert": "modules",
    "restore": "modules",
}
"""Which module of this package each name is at home in."""


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    if name == "__version__":
        from importlib import metadata  # imported late, as everything here

        return metadata.version("sparsebench")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, "__version__"})
