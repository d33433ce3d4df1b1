"""Check that loops run where nothing can be kept on disk, and that what is kept is in the user's cache folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sparsebench.kernels.common.folders import cache_folder

WORK = """
import sys, torch
from sparsebench.representations import registry
from sparsebench.suites.workloads.sparse_coding import study

for name in sys.argv[1:]:
    built = registry.load(name).build(torch.eye(64))
    assert torch.equal(built.matmul(torch.ones(64, 3)), torch.ones(64, 3)), name
print("fine")
"""


@pytest.mark.parametrize(
    ("home", "names"), [("/proc/nonexistent", ("csr", "block-sparse", "planes", "ell")), ("/proc/self", ("csr",))]
)
def test_loops_run_where_no_folder_takes_a_file(home: str, names: tuple[str, ...]) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "XDG_CACHE_HOME"}
    # as root a folder is never read-only: numba is told to leave the source's folder, which it tries first, alone
    environment |= {"HOME": home, "NUMBA_CACHE_LOCATOR_CLASSES": "UserWideCacheLocator"}
    run = subprocess.run(
        [sys.executable, "-c", WORK, *names], env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert (run.returncode, run.stdout) == (0, "fine\n"), run.stderr


def test_the_cache_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "given"))
    assert cache_folder("choices") == tmp_path / "given" / "sparsebench" / "choices"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder("choices") == tmp_path / ".cache" / "sparsebench" / "choices"
