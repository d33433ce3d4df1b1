"""Put the kept studies of quality into the one small file that the package ships.

python -m sparsebench.suites.workloads.studies.pack results/reference
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sparsebench.suites.report.artifacts import read_artifacts
from sparsebench.suites.workloads.studies.arrays import bits, figures, shades
from sparsebench.suites.workloads.studies.read import CHECKS, FILE

CNN, CODING = "epyc-2-cores-mnist-cnn", "epyc-2-cores-mnist-coding"
"""Kept runs that the file is made of; that of the short checks is CHECKS."""
SHOWN = 8
"""Images of a model that are shown with their reconstructions and codes."""
ATOMS = 50
"""Rows of a dictionary that are shown."""
LARGEST = 1_024
"""Units of a code that is kept."""
DROPPED: tuple[str, ...] = ("status", "reason", "images", "settings")
"""Columns of a study's rows that no chapter reads."""


def pack(reference: Path) -> dict[str, Any]:
    """Return what the file holds.

    Args:
        reference: the folder of the kept runs.

    Raises:
        OSError, ValueError: if a kept run is missing or cannot be read.
    """
    return {
        "sparse_cnn": {"from": _source(reference / CNN), "trainings": _cnn(reference / CNN)},
        "sparse_coding": {"from": _source(reference / CODING), **_coding(reference / CODING)},
        "checks": {"from": _source(reference / CHECKS), "kept": _json(reference / CHECKS / "check.json")},
    }


def write(held: dict[str, Any], path: Path = FILE) -> None:
    """Write the file; equal contents give equal bytes."""
    text = json.dumps(held, ensure_ascii=False, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _source(run: Path) -> dict[str, Any]:
    machine = _json(run / "machine.json")
    return {
        "run": run.name, "processor": machine["cpu"], "cores": machine["cores"],
        "version": machine["libraries"]["sparsebench"], "torch": machine["libraries"]["torch"],
        "commit": machine["commit"][:7], "date": machine["described_at"][:10],
    }  # fmt: skip


def _arrays(run: Path, pattern: str) -> list[tuple[str, dict[str, np.ndarray]]]:
    found = []
    for name, arrays in read_artifacts(run, pattern):
        if isinstance(arrays, str):
            raise ValueError(f"expected {name} of {run} to be whole, got {arrays}")
        found.append((name.removesuffix(".npz"), arrays))
    if not found:
        raise ValueError(f"expected {pattern} in {run}, got none")
    return found


def _cnn(run: Path) -> list[dict[str, Any]]:
    held = []
    for name, arrays in _arrays(run, "sparse_cnn-*.npz"):
        length = re.search(r"-(\d+)x(\d+)-seed\d+$", name)
        if length is None:
            raise ValueError(f"expected a name that tells images and epochs, got {name}")
        one: dict[str, Any] = {"name": name, "seen": int(length[1]) * int(length[2])}
        for key, array in arrays.items():
            if key.startswith("mask_"):
                one[key] = bits(array)
            elif array.dtype.kind == "U" or key == "empty":
                one[key] = array.tolist()
            else:
                one[key] = _plain(array)
        held.append(one)
    return held


def _plain(array: np.ndarray) -> Any:
    """Return whole numbers as they are, others rounded; NaN is None."""
    if array.dtype.kind in "iu":
        return array.tolist()
    return figures(array) if array.ndim else figures(array.reshape(1))[0]


def _coding(run: Path) -> dict[str, Any]:
    rows = _json(run / "study.json")["trainings"]
    kept = [{name: _rounded(value) for name, value in row.items() if name not in DROPPED} for row in rows]
    shown, images = [], {}
    for name, arrays in _arrays(run, "sparse_coding-*.npz"):
        data = str(arrays["data"])
        images[data] = shades(arrays["images"][:SHOWN])
        one: dict[str, Any] = {"name": name, "workload": str(arrays["workload"]), "data": data}
        one |= {"curve": figures(arrays["curve"]), "dictionary": shades(arrays["dictionary"][:ATOMS])}
        one["reconstructions"] = shades(arrays["reconstructions"][:SHOWN])
        codes = arrays["codes"][:SHOWN]
        if codes.shape[1] <= LARGEST:
            one["codes"] = shades(codes)
        shown.append(one)
    flows = [
        {"flow": row["flow"], "curve": figures(np.array(row["curve"]))}
        for row in _json(run / "curves.json")
        if row["representation"] == "numba loop"
    ]
    return {"trainings": kept, "images": images, "shown": shown, "flows": flows}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, float):
        return figures(np.array([value]))[0] if math.isfinite(value) else None
    return value


def main(words: Sequence[str] | None = None) -> int:
    """Write the file from the kept runs, and return the exit status."""
    parser = argparse.ArgumentParser(prog="pack", description="Put the kept studies into the package's one file.")
    parser.add_argument("reference", type=Path, help="the folder of the kept runs, results/reference")
    asked = parser.parse_args(words)
    try:
        write(pack(asked.reference))
    except (OSError, ValueError, KeyError) as error:
        sys.stderr.write(f"pack: expected the kept runs in {asked.reference}, got {type(error).__name__}: {error}\n")
        return 2
    sys.stdout.write(f"{FILE}: {FILE.stat().st_size:,} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
