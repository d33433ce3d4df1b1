"""List the cases of the collection, and make them concrete: each matrix times as many columns as its network has."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sparsebench.representations.pattern import Pattern
from sparsebench.suites.cell import CONTROL, DTYPES, Case
from sparsebench.suites.workloads.dlmc.chapter import chapter
from sparsebench.suites.workloads.dlmc.collection import Matrix, choose, collection
from sparsebench.suites.workloads.dlmc.smtx import Places, read_smtx
from sparsebench.suites.workloads.idx import DataError
from sparsebench.suites.workloads.matmul import MatmulProblem
from sparsebench.suites.workloads.problem import Problem, Quality

__all__ = ["cases", "chapter", "choose", "problem"]

SUITE = "dlmc"
METRICS: dict[str, str] = {"rn50": "network_top1_percent", "transformer": "network_bleu"}


def cases(profile: str) -> list[Case]:
    """Return the cases: every matrix with the columns of its network first, then with 1, 32 and 128.

    A wrong file has one case, for one representation, so that it costs one row. No level is asked for: a matrix has
    the zeros that its network was left with.

    Args:
        profile: what `choose` was told; the matrices are those that it has chosen.

    Raises:
        DataError: if no folder was chosen.
    """
    matrices = collection().matrices.values()
    right = [one for one in matrices if one.wrong is None]
    turns = max((len(one.columns) for one in right), default=0)
    # all matrices at their own columns before any at the next: a run that is cut off has seen every matrix
    found = [_case(one, one.columns[turn]) for turn in range(turns) for one in right if turn < len(one.columns)]
    return found + [_case(one, one.columns[0], CONTROL) for one in matrices if one.wrong is not None]


def _case(matrix: Matrix, columns: int, representation: str | None = None) -> Case:
    return Case(
        suite=SUITE,
        workload=matrix.name,
        operation="matmul",
        shape=(*(matrix.shape or (1, 1)), columns),
        pattern=Pattern(kind="element"),
        sparsity=None,
        representation=representation,
    )


def problem(case: Case, device: str, data: Path | None) -> Problem:
    """Read the matrix of a case and draw its values and the dense operand; `data` is not needed.

    Raises:
        DataError: if no folder was chosen, or the matrix is not there or wrong.
        ValueError: if the case is none of this suite's.
    """
    if case.operation != "matmul":
        raise ValueError(f"expected the operation matmul, got {case.operation!r}")
    known = collection()
    matrix = known.matrices.get(case.workload)
    if matrix is None:
        raise DataError(f"expected {case.workload}.smtx in {known.root}, got none; name the folder that holds it")
    places = _places(matrix.path)
    if places.shape != case.shape[:2]:
        raise DataError(f"{matrix.path}: expected a matrix {case.shape[:2]}, got {places.shape}; keep it as it was")
    return DlmcProblem(case, device, places, known.qualities.get(matrix.network))


@lru_cache(maxsize=1)
def _places(path: Path) -> Places:
    return read_smtx(path)


def drawn_values(places: Places, seed: Sequence[int]) -> Tensor:
    """Return a strided float64 matrix (m, k) with values ±[0.5, 1.5) at the places, drawn from a seed."""
    rng = np.random.default_rng(seed)
    count = len(places.columns)
    values = rng.uniform(0.5, 1.5, count) * rng.choice((-1.0, 1.0), count)
    dense = np.zeros(places.shape)
    dense[places.rows, places.columns] = values
    return torch.from_numpy(dense)


class DlmcProblem(MatmulProblem):
    """Y = S @ X with S (m, k) where a pruned network has its weights and X (k, n) dense.

    The collection holds no values: they are drawn, so Y means nothing, and the quality is that of the whole network.
    """

    def __init__(self, case: Case, device: str, places: Places, quality: float | None) -> None:
        """Draw the values.

        Args:
            case: one of this suite's.
            device: "cpu" or "cuda".
            places: of the matrix.
            quality: of its network, None where it is not known.
        """
        self.case, self.device = case, device
        _, k, n = case.shape
        dtype = DTYPES[case.dtype]
        self.tensor = drawn_values(places, (case.seed, zlib.crc32(case.workload.encode()))).to(dtype).to(device)
        generator = torch.Generator(device).manual_seed(case.seed + 1)
        self.x = torch.randn(k, n, generator=generator, device=device).to(dtype)
        self._quality = quality

    def quality(self, outputs: tuple[Tensor, ...]) -> Quality | None:
        """Return the quality of the trained network that the matrix is of."""
        if self._quality is None:
            return None
        return Quality(value=self._quality, metric=METRICS.get(self.case.workload.partition("/")[0], "network_quality"))
