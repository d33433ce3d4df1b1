"""Say which training stands for all in the short check: a few seconds, and pruned as most of them are."""

from __future__ import annotations

import tempfile
from pathlib import Path

from sparsebench.suites.workloads.sparse_cnn import images
from sparsebench.suites.workloads.sparse_cnn.settings import Settings
from sparsebench.suites.workloads.sparse_cnn.train_problem import METRIC
from sparsebench.suites.workloads.sparse_cnn.training import one_thread, train
from sparsebench.suites.workloads.studies.check import ShortCheck

SETTINGS = Settings(method="magnitude", sparsity=0.9, images=4_000, epochs=4)
"""On the digits that need no network: 1,000 others judge it."""


def _accuracy(seed: int) -> float:
    """Train anew, whatever was kept, and return the accuracy after the last epoch."""
    with tempfile.TemporaryDirectory() as home, one_thread():
        return train(SETTINGS, seed, images.load(None), home=Path(home)).accuracy[-1]


CHECK = ShortCheck(
    suite="sparse_cnn",
    label="digits CNN, magnitude, plane 90 %, 4 × 4,000 offline digits",
    metric=METRIC,
    train=_accuracy,
)
