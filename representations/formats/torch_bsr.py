"""Hold the blocks that have a non-zero in torch's block sparse rows."""

from __future__ import annotations

import torch

from sparsebench.representations.formats._blocked import TorchBlocked


class TorchBsr(TorchBlocked):
    """Store `torch.sparse_bsr`: blocks, their block columns, and where each block row begins."""

    name = "torch-bsr"
    layout = torch.sparse_bsr
