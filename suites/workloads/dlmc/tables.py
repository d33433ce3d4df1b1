"""Read what the collection tells beside its matrices: the quality of each network, the columns of each product."""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections import defaultdict
from pathlib import Path

QUALITY_FILES = ("dlmc.csv", "dlmc.csv.gz")
BATCHES_FILE = "rn50_batchsizes.txt"
GZIP = b"\x1f\x8b"
COLUMNS = ("quality", "path")
"""Of the table of qualities, as far as they are read."""

Network = tuple[str, str, str]
"""Model, method and the sparsity that its name has, as ("rn50", "magnitude_pruning", "0.8")."""

Note = str
"""What is missing or wrong, in one line that names the file, what was expected and what came."""


def read_qualities(root: Path) -> tuple[dict[Network, float], list[Note]]:
    """Return the quality of each network: top-1 accuracy in percent for rn50, BLEU for the transformer.

    The published table gives five networks of the transformer the accuracy of the ResNet-50 with the same method and
    sparsity. No translation has that BLEU; these are left out, and a note says so.

    Args:
        root: folder that holds dlmc.csv, gzipped or not.

    Returns:
        qualities by network, and notes of what is missing or wrong; never raises for a file's sake.
    """
    path = next((root / name for name in QUALITY_FILES if (root / name).is_file()), None)
    if path is None:
        return {}, [f"{root}: expected dlmc.csv or dlmc.csv.gz, got neither; times stand without quality"]
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == GZIP else raw).decode("utf-8")
        table = csv.DictReader(io.StringIO(text))
        rows, head = list(table), table.fieldnames or ()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        return {}, [f"{path}: expected a table as text, got {type(error).__name__}: {error}; take it anew"]
    if lacks := [name for name in COLUMNS if name not in head]:
        return {}, [f"{path}: expected columns {', '.join(COLUMNS)}, got none of {', '.join(lacks)}; take it anew"]
    found: dict[Network, set[float]] = defaultdict(set)
    wrong = 0
    for row in rows:
        parts = network_of(str(row["path"]))
        value = _number(row["quality"])
        if parts is None or value is None:
            wrong += 1
        else:
            found[parts].add(value)
    notes = [f"{path}: expected a path and a number in every row, got {wrong} without; left out"] if wrong else []
    notes += [
        f"{path}: expected one quality of {'/'.join(network)}, got {', '.join(map(str, sorted(values)))}; left out"
        for network, values in found.items()
        if len(values) > 1
    ]
    single = {network: min(values) for network, values in found.items() if len(values) == 1}
    copied = [
        network for network, value in single.items()
        if network[0] == "transformer" and single.get(("rn50", *network[1:])) == value
    ]  # fmt: skip
    if copied:
        names = ", ".join(f"{method}/{level}" for _, method, level in copied)
        notes.append(f"{path}: expected a BLEU for transformer {names}, got ResNet-50's accuracy there; left out")
    return {network: value for network, value in single.items() if network not in copied}, notes


def network_of(path: str) -> Network | None:
    """Return the network of a matrix's path, as "dlmc/rn50/magnitude_pruning/0.8/name.smtx"; None if it names none."""
    parts = path.split("/")[-4:-1]
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else None


def read_batches(root: Path) -> tuple[dict[str, int], list[Note]]:
    """Return the columns that each matrix of ResNet-50 meets: places of its output map, for one image.

    Args:
        root: folder that holds rn50_batchsizes.txt, lines of `NAME,COLUMNS`.

    Returns:
        columns by name, and notes of what is missing or wrong; never raises for the file's sake.
    """
    path = root / BATCHES_FILE
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}, [f"{root}: expected {BATCHES_FILE}, got none; rn50 meets 1, 32 and 128 columns only"]
    except (OSError, UnicodeDecodeError) as error:
        return {}, [f"{path}: expected lines of NAME,COLUMNS, got {type(error).__name__}; take it anew"]
    found, notes = {}, []
    for number, line in enumerate(lines, start=1):
        name, _, count = line.strip().rpartition(",")
        if name and count.strip().isdigit() and int(count) > 0:
            found[Path(name.strip()).name.removesuffix(".smtx")] = int(count)
        elif line.strip():
            notes.append(f"{path}: expected NAME,COLUMNS in line {number}, got {line.strip()[:60]!r}; passed over")
    return found, notes


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
