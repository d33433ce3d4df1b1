"""Files of the matrix collection are read whole, and wrong ones are told in one line each."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from small_collection import MATRICES, QUALITIES, mask_of, text_of, write_collection

from sparsebench.suites.workloads.dlmc.collection import drawn, read_collection
from sparsebench.suites.workloads.dlmc.smtx import read_head, read_smtx
from sparsebench.suites.workloads.dlmc.tables import read_batches, read_qualities
from sparsebench.suites.workloads.idx import DataError


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "one.smtx"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("name", MATRICES)
def test_places_are_those_that_were_written(tmp_path: Path, name: str) -> None:
    mask = mask_of(name)
    places = read_smtx(written(tmp_path, text_of(mask)))
    found = np.zeros(places.shape, dtype=bool)
    found[places.rows, places.columns] = True
    assert (found == mask).all()
    assert places.offsets[-1] == len(places.columns) == mask.sum()


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\r\n"])
@pytest.mark.parametrize("head", ["2, 3, 2", "2 3 2", "2,3,2 "])
def test_ends_and_commas_differ(tmp_path: Path, head: str, end: str) -> None:
    path = written(tmp_path, f"{head}\n 0 0 2 \n0 2{end}")
    assert read_head(path) == (2, 3, 2)
    assert read_smtx(path).rows.tolist() == [1, 1]


@pytest.mark.parametrize("text", ["2, 3, 0\n0 0 0\n\n", "2, 3, 0\n0 0 0\n", "2, 3, 0\n0 0 0"])
def test_nothing_stored_is_a_matrix_too(tmp_path: Path, text: str) -> None:
    places = read_smtx(written(tmp_path, text))
    assert places.shape == (2, 3)
    assert places.columns.tolist() == []
    assert places.offsets.tolist() == [0, 0, 0]


WRONG = {
    "": "expected rows, columns and non-zeros in the first line, got nothing",
    "2, 3\n0 0 2\n0 2\n": "expected rows, columns and non-zeros in the first line, got '2, 3'",
    "two, 3, 2\n0 0 2\n0 2\n": "in the first line, got 'two, 3, 2'",
    "2, -3, 2\n0 0 2\n0 2\n": "in the first line, got '2, -3, 2'",
    "0, 3, 0\n0\n\n": "expected at least one row and column",
    "2, 3, 7\n0 3 7\n0 1 2 0 1 2 2\n": "no more non-zeros than places, got '2, 3, 7'",
    "2, 3, 2\n": "expected three lines (sizes, row offsets, columns), got 1",
    "2, 3, 2\n0 0 2\n": "expected three lines (sizes, row offsets, columns), got 2",
    "2, 3, 2\n0 0 2\n0 2\n5\n": "expected three lines (sizes, row offsets, columns), got 4",
    "2, 3, 2\n0 2\n0 2\n": "expected 3 row offsets, got 2",
    "2, 3, 2\n0 0 2\n0\n": "expected 2 columns, got 1",
    "2, 3, 2\n0 0 2\n0 1 2\n": "expected 2 columns, got 3",
    "2, 3, 2\n1 1 2\n0 2\n": "expected row offsets from 0 to 2, got from 1 to 2",
    "2, 3, 2\n0 0 1\n0 2\n": "expected row offsets from 0 to 2, got from 0 to 1",
    "2, 3, 2\n0 3 2\n0 2\n": "expected row offsets that never fall, got 3 and then 2 at row 1",
    "2, 3, 2\n0 0 2\n0 3\n": "expected columns from 0 to 2, got 3",
    "2, 3, 2\n0 0 2\n-1 2\n": "expected columns from 0 to 2, got -1",
    "2, 3, 2\n0 0 2\n2 0\n": "expected columns that rise in each row, got 2 and then 0 in row 1",
    "2, 3, 2\n0 0 2\n2 2\n": "expected columns that rise in each row, got 2 and then 2 in row 1",
    "2, 3, 2\n0 0 x\n0 2\n": "expected whole numbers as row offsets, got 'x'",
    "2, 3, 2\n0 0 2\n0 1.5\n": "expected whole numbers as columns, got '1.5'",
    "2, 3, 2\n0 0 2\n0 1_0\n": "expected whole numbers as columns, got '1_0'",
    "2, 3, 2\n0 0 2\n0 99999999999999999999999\n": "expected columns from 0 to 2",
    b"2, 3, 2\n0 0 2\n0 \xff\n": "expected whole numbers as columns",
    b"\x1f\x8b\x08\x00\x00": "in the first line",
}


@pytest.mark.parametrize(("text", "told"), WRONG.items(), ids=range(len(WRONG)))
def test_what_is_wrong_is_one_line_that_names_the_file(tmp_path: Path, text: str | bytes, told: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(DataError) as caught:
        read_smtx(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: expected ")
    assert told in message
    assert "\n" not in message


@pytest.mark.parametrize("cut", [3, 20, 60, 200])
def test_a_file_that_is_cut_anywhere_is_refused(tmp_path: Path, cut: int) -> None:
    text = text_of(mask_of("rn50/magnitude_pruning/0.9/bottleneck_2_block_group1_1_1"))
    with pytest.raises(DataError, match=r"one\.smtx: expected"):
        read_smtx(written(tmp_path, text[:cut]))


def test_a_file_that_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone"):
        read_smtx(tmp_path / "gone.smtx")
    with pytest.raises(DataError, match="gone"):
        read_head(tmp_path / "gone.smtx")


@pytest.mark.parametrize("zipped", [False, True])
def test_qualities_are_by_network_and_accuracies_are_no_bleu(tmp_path: Path, zipped: bool) -> None:
    found, notes = read_qualities(write_collection(tmp_path, zipped=zipped))
    right = {tuple(name.split("/")): float(value) for name, value in QUALITIES.items()}
    del right["transformer", "variational_dropout", "0.9"]
    assert found == right
    (note,) = notes
    assert "expected a BLEU for transformer variational_dropout/0.9, got ResNet-50's accuracy" in note


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "expected dlmc.csv or dlmc.csv.gz, got neither"),
        (b"", "expected columns quality, path, got none of quality, path"),
        (b"model,path\nrn50,a\n", "got none of quality"),
        (b"\xff\xfe\x00", "expected a table as text, got UnicodeDecodeError"),
        (gzip.compress(b"quality,path\n" * 50)[:20], "expected a table as text, got EOFError"),
        (
            b"quality,path\n1,dlmc/rn50/a/0.5/m.smtx\n2,dlmc/rn50/a/0.5/n.smtx\n",
            "one quality of rn50/a/0.5, got 1.0, 2",
        ),
        (b"quality,path\nx,dlmc/rn50/a/0.5/m.smtx\n1,m.smtx\nnan,dlmc/rn50/a/0.5/m.smtx\n3\n", "got 4 without"),
    ],
)
def test_a_wrong_table_of_qualities_is_one_line(tmp_path: Path, content: bytes | None, told: str) -> None:
    if content is not None:
        (tmp_path / "dlmc.csv").write_bytes(content)
    found, notes = read_qualities(tmp_path)
    assert found == {}
    (note,) = notes
    assert told in note
    assert str(tmp_path) in note
    assert "\n" not in note


def test_columns_of_products_are_by_name(tmp_path: Path) -> None:
    assert read_batches(tmp_path)[0] == {}
    assert "expected rn50_batchsizes.txt, got none" in read_batches(tmp_path)[1][0]
    text = "a_1,3136\nrn50/b.smtx , 49\n\nnone\nc,many\nd,0\n"
    (tmp_path / "rn50_batchsizes.txt").write_text(text, encoding="utf-8")
    found, notes = read_batches(tmp_path)
    assert found == {"a_1": 3136, "b": 49}
    assert [note.partition("in line ")[2].partition(",")[0] for note in notes] == ["4", "5", "6"]


@pytest.mark.parametrize("inner", ["", "dlmc"])
def test_a_folder_is_read_with_and_without_the_prefix(tmp_path: Path, inner: str) -> None:
    write_collection(tmp_path / inner)
    found = read_collection(tmp_path)
    assert sorted(found.matrices) == sorted(MATRICES)
    assert {name: one.shape for name, one in found.matrices.items()} == {
        name: sizes[:2] for name, sizes in MATRICES.items()
    }
    given = {one.columns for one in found.matrices.values()}
    assert given == {(49, 1, 32, 128), (1, 32, 128), (256, 1, 32, 128)}
    assert all(one.wrong is None for one in found.matrices.values())
    assert len(found.notes) == 1


def test_wrong_files_are_noted_and_the_others_kept(tmp_path: Path) -> None:
    write_collection(tmp_path)
    cut, headless, *_ = (tmp_path / f"{name}.smtx" for name in MATRICES)
    cut.write_text(cut.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    headless.write_text("", encoding="utf-8")
    (tmp_path / "rn50_batchsizes.txt").write_text("bottleneck_2_block_group1_1_1,49\n", encoding="utf-8")
    (tmp_path / "dlmc.csv").unlink()
    found = read_collection(tmp_path)
    assert {one.path for one in found.matrices.values() if one.wrong is not None} == {cut, headless}
    assert len(found.notes) == 4
    for note, told in zip(found.notes, ("dlmc.csv", "final_dense", str(cut), str(headless)), strict=True):
        assert told in note
        assert "expected" in note
        assert ", got " in note
    heads_only = read_collection(tmp_path, whole=False)
    assert {one.path for one in heads_only.matrices.values() if one.wrong is not None} == {headless}


def test_no_folder_and_no_matrix_say_where_the_collection_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for folder, told in ((tmp_path / "gone", "not there"), (tmp_path / "file", "a file"), (tmp_path, "holds no MODEL")):
        with pytest.raises(DataError, match=rf"--dlmc DIR.*sgk-sc2020/dlmc.tar.gz.*{told}"):
            read_collection(folder)
    with pytest.raises(DataError, match="expected --dlmc-sample of at least 1, got 0"):
        read_collection(tmp_path, 0)


def test_a_sample_is_seeded_and_spread_over_the_networks() -> None:
    paths = [Path(f"dlmc/rn50/{method}/{level}/m{i:02}.smtx") for method in "ab" for level in "567" for i in range(40)]
    some = drawn(paths, 12)
    assert some == drawn(paths, 12) == sorted(some)
    assert {path.parent for path in some} == {path.parent for path in paths}
    assert max(sum(other.parent == path.parent for other in some) for path in some) == 2
    assert set(drawn(paths, 6)) < set(some)
    assert some != [path for path in paths if path.name in ("m00.smtx", "m01.smtx")]
    assert [path.parent for path in drawn(paths, 3)] != sorted({path.parent for path in paths})[:3]
    assert drawn(paths, None) == drawn(paths, 1000) == paths
