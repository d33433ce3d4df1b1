"""Time what runs on a GPU without the host in it, and tell whether the device still answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_CYCLES = 2e9
"""Of a GPU's processors in a second, at the most: at a lower clock a spin only lasts longer."""
_LONGEST_S = 0.005
"""Of a spin. What takes the host longer than that waits for the device itself, and no spin can hide it."""


def cold_cache(device: torch.device | str = "cuda") -> Tensor:
    """Return memory of four times the L2 cache: writing to it empties the cache."""
    size = torch.cuda.get_device_properties(torch.device(device)).L2_cache_size
    return torch.empty(max(4 * size, 1 << 26), dtype=torch.int8, device=device)


def device_times(action: Callable[[], Any], calls: int, scratch: Tensor | None) -> list[float]:
    """Return seconds on the device of each call, by events.

    A kernel that spins before the first event keeps the device busy until the host has put the whole call into the
    queue: without it a short call would be charged for what launching it costs the host.

    Args:
        action: has run before, so that nothing is compiled.
        calls: how many to time; one more comes first, to see how long the host takes.
        scratch: from `cold_cache`, written to before each call; None to leave the cache as it is.
    """
    torch.cuda.synchronize()
    start = time.perf_counter()
    action()
    spin = int(min(2 * (time.perf_counter() - start), _LONGEST_S) * _CYCLES)
    pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(calls)]
    for begin, end in pairs:
        if scratch is not None:
            scratch.zero_()
        torch.cuda._sleep(spin)
        begin.record()
        action()
        end.record()
    torch.cuda.synchronize()
    return [begin.elapsed_time(end) * 1e-3 for begin, end in pairs]


def device_is_lost(device: str) -> bool:
    """Tell whether an error, such as an illegal address, has left CUDA unusable for the rest of this process."""
    if device != "cuda":
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False
