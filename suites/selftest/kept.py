"""Keep what a self-test found for the runs that follow on the same machine."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparsebench.kernels.common.folders import cache_folder
from sparsebench.suites.measure import machine
from sparsebench.suites.selftest.rates import Found


def _kept(threads: int) -> Path:
    name = "".join(sign if sign.isalnum() else "-" for sign in machine.cpu_name())
    return cache_folder("selftest") / f"{name}-{threads}.json"


def keep(found: Found, threads: int) -> None:
    """Keep what a self-test found for the runs that follow on this machine; where nothing can be kept, nothing is."""
    path = _kept(threads)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(dataclasses.asdict(found), indent=1), encoding="utf-8")
    except OSError:
        return


def known(threads: int) -> Mapping[str, Any] | None:
    """Return what the last self-test found on this machine with so many threads, None if there was none."""
    try:
        found = json.loads(_kept(threads).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("rates"), list) else None
