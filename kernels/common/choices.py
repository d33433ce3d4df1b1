"""Remember on disk what was tuned on a device: a choice is measured once per machine, not once per process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparsebench.kernels.common.folders import cache_folder


def devices() -> list[str]:
    """Return the devices that something was chosen on."""
    found = []
    for path in sorted(folder().glob("*.json")) if folder().is_dir() else ():
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found.append(str(json.loads(path.read_text(encoding="utf-8"))["device"]))
    return found


def kept(device: str) -> dict[str, dict[str, Any]]:
    """Return all that was chosen on a device, by key."""
    return {key: choice for key, choice in _read(_path(device)).items() if isinstance(choice, dict)}


def recall(device: str, key: str) -> dict[str, Any] | None:
    """Return what was chosen under `key` on a device earlier, or None.

    Args:
        device: a text that tells devices apart, everything that a choice depends on included, as processor, threads and
            versions of libraries.
        key: what was chosen, as "block dsd float32 32×32".
    """
    choice = _read(_path(device)).get(key)
    return choice if isinstance(choice, dict) else None


def remember(device: str, key: str, choice: Mapping[str, Any]) -> None:
    """Keep a choice for this and later processes. A folder that cannot be written to costs only the next tuning."""
    _write(device, {**_read(_path(device)), key: dict(choice)})


def forget(device: str, key: str) -> None:
    """Keep a choice no longer."""
    _write(device, {other: choice for other, choice in _read(_path(device)).items() if other != key})


def folder() -> Path:
    """Return where choices are kept: the user's cache folder; delete it to have everything tuned anew."""
    return cache_folder("choices")


def _path(device: str) -> Path:
    return folder() / (re.sub(r"[^A-Za-z0-9.+-]+", "_", device)[:200] + ".json")


def _write(device: str, choices: Mapping[str, Any]) -> None:
    path = _path(device)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        # written aside and moved: a reader sees the old file or the new one. Of two processes that write at once, one
        # loses a choice and tunes it again.
        handle, draft = tempfile.mkstemp(dir=path.parent, suffix=".draft")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"device": device, "choices": choices}, file, indent=1, sort_keys=True)
        Path(draft).replace(path)


def _read(path: Path) -> dict[str, Any]:
    """Return the choices of a file; one that is missing or damaged holds none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["choices"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}
