"""Say what every folder's Triton kernels have alike when they are launched: dtypes, device, grid, tiles."""

from __future__ import annotations

import torch
import triton

ELEMENTS: dict[torch.dtype, str] = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
"""What the kernels compute in, and what Triton calls it."""

DTYPES: tuple[torch.dtype, ...] = tuple(ELEMENTS)

INTERPRETED: bool = bool(triton.knobs.runtime.interpret)
"""Whether the kernels were made for Triton's interpreter: `triton.jit` decides it once, when they are imported."""

_GRID = 2**31 - 1


def check_device(device: torch.device) -> None:
    """Raise ValueError for tensors on the CPU, unless the interpreter is on."""
    if device.type != "cuda" and not INTERPRETED:
        raise ValueError(
            f"expected CUDA tensors, got {device}; use the CPU kernels, or set TRITON_INTERPRET=1 for a test"
        )


def processors(device: torch.device) -> int:
    """Return how many multiprocessors a device has; the interpreter counts as two, so that work is shared out."""
    return int(torch.cuda.get_device_properties(device).multi_processor_count) if device.type == "cuda" else 2


def grid(programs: int, second: int = 1, *, most: int = _GRID) -> tuple[int, int]:
    """Return a launch grid, or raise ValueError if a device cannot count so many programs."""
    if programs > most or second > 65535:
        raise ValueError(
            f"expected at most {most} programs and a batch of at most 65535, got {programs} and {second}; "
            "split the dense operand"
        )
    return programs, second


def side(size: int, least: int, most: int) -> int:
    """Return the power of two that holds `size`, between `least` and `most`."""
    return min(most, max(least, int(triton.next_power_of_2(max(1, size)))))
