"""Define the training of the conserved-flow network as one thing to run: its curve is the result, not its time."""

from __future__ import annotations

from sparsebench.suites.cell import Case
from sparsebench.suites.workloads.data import Digits
from sparsebench.suites.workloads.problem import Artifact, Quality, Training
from sparsebench.suites.workloads.sparse_coding.notebook.conserved_flow import Learned, Settings, learn
from sparsebench.suites.workloads.sparse_coding.record import artifact


class FlowTraining(Training):
    """A whole training, image by image, as the notebook does it."""

    def __init__(self, case: Case, device: str, digits: Digits, settings: Settings) -> None:
        self.case, self.device, self.settings = case, device, settings
        self._digits = digits

    def train(self) -> Learned:
        """Train by the compiled loop."""
        return learn(self._digits, self.settings, self.case.seed)

    def quality(self, result: Learned) -> Quality:
        """Return the mean of the curve over its last five epochs."""
        return Quality(value=float(result.curve[-5:].mean()), metric="l1_per_image, mean of the last 5 epochs")

    def artifact(self, result: Learned) -> Artifact:
        """Return what the report draws; see record.artifact."""
        return result.name, artifact(result, self._digits)
