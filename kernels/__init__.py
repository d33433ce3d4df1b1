"""Compute on plain tensors and index arrays; nothing here knows a Representation."""

from sparsebench.kernels.common import forks as forks  # has forked processes noticed from now on
