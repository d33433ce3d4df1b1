"""Say which training stands for all in the short check: the notebook's network, which takes a second."""

from __future__ import annotations

from sparsebench.suites.workloads.data import digits
from sparsebench.suites.workloads.sparse_coding.notebook.conserved_flow import FLOWS, Settings, learn
from sparsebench.suites.workloads.studies.check import ShortCheck

SETTINGS = Settings(flow=FLOWS[-1], epochs=10)
"""On the digits that need no network. Trained image by image in a fixed order, in float64."""


def _error(seed: int) -> float:
    """Return the mean L1 of an image while it was learnt from, over the last five epochs."""
    return float(learn(digits(None), SETTINGS, seed).curve[-5:].mean())


CHECK = ShortCheck(
    suite="sparse_coding",
    label=f"conserved flow f={SETTINGS.flow:g}, 10 × 3,000 offline digits",
    metric="L1 an image, mean of the last 5 epochs",
    train=_error,
)
