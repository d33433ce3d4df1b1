"""Call the C function at the bottom of Triton's launcher, where it is the one that is known here.

Above it are a few microseconds of Python: scratch memory that none of our kernels has, hooks that are mostly empty, and
arguments sorted out and descriptors encoded anew in every call. A launcher that looks otherwise, as older or AMD's ones
do, is left alone, and called whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton

_VERSION = "3.7."
"""Of Triton, whose C function takes these arguments: it checks neither how many nor what they are."""


class Direct:
    """What starts a compiled kernel, given its arguments, descriptors encoded and constants among them."""

    def __init__(self, compiled: Any, sizes: tuple[int, ...], device: int, encoder: Callable[..., list[Any]]) -> None:
        """Keep all that stays; see `direct_launch`."""
        run, active = compiled.run, triton.runtime.driver.active
        self._launch, self._stream, self._device = active.utils.launch, active.get_current_stream, device
        self._before = (compiled.function, run.launch_cooperative_grid, run.launch_pdl, compiled.packed_metadata)
        self._after = (None, None, run.arg_annotations, run.kernel_signature)  # no scratch memory
        self._compiled, self._sizes, self._encoder = compiled, sizes, encoder
        self._described = compiled.metadata.tensordesc_meta or []

    def __call__(self, arguments: list[Any]) -> None:
        """Put the launch into the current stream."""
        stream, runtime = self._stream(self._device), triton.knobs.runtime
        enter, leave, told = runtime.launch_enter_hook, runtime.launch_exit_hook, None
        if listens(enter) or listens(leave):  # a profiler
            told = self._compiled.launch_metadata(self._sizes, stream, *arguments)
        else:
            enter = leave = None
        self._launch(*self._sizes, stream, *self._before, told, enter, leave, *self._after, arguments)

    def encode(self, number: int, descriptor: Any) -> list[Any]:
        """Return the kernel's descriptor of that number as the C function wants it: encoded, its sizes, its strides."""
        return self._encoder(descriptor, self._described[number])


def direct_launch(compiled: Any, sizes: tuple[int, ...], device: int) -> Direct | None:
    """Return what starts a compiled kernel on a grid of three sizes and a device; None where it is not known how."""
    run, utils = compiled.run, triton.runtime.driver.active.utils
    names = ("launch_cooperative_grid", "launch_pdl", "arg_annotations", "kernel_signature", "global_scratch_size")
    if not triton.__version__.startswith(_VERSION) or type(run).__name__ != "CudaLauncher":
        return None
    if not all(hasattr(run, name) for name in names) or not hasattr(utils, "launch"):
        return None
    if run.global_scratch_size or run.profile_scratch_size:
        return None
    described = getattr(compiled.metadata, "tensordesc_meta", None) or []
    if any(one is None for one in described):  # a device without descriptors, for which Triton takes them apart
        return None
    from triton.backends.nvidia.driver import make_tensordesc_arg

    return Direct(compiled, sizes, device, make_tensordesc_arg)


def listens(hook: Any) -> bool:
    """Return whether a hook of Triton's has anything to call; newer ones are chains, empty as a rule."""
    return hook is not None and bool(getattr(hook, "calls", True))
