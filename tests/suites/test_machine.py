"""Check what is written down of a GPU, as its driver's library tells it; here both are made up."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
import torch

from sparsebench.suites.measure import machine


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Stand in for the driver's library, whose clock rises while the device is busy."""
    state = types.SimpleNamespace(busy=False, answers=True)
    real = torch.ones

    class Error(Exception):
        pass

    def start() -> None:
        if not state.answers:
            raise Error("driver not loaded")

    def ones(*sizes: int, **_: Any) -> torch.Tensor:
        state.busy = True
        return real(2, 2)

    driver = types.SimpleNamespace(
        NVMLError=Error, NVML_CLOCK_SM=1, nvmlInit=start, nvmlDeviceGetHandleByIndex=lambda _: 0,
        nvmlSystemGetDriverVersion=lambda: "580.1", nvmlDeviceGetMaxClockInfo=lambda *_: 1980,
        nvmlDeviceGetClockInfo=lambda *_: 1755 if state.busy else 345,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda _: 4, nvmlDeviceGetPowerManagementLimit=lambda _: 700_000,
    )  # fmt: skip
    facts = types.SimpleNamespace(
        name="H100", total_memory=80, major=9, minor=0, multi_processor_count=132, L2_cache_size=50
    )
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: facts)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch, "ones", ones)
    return state


def test_clocks_are_noted_idle_loaded_and_at_the_most(gpu: types.SimpleNamespace) -> None:
    found = machine._gpu()
    clocks = {name: found[name] for name in found if name.startswith("sm_clock")}
    assert clocks == {"sm_clock_idle_mhz": 345, "sm_clock_most_mhz": 1980, "sm_clock_loaded_mhz": 1755}
    assert (found["throttle_reasons"], found["power_limit_w"], found["driver"]) == (4, 700, "580.1")
    assert (found["multiprocessors"], found["l2_bytes"], found["capability"]) == (132, 50, "9.0")


def test_a_driver_that_does_not_answer_costs_its_facts_only(gpu: types.SimpleNamespace) -> None:
    gpu.answers = False
    found = machine._gpu()
    assert found["driver"] == "unknown (driver not loaded)"
    assert found["multiprocessors"] == 132


def test_no_float32_is_rounded_to_tf32() -> None:
    backends = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [backend.allow_tf32 for backend in backends]
    try:
        torch.backends.cudnn.allow_tf32 = True
        machine.exact_float32()
        assert [backend.allow_tf32 for backend in backends] == [False, False]
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed
