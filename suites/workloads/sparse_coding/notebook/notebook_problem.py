"""Time the notebook's own loop, one image at a time: compiled against plain NumPy, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsebench.representations.base import Representation
from sparsebench.suites.cell import Case
from sparsebench.suites.workloads.data import Digits
from sparsebench.suites.workloads.problem import Action, Problem
from sparsebench.suites.workloads.sparse_coding.notebook.conserved_flow import Settings, initial_dictionary
from sparsebench.suites.workloads.sparse_coding.notebook.loops import Loop, epoch_compiled, epoch_numpy


class NotebookEpochProblem(Problem):
    """One pass of the conserved-flow network over some images, from the first dictionary on; float64 throughout.

    No representation takes part, and every call starts from the same dictionary and thresholds.
    """

    operation = "build"

    def __init__(self, case: Case, device: str, digits: Digits, settings: Settings) -> None:
        self.case, self.device, self.settings = case, device, settings
        self._images = digits.first(case.shape[0]).images.numpy().astype(np.float64)
        self._dictionary = initial_dictionary(settings.units, case.seed)
        self.tensor = torch.from_numpy(self._dictionary)

    def _run(self, loop: Loop) -> Action:
        s = self.settings

        def run() -> tuple[float, np.ndarray, np.ndarray]:
            w, t = self._dictionary.copy(), np.zeros(s.units)
            return loop(w, t, self._images, s.rate, s.gamma, s.flow, s.epsilon), w, t

        return run

    def references(self) -> Mapping[str, Action]:
        """Return the plain NumPy loop."""
        return {"plain NumPy": self._run(epoch_numpy)}

    def action(self, cls: type[Representation], built: Representation) -> Action:
        """Return the compiled loop."""
        return self._run(epoch_compiled)

    def outputs(self, result: Any) -> tuple[Tensor, ...]:
        """Return the mean L1, W and t."""
        level, dictionary, thresholds = result
        return torch.tensor(level, dtype=torch.float64), torch.from_numpy(dictionary), torch.from_numpy(thresholds)

    def exact(self) -> tuple[Tensor, ...]:
        """Return what the plain loop computes."""
        return self.outputs(self._run(epoch_numpy)())

    def useful_flops(self) -> float:
        """Return those of encoding, decoding and updating: 6 · images · units · pixels."""
        return 6.0 * len(self._images) * self.tensor.numel()
