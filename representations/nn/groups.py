"""Turn what torch's convolutions allow into what a stored weight knows: one group, zeros around, ints."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparsebench.kernels.plane_conv.geometry import Pair


def plain_padding(conv: nn.Conv2d) -> Pair:
    """Return the padding of a layer as ints, worked out where it says "same" or "valid".

    Raises:
        ValueError: if it does not pad with zeros, or not the same on both sides, as "same" with an even kernel.
    """
    if conv.padding_mode != "zeros":
        raise ValueError(f"expected padding_mode 'zeros', got {conv.padding_mode!r}; pad in a layer of its own before")
    if conv.padding == "valid":
        return 0, 0
    if conv.padding == "same":
        total = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        if any(part % 2 for part in total):
            raise ValueError(
                f"expected padding='same' to be the same on both sides, got a kernel {tuple(conv.kernel_size)} of "
                f"dilation {tuple(conv.dilation)}; pad in a layer of its own before"
            )
        return total[0] // 2, total[1] // 2
    return int(conv.padding[0]), int(conv.padding[1])


def group_places(out: int, maps: int, groups: int, device: torch.device) -> Tensor:
    """Return which pairs of output and input map belong to one group: bool (out, in)."""
    row = torch.arange(out, device=device) // (out // groups)
    column = torch.arange(maps, device=device) // (maps // groups)
    return row[:, None] == column


def expand_groups(weight: Tensor, groups: int) -> Tensor:
    """Return a grouped weight (out, in / groups, kh, kw) as (out, in, kh, kw), 0 between groups; one group as it is."""
    if groups == 1:
        return weight
    out, each, *kernel = weight.shape
    full = weight.new_zeros((out, each * groups, *kernel))
    per = out // groups
    for group in range(groups):
        rows, columns = slice(group * per, (group + 1) * per), slice(group * each, (group + 1) * each)
        full[rows, columns] = weight[rows]
    return full


def expand_mask(mask: Tensor | None, weight: Tensor, groups: int) -> Tensor | None:
    """Return a mask of planes (out, in) or elements as one shaped as the weight, False between groups.

    Without a mask, one of groups that is whatever is not 0, so that training leaves alone what lies between them.

    Raises:
        ValueError: if its shape is neither.
    """
    if mask is None:
        return None if groups == 1 else weight != 0
    shapes = dict.fromkeys((tuple(weight.shape[:2]), tuple(weight.shape)))
    if tuple(mask.shape) not in shapes or mask.dtype != torch.bool:
        raise ValueError(
            f"expected a bool mask {' or '.join(map(str, shapes))}, got {mask.dtype} {tuple(mask.shape)}; give all "
            f"input maps"
        )
    inside = group_places(weight.shape[0], weight.shape[1], groups, weight.device)
    rest = (1,) * (weight.dim() - 2)
    full = mask.to(weight.device).reshape(*mask.shape, *rest[: weight.dim() - mask.dim()])
    return full.expand(weight.shape) & inside.reshape(*inside.shape, *rest)
