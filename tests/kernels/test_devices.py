"""Each folder of kernels has a module for each type of device, and for no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparsebench.kernels.common import devices

FOLDERS = [path.parent.name for path in Path(devices.__file__).parents[1].glob("*/reference.py")]


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("device", devices.MODULES)
def test_every_folder_has_kernels_for_every_device(folder: str, device: str) -> None:
    assert devices.backend(folder, device).DTYPES


@pytest.mark.parametrize("folder", FOLDERS)
def test_other_devices_are_refused(folder: str) -> None:
    with pytest.raises(ValueError, match="expected a device of cpu, cuda, got 'mps'; move the tensor"):
        devices.backend(folder, "mps")
