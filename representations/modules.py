"""Put any representation inside torch.nn: SparseLinear, SparseConv2d, and convert and restore for whole models."""

from sparsebench.representations.nn.base import SparseModule
from sparsebench.representations.nn.convert import convert
from sparsebench.representations.nn.layers import SparseConv2d, SparseLinear
from sparsebench.representations.nn.restore import restore

__all__ = ["SparseConv2d", "SparseLinear", "SparseModule", "convert", "restore"]
