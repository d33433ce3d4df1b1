"""Hold the blocks that have a non-zero in torch's block sparse columns."""

from __future__ import annotations

import torch

from sparsebench.representations.formats._blocked import TorchBlocked


class TorchBsc(TorchBlocked):
    """Store `torch.sparse_bsc`: blocks, their block rows, and where each block column begins."""

    name = "torch-bsc"
    layout = torch.sparse_bsc
