"""Make a process think that it has a GPU and lacks some packages: what runs on a GPU is tried as far as its launches.

Python imports this by itself where the folder stands in PYTHONPATH. Tensors stay on the CPU and say "cuda", kernels run
in Triton's interpreter, and the clock stands still. Every launch is written to the file that STAND_IN_LAUNCHES names;
where STAND_IN_STOPS is set it ends there, as if memory had run out: what tests would take minutes over stops early.
"""

from __future__ import annotations

import os
import sys
import types
from importlib.machinery import PathFinder
from typing import Any

ABSENT = ("platformdirs", "memray", "mlxtend", "pooch")
"""What a GPU machine may lack; torch and triton must do without as well."""

os.environ["TRITON_INTERPRET"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""


class _Finder(PathFinder):
    """Finds all that is installed, but for what is to be absent."""

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> Any:
        return None if name.partition(".")[0] in ABSENT else super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = _Finder


class _Event:
    def __init__(self, enable_timing: bool = False) -> None: ...

    def record(self, stream: object = None) -> None: ...

    def synchronize(self) -> None: ...

    def elapsed_time(self, other: _Event) -> float:
        return 0.1


def _stand_in() -> None:
    import torch
    from torch.overrides import TorchFunctionMode

    here, cpu = torch.device("cuda", 0), torch.device("cpu")

    def moved(value: Any) -> Any:
        if isinstance(value, torch.device):
            return cpu if value.type == "cuda" else value
        return cpu if isinstance(value, str) and value.startswith("cuda") else value

    class Mode(TorchFunctionMode):
        """Puts on the CPU what is asked for on the GPU, and says that all tensors are there."""

        def __torch_function__(self, func: Any, kinds: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = getattr(func, "__name__", "")
            owner = getattr(getattr(func, "__self__", None), "__name__", "")
            if name == "__get__" and owner == "device":
                return here
            if name == "__get__" and owner == "is_cuda":
                return True
            if func is torch.device:
                return func(*args, **(kwargs or {}))
            kwargs = {key: moved(value) for key, value in (kwargs or {}).items()}
            return func(*map(moved, args), **kwargs)

    facts = types.SimpleNamespace(
        name="stand-in", major=9, minor=0, multi_processor_count=132, L2_cache_size=1 << 20, total_memory=1 << 36,
        shared_memory_per_block_optin=227 * 1024, shared_memory_per_multiprocessor=228 * 1024,
        regs_per_multiprocessor=65536, max_threads_per_multi_processor=2048, warp_size=32,
    )  # fmt: skip
    nothing = lambda *_, **__: None  # noqa: E731
    for name, value in {
        "is_available": lambda: True, "is_initialized": lambda: True, "device_count": lambda: 1, "init": nothing,
        "_lazy_init": nothing, "current_device": lambda: 0, "set_device": nothing, "_exchange_device": lambda _: 0,
        "_maybe_exchange_device": lambda _: 0, "synchronize": nothing, "_sleep": nothing, "Event": _Event,
        "empty_cache": nothing, "reset_peak_memory_stats": nothing, "max_memory_allocated": lambda *_: 0,
        "memory_allocated": lambda *_: 0, "get_device_properties": lambda *_: facts,
        "get_device_capability": lambda *_: (9, 0), "get_device_name": lambda *_: facts.name,
    }.items():  # fmt: skip
        setattr(torch.cuda, name, value)
    real = torch.Generator
    torch.Generator = lambda device="cpu": real(moved(device))  # type: ignore[assignment, misc]
    Mode().__enter__()

    from triton.runtime import interpreter

    interpreter.InterpretedFunction.cache_key = "interpreted"  # as compiled functions have, of their sources
    launch = interpreter.GridExecutor.__call__

    def told(self: Any, *args: Any, **kwargs: Any) -> Any:
        if path := os.environ.get("STAND_IN_LAUNCHES"):
            with open(path, "a", encoding="utf-8") as file:
                file.write(f"{self.fn.__name__}\n")
        if os.environ.get("STAND_IN_STOPS"):
            raise torch.OutOfMemoryError(f"the stand-in ends at {self.fn.__name__}")
        return launch(self, *args, **kwargs)

    interpreter.GridExecutor.__call__ = told


_stand_in()
