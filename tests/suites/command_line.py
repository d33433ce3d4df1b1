"""Run the real command in a process of its own, and read what it wrote."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from sparsebench.suites.runner.journal import RunFolder

HERE = Path(__file__).parent
SPARSEBENCH = Path(sys.executable).with_name("sparsebench")


def environment(*paths: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))}


def sparsebench(*arguments: str | Path, paths: tuple[Path, ...] = (HERE,)) -> subprocess.CompletedProcess[str]:
    command = [str(SPARSEBENCH), *map(str, arguments)]
    return subprocess.run(command, env=environment(*paths), capture_output=True, text=True, timeout=300, check=False)


def rows(run: Path) -> list[dict[str, Any]]:
    """Return the last row of each cell; each visit writes one."""
    return RunFolder(path=run).rows()


SMALL = ("run", "--suite", "matmul", "--only", "attention 512×512|matmul|512x512x128|block-32x32|")
GRID = (*SMALL, "--levels", "0.5,0.8,0.9,0.97")
ONE = (*SMALL[:-1], f"{SMALL[-1]}0.9|")
