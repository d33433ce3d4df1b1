"""Hold the non-zeros in torch's compressed sparse columns."""

from __future__ import annotations

import torch

from sparsebench.representations.formats._compressed import TorchCompressed


class TorchCsc(TorchCompressed):
    """Store `torch.sparse_csc`: values, row numbers, and where each column begins."""

    name = "torch-csc"
    layout = torch.sparse_csc
