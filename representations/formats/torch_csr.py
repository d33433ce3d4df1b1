"""Hold the non-zeros in torch's compressed sparse rows."""

from __future__ import annotations

import torch

from sparsebench.representations.formats._compressed import TorchCompressed


class TorchCsr(TorchCompressed):
    """Store `torch.sparse_csr`: values, column numbers, and where each row begins."""

    name = "torch-csr"
    layout = torch.sparse_csr
