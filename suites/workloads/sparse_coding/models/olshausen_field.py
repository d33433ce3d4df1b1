"""Learn as Olshausen and Field do: codes of least ½‖x − a D‖² + λ‖a‖₁, and a dictionary that follows what they miss."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sparsebench.suites.workloads.sparse_coding.models.dictionary_learning import DictionaryLearner, DictionarySettings
from sparsebench.suites.workloads.sparse_coding.solvers.fista import fista, fista_multiply_adds
from sparsebench.suites.workloads.sparse_coding.solvers.ista import ista
from sparsebench.suites.workloads.sparse_coding.solvers.lasso_gap import check_lasso_settings
from sparsebench.suites.workloads.sparse_coding.solvers.scales import penalty_in

INFERENCES = {"fista": fista, "ista": ista}


@dataclass(frozen=True, kw_only=True)
class OlshausenFieldSettings(DictionarySettings):
    """What Olshausen-Field is told.

    Attributes:
        penalty: λ.
        inference: "fista" or "ista".
        positive: whether codes are ≥ 0.
        gap: relative duality gap at which inference stops, in learning and in encoding.
        steps_limit: of the inference.
    """

    penalty: float
    inference: str = "fista"
    positive: bool = False
    gap: float = 1e-3
    steps_limit: int = 300

    def __post_init__(self) -> None:
        super().__post_init__()
        check_lasso_settings(self.penalty, self.gap, self.steps_limit)
        if self.inference not in INFERENCES:
            raise ValueError(f"expected an inference of {', '.join(INFERENCES)}, got {self.inference!r}")


class OlshausenField(DictionaryLearner):
    """Infer codes by ISTA or FISTA with a duality gap; D += η aᵀe, atoms of norm 1.

    Olshausen and Field 1996, Emergence of simple-cell receptive field properties by learning a sparse code for natural
    images, with S(a) = |a|. How the step is scaled stands in `DictionarySettings`.
    """

    name = "olshausen-field"
    settings: OlshausenFieldSettings

    def _codes(self, images: Tensor, warn: bool) -> Tensor:
        s = self.settings
        return INFERENCES[s.inference](
            images, self._dictionary, penalty_in(s.penalty, self._power),
            positive=s.positive, gap=s.gap, steps_limit=s.steps_limit, warn=warn,
        ).code  # fmt: skip

    def multiply_adds(self) -> int:
        """Return those of plain (F)ISTA at its limit of steps, N·d + steps·N²; working sets need far fewer."""
        return fista_multiply_adds(self.settings.units, self._pixels_known(), self.settings.steps_limit)
