"""Define a training of the CNN as one thing to run: its accuracy is the result."""

from __future__ import annotations

from sparsebench.suites.cell import Case
from sparsebench.suites.workloads.problem import Artifact, Quality, Training
from sparsebench.suites.workloads.sparse_cnn import record
from sparsebench.suites.workloads.sparse_cnn.images import Images
from sparsebench.suites.workloads.sparse_cnn.settings import Settings
from sparsebench.suites.workloads.sparse_cnn.training import Trained, one_thread, train

METRIC = "test accuracy"


class CnnTraining(Training):
    """A whole training with masked dense weights, on the CPU.

    What was trained already, in this run or another one, is taken from the cache folder: then the time of the call says
    nothing, and `seconds` are those of the training.
    """

    def __init__(self, case: Case, device: str, images: Images, settings: Settings) -> None:
        self.case, self.device, self.settings = case, device, settings
        self._images = images

    def train(self) -> Trained:
        """Train on one thread."""
        with one_thread():
            return train(self.settings, self.case.seed, self._images)

    def quality(self, result: Trained) -> Quality:
        """Return the accuracy after the last epoch, chosen beforehand: never the best of them."""
        return Quality(value=result.accuracy[-1], metric=METRIC)

    def seconds(self, result: Trained) -> float:
        """Return how long the training took, which the call did not if it was kept."""
        return result.seconds

    def artifact(self, result: Trained) -> Artifact:
        """Return what the report draws; see record.artifact."""
        return record.name(result), record.artifact(result)
