"""Keep trainings on disk: a file a training, in the user's cache folder, written anew after every epoch."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from sparsebench.kernels.common.folders import cache_folder


def folder(workload: str) -> Path:
    """Return where a workload's trainings are kept, below the user's cache folder; delete it to train anew."""
    return cache_folder(workload)


def identity(version: int, settings_key: str, seed: int, source: str) -> str:
    """Return a text that is equal only for trainings that end with the same bits.

    Args:
        version: of the code that trains; what another version kept is not gone on with.
        settings_key: every setting.
        seed: of the training.
        source: of the images.
    """
    return f"version={version} seed={seed} data={source!r} {settings_key}"


def place(home: Path, label: str, seed: int, identity: str) -> Path:
    """Return the file of a training."""
    return home / f"{label}-seed{seed}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.pt"


def load(path: Path, identity: str) -> dict[str, Any] | None:
    """Return the state that was saved last, or None if there is none, it is damaged, or it is another training's."""
    try:
        state = torch.load(io.BytesIO(path.read_bytes()), weights_only=True)
        found = state["identity"]
    except Exception:  # pickle, zip and torch each have their own errors: whatever it is, it cannot be gone on with
        return None
    return dict(state) if found == identity else None


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a state, all of it or nothing: a training that is killed leaves the last whole one.

    A folder that cannot be written to costs only the resuming.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent, suffix=".draft")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(buffer.getbuffer())
            Path(draft).replace(path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
