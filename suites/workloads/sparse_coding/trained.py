"""Train a model, keep it after every epoch, and judge it on the test images once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from sparsebench.suites.workloads import kept
from sparsebench.suites.workloads.sparse_coding import quality
from sparsebench.suites.workloads.sparse_coding.images import images, trivial
from sparsebench.suites.workloads.sparse_coding.models.coder import DivergedError, SparseCoder
from sparsebench.suites.workloads.sparse_coding.plans import Plan
from sparsebench.suites.workloads.sparse_coding.solvers.code_layouts import joined
from sparsebench.suites.workloads.sparse_coding.solvers.finite import all_finite

VERSION = 2
"""Of the models: raise it with every change of what they learn. What another version kept is not gone on with."""
JUDGED = 1_000
"""Images that are encoded at a time when a model is judged."""

Figures = dict[str, float | None]
Progress = Callable[[int, int, float], None]
"""Told after every epoch: its number from 1, how many there are, and its mean L1 an image."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedCoder:
    """What a training left.

    Attributes:
        plan: what was asked for.
        seed: of it.
        coder: the model, on the CPU in float32.
        curve: float64 (epochs,), the mean L1 of the training images in each epoch, before each step.
        figures: of all test images: those of `quality.measure`, multiply_adds of encoding an image, the trivial rows.
            Of patches, which are of either sign, what is cut to [0, 1] and kl are None.
        seconds: spent on learning, by the wall clock, one thread.
        encode_s: seconds of encoding an image of the test images, decode_s of decoding one; one thread.
        decode_s: see encode_s.
        source: of the training images.
    """

    plan: Plan
    seed: int
    coder: SparseCoder
    curve: np.ndarray
    figures: Figures
    seconds: float
    encode_s: float
    decode_s: float
    source: str


@contextmanager
def one_thread() -> Iterator[None]:
    """Give torch and numba one thread, and their own numbers back afterwards.

    Two trainings on one thread each are faster than one on two, and sums taken in one order end with the same bits.
    """
    before, compiled = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        numba.set_num_threads(compiled)


def folder() -> Path:
    """Return where trainings are kept: the user's cache folder; delete it to train anew."""
    return kept.folder("sparse_coding")


@lru_cache(maxsize=8)  # a model is timed in several cells, one after the other
def trained(plan: Plan, seed: int, data: Path | None) -> TrainedCoder:
    """Return a training, from the cache folder as far as it is there; see `train`."""
    return train(plan, seed, data)


def train(
    plan: Plan, seed: int, data: Path | None, *, home: Path | None = None, progress: Progress | None = None
) -> TrainedCoder:
    """Train, or go on where an earlier call with the same plan, seed and data stopped, or return what it left.

    A training that diverged is kept too, so that nobody waits for it twice.

    Args:
        plan: what to train.
        seed: of everything that is random.
        data: folder with MNIST's files, or None.
        home: folder of the kept trainings; None for the user's cache folder.
        progress: told after every epoch that is trained in this call.

    Raises:
        DataError: if the data folder is not as expected.
        DivergedError: "diverged in epoch 3 of 10: …".
        ValueError: if the settings are refused, or ask for more images than there are.
        ImportError, AttributeError: if the model's file is missing or broken.
    """
    cls, settings = plan.made()
    every, source = images(plan.data, "train", data)
    if plan.images is not None and not 1 <= plan.images <= len(every):
        raise ValueError(f"expected between 1 and {len(every):,} images of {source}, got {plan.images:,}")
    used = every[: plan.images]
    coder = cls(settings, seed=seed)
    identity = kept.identity(VERSION, f"{plan.model} {settings!r} images={len(used)}", seed, source)
    path = kept.place(home or folder(), plan.label, seed, identity)
    state = kept.load(path, identity) or {"identity": identity, "curve": [], "seconds": 0.0}
    with one_thread():
        if state["curve"]:
            coder.load(state["coder"])
        else:
            coder.begin(used)
        while "diverged" not in state and len(state["curve"]) < settings.epochs:
            state = _epoch(coder, used, state)
            kept.save(path, state)
            if progress is not None and "diverged" not in state:
                progress(len(state["curve"]), settings.epochs, state["curve"][-1])
        if "diverged" in state:
            raise DivergedError(state["diverged"])
        coder.elapsed = 0.0
        if "figures" not in state:
            state |= judge(coder, images(plan.data, "test", data)[0], kind=plan.data)
            state["figures"] |= trivial(plan.data, data)
            kept.save(path, state)
    return TrainedCoder(
        plan=plan,
        seed=seed,
        coder=coder,
        curve=np.array(state["curve"]),
        figures=state["figures"],
        seconds=state["seconds"],
        encode_s=state["encode_s"],
        decode_s=state["decode_s"],
        source=source,
    )


def _epoch(coder: SparseCoder, used: Tensor, state: dict[str, Any]) -> dict[str, Any]:
    """Return the state after one more epoch."""
    number, epochs = len(state["curve"]) + 1, coder.settings.epochs
    begin = time.perf_counter()
    try:
        level = coder.epoch(used, number)
    except DivergedError as error:
        return state | {"diverged": f"diverged in epoch {number} of {epochs}: {error}"}
    seconds = state["seconds"] + time.perf_counter() - begin
    return state | {"coder": coder.state(), "curve": [*state["curve"], level], "seconds": seconds}


def judge(coder: SparseCoder, judged: Tensor, *, kind: str) -> dict[str, Any]:
    """Return figures (see TrainedCoder), encode_s and decode_s of a model on images (n, d), n ≥ 1.

    Raises:
        DivergedError: if a reconstruction is not finite.
    """
    encode_s = decode_s = 0.0
    codes, copies = [], []
    for some in judged.split(JUDGED):
        begin = time.perf_counter()
        code = coder.encode(some)
        middle = time.perf_counter()
        copy = coder.decode(code)
        encode_s, decode_s = encode_s + middle - begin, decode_s + time.perf_counter() - middle
        codes.append(code.detach())
        copies.append(copy.detach())
    restored = torch.cat(copies)
    if not all_finite(restored):
        raise DivergedError("diverged after the last epoch: expected finite reconstructions of the test images")
    figures: Figures = {**quality.measure(judged, joined(codes), restored)}
    if kind != "digits":
        figures |= {"l1_clipped": None, "kl": None}
    figures["multiply_adds"] = float(coder.multiply_adds())
    figures = {name: value if value is None or np.isfinite(value) else None for name, value in figures.items()}
    return {"figures": figures, "encode_s": encode_s / len(judged), "decode_s": decode_s / len(judged)}
