"""What trainings left is read alike from loose files and from the one archive of a kept run."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from sparsebench.suites.report.artifacts import ARCHIVE, read_artifacts

REFERENCE = Path(__file__).parents[2] / "results" / "reference"


def npz(value: float) -> bytes:
    held = io.BytesIO()
    np.savez_compressed(held, value=np.array(value))
    return held.getvalue()


def pack(folder: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(folder / ARCHIVE, "w") as archive:
        for name, held in members.items():
            archive.writestr(name, held)


def read(folder: Path) -> dict[str, float | str]:
    found = read_artifacts(folder, "toy-*.npz")
    return {name: one if isinstance(one, str) else float(one["value"]) for name, one in found}


def test_an_archive_reads_as_loose_files_do_and_a_loose_file_counts_first(tmp_path: Path) -> None:
    pack(tmp_path, {"toy-b.npz": npz(2.0), "toy-c.npz": npz(3.0), "other.npz": npz(9.0)})
    for name, value in (("toy-a", 1.0), ("toy-c", 4.0), ("other-d", 9.0)):
        (tmp_path / f"{name}.npz").write_bytes(npz(value))
    found = read(tmp_path)
    assert found == {"toy-a.npz": 1.0, "toy-b.npz": 2.0, "toy-c.npz": 4.0}
    assert list(found) == sorted(found)


def test_a_damaged_member_costs_itself_alone(tmp_path: Path) -> None:
    whole, flipped = npz(2.0), bytearray(npz(1.0))
    flipped[60] ^= 0xFF  # within the compressed array
    single = io.BytesIO()
    np.save(single, np.zeros(3))
    members = {"toy-cut.npz": whole[:50], "toy-flipped.npz": bytes(flipped), "toy-single.npz": single.getvalue()}
    pack(tmp_path, {**members, "toy-whole.npz": whole})
    found = read(tmp_path)
    assert list(found) == sorted([*members, "toy-whole.npz"])
    assert found.pop("toy-whole.npz") == 2.0
    assert all(isinstance(why, str) for why in found.values())


def test_a_damaged_archive_costs_no_loose_file(tmp_path: Path) -> None:
    (tmp_path / ARCHIVE).write_bytes(b"PK no archive")
    (tmp_path / "toy-a.npz").write_bytes(npz(1.0))
    assert read(tmp_path) == {ARCHIVE: "BadZipFile", "toy-a.npz": 1.0}


def test_kept_runs_hold_their_arrays_in_archives_that_can_be_read() -> None:
    assert list(REFERENCE.rglob("*.npz")) == []
    kept = {path.parent.name: [one for _, one in read_artifacts(path.parent, "*.npz")]
            for path in REFERENCE.rglob(ARCHIVE)}  # fmt: skip
    assert {name: len(found) for name, found in kept.items()} == {
        "epyc-2-cores": 2,
        "epyc-2-cores-mnist-cnn": 134,
        "epyc-2-cores-mnist-coding": 9,
        "xeon-2-cores": 2,
        "xeon-2-cores-mnist": 2,
    }
    assert not [one for found in kept.values() for one in found if isinstance(one, str)]
