"""Make codes, as tensors (n, N), of what models and inferences find, and put codes of several batches together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def to_csr(code: Tensor) -> Tensor:
    """Return a strided code (n, N) as sparse_csr, its zeros not stored."""
    return code.to_sparse_csr()


def strided(code: Tensor) -> Tensor:
    """Return a code (n, N) as a strided tensor without gradients."""
    code = code.detach()
    return code if code.layout == torch.strided else code.to_dense()


def csr_code(values: Tensor, places: Tensor, units: int) -> Tensor:
    """Return the code (n, N) as sparse_csr with int64 indices and k entries in each row; zeros stay entries.

    Args:
        values: (n, k), contiguous.
        places: (n, k), none twice in a row, and ascending where more than products is made of the code.
        units: N.
    """
    rows, kept = values.shape
    return torch.sparse_csr_tensor(
        torch.arange(rows + 1, device=values.device) * kept,
        places.reshape(-1).long(),
        values.reshape(-1),
        (rows, units),
        check_invariants=False,
    )


def joined(codes: Sequence[Tensor]) -> Tensor:
    """Return codes (nᵢ, N), at least one, as one (Σ nᵢ, N): all strided, or all sparse_csr."""
    if len(codes) == 1:
        return codes[0]
    if codes[0].layout == torch.strided:
        return torch.cat(list(codes))
    counts = torch.cat([code.crow_indices().diff() for code in codes])
    return torch.sparse_csr_tensor(
        torch.nn.functional.pad(counts.cumsum(0), (1, 0)),
        torch.cat([code.col_indices().long() for code in codes]),
        torch.cat([code.values() for code in codes]),
        size=(len(counts), codes[0].shape[1]),
    )
