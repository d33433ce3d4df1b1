"""Find the collection's matrices in a folder, draw a sample of them, and note what is missing or wrong."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparsebench.suites.workloads.dlmc.smtx import read_head, read_smtx
from sparsebench.suites.workloads.dlmc.tables import Network, Note, network_of, read_batches, read_qualities
from sparsebench.suites.workloads.idx import DataError

SOURCE = "https://storage.googleapis.com/sgk-sc2020/dlmc.tar.gz"
"""Where Google Research publishes the collection."""
WHERE = f"--dlmc DIR, a folder with rn50/ and transformer/ of the Deep Learning Matrix Collection ({SOURCE})"
TRANSFORMER_COLUMNS = 256
"""Gale, Zaharia and Elsen, arXiv 2006.10901: the transformer is measured with 256 columns, and with a few."""
COLUMNS = (1, 32, 128)
"""That every matrix meets besides those of its own network."""
SEED = 0
"""Of the sample."""
QUICK_SAMPLE = 24
"""Matrices of a short profile, where no number is asked for."""


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """One file of the collection.

    Attributes:
        path: of the file.
        name: "rn50/magnitude_pruning/0.8/bottleneck_2_block_group3_5_1".
        shape: (rows, columns); None where the first line is wrong.
        given: columns of the dense operand in its network; None where that is not known.
        wrong: why it cannot be used, in one line; None where nothing was found.
    """

    path: Path
    name: str
    shape: tuple[int, int] | None
    given: int | None
    wrong: Note | None = None

    @property
    def network(self) -> Network:
        """Return model, method and sparsity."""
        model, method, level, _ = self.name.split("/")
        return model, method, level

    @property
    def columns(self) -> tuple[int, ...]:
        """Return the numbers of columns that it meets, its own first."""
        return tuple(dict.fromkeys((*([self.given] if self.given is not None else []), *COLUMNS)))


@dataclass(frozen=True, kw_only=True)
class Collection:
    """What a folder holds.

    Attributes:
        root: the folder with rn50/ and transformer/.
        matrices: those that were chosen, by name.
        qualities: of the networks.
        notes: what is missing or wrong, one line each.
    """

    root: Path
    matrices: dict[str, Matrix]
    qualities: dict[Network, float]
    notes: tuple[Note, ...]


_chosen: list[Collection] = []
"""What the user named in this process; nothing, or one."""


def choose(folder: Path | None, sample: int | None = None, *, profile: str = "quick", whole: bool = True) -> list[Note]:
    """Say once in a process where the collection stands; return what is missing or wrong there, one line each.

    Args:
        folder: with rn50/ and transformer/, itself or in dlmc/; None leaves the suite without a case.
        sample: how many matrices to draw; None for all of profile "full", and for QUICK_SAMPLE of the others.
        profile: "quick", "full" or "gpu".
        whole: whether every chosen file is read to its end, so that a wrong one is known before anything is measured.

    Raises:
        DataError: if the folder is none of the collection's.
    """
    _chosen.clear()
    if folder is None:
        return []
    count = sample if sample is not None or profile == "full" else QUICK_SAMPLE
    found = read_collection(folder, count, whole=whole)
    _chosen.append(found)
    return list(found.notes)


def collection() -> Collection:
    """Return the collection that was chosen in this process.

    Raises:
        DataError: if none was.
    """
    if not _chosen:
        raise DataError(f"expected {WHERE}, got none")
    return _chosen[0]


def read_collection(folder: Path, sample: int | None = None, *, whole: bool = True) -> Collection:
    """Return the matrices of a folder, all or a seeded sample, each checked.

    Args:
        folder: holds rn50/METHOD/SPARSITY/NAME.smtx and transformer/…, itself or in dlmc/.
        sample: how many matrices to draw; None for all.
        whole: whether every chosen file is read to its end; else only its first line is, and what is wrong further
            down is met by who reads it. Takes about 50 ns a non-zero.

    Raises:
        DataError: if there is no such folder or it holds no matrix, or the sample is none.
    """
    if sample is not None and sample < 1:
        raise DataError(f"expected --dlmc-sample of at least 1, got {sample}; leave it out for all matrices")
    if not folder.is_dir():
        raise DataError(f"expected {WHERE}, got {folder}, which is {'a file' if folder.exists() else 'not there'}")
    homes = [home for home in (folder, folder / "dlmc") if any(home.glob("*/*/*/*.smtx"))]
    if not homes:
        raise DataError(f"expected {WHERE}, got {folder}, which holds no MODEL/METHOD/SPARSITY/NAME.smtx")
    root = homes[0]
    qualities, notes = read_qualities(root)
    batches, batch_notes = read_batches(root) if (root / "rn50").is_dir() else ({}, [])
    paths = drawn(sorted(root.glob("*/*/*/*.smtx")), sample)
    matrices = [_matrix(root, path, batches, whole=whole) for path in paths]
    nameless = [one.name for one in matrices if batches and one.given is None and one.name.startswith("rn50/")]
    notes += batch_notes + [
        f"{root / 'rn50_batchsizes.txt'}: expected columns of {Path(name).name}, got none; it meets 1, 32 and 128 only"
        for name in nameless
    ]
    notes += [one.wrong for one in matrices if one.wrong is not None]
    return Collection(root=root, matrices={one.name: one for one in matrices}, qualities=qualities, notes=tuple(notes))


def drawn(paths: Sequence[Path], sample: int | None) -> list[Path]:
    """Return a seeded sample, spread over the networks: as many of each as can be, in the order of the paths.

    Args:
        paths: MODEL/METHOD/SPARSITY/NAME.smtx, ascending.
        sample: how many; None, or as many as there are, for all.
    """
    if sample is None or sample >= len(paths):
        return list(paths)
    rng = np.random.default_rng(SEED)
    networks: dict[Network | None, list[Path]] = defaultdict(list)
    for path in paths:
        networks[network_of(str(path))].append(path)
    shuffled = [[some[i] for i in rng.permutation(len(some))] for some in networks.values()]
    shuffled = [shuffled[i] for i in rng.permutation(len(shuffled))]
    turns = max(map(len, shuffled))
    dealt = [some[turn] for turn in range(turns) for some in shuffled if turn < len(some)]
    return sorted(dealt[:sample])


def _matrix(root: Path, path: Path, batches: dict[str, int], *, whole: bool) -> Matrix:
    name = path.relative_to(root).as_posix().removesuffix(".smtx")
    given = TRANSFORMER_COLUMNS if name.startswith("transformer/") else batches.get(path.stem)
    shape, wrong = None, None
    try:
        shape = read_head(path)[:2]
        if whole:
            read_smtx(path)
    except DataError as error:
        wrong = str(error)
    return Matrix(path=path, name=name, shape=shape, given=given, wrong=wrong)
