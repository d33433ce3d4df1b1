"""Compile LLVM IR for the processor that this runs on, and hand out addresses."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import llvmlite.binding as llvm

from sparsebench.kernels.common import caches

_lock = threading.Lock()
_engines: list[Any] = []
"""Engines own the machine code: they live as long as the process, as the addresses that were handed out do."""


def cache_bytes(level: int) -> int:
    """Return the size of a cache of level 1, 2 or 3; see kernels/common/caches.py."""
    return caches.cache_bytes(level)


@cache
def vector_bytes() -> int:
    """Return the bytes of the widest vector that the processor computes with: 64 (AVX-512), 32 (AVX2) or 16."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return 64
    return 32 if features.get("avx2") or features.get("avx") else 16


@cache
def has(feature: str) -> bool:
    """Tell whether the processor has a feature, by LLVM's name of it, as "avx512vbmi2"."""
    return bool(llvm.get_host_cpu_features().get(feature))


@cache
def processor() -> str:
    """Return LLVM's name of the processor, as "znver4"."""
    name: str = llvm.get_host_cpu_name()
    return name


@cache
def has_half() -> bool:
    """Tell whether the processor converts float16 itself; without that LLVM would call a function that is not here."""
    features = llvm.get_host_cpu_features()
    return bool(features.get("f16c") or features.get("fp16") or features.get("fullfp16"))


@cache
def _machine() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=processor(), features=features, opt=3, reloc="pic", codemodel="jitdefault", jit=True
    )


def compile_module(ir: str) -> Any:
    """Return an engine that holds the compiled functions of `ir`; it is kept alive for good."""
    with _lock:
        machine = _machine()
        module = llvm.parse_assembly(ir)
        module.triple = machine.triple
        module.data_layout = str(machine.target_data)
        module.verify()
        engine = llvm.create_mcjit_compiler(module, machine)
        engine.finalize_object()
        _engines.append(engine)
        return engine
