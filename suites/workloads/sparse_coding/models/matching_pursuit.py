"""Learn a dictionary for k atoms an image, chosen by orthogonal matching pursuit."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sparsebench.suites.workloads.sparse_coding.models.dictionary_learning import DictionaryLearner, DictionarySettings
from sparsebench.suites.workloads.sparse_coding.solvers.omp import omp, omp_multiply_adds


@dataclass(frozen=True, kw_only=True)
class MatchingPursuitSettings(DictionarySettings):
    """What matching pursuit is told.

    Attributes:
        k: atoms an image.
        update: of the dictionary; here "online", which serves squared errors best.
    """

    k: int
    update: str = "online"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.k <= self.units:
            raise ValueError(f"expected k from 1 to {self.units}, the number of units, got {self.k}")


class MatchingPursuit(DictionaryLearner):
    """Encode by OMP, the greedy best approximation by k atoms; learn the atoms that serve these codes."""

    name = "matching-pursuit"
    settings: MatchingPursuitSettings

    def _codes(self, images: Tensor, warn: bool) -> Tensor:
        return omp(images, self._dictionary, self.settings.k, warn=warn)

    def multiply_adds(self) -> int:
        """Return those of plain OMP."""
        return omp_multiply_adds(self.settings.units, self._pixels_known(), self.settings.k)
