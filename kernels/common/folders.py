"""Say where the user's cache is, as the XDG base directory specification has it."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """Return the folder of that name in the user's cache; nothing is made. It may be one that takes no files."""
    given = os.environ.get("XDG_CACHE_HOME", "").strip()
    if given:
        return Path(given) / "sparsebench" / name
    try:
        return Path.home() / ".cache" / "sparsebench" / name
    except RuntimeError:  # no home is known: nothing can be made below a device, so nothing is kept
        return Path(os.devnull) / name
