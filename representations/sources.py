"""Take what a representation is built from: one matrix form for every layout that torch has."""

from __future__ import annotations

import torch
from torch import Tensor


def strided_matrix(tensor: Tensor) -> Tensor:
    """Return a tensor of any layout as a detached strided matrix (m, k); 4-D weights become (out, in·kh·kw).

    The result may share memory with `tensor`: copy before keeping it.

    Raises:
        TypeError: if it is no torch tensor.
        ValueError: if the tensor is neither 2-D nor 4-D.
    """
    check_source(tensor)
    dense = tensor.detach() if tensor.layout == torch.strided else tensor.detach().to_dense()
    return dense.reshape(dense.shape[0], -1) if dense.dim() == 4 else dense


def coo_matrix(tensor: Tensor) -> Tensor:
    """Return a tensor of any layout as a coalesced sparse COO matrix (m, k), without going through dense.

    Explicit zeros are dropped and duplicates added up, so that equal tensors give equal results. A COO source whose
    rows are dense, as the gradient of `nn.Embedding(sparse=True)`, gives its elements. A new tensor.

    Raises:
        TypeError: if it is no torch tensor.
        ValueError: if the tensor is neither 2-D nor 4-D.
    """
    check_source(tensor)
    if tensor.layout == torch.strided:
        found: Tensor = strided_matrix(tensor).to_sparse_coo()
        return found
    coo = tensor.detach().to_sparse_coo().coalesce()
    indices, values = coo.indices(), coo.values()
    keep = values != 0
    if coo.dense_dim():  # (sparse axes, stored) places of whole rows, or of the whole matrix
        inner = keep.nonzero().t()  # (1 + dense axes, elements)
        indices, values = torch.cat([indices[:, inner[0]], inner[1:]]), values[keep]
    else:
        indices, values = indices[:, keep], values[keep]
    return torch.sparse_coo_tensor(indices, values, tuple(coo.shape), is_coalesced=True, check_invariants=False)


def check_source(tensor: Tensor) -> None:
    """Raise unless this can be stored: a torch matrix of any layout, or a strided 4-D tensor.

    Raises:
        TypeError: if it is no torch tensor.
        ValueError: if it has other dimensions, or no data.
    """
    if not isinstance(tensor, Tensor):
        kind = f"{type(tensor).__module__.partition('.')[0]}'s {type(tensor).__name__}"
        raise TypeError(f"expected a torch tensor, got {kind}; {_way(tensor)}")
    if tensor.device.type == "meta":
        raise ValueError("expected a tensor with data, got one on the device meta; move it to a device first")
    if tensor.is_nested or tensor.is_quantized:
        what = "a nested one; pad it" if tensor.is_nested else "a quantized one; dequantize it"
        raise ValueError(f"expected an ordinary tensor, got {what}")
    strided = tensor.layout == torch.strided
    if tensor.dim() == 2 or (tensor.dim() == 4 and strided):
        return
    raise ValueError(
        f"expected a matrix (m, k) of any layout or a strided weight (out, in, kh, kw), "
        f"got {tensor.dim()}-D with layout {tensor.layout}; reshape it first"
    )


def _way(thing: object) -> str:
    """Return how something that holds numbers becomes a torch tensor."""
    if hasattr(thing, "tocoo"):  # any of scipy's sparse arrays and matrices
        return "with c = it.tocsr() use torch.sparse_csr_tensor(c.indptr, c.indices, c.data, c.shape)"
    return "use torch.from_numpy" if hasattr(thing, "__array_interface__") else "use torch.tensor"
