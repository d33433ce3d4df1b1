"""Define the training of the conserved-flow network as one thing to run: its curve is the result, not its time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsebench.representations.base import Representation, Spec
from sparsebench.suites.cell import Case
from sparsebench.suites.workloads.data import Digits
from sparsebench.suites.workloads.problem import Action, Problem, Quality
from sparsebench.suites.workloads.sparse_coding.notebook.conserved_flow import (
    Learned,
    Settings,
    initial_dictionary,
    learn,
)
from sparsebench.suites.workloads.sparse_coding.notebook.loops import epoch_numpy
from sparsebench.suites.workloads.sparse_coding.record import artifact


class TrainProblem(Problem):
    """A whole training, image by image, as the notebook does it; no representation takes part."""

    def __init__(self, case: Case, device: str, digits: Digits, settings: Settings) -> None:
        self.case, self.device, self.settings = case, device, settings
        self._digits = digits
        self.tensor = torch.from_numpy(initial_dictionary(settings.units, case.seed)).float()

    def spec(self) -> Spec:
        """Ask for storing the dictionary, on the CPU."""
        return Spec(operation="build", shape=tuple(self.tensor.shape), dtype=self.tensor.dtype, device="cpu")

    def references(self) -> Mapping[str, Action]:
        """Return the training itself, which is dense."""
        return {"dense": self._train}

    def _train(self) -> Learned:
        return learn(self._digits, self.settings, self.case.seed)

    def action(self, cls: type[Representation], built: Representation) -> Action:
        """Return the training."""
        return self._train

    def outputs(self, result: Any) -> tuple[Tensor, ...]:
        """Return the curve, the dictionary and the thresholds."""
        return tuple(torch.from_numpy(array) for array in (result.curve, result.dictionary, result.thresholds))

    def oracle(self) -> tuple[Tensor, ...]:
        """Return the same from the plain NumPy loop: slow, ten seconds and more for twenty epochs."""
        plain = learn(self._digits, self.settings, self.case.seed, loop=epoch_numpy)
        return tuple(part.double() for part in self.outputs(plain))

    def useful_flops(self) -> float:
        """Return those of encoding, decoding and updating: 6 · images · units · pixels."""
        return 6.0 * self.settings.epochs * self.settings.images * self.tensor.numel()

    def native_parts(self) -> tuple[str, ...]:
        """Return none: no representation takes part."""
        return ()

    def once(self) -> bool:
        """Return True: one training is the sample."""
        return True

    def quality(self, outputs: tuple[Tensor, ...]) -> Quality:
        """Return the mean of the curve over its last five epochs."""
        return Quality(value=float(outputs[0][-5:].mean()), metric="l1_per_image, mean of the last 5 epochs")

    def artifact(self, result: Any) -> tuple[str, Mapping[str, np.ndarray]]:
        """Return what the report draws; see record.artifact."""
        return result.name, artifact(result, self._digits)
