"""Define a training of the CNN as one thing to run: its accuracy is the result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparsebench.representations.base import Representation, Spec
from sparsebench.suites.cell import Case
from sparsebench.suites.workloads.problem import Action, Problem, Quality
from sparsebench.suites.workloads.sparse_cnn import record
from sparsebench.suites.workloads.sparse_cnn.images import Images, steps
from sparsebench.suites.workloads.sparse_cnn.network import parameters
from sparsebench.suites.workloads.sparse_cnn.settings import Settings
from sparsebench.suites.workloads.sparse_cnn.training import Trained, one_thread, train

METRIC = "test accuracy"


class TrainProblem(Problem):
    """A whole training with masked dense weights, on the CPU; no representation takes part.

    What was trained already, in this run or another one, is taken from the store: then the time of the call says
    nothing, and the artifact's `seconds` are those of the training.
    """

    def __init__(self, case: Case, device: str, images: Images, settings: Settings) -> None:
        self.case, self.device, self.settings = case, device, settings
        self._images = images
        self.tensor = torch.zeros(1, 1)

    def spec(self) -> Spec:
        """Ask for nothing that any representation could refuse."""
        return Spec(operation="build", shape=tuple(self.tensor.shape), dtype=self.tensor.dtype, device="cpu")

    def references(self) -> Mapping[str, Action]:
        """Return the training itself."""
        return {"dense": self._train}

    def _train(self) -> Trained:
        with one_thread():
            return train(self.settings, self.case.seed, self._images)

    def action(self, cls: type[Representation], built: Representation) -> Action:
        """Return the training."""
        return self._train

    def outputs(self, result: Any) -> tuple[Tensor, ...]:
        """Return the accuracy on the test images after each epoch, in [0, 1]."""
        return (torch.tensor(result.accuracy, dtype=torch.float64),)

    def oracle(self) -> tuple[Tensor, ...]:
        """Return the same: a training has no other judge than the test images."""
        return self.outputs(self._train())

    def useful_flops(self) -> float:
        """Return about 6 · steps · batch · parameters, as if every weight met one place."""
        used = self.settings.images if self.settings.images is not None else len(self._images.x)
        seen = self.settings.epochs * steps(used, self.settings.batch) * self.settings.batch
        return 6.0 * seen * parameters(self.settings.maps)

    def native_parts(self) -> tuple[str, ...]:
        """Return none: no representation takes part."""
        return ()

    def once(self) -> bool:
        """Return True: one training is the sample."""
        return True

    def quality(self, outputs: tuple[Tensor, ...]) -> Quality:
        """Return the accuracy after the last epoch, chosen beforehand: never the best of them."""
        return Quality(value=float(outputs[0][-1]), metric=METRIC)

    def seconds(self, result: Any) -> float:
        """Return how long the training took, which the call did not if it was in the store."""
        return float(result.seconds)

    def artifact(self, result: Any) -> tuple[str, Mapping[str, np.ndarray]]:
        """Return what the report draws; see record.artifact."""
        return record.name(result), record.artifact(result)
