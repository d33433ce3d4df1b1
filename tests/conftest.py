"""Let Triton kernels run on the CPU where there is no GPU, and keep the user's tuned choices out of the tests."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

import torch
from hypothesis import settings

if not torch.cuda.is_available():
    # the choice is made when a kernel's module is imported
    os.environ.setdefault("TRITON_INTERPRET", "1")

# pytest-benchmark turns itself off where tests are shared out to processes; those here time nothing that they assert,
# and the runs that they start are their own
os.environ.pop("PYTEST_XDIST_WORKER", None)

# choices are kept in the user's cache folder (XDG base directories): tests neither read nor change those of the user
_cache = tempfile.mkdtemp(prefix="sparsebench-tests-")
atexit.register(shutil.rmtree, _cache, ignore_errors=True)
os.environ["XDG_CACHE_HOME"] = _cache

# the same examples on every run: a change is judged by what it changes; --hypothesis-profile=default draws others
settings.register_profile("kept", derandomize=True)
settings.load_profile("kept")
